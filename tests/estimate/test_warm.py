"""A second process derives, compiles and checks nothing again, and has the same bits; what is not its own it ignores."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sympy as sp

import cpgen as cp
from cpgen.derive.request import GRADIENT
from cpgen.estimate.notes import Notes, derived_from, outline_of
from cpgen.estimate.options import Options
from cpgen.ir.flat import fingerprint
from cpgen.native import cache
from tests.catalogue import ENTRIES, Entry

ROOT = Path(__file__).resolve().parents[2]

# One process: a model, every kind of request, the bits, and how often what takes long was done.
PROGRAM = '''
import hashlib, json, pickle, sys, warnings
from collections import Counter
import numpy as np, sympy as sp
import cpgen as cp
from cpgen.estimate import backends, choice, compiled
from cpgen.native import compiler

counts = Counter()
def counted(module, name):
    function = getattr(module, name)
    def inside(*args, **kwargs):
        counts[name] += 1
        return function(*args, **kwargs)
    setattr(module, name, inside)
counted(compiled, "simplified")
counted(compiled, "plan")
counted(compiled, "emit_c")
counted(compiled, "choose")
counted(backends, "check_program")
counted(compiler, "run")

ask = json.loads(sys.argv[1])
warnings.simplefilter(ask.get("warnings", "error"))
m = cp.Model("warm")
n, i, h, k, c = m.axes("n i h k c", n=cp.ROWS, i=3, h=12, k=9, c=6)
x, w, b, v, a = m.input("x", n, i), m.param("w", h, i), m.param("b", h), m.param("v", k, h), m.param("a", c, k)
z = m.define("z", (n, h), sp.sin(cp.sum(w[h, i] * x[n, i], i)) + b[h])
u = m.define("u", (n, k), sp.tanh(cp.sum(v[k, h] * z[n, h], h)))
s = m.define("s", (n, c), eval(ask.get("scale", "1.0")) * cp.sum(a[c, k] * u[n, k], k))
m.objective(cp.logsumexp(s[n, c], c) - s[n, 0])
rng = np.random.default_rng(0)
arrays = {"x": rng.normal(size=(7, 3)), "w": rng.normal(size=(12, 3)), "b": rng.normal(size=12)}
arrays |= {"v": rng.normal(size=(9, 12)), "a": rng.normal(size=(6, 9))}
if ask.get("pickled"):
    with open(ask["pickled"], "rb") as stream:
        est = pickle.load(stream)
else:
    est = cp.compile(m, programs=("gradient",), **ask.get("options", {}))
arrays = {name: array.astype(est.real) for name, array in arrays.items()}
found = [est.gradient(**arrays), est.columns("diagonal")]
if not ask.get("brief"):
    for exact in (None, False):
        d = est.diagonal(samples=3, exact=exact, **arrays)
        found += [(e.value, e.stderr, e.exact, e.method, e.reason, e.backend) for e in d.values()]
    found.append(est.entries([(("w", (0, 1)), ("b", (0,)))], samples=2, **arrays)[0].value)
    found.append(dict(est.bind("gradient", **{**arrays, "x": arrays["x"][:1]})()))
    found.append(est.sketch(samples=2, **arrays).dropped)
if ask.get("pickle"):
    with open(ask["pickle"], "wb") as stream:
        pickle.dump(est, stream)
print(json.dumps([hashlib.sha256(repr(found).encode()).hexdigest(), repr(found), counts]))
'''
NOTHING: dict[str, int] = {}


def start(folder: Path, **ask: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "CPGEN_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT), **ask.pop("environment", {})}
    environment["CPGEN_NOTES"] = ask.pop("notes", "1")
    command = [sys.executable, "-c", PROGRAM, json.dumps(ask)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def process(folder: Path, **ask: Any) -> tuple[str, dict[str, int]]:
    running = start(folder, **ask)
    text, _ = running.communicate(timeout=600)
    assert running.returncode == 0
    _, found, counts = json.loads(text)
    return found, counts


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Path]:
    """A cache that one process has filled, what that process found, and its estimator, pickled."""
    folder = tmp_path_factory.mktemp("warm") / "cache"
    pickled = folder.parent / "estimator"
    found, counts = process(folder, pickle=str(pickled))
    assert counts["simplified"] >= 4 and counts["choose"] == 1 and counts["run"] > 5
    assert counts["check_program"] == counts["emit_c"] >= 4
    return folder, found, pickled


@pytest.fixture(scope="module")
def brief(first: tuple[Path, str, Path]) -> str:
    """What it found of the gradient."""
    found, counts = process(first[0], brief=True)
    assert not counts
    return found


def test_a_second_process_derives_compiles_and_checks_nothing(first: tuple[Path, str, Path]) -> None:
    folder, found, _ = first
    assert process(folder) == (found, NOTHING)


def test_without_notes_the_same(first: tuple[Path, str, Path]) -> None:
    folder, found, _ = first
    again, counts = process(folder, notes="0")
    assert again == found and counts["simplified"] >= 4 and counts["check_program"] >= 4


def test_a_pickled_estimator_finds_them_too(first: tuple[Path, str, Path]) -> None:
    folder, found, pickled = first
    assert process(folder, pickled=str(pickled)) == (found, NOTHING)


@pytest.mark.parametrize(
    "changed",
    [
        {"scale": "1.0000000000000002"},  # the last digit of a constant
        {"options": {"real": "float32"}},
        {"options": {"factor": "mixed"}},
        {"options": {"fused": True}},
        {"options": {"wrt": ["v", "a", "b", "w"]}},
    ],
    ids=str,
)
def test_what_is_changed_is_derived_anew(first: tuple[Path, str, Path], changed: dict[str, Any]) -> None:
    found, counts = process(first[0], brief=True, **changed)
    assert counts.get("simplified", 0) > 0
    assert process(first[0], brief=True, notes="0", **changed)[0] == found
    assert process(first[0], brief=True, **changed) == (found, NOTHING)


def test_another_compiler_checks_again(first: tuple[Path, str, Path], brief: str, tmp_path: Path) -> None:
    other = tmp_path / "cc"
    other.write_text('#!/bin/sh\nexec cc "$@"\n')
    other.chmod(0o755)
    again, counts = process(first[0], brief=True, environment={"CC": str(other)})
    assert again == brief and counts["check_program"] == 1 and counts["run"] > 3


def test_another_machine_checks_again(first: tuple[Path, str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from cpgen.estimate import backends, compiled

    monkeypatch.setenv("CPGEN_CACHE_DIR", str(first[0]))
    monkeypatch.setenv("CPGEN_NOTES", "1")
    checked: list[str] = []
    check = backends.check_program
    monkeypatch.setattr(backends, "check_program", lambda p, **k: (checked.append(p.name), check(p, **k)))
    small_model().load("gradient")
    assert checked == ["gradient"]
    small_model().load("gradient")
    assert checked == ["gradient"]
    monkeypatch.setattr(compiled, "machine", lambda: "another")
    small_model().load("gradient")
    assert checked == ["gradient"] * 2


def small_model(power: int = 3) -> cp.Estimator:
    m = cp.Model("small")
    n, i = m.axes("n i", n=cp.ROWS, i=3)
    x, w = m.input("x", n, i), m.param("w", i)
    m.objective(cp.sum(w[i] * x[n, i], i) ** power)
    return cp.compile(m, programs=())


def test_the_version_and_the_text_of_the_package_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cpgen.estimate import notes

    monkeypatch.setenv("CPGEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CPGEN_NOTES", "1")

    def known() -> object:
        return Notes(small_model().graph, small_model().wrt, Options()).get("question", str)

    est = small_model()
    Notes(est.graph, est.wrt, Options()).put("question", "answer")
    assert known() == "answer"
    with monkeypatch.context() as patch:
        patch.setattr(notes, "text_digest", lambda: "another")
        assert known() is None
    with monkeypatch.context() as patch:
        patch.setattr(notes, "_versions", lambda: ("another",))
        assert known() is None
    with monkeypatch.context() as patch:
        patch.setattr(notes, "text_digest", lambda: None)  # the files changed while this process was running
        est = small_model()
        Notes(est.graph, est.wrt, Options()).put("question", "wrong")
        assert known() is None
    assert known() == "answer"


def test_files_that_changed_under_a_running_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from cpgen.estimate import notes

    notes.text_digest.cache_clear()
    assert notes.text_digest() is not None
    notes.text_digest.cache_clear()
    monkeypatch.setattr(notes, "_IMPORTED", 1e9)
    assert notes.text_digest() is None
    notes.text_digest.cache_clear()


def damaged(folder: Path, kind: str) -> None:
    for note in (folder / cache.NOTES).iterdir():
        content = note.read_bytes()
        if kind == "cut off":
            note.write_bytes(content[: len(content) // 2])
        elif kind == "empty":
            note.write_bytes(b"")
        elif kind == "a digit":
            note.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
        elif kind == "writable":
            note.chmod(0o666)
        elif kind == "a folder":
            note.unlink()
            note.mkdir()
        elif kind == "a link":
            other = folder.parent / f"{note.name}.elsewhere"
            other.write_bytes(content)
            note.unlink()
            note.symlink_to(other)
    if kind == "exchanged":  # each a note of its own, under the name of another
        notes = sorted((folder / cache.NOTES).iterdir())
        texts = [note.read_bytes() for note in notes]
        for note, text in zip(notes, texts[1:] + texts[:1], strict=True):
            note.write_bytes(text)
    if kind == "libraries gone":
        for library in folder.glob("warm_*/*.so"):
            library.unlink()


@pytest.mark.parametrize(
    "kind",
    ["cut off", "empty", "a digit", "writable", "a folder", "a link", "exchanged", "libraries gone"],
)
def test_damaged_notes_are_found_out_again(
    kind: str, first: tuple[Path, str, Path], brief: str, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    shutil.copytree(first[0], folder)
    damaged(folder, kind)
    found, counts = process(folder, brief=True)
    assert found == brief
    assert counts["simplified"] > 0 and counts["check_program"] > 0
    if kind != "a folder":
        assert process(folder, brief=True) == (brief, NOTHING)


def test_a_note_that_says_nonsense_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Written by whoever may, under the right key, and still not believed blindly."""
    monkeypatch.setenv("CPGEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CPGEN_NOTES", "1")
    est = small_model()
    notes = Notes(est.graph, est.wrt, Options())
    for nonsense in ({}, [], None, 3, {"name": "gradient"}, {"inputs": [["q", "data", [1], 0, ["q", "", []]]]}):
        notes.put("program gradient", nonsense)
        assert est.core.outline(GRADIENT).program.maps()  # derived


