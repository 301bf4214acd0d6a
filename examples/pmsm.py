"""A permanent-magnet synchronous motor: torque and losses in one operating point.

Currents in the rotor's frame, speed and temperatures give what a controller trades off: how far the torque is from what
is asked for, and what the windings and the iron lose (the usual model, with saturation of both inductances and the
temperature of windings and magnets; Krause, Wasynczuk & Sudhoff, "Analysis of Electric Machinery").

    python3 examples/pmsm.py            gradient and Hessian at one point
    cpgen bundle examples/pmsm.py --wrt i_d,i_q --real float32 --programs value,gradient,hessian
"""

from __future__ import annotations

import sympy as sp

import cpgen as cp

POLE_PAIRS = 4
FLUX = 0.0925  # V s, of the magnets at 20 degrees
RESISTANCE = 0.0186  # ohm, a phase at 20 degrees
INDUCTANCE_D, INDUCTANCE_Q = 0.37e-3, 0.62e-3  # H
SATURATION_D, SATURATION_Q = 640.0, 410.0  # A, where half the inductance is gone
COPPER, MAGNETS = 0.00393, -0.0011  # a degree: resistance of the windings, flux of the magnets
HYSTERESIS, EDDY = 0.66, 9.2e-4  # W s and W s^2, for each squared V s of flux
WEIGHT = 1e-3  # of a watt beside a squared newton metre


def build() -> cp.Model:
    """Six numbers in, one objective out."""
    m = cp.Model("pmsm")
    i_d = m.param("i_d", low=-500, high=0, unit="A")
    i_q = m.param("i_q", low=-500, high=500, unit="A")
    speed = m.param("speed", low=0, high=1200, unit="rad/s")
    winding = m.param("winding", low=-40, high=180, unit="degC")
    rotor = m.param("rotor", low=-40, high=150, unit="degC")
    wanted = m.param("wanted", low=-350, high=350, unit="N m")
    flux = m.define("flux", (), FLUX * (1 + MAGNETS * (rotor - 20)))
    flux_d = m.define("flux_d", (), flux + INDUCTANCE_D * i_d / sp.sqrt(1 + (i_d / SATURATION_D) ** 2))
    flux_q = m.define("flux_q", (), INDUCTANCE_Q * i_q / sp.sqrt(1 + (i_q / SATURATION_Q) ** 2))
    torque = m.define("torque", (), 1.5 * POLE_PAIRS * (flux_d * i_q - flux_q * i_d))
    resistance = m.define("resistance", (), RESISTANCE * (1 + COPPER * (winding - 20)))
    copper = m.define("copper", (), 1.5 * resistance * (i_d**2 + i_q**2))
    turning = m.define("turning", (), POLE_PAIRS * speed)
    iron = m.define("iron", (), (HYSTERESIS * turning + EDDY * turning**2) * (flux_d**2 + flux_q**2))
    m.objective((torque - wanted) ** 2 + WEIGHT * (copper + iron))
    return m


model = build()


def main() -> None:
    est = cp.compile(model, wrt=["i_d", "i_q"])
    at = {"i_d": -80.0, "i_q": 160.0, "speed": 400.0, "winding": 90.0, "rotor": 80.0, "wanted": 120.0}
    print({name: float(value) for name, value in est.gradient(**at).items()})


if __name__ == "__main__":
    main()
