"""The command line: answers on stdout, exit statuses, and messages in the user's terms."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cpgen import cli, doctor, errors

ROSENBROCK = """
import sympy as sp
u, v = sp.symbols("u v")
model = (1 - u) ** 2 + 100 * (v - u**2) ** 2
"""

NETWORK = """
import sympy as sp
import cpgen as cp
net = cp.Model("net")
n, i, h = net.axes("n i h", n=cp.ROWS, i=3, h=2)
x, w = net.input("x", n, i), net.param("w", h, i)
a = net.define("a", (n, h), cp.sum(w[h, i] * x[n, i], i))
net.objective(cp.sum(sp.tanh(a[n, h]) ** 2, h))
"""


@pytest.fixture
def rosenbrock(tmp_path: Path) -> str:
    file = tmp_path / "rosen.py"
    file.write_text(ROSENBROCK)
    return str(file)


@pytest.fixture
def network(tmp_path: Path) -> str:
    file = tmp_path / "network.py"
    file.write_text(NETWORK)
    return f"{file}:net"


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict]:
    """Exit status and JSON answer of a command."""
    status = cli.main([*arguments, "--json"])
    data = json.loads(capsys.readouterr().out)
    assert data["status"] == status
    return status, data


@pytest.mark.parametrize("name", ["rosenbrock", "network"])
def test_verify_agrees(name: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    status, data = answer(capsys, "verify", request.getfixturevalue(name))
    assert status == 0
    assert data["ok"] and all(check["error"] <= check["allowed"] for check in data["checks"])


def test_build_writes_what_it_lists(network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "er"
    status = cli.main(["build", network, "--wrt", "w", "--programs", "gradient", "--real", "float32", "--out", str(out)])
    listed = capsys.readouterr().out.split()
    assert status == 0
    assert sorted(listed) == sorted(path.as_posix() for path in out.iterdir())
    assert "float" in (out / "net.c").read_text()


UNIT = """
#include "expression.c"
#include "net.c"
#include <stdio.h>
static double work[4096];
int main(void)
{
    const double u = 1.5, v = 2.0, w[6] = {1, 2, 3, -1, 0, 1}, x[6] = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6};
    double first = 0.0, second = 0.0;
    const expression_value_args a = {.u = &u, .v = &v, .out_value = &first, .n_rows = 1, .threads = 1};
    const net_value_args b = {.w = w, .x = x, .out_value = &second, .n_rows = 2, .threads = 1};
    if (expression_value_run(&a, work, sizeof work) != EXPRESSION_OK) { return 1; }
    if (net_value_run(&b, work, sizeof work) != NET_OK) { return 2; }
    printf("%.17g %.17g\\n", first, second);
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("flags", [(), ("-fopenmp",)], ids=["serial", "openmp"])
def test_two_models_in_one_translation_unit(
    flags: tuple[str, ...], rosenbrock: str, network: str, tmp_path: Path
) -> None:
    for model in (rosenbrock, network):
        assert cli.main(["build", model, "--out", str(tmp_path / "c")]) == 0
    (tmp_path / "c/unit.c").write_text(UNIT)
    strict = ("-std=c99", "-Wall", "-Wextra", "-Werror")
    subprocess.run(["gcc", *strict, *flags, "unit.c", "-o", "unit", "-lm"], cwd=tmp_path / "c", check=True)
    found = subprocess.run([tmp_path / "c/unit"], capture_output=True, text=True, check=True).stdout
    w, x = np.array([[1.0, 2, 3], [-1, 0, 1]]), np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    expected = (0.25 + 100 * (2.0 - 2.25) ** 2, np.sum(np.tanh(x @ w.T) ** 2))
    np.testing.assert_allclose([float(v) for v in found.split()], expected, rtol=1e-14)


def test_size_grows_with_rows(network: str, capsys: pytest.CaptureFixture[str]) -> None:
    needs = []
    for rows in ("1", "100000"):
        _, data = answer(capsys, "size", network, "--rows", rows, "--programs", "gradient")
        needs.append(data["programs"]["gradient"]["workspace_bytes"])
    assert 0 < needs[0] <= needs[1]


