"""The same model gives the same C text, byte by byte, whatever the order of Python's hashes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = """
import sys
sys.path.insert(0, {root!r})
from tests.catalogue import CATALOGUE
for name in {names!r}:
    est = CATALOGUE[name].compile(programs=(), backend="interpreter")
    for file, text in sorted(est.source(("gradient", "diagonal", "hessian")).items()):
        print(name, file)
        print(text)
    print(est.show())
"""


def text(seed: str, names: tuple[str, ...] = ("attention", "convolution_1d", "special_functions")) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    code = TEXT.format(root=str(ROOT), names=names)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_c_text_does_not_depend_on_the_hash_seed() -> None:
    first = text("0")
    assert len(first) > 10_000 and "attention_gradient_run" in first
    assert str(ROOT) not in first
    digests = {hashlib.sha256(text(seed).encode()).hexdigest() for seed in ("1", "17", "4242", "99999")}
    assert digests == {hashlib.sha256(first.encode()).hexdigest()}


def test_declaring_twice_in_one_process_changes_nothing() -> None:
    from tests.catalogue import CATALOGUE

    entry = CATALOGUE["attention"]
    sources = [entry.compile(programs=(), backend="interpreter").source() for _ in range(2)]
    assert sources[0] == sources[1]


def test_c_text_does_not_depend_on_the_models_before_it() -> None:
    """Zeros and other maps that read nothing are the same in all models, but not what they are called."""
    alone, after = text("0", ("linear",)), text("0", ("mlp_tanh", "linear"))
    assert alone == after[after.index("linear linear") :] and "idle" in alone
