"""The command ``cpgen``: build, bundle, verify, tune, size, show and doctor.

stdout carries the answer (text, or one JSON object with ``--json``), stderr the log and whatever a model prints.  Exit
status: 0 done, 1 a check failed, 2 the model or the request is wrong, 3 the machine lacks something, 4 cpgen itself
failed, 130 interrupted, 141 the reader of the answer went away.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from cpgen.errors import CheckError, CpgenError, EnvironmentProblem, ModelError, Place, RequestError
from cpgen.version import __version__

if TYPE_CHECKING:
    from cpgen.estimate.estimator import Estimator

DONE, CHECK_FAILED, USAGE, ENVIRONMENT, INTERNAL, INTERRUPTED, NO_READER = 0, 1, 2, 3, 4, 130, 141

EXIT_CODES = (
    "exit status: 0 done, 1 a check failed, 2 the model or the request is wrong, 3 the machine lacks something, "
    "4 cpgen itself failed, 130 interrupted, 141 nobody reads the answer"
)
# what the files that `build` writes begin with
GENERATED = "/* SPDX-License-Identifier: CC0-1.0"
BUILT = ("value", "gradient", "diagonal")
SHOWN = ("diagonal",)
MODEL_HELP = "a Python file that defines `model` (or an estimator `est`); MODEL.py:NAME picks another variable"


@dataclass(frozen=True)
class Reply:
    """What a command answers: ``text`` for a person, ``data`` for a program, the exit ``status``."""

    text: str
    data: Mapping[str, Any]
    status: int = DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; ``arguments`` default to the process's own.  Returns the exit status (argparse exits with 2)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser("--json" in given).parse_args(given)
    options.written = _command_line(given)
    command: Callable[[argparse.Namespace], Reply] = options.command
    caller = Path(sys._getframe(1).f_code.co_filename).name
    try:
        with _stdout_to_stderr():
            reply = command(options)
    except CpgenError as error:
        # the line of a request made here is no line of the user's
        own = isinstance(error.origin, Place) and error.origin.file == caller
        reply = _failure(error, error.message if own else str(error), exit_status(error))
    except KeyboardInterrupt as error:
        reply = _failure(error, "interrupted", INTERRUPTED)
    except Exception as error:
        traceback.print_exc()
        reply = _failure(error, f"internal error, please report it: {type(error).__name__}: {error}", INTERNAL)
    return _answered(reply, options.json)


def _failure(error: BaseException, message: str, status: int) -> Reply:
    _log(message)
    return Reply("", {"error": {"kind": type(error).__name__, "message": message}}, status)


def _answered(reply: Reply, as_json: bool) -> int:
    """Write ``reply``; returns its status, or what became of writing it."""
    text = json.dumps({**reply.data, "status": reply.status}, indent=2) if as_json else reply.text.rstrip("\n")
    try:
        if text:
            print(text, flush=True)
    except BrokenPipeError:
        status = NO_READER
    except OSError as error:
        _log(f"cannot write the answer: {error.strerror}")
        status = ENVIRONMENT
    else:
        return reply.status
    with contextlib.suppress(OSError, ValueError):  # else Python would fail to write the rest once more as it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """What is printed within, by Python or by what it starts, is part of the log: stdout is the answer's."""
    with contextlib.ExitStack() as undo:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            kept = os.dup(1)
            undo.callback(os.close, kept)
            os.dup2(2, 1)
            undo.callback(os.dup2, kept, 1)
        undo.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def exit_status(error: CpgenError) -> int:
    """The exit status that reports ``error``."""
    if isinstance(error, CheckError):
        return CHECK_FAILED
    if isinstance(error, EnvironmentProblem):
        return ENVIRONMENT
    return USAGE


def build(options: argparse.Namespace) -> Reply:
    """Write the C or CUDA of the requested programs to a folder; the answer is the list of files."""
    from cpgen.code.tokens import made_by

    estimator = _estimator(options)
    command = " ".join(word for word in options.written.split(" ") if word not in ("--force", "--json"))
    files = estimator.source(options.programs, options.target, made_by(command))
    name = estimator.graph.name
    folder = Path(options.out or f"{name}-c")
    try:
        for file in files:
            if not (options.force or _replaceable(folder / file)):
                what = "a link" if (folder / file).is_symlink() else "no file that cpgen wrote"
                raise RequestError(
                    f"{folder / file} is {what}; move it away, name another folder with --out, or replace it with --force"
                )
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            _replace(folder / file, text)
    except OSError as error:
        raise RequestError(f"cannot write to {folder}: {error.strerror}; name another folder with --out") from error
    paths = [(folder / file).as_posix() for file in files]
    _log(f"wrote {len(paths)} files, {sum(len(text.encode()) for text in files.values())} bytes")
    data = {"model": name, "real": estimator.options.real, "programs": options.programs, "files": paths}
    return Reply("\n".join(paths), data)


