"""A second-order extended Kalman filter in generated C, on the host and on an emulated Cortex-M4F.

    python examples/kalman/run.py [--runs 400] [--out FOLDER]

1. The two functions of models.py become two bundles (gradient and exact Hessian, float32), which link into one program.
2. ``filter.c`` runs on the host over simulated falls; its estimates are compared with the same filter in NumPy, in double
   precision with derivatives written out by hand, and with the truth: bias and root mean square error of the first-order
   and the second-order filter side by side.
3. The same C runs on an emulated Cortex-M4F over the first of the falls: every bit must be the host's, and the
   instructions are counted.  Where the cross compiler or the emulator is missing, this step is left out and says so.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import cpgen as cp

HERE = Path(__file__).resolve().parent
BOARD = HERE.parents[1] / "benchmarks/target"
sys.path.insert(0, str(HERE))

import models  # noqa: E402

Array = NDArray[np.float64]
SECONDS, STEPS, VARIANCE = 30, 64, 1e-6
EARLY = 10  # seconds until the drag sets in
COMPARED = 30  # falls that the filter in NumPy follows, too
START = np.array([3.0, 2.0, 1.0])  # the truth; the filters begin with a ballistic parameter of 0.03
EXACT = ["-std=c99", "-O2", "-Wall", "-Wextra", "-ffp-contract=off", "-fno-math-errno"]
CORE = ["-mthumb", "-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard", "-specs=nosys.specs", "-nostartfiles"]
UNITS = ("feet", "feet/s", "of the ballistic parameter")
SCALES = np.array([1e5, 1e4, 1.0])


def motion(x: Array) -> Array:
    return np.array([-0.1 * x[1], -10 * np.exp(-models.DENSITY * x[0]) * x[1] ** 2 * x[2], 0.0])


def falls(runs: int, seed: int = 0) -> tuple[Array, Array]:
    """True states ``[second, state]`` (every fall is the same) and measured distances ``[run, second]``."""
    states, x, h = [], START.copy(), 1 / 1000
    for _ in range(SECONDS):
        for _ in range(1000):
            a = motion(x)
            b = motion(x + h / 2 * a)
            c = motion(x + h / 2 * b)
            x = x + h / 6 * (a + 2 * b + 2 * c + motion(x + h * c))
        states.append(x)
    truth = np.array(states)
    noise = np.random.default_rng(seed).normal(0, VARIANCE**0.5, (runs, SECONDS))
    return truth, np.hypot(models.RADAR_AWAY, truth[:, 0] - models.RADAR_HIGH) + noise


def by_hand(measured: Array, second_order: bool) -> Array:
    """The filter in double precision with derivatives written out: estimates ``[second, state]``."""
    x, P = np.array([3.0, 2.0, 0.03]), np.diag([1e-4, 4e-2, 100.0])
    g = models.DENSITY

    def rates(x: Array, P: Array) -> tuple[Array, Array]:
        e = 10 * np.exp(-g * x[0])
        F = np.array([[0, -0.1, 0], [g * e * x[1] ** 2 * x[2], -2 * e * x[1] * x[2], -e * x[1] ** 2], [0, 0, 0]])
        dx = motion(x)
        if second_order:
            H = np.array(
                [
                    [-(g**2) * e * x[1] ** 2 * x[2], 2 * g * e * x[1] * x[2], g * e * x[1] ** 2],
                    [2 * g * e * x[1] * x[2], -2 * e * x[2], -2 * e * x[1]],
                    [g * e * x[1] ** 2, -2 * e * x[1], 0],
                ]
            )
            dx[1] += np.trace(P @ H) / 2
        return dx, F @ P + P @ F.T

    found = []
    for z in measured:
        h = 1 / STEPS
        for _ in range(STEPS):
            a, A = rates(x, P)
            b, B = rates(x + h / 2 * a, P + h / 2 * A)
            c, C = rates(x + h / 2 * b, P + h / 2 * B)
            d, D = rates(x + h * c, P + h * C)
            x, P = x + h / 6 * (a + 2 * b + 2 * c + d), P + h / 6 * (A + 2 * B + 2 * C + D)
        r = np.hypot(models.RADAR_AWAY, x[0] - models.RADAR_HIGH)
        slope = np.array([(x[0] - models.RADAR_HIGH) / r, 0, 0])
        expected, spread = r, slope @ P @ slope + VARIANCE
        if second_order:
            bend = models.RADAR_AWAY**2 / r**3
            expected += bend * P[0, 0] / 2
            spread += (bend * P[0, 0]) ** 2 / 2
        gain = P @ slope / spread
        x, P = x + gain * (z - expected), P - np.outer(gain, P @ slope)
        found.append(x)
    return np.array(found)


def bundles(folder: Path) -> list[str]:
    """Write both bundles; the C sources of the filter."""
    sources = [str(HERE / "filter.c")]
    for name in ("drag", "distance"):
        model, programs = getattr(models, name), ("gradient", "hessian")
        report = cp.bundle(model, folder / name, programs=programs, wrt=["x"], real="float32", prefix=name)
        print(f"{name}: flash about {report.flash} bytes, RAM {report.ram} bytes")
        sources.append(str(folder / name / f"{name}.c"))
    return sources


def on_the_host(folder: Path, sources: list[str], measured: Array) -> Array:
    """Estimates ``[run, second, order, state]`` of the generated C."""
    program = folder / "filter"
    compiler = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), "cc")
    command = [compiler, *EXACT, *include(folder), str(HERE / "main_host.c"), *sources, "-o", str(program)]
    subprocess.run(command, check=True)
    text = f"{len(measured)} {SECONDS}\n" + "\n".join(f"{z:.9g}" for z in measured.ravel())
    output = subprocess.run([str(program)], input=text, capture_output=True, text=True, check=True).stdout
    return decoded(output.splitlines()).reshape(len(measured), SECONDS, 2, 3)


def include(folder: Path) -> list[str]:
    return [f"-I{HERE}", f"-I{folder / 'drag'}", f"-I{folder / 'distance'}"]


def decoded(lines: list[str]) -> Array:
    bits = np.array([[int(word, 16) for word in line.split()] for line in lines], np.uint32)
    return bits.view(np.float32).astype(np.float64)


def on_the_board(folder: Path, sources: list[str], measured: Array) -> tuple[list[str], list[str]] | None:
    """Lines of estimates and of instruction counts from an emulated Cortex-M4F; None where the tools are missing."""
    missing = [t for t in ("arm-none-eabi-gcc", "qemu-system-arm") if shutil.which(t) is None]
    if missing:
        print(f"Cortex-M4F left out: {', '.join(missing)} not installed")
        return None
    numbers = ", ".join(f"{z:.9g}f" for z in measured)
    count = f"enum {{ MEASUREMENTS = {len(measured)} }};\n"
    (folder / "measurements.h").write_text(f"{count}static const float measured[MEASUREMENTS] = {{{numbers}}};\n")
    program = folder / "filter.elf"
    link = ["-T", str(BOARD / "cortex_m.ld"), "-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments"]
    own = [str(HERE / "main_board.c"), str(BOARD / "start.c"), *sources]
    command = ["arm-none-eabi-gcc", *CORE, *EXACT, *link, *include(folder), f"-I{BOARD}", f"-I{folder}", *own]
    subprocess.run([*command, "-o", str(program)], check=True)
    emulator = ["qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
    emulator += ["-semihosting-config", "enable=on,target=native", "-icount", "shift=0", "-kernel", str(program)]
    done = subprocess.run(emulator, capture_output=True, text=True, timeout=300, check=True)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[: len(measured)], lines[len(measured) :]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kalman-") as scratch:
        folder = options.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        sources = bundles(folder)
        truth, measured = falls(options.runs)
        measured = measured.astype(np.float32).astype(np.float64)
        found = on_the_host(folder, sources, measured)
        few = min(options.runs, COMPARED)
        reference = np.array([[by_hand(z, k == 1) for k in (0, 1)] for z in measured[:few]]).transpose(0, 2, 1, 3)
        differ = np.abs(found[:few] - reference)
        before, apart = differ[:, :EARLY], differ[:, EARLY:]
        print(f"largest difference from double precision in {few} falls, states of size 1:")
        print(f"  after {EARLY} s: {apart.max():.1e}")
        print(f"  before, where the parameter is hardly observed: {before.max():.1e}")
        error = (found - truth[None, :, None, :]) * SCALES
        print(f"{options.runs} falls from one true start   bias (order 1, 2)   its noise (1, 2)    rms error (1, 2)")
        early, late, whole = slice(0, EARLY), slice(EARLY, None), slice(None)
        for title, window in ((f"before {EARLY} s", early), (f"after {EARLY} s", late), (f"all {SECONDS} s", whole)):
            print(title)
            for i, unit in enumerate(UNITS):
                part = error[:, window, :, i]
                bias, rms = np.abs(part.mean(0)).mean(0), np.sqrt((part**2).mean((0, 1)))
                noise = (part.std(0) / len(part) ** 0.5).mean(0) * (2 / np.pi) ** 0.5  # of a mean of |bias|
                columns = "  ".join(f"{pair[0]:8.3g} {pair[1]:8.3g}" for pair in (bias, noise, rms))
                print(f"  {unit:<28} {columns}")
        worse = bool(np.any(~np.isfinite(found)))
        board = on_the_board(folder, sources, measured[0])
        if board is not None:
            lines, counts = board
            same = bool(np.array_equal(decoded(lines).reshape(SECONDS, 2, 3), found[0]))
            print(f"Cortex-M4F: {'the same bits as the host' if same else 'OTHER BITS than the host'}")
            for line in counts:
                print(f"  instructions, {line}")
            worse = worse or not same
        return 1 if worse or apart.max() > 0.05 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
