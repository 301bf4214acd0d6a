"""The Kalman filter in generated C: against a filter in double precision, and bit for bit on an emulated Cortex-M4F."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def said() -> str:
    if not any(shutil.which(c) for c in ("cc", "gcc", "clang")):
        pytest.skip("no C compiler")
    command = [sys.executable, str(ROOT / "examples/kalman/run.py"), "--runs", "200"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_single_precision_follows_double_precision(said: str) -> None:
    found = re.search(r"^  after 10 s: (\S+)$", said, re.MULTILINE)
    assert found is not None and float(found[1]) < 5e-3


def test_the_second_order_is_less_biased(said: str) -> None:
    number = r" +([\d.e+-]+)"
    late = said[said.index("\nafter 10 s\n") : said.index("\nall 30 s\n") + 1]
    rows = re.findall(rf"^  (?:feet|feet/s|of the ballistic parameter){number * 6}$", late, re.MULTILINE)
    assert len(rows) == 3
    for row in rows:
        first, second, noise_first, _, rms_first, rms_second = map(float, row)
        assert first > 4 * noise_first
        assert second < 0.5 * first and rms_second < rms_first


def test_the_board_has_the_bits_of_the_host(said: str) -> None:
    if "Cortex-M4F left out" in said:
        pytest.skip("cross compiler or emulator not installed")
    assert "Cortex-M4F: the same bits as the host" in said
    assert len(re.findall(r"order \d predict \d+ update \d+", said)) == 2
