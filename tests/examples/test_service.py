"""The C++ service: NumPy's numbers, the same text for any number of threads, and one clear line for bad input."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished run and what it said."""
    if shutil.which("c++") is None or shutil.which("cc") is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("service")
    command = [sys.executable, str(ROOT / "examples/service/run.py"), "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_threads_change_nothing(service: tuple[Path, str]) -> None:
    said = service[1]
    assert "442 rows, 1 and 4 threads: the same text" in said
    assert "under ThreadSanitizer, 4 threads: no report" in said


def test_numbers_are_those_of_numpy(service: tuple[Path, str]) -> None:
    found = service[1].partition("largest difference from NumPy: ")[2].split()[0]
    assert float(found) < 1e-12


@pytest.mark.parametrize(
    ("text", "message"),
    [("1,2,3\n", "line 1 has 3 numbers, expected 10"), ("1,2,3x" + ",0" * 7 + "\n", "line 1: '3x' is not a number")],
)
def test_bad_rows_are_named(service: tuple[Path, str], tmp_path: Path, text: str, message: str) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text(text)
    done = subprocess.run([str(service[0] / "build/service"), str(rows)], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "" and message in done.stderr
