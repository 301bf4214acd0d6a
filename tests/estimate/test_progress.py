"""The line that says what takes long."""

from __future__ import annotations

import io
import sys

import pytest
import sympy as sp

import cpgen as cp
from cpgen.estimate import compiled, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def screen(self) -> str:
        """What one sees: the last line after all rewriting in place."""
        cells: list[str] = []
        at = 0
        for letter in self.getvalue():
            if letter == "\r":
                at = 0
            else:
                cells[at : at + 1] = [letter]
                at += 1
        return "".join(cells).rstrip()


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.delenv("CPGEN_PROGRESS", raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress.Line, "_watch", lambda *_: None)  # looked at by the test alone
    return terminal


def test_the_line_comes_after_two_seconds_and_goes_at_the_end(monkeypatch):
    terminal = on_terminal(monkeypatch)
    now = [100.0]
    line = progress.Line(lambda: now[0])

    def seen(at):
        now[0] = at
        line.look(terminal)
        return terminal.screen()

    with line.working("compiling 3 programs of encoder"):
        assert seen(101.9) == ""
        assert seen(102.0) == "cpgen: compiling 3 programs of encoder ... 2 s"
        with line.working("deriving diagonal of encoder"):
            assert seen(106.0) == "cpgen: deriving diagonal of encoder ... 4 s"
            now[0] = 107.0
        assert seen(119.0) == "cpgen: compiling 3 programs of encoder ... 12 s"
    assert terminal.screen() == ""
    assert seen(200.0) == ""
    with pytest.raises(ZeroDivisionError), line.working("dividing"):
        assert seen(203.0).startswith("cpgen: dividing")
        raise ZeroDivisionError
    assert terminal.screen() == "" and "dividing" in terminal.getvalue()


@pytest.mark.parametrize(
    "said, stream, wanted",
    [("", io.StringIO, False), ("1", io.StringIO, True), ("", Terminal, True), ("0", Terminal, False)],
)
def test_nothing_in_pipes(said, stream, wanted, monkeypatch):
    monkeypatch.setenv("CPGEN_PROGRESS", said)
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setattr(progress, "AFTER", 0.0)
    line = progress.Line()
    with line.working("working"):
        line.look(sys.stderr)
    assert ("working" in sys.stderr.getvalue()) == wanted


def test_a_stream_that_is_gone_stops_nothing(monkeypatch):
    for gone in (None, io.StringIO()):
        monkeypatch.setattr(sys, "stderr", gone)
        if gone:
            gone.close()
        with progress.Line().working("working"):
            pass


def test_deriving_and_compiling_are_shown(monkeypatch):
    terminal = on_terminal(monkeypatch)
    line = progress.Line(lambda: 0.0)
    monkeypatch.setattr(progress, "AFTER", 0.0)
    monkeypatch.setattr(compiled, "working", line.working)
    derivation, load = compiled.Compiled._derivation, compiled.Compiled._load
    told = []

    def looked(function):
        def inside(*args):
            line.look(terminal)
            told.append(terminal.screen())
            return function(*args)

        return inside

    monkeypatch.setattr(compiled.Compiled, "_derivation", looked(derivation))
    monkeypatch.setattr(compiled.Compiled, "_load", looked(load))
    x = sp.Symbol("x")
    cp.compile(sp.sin(x) ** 2, programs=["diagonal", "gradient"], backend="interpreter")
    assert told[0] == "cpgen: compiling 2 programs of expression ... 0 s"
    assert set(told[1:]) == {f"cpgen: deriving {what} of expression ... 0 s" for what in ("diagonal", "gradient")}
    assert terminal.screen() == ""
