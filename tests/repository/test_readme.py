"""The README's examples run and print what it says they print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
README = Path(__file__).parents[2] / "README.md"


def test_the_printed_output_is_what_the_examples_print(capsys: pytest.CaptureFixture[str]) -> None:
    text = README.read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.S)
    shown = re.findall(r"```text\n(.*?)```", text, re.S)
    assert len(code) == len(shown) == 2
    names: dict[str, object] = {}
    for block, expected in zip(code, shown, strict=True):
        exec(compile(block, "README.md", "exec"), names)
        printed = capsys.readouterr().out
        assert _without_rounding(printed) == _without_rounding(expected)


def _without_rounding(text: str) -> str:
    """Measured rounding errors and the compiler's name differ between machines; everything else must agree."""
    text = re.sub(r"relative error \d\.\de-\d\d", "relative error", text)
    return re.sub(r"native \([^)]*\)", "native", text)