def test_show_names_the_users_definitions(network: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", network, "--programs", "diagonal,value"]) == 0
    text = capsys.readouterr().out
    assert "program diagonal" in text and "program value" in text and "noise" in text and "stage" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nowhere.py"], "there is no file nowhere.py"),
        (["show", "{network}"], "has no variable model or est; it defines net: try"),
        (["show", "{rosenbrock}:other"], "has no variable other"),
        (["show", "{rosenbrock}", "--wrt", "u,q"], "q"),
        (["show", "{rosenbrock}", "--programs", "nonsense"], "there is no program 'nonsense'"),
        (["build", "{rosenbrock}", "--out", "{rosenbrock}/below"], "cannot write to"),
    ],
)
def test_wrong_requests_exit_with_2(
    arguments: list[str],
    message: str,
    rosenbrock: str,
    network: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"rosenbrock": rosenbrock, "network": network.removesuffix(":net")}
    status, data = answer(capsys, *(argument.format(**places) for argument in arguments))
    assert status == 2
    assert message in data["error"]["message"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = x / 0\n", ":2 raised ZeroDivisionError"),
        ("x = (\n", "raised SyntaxError"),
        ("raise SystemExit(4)\n", "ended the program (exit 4)"),
        ("model = 7\n", "not int"),
    ],
)
def test_a_bad_model_file_is_explained(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.py").write_text(text)
    status = cli.main(["show", str(tmp_path / "bad.py")])
    output = capsys.readouterr()
    assert status == 2
    assert output.out == ""
    assert message in output.err and "Traceback" not in output.err


@pytest.mark.parametrize("arguments", [[], ["fly"], ["size", "m.py", "--rows", "0"], ["show", "m.py", "--wrt", "a,,b"]])
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2


def test_exit_statuses() -> None:
    assert cli.exit_status(errors.CheckError("x")) == 1
    assert cli.exit_status(errors.ModelError("x")) == 2
    assert cli.exit_status(errors.EnvironmentProblem("x")) == 3


def test_a_failed_check_exits_with_1(
    rosenbrock: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cpgen.estimate import verify

    failed = verify.Verification("m", "a reference", "native", (verify.Check("Hessian", 1.0, 1e-10),))
    monkeypatch.setattr(verify, "verify", lambda *arguments, **options: failed)
    status, data = answer(capsys, "verify", rosenbrock)
    assert status == 1 and not data["ok"]


def test_doctor_without_a_compiler(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    status, data = answer(capsys, "doctor")
    found = {check["what"]: check for check in data["checks"]}
    assert status == 3
    assert found["compiler"]["state"] == "failed" and "install gcc" in found["compiler"]["fix"]


def test_doctor_with_an_unusable_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CPGEN_CACHE_DIR", str(tmp_path / "file" / "cache"))
    status, data = answer(capsys, "doctor")
    found = {check["what"]: check for check in data["checks"]}
    assert status == 0  # a temporary folder serves instead
    assert found["cache"]["state"] == "warning" and "CPGEN_CACHE_DIR" in found["cache"]["fix"]


def test_doctor_knows_the_namesake() -> None:
    clash = doctor.namesake("1.2.3", "0.1.0")
    assert clash.state == doctor.FAILED and "pip uninstall cpgen" in clash.fix
    assert doctor.namesake(None, None).state == doctor.WARNING
    assert doctor.namesake(None, "0.1.0").state == doctor.OK


def test_doctor_text_gives_each_fix() -> None:
    findings = doctor.examine()
    text = doctor.text(findings)
    assert all(finding.what in text and finding.fix in text for finding in findings)
    assert all(bool(finding.fix) == (finding.state != doctor.OK) for finding in findings)


def test_verify_differences_where_asked(rosenbrock: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, data = answer(capsys, "verify", rosenbrock, "--reference", "differences")
    assert status == 0 and data["reference"] == "central differences"


def test_tune_keeps_what_it_measured(network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "kept.json"
    status, data = answer(capsys, "tune", network, "--rows", "40", "--out", str(place))
    assert status == 0 and data["model"] == "net" and data["file"] == str(place)
    kept = json.loads(place.read_text())
    assert kept["tiles"] == data["tiles"] and kept["schedules"] == {} and kept["wrt"] == ["w"]


def test_verify_with_given_arrays(rosenbrock: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "data.npz"
    np.savez(place, u=np.array([1.5, 2.0]), v=np.array([0.5, -1.0]))
    status, data = answer(capsys, "verify", rosenbrock, "--vectors", str(place))
    assert status == 0 and data["ok"] and data["kinks"] == 0
    np.savez(place, other=np.zeros(2))
    status, data = answer(capsys, "verify", rosenbrock, "--vectors", str(place))
    assert status != 0 and "other" in str(data)


# Being one command among others

PRINTS = """
import os, subprocess, sys
print("hello from Python")
os.write(1, b"hello from below\\n")
subprocess.run(["echo", "hello from a child"])
"""


def run(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    """The command as a process of its own."""
    place = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    given: dict = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": place, **options}
    return subprocess.Popen([sys.executable, "-m", "cpgen", *arguments], **given)


def test_what_a_model_prints_is_no_part_of_the_answer(tmp_path: Path) -> None:
    file = tmp_path / "loud.py"
    file.write_text(PRINTS + ROSENBROCK)
    process = run("size", str(file), "--json")
    out, err = process.communicate()
    assert json.loads(out)["status"] == process.returncode == 0
    assert err.count(b"hello") == 3


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_reader_that_went_away_is_no_failed_check(rosenbrock: str) -> None:
    read, write = os.pipe()
    os.close(read)
    process = run("show", rosenbrock, stdout=write)
    os.close(write)
    _, err = process.communicate()
    assert process.returncode == 141 and err == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said(rosenbrock: str) -> None:
    with open("/dev/full", "wb") as full:
        process = run("show", rosenbrock, "--json", stdout=full)
        _, err = process.communicate()
    assert process.returncode == 3
    assert b"cannot write the answer: No space left" in err and b"Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_is_said(tmp_path: Path) -> None:
    file = tmp_path / "slow.py"
    file.write_text(f"import pathlib, time\npathlib.Path({str(tmp_path / 'started')!r}).touch()\ntime.sleep(60)\n")
    # where tests run in the background, a shell may have told them to ignore interrupts, and children inherit that
    process = run("show", str(file), "--json", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == json.loads(out)["status"] == 130
    assert err == b"cpgen: interrupted\n"


@pytest.mark.parametrize("arguments", [["fly"], ["verify", "m.py", "--seed", "-1"], ["size", "m.py", "--rows", "0"]])
def test_wrong_arguments_are_answered_in_json_too(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([*arguments, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert stop.value.code == found["status"] == 2
    assert arguments[-1] in found["error"]["message"]


def test_a_fault_of_cpgen_is_no_failed_check(
    rosenbrock: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cpgen.estimate.estimator import Estimator

    monkeypatch.setattr(Estimator, "show", lambda *arguments: {}["x"])
    status, data = answer(capsys, "show", rosenbrock)
    assert status == 4 and "internal error" in data["error"]["message"]


def test_a_request_made_by_the_command_names_no_line_of_it(rosenbrock: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, data = answer(capsys, "show", rosenbrock, "--programs", "hess")
    assert status == 2 and ".py:" not in data["error"]["message"]


def test_build_replaces_only_what_it_wrote(network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    build = ["build", network, "--programs", "value", "--out", str(out)]
    assert cli.main(build) == 0 == cli.main(build)
    first = (out / "net.c").read_text()
    (out / "net.c").write_text("int mine;\n")
    assert cli.main(build) == 2
    assert (out / "net.c").read_text() == "int mine;\n"
    assert "no file that cpgen wrote" in capsys.readouterr().err
    assert cli.main([*build, "--force"]) == 0 and (out / "net.c").read_text() == first

    other = tmp_path / "other.c"
    other.write_text(first)
    (out / "net.c").unlink()
    (out / "net.c").symlink_to(other)
    assert cli.main(build) == 2
    assert "is a link" in capsys.readouterr().err
    other.write_text("int mine;\n")
    assert cli.main([*build, "--force"]) == 0
    assert not (out / "net.c").is_symlink() and other.read_text() == "int mine;\n"
    assert sorted(p.name for p in out.iterdir() if p.name.startswith(".")) == []


def test_tune_replaces_only_a_tuning(rosenbrock: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    status, data = answer(capsys, "tune", rosenbrock, "--out", str(notes))
    assert status == 2 and notes.read_text() == "mine"
    assert "not a tuning that cpgen wrote" in data["error"]["message"]
