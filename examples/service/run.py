"""A C++ service around a bundle: train, write, build with CMake, and evaluate rows on several threads.

    python examples/service/run.py [--out FOLDER]

1. A small network learns the diabetes data of scikit-learn (442 patients, 10 measurements; Efron, Hastie, Johnstone &
   Tibshirani, Annals of Statistics 32 (2004) 407), by L-BFGS on the generated gradient.
2. The trained network becomes the bundle ``score`` with its weights as constant data: prediction, gradient and exact
   diagonal of the Hessian by the inputs.  It is installed with CMake and found by ``find_package``.
3. ``service`` evaluates all patients on 1 and on 4 threads: the same text, and the numbers of NumPy with derivatives
   written out.  A second build under ThreadSanitizer has nothing to report.

Without CMake the C++ compiler is called directly.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import sympy as sp
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.datasets import load_diabetes

import cpgen as cp

HERE = Path(__file__).resolve().parent
Array = NDArray[np.float64]
INPUTS, HIDDEN = 10, 12
SHAPES = {"W": (HIDDEN, INPUTS), "b": (HIDDEN,), "v": (HIDDEN,), "c": (1,)}


def network(m: cp.Model) -> tuple[object, object]:
    """The row axis and the prediction of a row: one hidden layer."""
    n, i, h, o = m.axes("n i h o", n=cp.ROWS, i=INPUTS, h=HIDDEN, o=1)
    x = m.input("x", n, i)
    W, b, v, c = m.param("W", h, i), m.param("b", h), m.param("v", h), m.param("c", o)
    z = m.define("z", (n, h), sp.tanh(cp.sum(W[h, i] * x[n, i], i) + b[h]))
    return n, cp.sum(v[h] * z[n, h], h) + c[0]


def trained(x: Array, y: Array) -> dict[str, Array]:
    """Weights that minimise the mean squared error and a little weight decay."""
    m = cp.Model("fit")
    n, prediction = network(m)
    target = m.input("y", n)
    m.objective((prediction - target[n]) ** 2 / 2, reduction="mean")
    est = cp.compile(m, wrt=list(SHAPES), programs=("gradient",))
    ends = np.cumsum([int(np.prod(s)) for s in SHAPES.values()])

    def split(flat: Array) -> dict[str, Array]:
        parts = np.split(flat, ends[:-1])
        return {k: np.ascontiguousarray(p.reshape(s)) for p, (k, s) in zip(parts, SHAPES.items(), strict=True)}

    def loss(flat: Array) -> tuple[float, Array]:
        value, gradient = est.value_and_gradient(x=x, y=y, **split(flat))
        return value + 0.01 * flat @ flat, np.concatenate([gradient[k].ravel() for k in SHAPES]) + 0.02 * flat

    start = np.random.default_rng(0).normal(0, 0.3, int(ends[-1]))
    return split(minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x)


def expected(x: Array, w: dict[str, Array]) -> Array:
    """Prediction, gradient and Hessian diagonal of each row, written out in NumPy."""
    z = np.tanh(x @ w["W"].T + w["b"])
    slope = ((1 - z**2) * w["v"]) @ w["W"]
    bend = (-2 * z * (1 - z**2) * w["v"]) @ w["W"] ** 2
    return np.column_stack([z @ w["v"] + w["c"], slope, bend])


def built(folder: Path, tsan: bool) -> Path:
    """The service, linked with the bundle in ``folder / "score"``."""
    build = folder / ("build-tsan" if tsan else "build")
    if shutil.which("cmake") is None:
        build.mkdir(exist_ok=True)
        flags = ["-O2", "-ffp-contract=off", *(["-fsanitize=thread", "-g"] if tsan else [])]
        sources = sorted((folder / "score").glob("score*.c"))
        objects = []
        for source in sources:
            objects.append(str(build / f"{source.stem}.o"))
            subprocess.run(["cc", "-std=c99", *flags, "-c", str(source), "-o", objects[-1]], check=True)
        command = ["c++", "-std=c++17", *flags, f"-I{folder / 'score'}", str(HERE / "service.cpp"), *objects]
        subprocess.run([*command, "-o", str(build / "service"), "-lpthread"], check=True)
        return build / "service"
    quiet = {"stdout": subprocess.DEVNULL}
    options = ["-DCMAKE_C_FLAGS=-fsanitize=thread -g"] if tsan else []
    bundle = folder / ("bundle-tsan" if tsan else "bundle")
    prefix = bundle / "installed"
    configure = ["cmake", "-S", str(folder / "score"), "-B", str(bundle), f"-DCMAKE_INSTALL_PREFIX={prefix}", *options]
    subprocess.run([*configure, *(["-DCMAKE_EXE_LINKER_FLAGS=-fsanitize=thread"] if tsan else [])], check=True, **quiet)
    subprocess.run(["cmake", "--build", str(bundle), "--target", "install"], check=True, **quiet)
    configure = ["cmake", "-S", str(HERE), "-B", str(build), f"-DCMAKE_PREFIX_PATH={prefix}"]
    subprocess.run([*configure, f"-DSERVICE_TSAN={'ON' if tsan else 'OFF'}"], check=True, **quiet)
    subprocess.run(["cmake", "--build", str(build)], check=True, **quiet)
    return build / "service"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if shutil.which("c++") is None or shutil.which("cc") is None:
        print("this example needs a C and a C++ compiler, cc and c++ (Debian and Ubuntu: apt install g++ cmake)")
        return 3
    if shutil.which("cmake") is None:
        print("CMake is not installed (Debian and Ubuntu: apt install cmake): calling the C++ compiler directly")
    x, y = load_diabetes(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    weights = trained(x, (y - y.mean()) / y.std())
    with tempfile.TemporaryDirectory(prefix="service-") as scratch:
        folder = options.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        m = cp.Model("score")
        m.objective(network(m)[1])
        report = cp.bundle(m, folder / "score", wrt=["x"], prefix="score", weights=weights)
        print(f"bundle: {len(report.files)} files, flash about {report.flash} bytes")
        rows = folder / "rows.csv"
        np.savetxt(rows, x, delimiter=",", fmt="%.17g")
        program = built(folder, tsan=False)
        texts = [run(program, rows, threads) for threads in (1, 4)]
        found = np.array([[float(cell) for cell in line.split(",")] for line in texts[0].splitlines()])
        error = float(np.max(np.abs(found - expected(x, weights)) / np.maximum(np.abs(found), 1)))
        print(f"{len(found)} rows, 1 and 4 threads: {'the same text' if texts[0] == texts[1] else 'DIFFERENT text'}")
        print(f"largest difference from NumPy: {error:.1e}")
        names = load_diabetes().feature_names
        order = np.argsort(-np.abs(found[:, 1:11]).mean(0))[:3]
        print("most sensitive to: " + ", ".join(f"{names[i]} ({np.abs(found[:, 1 + i]).mean():.2f})" for i in order))
        watched = run(built(folder, tsan=True), rows, 4)
        print(f"under ThreadSanitizer, 4 threads: {'no report' if watched == texts[0] else 'DIFFERENT text'}")
        return 0 if error < 1e-12 and len({*texts, watched}) == 1 else 1


def run(program: Path, rows: Path, threads: int) -> str:
    environment = {**os.environ, "TSAN_OPTIONS": "exitcode=66"}
    command = [str(program), str(rows), str(threads)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