def bundle(options: argparse.Namespace) -> Reply:
    """Write C, header, self-test, example, build files and README of a model to a folder; the answer is its sizes."""
    from cpgen import api

    report = api.bundle(
        _estimator(options),
        None if options.report else options.out or f"{options.prefix or 'model'}-bundle",
        programs=options.programs,
        prefix=options.prefix,
        weights=_stored(options.weights),
        vectors=_stored(options.vectors),
        amalgamate=options.amalgamate,
        math=options.math,
        tile=options.tile,
        columns=options.columns,
        ram=options.ram,
        flash=options.flash,
        recompute=options.recompute,
        command=options.written,
        instructions=_counts(options.instructions),
        target=options.target,
    )
    if report.files:
        _log(f"wrote {len(report.files)} files to {options.out or f'{report.prefix}-bundle'}")
    sizes = {"ram": report.ram, "flash": report.flash, "stack": report.stack, "weights": report.weights}
    programs = {p.name: {**asdict(p), "ram": p.ram} for p in report.programs}
    return Reply(str(report), {"prefix": report.prefix, **sizes, "programs": programs, "files": report.files})


def _replaceable(place: Path) -> bool:
    """Whether nothing of the user's is lost by replacing ``place``."""
    if place.is_symlink() or not place.exists():
        return not place.is_symlink()
    with place.open(encoding="utf-8", errors="replace") as file:
        start = file.read(2000)
    return start.startswith(GENERATED) and "cpgen" in start


