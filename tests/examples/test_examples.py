"""The examples on reduced settings, against numbers that cpgen did not compute."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.optimize import rosen_hess

import cpgen as cp

ROOT = Path(__file__).resolve().parents[2]


def example(name: str, folder: str = "examples") -> ModuleType:
    specification = importlib.util.spec_from_file_location(f"{folder}_{name}", ROOT / folder / f"{name}.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def test_digits_diagonal_agrees_with_differences_of_the_gradient() -> None:
    digits = example("digits")
    est = cp.compile(digits.model, wrt=list(digits.WEIGHTS))
    data = digits.load()
    weights = digits.train(est, data, iterations=30)
    assert digits.accuracy(weights, data.test_x, data.test_y) > 0.9
    arrays = {name: array[:50] for name, array in data.arrays().items()}
    exact = est.diagonal(exact=True, **arrays, **weights)
    step = 1e-5
    for name, index in (("W1", (3, 20)), ("b1", (5,)), ("W2", (4, 7)), ("b2", (9,))):
        sides = []
        for sign in (1, -1):
            moved = {key: array.copy() for key, array in weights.items()}
            moved[name][index] += sign * step
            sides.append(est.gradient(**arrays, **moved)[name][index])
        expected = (sides[0] - sides[1]) / (2 * step)
        assert exact[name].value[index] == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_digits_gradient_agrees_with_the_loss_written_in_numpy() -> None:
    digits = example("digits")
    est = cp.compile(digits.model, wrt=list(digits.WEIGHTS))
    rng = np.random.default_rng(1)
    w = {"W1": rng.normal(0, 0.2, (32, 64)), "b1": rng.normal(size=32),
         "W2": rng.normal(0, 0.3, (10, 32)), "b2": rng.normal(size=10)}
    x, y = rng.random((7, 64)), np.eye(10)[rng.integers(0, 10, 7)]
    z = np.tanh(x @ w["W1"].T + w["b1"])
    s = z @ w["W2"].T + w["b2"]
    p = np.exp(s) / np.exp(s).sum(axis=1, keepdims=True)
    value, gradient = est.value_and_gradient(x=x, y=y, **w)
    assert value == pytest.approx(-np.mean(np.log((p * y).sum(axis=1))), rel=1e-12)
    delta = (p - y) / len(x)
    np.testing.assert_allclose(gradient["W2"], delta.T @ z, atol=1e-13)
    np.testing.assert_allclose(gradient["W1"], (delta @ w["W2"] * (1 - z**2)).T @ x, atol=1e-13)


def test_digits_prunes_the_smallest_saliency() -> None:
    digits = example("digits")
    weights = {"W1": np.arange(1.0, 5.0).reshape(2, 2), "b1": np.ones(1), "W2": np.ones((1, 1)), "b2": np.ones(2)}
    pruned = digits.prune(weights, np.array([3.0, 0.0, 2.0, 1.0, 9, 9, 9, 9]), 0.25)
    np.testing.assert_array_equal(pruned["W1"], [[1, 0], [3, 0]])


def test_the_laplacian_is_exact_with_or_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert example("laplacian_cuda").main(60) == 0  # it compares with differences of the gradient
    assert "within three standard errors" in capsys.readouterr().out


def test_rosenbrock_agrees_with_scipy_and_is_minimised() -> None:
    rosenbrock = example("rosenbrock")
    f, u = rosenbrock.written_out(4)
    est = cp.compile(f, wrt=u, programs=["value", "gradient", "hessian"])
    gradient, hessian = rosenbrock.differences(est, np.array([0.3, -1.2, 0.7, 1.9]))
    assert gradient < 1e-13 and hessian < 1e-13
    found, steps = rosenbrock.newton(est, np.array([-1.2, 1.0, -1.2, 1.0]))
    assert steps < 100
    # the function has a second, local minimum near (-1, 1, 1, 1): only the gradient must vanish
    assert max(abs(float(g)) for g in est.gradient(**rosenbrock.by_name(found)).values()) < 1e-9


def test_indexed_rosenbrock_diagonal_is_exact_without_noise() -> None:
    rosenbrock = example("rosenbrock")
    point = np.random.default_rng(2).normal(size=50)
    diagonal = cp.compile(rosenbrock.indexed(50)).diagonal(u=point)["u"]
    assert diagonal.exact and diagonal.samples == 0
    np.testing.assert_allclose(diagonal.value, np.diag(rosen_hess(point)), rtol=1e-13)


def reach(q: np.ndarray) -> np.ndarray:
    """Distance of the tool from the base axis by numeric Denavit-Hartenberg matrices; ``q[n, 6]``."""
    arm = example("robot_arm")
    pose = np.broadcast_to(np.eye(4), (len(q), 4, 4))
    for joint, (a, d, twist) in enumerate(zip(arm.LINK_A, arm.LINK_D, map(float, arm.TWIST), strict=True)):
        c, s, ca, sa = np.cos(q[:, joint]), np.sin(q[:, joint]), np.cos(twist), np.sin(twist)
        link = np.zeros((len(q), 4, 4))
        link[:, 0] = np.stack([c, -s * ca, s * sa, a * c], axis=1)
        link[:, 1] = np.stack([s, c * ca, -c * sa, a * s], axis=1)
        link[:, 2, 1:] = sa, ca, d
        link[:, 3, 3] = 1
        pose = pose @ link
    return np.hypot(pose[:, 0, 3], pose[:, 1, 3])


def test_robot_arm_agrees_with_matrices_and_with_monte_carlo() -> None:
    arm = example("robot_arm")
    est = cp.compile(arm.model, wrt=["q"])
    rng = np.random.default_rng(3)
    q = rng.normal(size=(5, 6))
    np.testing.assert_allclose(est.rows(q=q), reach(q), rtol=1e-12)
    best = arm.full_reach(est)
    sigma = np.radians(arm.PLAY)
    mean = 0.5 * est.diagonal(exact=True, q=best)["q"].value[0] @ sigma**2
    noise = rng.normal(size=(100_000, 6)) * sigma
    lost = reach(best + noise) - reach(best)
    # 4 standard errors, and the fourth-order terms that the prediction leaves out
    assert abs(lost.mean() - mean) < 4 * lost.std() / np.sqrt(len(lost)) + 0.01 * abs(mean)
    assert (reach(best + noise[:1000]) <= reach(best) + 1e-12).all()


def test_committed_c_is_what_the_examples_generate() -> None:
    assert example("regenerate", "generated").differences() == []
