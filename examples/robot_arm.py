"""Does a worn arm still reach?  A question that first-order error propagation answers wrongly.

    python examples/robot_arm.py

A six-joint arm (the UR5's Denavit-Hartenberg parameters, as published by Universal Robots) has to push a part at the far
end of its reach.  Its gears have play: each joint stands off by a random angle.  At full reach the derivative of the
reach by every joint is zero, so first-order propagation (``g' P g``, what a standard extended Kalman filter does) sees no
error at all.  The second-order terms decide:

    E[reach] - reach = tr(P H) / 2        Var[reach] = g' P g + tr(P H P H) / 2

with the covariance P of the joint angles.  The diagonal of H, times P, also says which joint's gear to replace first.
A Monte Carlo run over 200,000 arms, on the compiled forward kinematics, checks all of it.
"""

from __future__ import annotations

import numpy as np
import sympy as sp
from numpy.typing import NDArray

import cpgen as cp

Array = NDArray[np.floating]

JOINTS = ("base", "shoulder", "elbow", "wrist 1", "wrist 2", "wrist 3")
# metres and radians: Universal Robots, "DH parameters for calculations of kinematics and dynamics", UR5
LINK_A = (0.0, -0.425, -0.39225, 0.0, 0.0, 0.0)
LINK_D = (0.089159, 0.0, 0.0, 0.10915, 0.09465, 0.0823)
TWIST = (sp.pi / 2, 0, 0, sp.pi / 2, -sp.pi / 2, 0)
# standard deviation of each joint angle, degrees; made up: sound gears, and a worn elbow
PLAY = np.array([0.3, 0.3, 1.5, 0.5, 0.5, 0.5])
REQUIRED = 0.1  # millimetres of reach that may be lost on average: the arm's own repeatability when new


def forward_kinematics() -> cp.Model:
    """Input ``q[n, 6]`` in radians; the objective is the tool's distance from the base axis, in metres.

    Each transform multiplies the one before it, as in the textbook; every entry that is not constant is a definition.
    """
    m = cp.Model("robot_arm")
    n, j = m.axes("n j", n=cp.ROWS, j=6)
    q = m.input("q", n, j)
    pose: list[list[sp.Expr]] = [[sp.Integer(r == c) for c in range(4)] for r in range(4)]
    for joint in range(6):
        cos, sin = sp.cos(q[n, joint]), sp.sin(q[n, joint])
        ca, sa = sp.cos(TWIST[joint]), sp.sin(TWIST[joint])
        a, d = sp.Float(LINK_A[joint]), sp.Float(LINK_D[joint])
        link = [[cos, -sin * ca, sin * sa, a * cos], [sin, cos * ca, -cos * sa, a * sin], [0, sa, ca, d], [0, 0, 0, 1]]
        for r in range(3):
            row = [sum(pose[r][k] * link[k][c] for k in range(4)) for c in range(4)]
            for c, entry in enumerate(row):
                named = entry.has(cos) or entry.has(sin)
                pose[r][c] = m.define(f"t{joint + 1}_{r}{c}", n, entry)[n] if named else entry
    m.objective(sp.sqrt(pose[0][3] ** 2 + pose[1][3] ** 2))
    return m


model = forward_kinematics()


def full_reach(est: cp.Estimator) -> Array:
    """Joint angles of greatest reach, shape (1, 6), by Newton's method from a nearly straight arm.

    The reach does not depend on the base or on the last wrist joint: the pseudoinverse leaves those where they are.
    """
    q = np.array([[0.0, -0.1, 0.05, -0.1, -1.5, 0.0]])
    for _ in range(50):
        gradient = est.gradient(q=q)["q"][0]
        if np.linalg.norm(gradient) < 1e-12:
            return q
        values, vectors = np.linalg.eigh(est.hessian(q=q).matrix()[0])
        use = np.abs(values) > 1e-9
        q = q + vectors[:, use] @ ((vectors.T @ gradient)[use] / np.abs(values[use]))
    raise RuntimeError("Newton's method did not find the greatest reach")


def main() -> None:
    est = cp.compile(model, wrt=["q"], programs=["value", "gradient", "diagonal", "hessian"])
    q = full_reach(est)
    reach = est.value(q=q)
    print(f"greatest reach {1000 * reach:.2f} mm at {np.degrees(q[0]).round(2)} degrees")

    variance = np.radians(PLAY) ** 2
    gradient = est.gradient(q=q)["q"][0]
    diagonal = est.diagonal(exact=True, q=q)["q"].value[0]
    spread = np.diag(np.sqrt(variance))
    scaled = spread @ est.hessian(q=q).matrix()[0] @ spread
    shares = 500 * variance * diagonal  # millimetres: half of P_jj H_jj
    mean, deviation = shares.sum(), 1000 * np.sqrt(gradient**2 @ variance + (scaled**2).sum() / 2)

    rng = np.random.default_rng(0)
    draws = q + rng.normal(size=(200_000, 6)) * np.radians(PLAY)
    lost = 1000 * (est.rows(q=draws) - reach)
    error = lost.std() / np.sqrt(len(lost))
    print("change of reach     mean, mm   standard deviation, mm")
    print(f"  first order      {0.0:9.4f}  {1000 * np.sqrt(gradient**2 @ variance):9.4f}")
    print(f"  second order     {mean:9.4f}  {deviation:9.4f}")
    print(f"  200,000 arms     {lost.mean():9.4f}  {lost.std():9.4f}   (mean +- {error:.4f})")
    for name, play, share in zip(JOINTS, PLAY, shares, strict=True):
        print(f"  {name:>8}: {play} degrees of play cost {abs(share):.4f} mm")
    worst = int(np.argmin(shares))
    renewed = mean - shares[worst] * (1 - (0.3 / PLAY[worst]) ** 2)
    first, second = ("keeps" if loss <= REQUIRED else "does not keep" for loss in (0.0, -mean))
    print(f"at most {REQUIRED} mm may be lost: first order says the arm {first} that, second order that it {second} it;")
    print(f"with a new {JOINTS[worst]} gear (0.3 degrees) the loss is {-renewed:.4f} mm")


if __name__ == "__main__":
    main()