def _replace(place: Path, text: str) -> None:
    """Put ``text`` into the file ``place`` in one step; a link is replaced, not followed."""
    handle, fresh = tempfile.mkstemp(prefix=f".{place.name}-", dir=place.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(fresh, 0o666 & ~mask)
        os.replace(fresh, place)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise


def _stored(place: str | None) -> dict[str, Any] | None:
    """The arrays of an .npz file by name."""
    if place is None:
        return None
    import numpy as np

    try:
        with np.load(place, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, AttributeError) as error:
        raise RequestError(f"{place} cannot be read as an .npz file of arrays: {error}") from error


def _counts(place: str | None) -> dict[str, dict[str, int]] | None:
    """Machine -> program -> instructions, from a JSON file."""
    if place is None:
        return None
    try:
        found = json.loads(Path(place).read_text(encoding="utf-8"))
        return {str(m): {str(p): int(n) for p, n in counts.items()} for m, counts in found.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RequestError(f"{place} is not a JSON object of machine -> program -> count: {error}") from error


def _command_line(arguments: Sequence[str]) -> str:
    """The command as it can be typed again, folders of the machine left out."""
    shown = [Path(a).name if Path(a.partition(":")[0]).is_absolute() else a for a in arguments]
    return "cpgen " + " ".join(shlex.quote(a) for a in shown)


def verify(options: argparse.Namespace) -> Reply:
    """Compare gradient, Hessian and diagonal with an independent reference."""
    from cpgen.estimate.verify import verify as compare

    arrays = _stored(options.vectors)
    found = compare(
        _estimator(options), arrays, rows=options.rows, seed=options.seed, reference=options.reference
    )
    checks = [{"what": c.what, "error": c.error, "allowed": c.tolerance, "ok": c.ok} for c in found.checks]
    data = {"model": found.model, "reference": found.reference, "backend": found.backend, "ok": found.ok}
    data |= {"zero": found.zero, "kinks": found.kinks}
    return Reply(str(found), {**data, "checks": checks}, DONE if found.ok else CHECK_FAILED)


def tune(options: argparse.Namespace) -> Reply:
    """Measure methods, tiles or schedules of a GPU on random rows and keep the fastest in a file."""
    from cpgen.estimate.estimator import Estimator
    from cpgen.estimate.tuning import load_tuning
    from cpgen.estimate.verify import random_arrays

    made = _estimator(options)
    estimator = Estimator(made.graph, made.wrt, replace(made.options, target=options.target))
    place = options.out or f"{estimator.graph.name}-tuning.json"
    if Path(place).exists():
        load_tuning(place)  # refuses what is no earlier tuning
    found = estimator.tune(random_arrays(estimator.graph, options.rows, options.seed, estimator.real))
    found.save(place)
    kept = {"methods": found.methods, "tiles": found.tiles, "schedules": found.schedules}
    lines = [f"{what} of {key}: {value}" for what, by_key in kept.items() for key, value in by_key.items()]
    lines = lines or ["nothing is at least 5 percent faster than what is chosen anyway"]
    return Reply("\n".join([*lines, f"written: {place}"]), {"model": found.model, **kept, "file": place})


def size(options: argparse.Namespace) -> Reply:
    """Print the text size, operations and memory of each program."""
    from cpgen.estimate.show import size_text

    estimator = _estimator(options)
    sizes = estimator.size(options.programs, options.rows, options.columns, options.threads)
    return Reply(size_text(sizes), sizes)


def show(options: argparse.Namespace) -> Reply:
    """Print the noise analysis, the graph and the stages of each program."""
    estimator = _estimator(options)
    texts = {program: estimator.show(program) for program in options.programs}
    return Reply("\n".join(texts.values()), {"model": estimator.graph.name, "programs": texts})


def doctor(options: argparse.Namespace) -> Reply:
    """Look at what this machine has and say how to fix what it lacks."""
    from cpgen.doctor import FAILED, examine, text

    findings = examine()
    ok = all(finding.state != FAILED for finding in findings)
    data = {"ok": ok, "version": __version__, "checks": [asdict(finding) for finding in findings]}
    return Reply(text(findings), data, DONE if ok else ENVIRONMENT)


def load(place: str) -> Any:
    """The model or estimator that ``place`` (``FILE.py`` or ``FILE.py:NAME``) names.

    Raises RequestError if there is no such file or variable, ModelError if running the file fails.
    """
    file, _, name = place.partition(":") if not Path(place).exists() else (place, "", "")
    path = Path(file)
    if not path.is_file():
        raise RequestError(f"there is no file {file}; a model is named as FILE.py or FILE.py:NAME")
    module = _run(path)
    candidates = [name] if name else ["model", "est"]
    for candidate in candidates:
        if hasattr(module, candidate):
            return getattr(module, candidate)
    others = [key for key, value in vars(module).items() if _is_model(value) and not key.startswith("_")]
    hint = f"; it defines {', '.join(others)}: try {file}:{others[0]}" if others else "; it defines no model"
    raise RequestError(f"{file} has no variable {' or '.join(candidates)}{hint}")


def _run(path: Path) -> ModuleType:
    """Execute a model file as a module, with its own folder importable."""
    specification = importlib.util.spec_from_file_location(f"cpgen_model_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise RequestError(f"{path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        specification.loader.exec_module(module)
    except CpgenError:
        raise
    except SystemExit as error:
        raise ModelError(f"{path} ended the program (exit {error.code}) instead of defining a model") from error
    except Exception as error:
        raise ModelError(f"{path}{_line_in(path, error)} raised {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    return module


def _line_in(path: Path, error: Exception) -> str:
    """``:line`` of the last frame of ``error`` inside ``path``."""
    if isinstance(error, SyntaxError):
        return f":{error.lineno}" if error.lineno else ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f":{lines[-1]}" if lines else ""


def _is_model(value: object) -> bool:
    from cpgen.model import Model

    return isinstance(value, Model)


def _estimator(options: argparse.Namespace) -> Estimator:
    """The estimator that the options describe; nothing is compiled before it is asked something."""
    from cpgen import api
    from cpgen.estimate.estimator import Estimator

    found = load(options.model)
    if isinstance(found, Estimator):
        if options.wrt or options.real:
            raise RequestError(f"{options.model} is compiled already; --wrt and --real apply to a model")
        return found
    return api.compile(found, wrt=options.wrt, real=options.real or "float64", programs=())


def _names(text: str) -> list[str]:
    """``"W1,b1"`` -> ``["W1", "b1"]``."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of names separated by commas")
    return names


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number in 0 .. 2**64 - 1")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


class _Parser(argparse.ArgumentParser):
    """A parser that, if asked to, answers wrong arguments with JSON as well."""

    as_json = False

    def error(self, message: str) -> NoReturn:
        if self.as_json:
            _answered(Reply("", {"error": {"kind": "UsageError", "message": f"{self.prog}: {message}"}}, USAGE), True)
        super().error(message)


def _parser(as_json: bool = False) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = type("_Parser", (_Parser,), {"as_json": as_json})(
        prog="cpgen", description="Compile SymPy models to native curvature estimators.", epilog=EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=f"cpgen {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(function: Callable[[argparse.Namespace], Reply], model: bool = True) -> argparse.ArgumentParser:
        summary = (function.__doc__ or "").partition("\n")[0].rstrip(".")
        added = commands.add_parser(function.__name__, help=summary, description=summary + ".", epilog=EXIT_CODES)
        added.set_defaults(command=function)
        added.add_argument("--json", action="store_true", help="answer with one JSON object")
        if model:
            added.add_argument("model", metavar="MODEL.py[:NAME]", help=MODEL_HELP)
            added.add_argument("--wrt", type=_names, metavar="A,B", help="what to differentiate by (default: all)")
            added.add_argument("--real", choices=("float64", "float32"), help="number type (default: float64)")
        return added

    builder, sizer, shower = command(build), command(size), command(show)
    verifier = command(verify)
    verifier.add_argument(
        "--reference", default="auto", choices=("auto", "symbolic", "differences"), help="compare with what"
    )
    verifier.add_argument("--rows", type=_count, default=3, metavar="N", help="rows of random data (default: 3)")
    verifier.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the random data (default: 0)")
    verifier.add_argument("--vectors", metavar="FILE.npz", help="arrays of all inputs (default: random)")
    tuner = command(tune)
    tuner.add_argument("--rows", type=_count, default=1024, metavar="N", help="rows of random data (default: 1024)")
    tuner.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the random data (default: 0)")
    tuner.add_argument("--out", metavar="FILE", help="where to write (default: NAME-tuning.json, after the model)")
    tuner.add_argument("--target", choices=("cpu", "cuda"), default="cpu", help="cuda measures schedules (default: cpu)")
    bundler = command(bundle)
    bundler.add_argument("--prefix", default="", metavar="NAME", help="starts every external name (default: the model's)")
    bundler.add_argument("--weights", metavar="FILE.npz", help="parameters that become constant data")
    bundler.add_argument("--vectors", metavar="FILE.npz", help="inputs of the self-test (default: random)")
    bundler.add_argument("--amalgamate", action="store_true", help="one .c file besides the header")
    bundler.add_argument(
        "--math", choices=("builtin", "libm"), default="builtin", help="mathematical functions (default: builtin)"
    )
    bundler.add_argument("--tile", type=_count, metavar="N", help="rows computed at once (default: 1)")
    bundler.add_argument("--columns", type=_count, default=16, metavar="N", help="noise columns to report for (16)")
    bundler.add_argument("--ram", metavar="SIZE", help="refuse if one row needs more, for example 32k")
    bundler.add_argument("--flash", metavar="SIZE", help="refuse if code and weights are larger, for example 128k")
    bundler.add_argument("--recompute", action="store_true", help="compute values again instead of keeping them")
    bundler.add_argument("--instructions", metavar="FILE.json", help="measured instructions, for the README")
    bundler.add_argument("--report", action="store_true", help="only report the sizes, write nothing")
    bundler.add_argument("--out", metavar="DIR", help="where to write (default: NAME-bundle, after the prefix)")
    for subparser, what in ((builder, "the language of the text"), (bundler, "cuda adds the programs as CUDA text")):
        subparser.add_argument("--target", choices=("cpu", "cuda"), default="cpu", help=f"{what} (default: cpu)")
    for subparser, default in ((builder, BUILT), (bundler, BUILT), (sizer, BUILT), (shower, SHOWN)):
        subparser.add_argument(
            "--programs",
            type=_names,
            metavar="P,Q",
            default=list(default),
            help=f"which programs (default: {','.join(default)}); KEY:METHOD names another estimator",
        )
    builder.add_argument("--out", metavar="DIR", help="where to write (default: NAME-c, after the model)")
    builder.add_argument("--force", action="store_true", help="replace files there that cpgen did not write")
    for name in ("rows", "columns", "threads"):
        sizer.add_argument(f"--{name}", type=_count, default=1, metavar="N", help=f"for this many {name} (default: 1)")
    command(doctor, model=False)
    return parser


def _log(message: str) -> None:
    print(f"cpgen: {message}", file=sys.stderr)