def test_a_folder_that_cannot_be_written_to(brief: str, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    found, counts = process(blocked / "cache", brief=True, warnings="ignore")
    assert found == brief and counts["check_program"] == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(brief: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o500)
    assert process(folder, brief=True, warnings="ignore")[0] == brief
    assert not list(folder.iterdir())


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CPGEN_CACHE_DIR", str(tmp_path))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    cache.keep("key", "before")
    with monkeypatch.context() as patch:
        patch.setattr(cache.os, "replace", full)
        cache.keep("key", "text")
        cache.keep("other", "text")
    assert cache.kept("key") == "before" and cache.kept("other") is None
    assert len(list((tmp_path / cache.NOTES).iterdir())) == 1


def test_notes_are_for_their_owner_alone(first: tuple[Path, str, Path]) -> None:
    for note in (first[0] / cache.NOTES).iterdir():
        assert stat.S_IMODE(note.stat().st_mode) == 0o600
    assert stat.S_IMODE((first[0] / cache.NOTES).stat().st_mode) == 0o700


@pytest.mark.slow
def test_eight_processes_at_once(brief: str, tmp_path: Path) -> None:
    running = [start(tmp_path / "cache", brief=True) for _ in range(8)]
    found = []
    for each in running:
        text, _ = each.communicate(timeout=1200)
        assert each.returncode == 0
        found.append(json.loads(text)[1])
    assert found == [brief] * 8
    assert process(tmp_path / "cache", brief=True) == (brief, NOTHING)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_outline_says_what_the_derivation_found(entry: Entry) -> None:
    est = entry.compile(programs=(), backend="interpreter")
    for key in ("value", "gradient", "diagonal", "trace", "hvp", "sketch"):
        derived = est.derive(key)
        outline = derived_from(est.graph, json.loads(json.dumps(outline_of(derived))))
        assert vars(outline) | {"program": None} == vars(derived) | {"program": None}
        mine, whole = outline.program, derived.program
        assert (mine.name, mine.whole, mine.unit, mine.origin) == (whole.name, whole.whole, whole.unit, whole.origin)
        for a, b in zip(mine.inputs, whole.inputs, strict=True):
            assert a is b or (a.name, a.shape, a.kind, a.offset) == (b.name, b.shape, b.kind, b.offset)
        for (label, a), (other, b) in zip(mine.outputs, whole.outputs, strict=True):
            assert (label, a.shape) == (other, b.shape)
            assert (a.origin.file, a.origin.line) in ((b.origin.file, b.origin.line), ("", 0))


def test_fingerprints_tell_models_apart_and_nothing_else() -> None:
    assert fingerprint(small_model().graph) == fingerprint(pickle.loads(pickle.dumps(small_model())).graph)
    assert fingerprint(small_model().graph) != fingerprint(small_model(4).graph)
    x = sp.Symbol("x")
    numbers = [0.1, 0.1 + 2**-56, sp.Rational(1, 10), 1]
    found = {fingerprint(cp.compile(sp.exp(c * x), wrt=[x], programs=()).graph) for c in numbers}
    assert len(found) == len(numbers)


def test_functions_of_the_user_have_none() -> None:
    wave = cp.function("wave", [lambda x: sp.cos(x)], "sin({0})", lambda x: x)
    x = sp.Symbol("x")
    assert fingerprint(cp.compile(wave(x) + x, wrt=[x], programs=(), backend="interpreter").graph) is None
