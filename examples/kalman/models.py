"""A body that falls through the atmosphere, seen by a radar that measures distance only.

The problem of Athans, Wishner & Bertolini (1968).  State of the filter, scaled for single precision: altitude in 100,000
feet, downward speed in 10,000 feet a second, and the ballistic parameter in 0.001 a foot; time is in seconds.  Run
with ``cpgen bundle models.py:drag`` or ``models.py:distance``.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

import cpgen as cp

DENSITY = 5.0  # decay of the air's density: 5e-5 a foot
RADAR_AWAY, RADAR_HIGH = 1.0, 1.0  # 100,000 feet beside the path, 100,000 feet high


def _state(name: str) -> tuple[cp.Model, Any, Any]:
    m = cp.Model(name)
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    return m, m.input("x", n, i), n


def _drag() -> cp.Model:
    """The change of the speed: -rho(altitude) speed^2 times the ballistic parameter."""
    m, x, n = _state("drag")
    m.objective(-10 * sp.exp(-DENSITY * x[n, 0]) * x[n, 1] ** 2 * x[n, 2])
    return m


def _distance() -> cp.Model:
    m, x, n = _state("distance")
    m.objective(sp.sqrt(RADAR_AWAY**2 + (x[n, 0] - RADAR_HIGH) ** 2))
    return m


drag = _drag()
distance = _distance()
