"""Compilers as CC names them, and those that hang, lie or mumble."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import cpgen as cp
from cpgen.errors import CpgenWarning, EnvironmentProblem
from cpgen.native import compiler, find_compiler
from cpgen.native.compiler import compile_library

ANSWER = {"answer.c": "int answer(void);\nint answer(void) { return 42; }\n"}


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CPGEN_CACHE_DIR", str(tmp_path / "cache"))


def script(path: Path, text: str) -> str:
    path.write_bytes(b"#!/bin/sh\n" + text.encode("latin-1"))
    path.chmod(0o755)
    return str(path)


def test_flags_in_cc(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = find_compiler()
    monkeypatch.setenv("CC", f"{plain.path} -O2 -DSOME='a b'")
    found = find_compiler()
    assert found.command == (plain.path, "-O2", "-DSOME=a b") and found.openmp == plain.openmp
    assert found.identity != plain.identity
    assert compile_library("answer", ANSWER, found).is_file()


def test_a_launcher_in_cc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "log"
    launcher = script(tmp_path / "ccache", f'echo "$1" >> {log}\nexec "$@"\n')
    monkeypatch.setenv("CC", f"{launcher} {find_compiler().path}")
    u = sp.Symbol("u")
    estimator = cp.compile(u**4, wrt=[u], programs=("diagonal",))
    found = estimator.diagonal(u=2.0)["u"]
    assert found.value == 48.0 and found.backend.startswith("native (ccache ")
    assert log.read_text()


def test_a_path_with_spaces_in_cc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my tools").mkdir()
    named = script(tmp_path / "my tools" / "cc", f'exec {find_compiler().path} "$@"\n')
    monkeypatch.setenv("CC", named)
    assert find_compiler().command == (named,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sleep 60\n", "did not end within 1 seconds"),
        ("exit 0\n", "status 0, but made no file"),
        ("echo liar; exit 3\n", "does not run: liar"),
        ('for a in "$@"; do last=$a; [ "$p" = -o ] && echo garbage > "$a"; p=$a; done\nexit 0\n', "cannot be loaded"),
        ('[ "$1" = --version ] && echo "\xe9\xe8" && exit 0\necho "cass\xe9" >&2; exit 1\n', "cass\ufffd"),
    ],
)
def test_a_compiler_that_does_not_work(
    text: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compiler, "ASKING", 1)
    monkeypatch.setenv("CC", script(tmp_path / "bad", text))
    with pytest.raises(EnvironmentProblem, match=said):
        find_compiler()


def test_a_cc_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", 'gcc "-O2')
    with pytest.raises(EnvironmentProblem, match="CC, 'gcc \"-O2', cannot be read"):
        find_compiler()


def test_a_compiler_that_stops_working(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It was found good, and then says that all went well without making anything."""
    real = find_compiler().path
    named = script(tmp_path / "cc", f'[ -f {tmp_path}/lies ] && exit 0\nexec {real} "$@"\n')
    monkeypatch.setenv("CC", named)
    found = find_compiler()
    (tmp_path / "lies").touch()
    with pytest.raises(EnvironmentProblem, match="made nothing of the generated answer.c"):
        compile_library("answer", ANSWER, found)


def test_the_interpreter_takes_over_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    u = sp.Symbol("u")
    with pytest.warns(CpgenWarning, match="no-such-compiler.*NumPy interpreter, which is slow") as caught:
        estimator = cp.compile(u**4, wrt=[u], programs=("gradient",))
        assert estimator.diagonal(u=2.0)["u"].value == 48.0
        np.testing.assert_allclose(estimator.gradient(u=2.0)["u"], 32.0)
    assert len(caught) == 1 and caught[0].filename == __file__
