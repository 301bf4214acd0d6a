"""The team of threads: after a fork, from several callers at once, with late threads, and how many by default."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import cffi
import numpy as np
import pytest

from cpgen.ir.call import Call
from cpgen.native import build, find_compiler
from cpgen.native.compiler import OPENMP, TEAM, compile_library
from cpgen.native.team import _quota, client_files, default_threads
from tests.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

# `answer` is the same bits wherever it is computed; 5,000 rows are worth several threads
COMMON = """
import multiprocessing, os, sys, threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from tests.catalogue import CATALOGUE
ENTRY = CATALOGUE["mlp_tanh"]
ARRAYS = ENTRY.arrays(5000, 1)
EST = ENTRY.compile(programs=(), threads=3)
def answer(_=0):
    return b"".join(v.tobytes() for v in EST.gradient(**ARRAYS).values())
"""

OS_FORK = """
expected = answer()
def child(depth):
    if answer() != expected: return 1
    with ThreadPoolExecutor(3) as pool:
        if set(pool.map(answer, range(6))) != {expected}: return 2
    return forked(depth - 1) if depth else 0
def forked(depth):
    pid = os.fork()
    if pid == 0:
        os._exit(child(depth))
    assert answer() == expected
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert forked(2) == 0
assert answer() == expected
"""
# a master that has computed forks workers, which compute, and one of them another: gunicorn with preload
PRELOAD = """
expected = answer()
workers = []
for k in range(4):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if all(answer() == expected for _ in range(5)) else 1)
    workers.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in workers] == [0] * 4
"""
# the fork happens while another thread is inside calls
WHILE_CALLING = """
expected, stop = answer(), []
def often():
    while not stop: assert answer() == expected
threads = [threading.Thread(target=often) for _ in range(2)]
for t in threads: t.start()
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if answer() == expected else 1)
    assert os.waitpid(pid, 0)[1] == 0
stop.append(1)
for t in threads: t.join()
"""
POOL = """
if __name__ == "__main__":
    expected = answer()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context({method!r})) as pool:
        assert set(pool.map(answer, range(4))) == {{expected}}
    assert answer() == expected
"""
JOBLIB = """
import joblib
if __name__ == "__main__":
    expected = answer()
    for backend in ("multiprocessing", "threading"):
        found = joblib.Parallel(2, backend=backend)(joblib.delayed(answer)(k) for k in range(4))
        assert set(found) == {expected}, backend
"""


def finishes(code: str, tmp_path: Path, **environment: str) -> str:
    script = tmp_path / "program.py"
    script.write_text(COMMON + code)
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("code", [OS_FORK, PRELOAD, WHILE_CALLING], ids=["os.fork", "preload", "while calling"])
def test_children_of_a_process_that_has_used_threads(code: str, tmp_path: Path) -> None:
    finishes(code, tmp_path)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method: str, tmp_path: Path) -> None:
    finishes(POOL.format(method=method), tmp_path)


def test_joblib(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    finishes(JOBLIB, tmp_path)


APP = """
computed = answer()
def app(environ, start_response):
    same = b"same" if answer() == computed else b"other"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Worker", str(os.getpid()))])
    return [same + b" bits"]
"""


@pytest.mark.alone
def test_gunicorn_with_preload(tmp_path: Path) -> None:
    """The master compiles and computes on two threads, then forks two workers that compute in each request."""
    pytest.importorskip("gunicorn")
    (tmp_path / "application.py").write_text(COMMON.replace("threads=3", "threads=2") + APP)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--bind", f"127.0.0.1:{port}"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([*command, "application:app"], cwd=tmp_path, env=env, stdout=log, stderr=log)
    try:
        end, workers, answers = time.monotonic() + 90, set[str](), 0
        while (len(workers) < 2 or answers < 20) and time.monotonic() < end and server.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as reply:
                    assert reply.read() == b"same bits"
                    workers.add(reply.headers["Worker"])
                    answers += 1
            except urllib.error.URLError:  # it has not begun to listen
                time.sleep(0.1)
    finally:
        server.terminate()
        server.wait(60)
    log_text = (tmp_path / "log").read_text()
    assert len(workers) == 2 and str(server.pid) not in workers and answers >= 20, log_text
    assert "Traceback" not in log_text and "WORKER TIMEOUT" not in log_text, log_text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_no_openmp_library_and_no_more_threads_than_asked_for(tmp_path: Path) -> None:
    """Three callers at once share the two further threads of a call on three; the environment is as it was."""
    if not find_compiler().team:
        pytest.skip("the compiler's own OpenMP is in use")
    code = """
before = dict(os.environ)
answer()
here = lambda: len(os.listdir("/proc/self/task"))
count = here()
with ThreadPoolExecutor(3) as pool:
    list(pool.map(answer, range(30)))
    print(here() - count, "libgomp" in open("/proc/self/maps").read(), before == dict(os.environ))
"""
    assert finishes(code, tmp_path, OPENBLAS_NUM_THREADS="1") == "3 False True\n"


@pytest.mark.alone
def test_a_call_ends_while_processors_are_taken() -> None:
    """Nobody waits for a thread that does not run: with every processor taken twice, two threads are as quick as one."""
    entry = CATALOGUE["mlp_tanh"]
    arrays = entry.arrays(2000, 1)
    calls = {t: entry.compile(programs=(), threads=t).bind("gradient", **arrays) for t in (1, 2)}
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        spent: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(150):
            for t, call in calls.items():
                start = time.perf_counter()
                call()
                spent[t].append(time.perf_counter() - start)
    finally:
        for process in others:
            process.kill()
            process.wait()
    assert np.percentile(spent[2], 75) < 3 * np.percentile(spent[1], 75) + 2e-3  # libgomp's: 20 times


def test_callers_at_once_have_the_bits_of_one() -> None:
    entry = CATALOGUE["attention"]
    arrays = entry.arrays(64, 1)
    ests = [entry.compile(programs=(), threads=t) for t in (1, 2, 3, 4, 5)]
    expected = [v.tobytes() for v in ests[0].gradient(**arrays).values()]
    wrong: list[int] = []

    def often(k: int) -> None:
        for _ in range(20):
            if [v.tobytes() for v in ests[k].gradient(**arrays).values()] != expected:
                wrong.append(k)

    threads = [threading.Thread(target=often, args=(k,)) for k in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


IN_REGION = """
#include <stddef.h>
#include <stdint.h>
void together(int32_t (*run)(const void *, void *, size_t), const void **args, void **work, size_t bytes)
{
#pragma omp parallel num_threads(3)
    {
#pragma omp for schedule(static, 1)
        for (int k = 0; k < 3; ++k) { run(args[k], work[k], bytes); }
    }
}
"""


def test_calls_from_a_parallel_region_of_the_caller_are_whole() -> None:
    """With OpenMP's own threads: those of the caller's region are not this program's, also when it is to use one."""
    found = find_compiler()
    kept = tuple(f for f in found.flags if f not in TEAM)
    compiler = replace(found, flags=(*kept, *OPENMP))
    entry = CATALOGUE["mlp_tanh"]
    est = entry.compile(backend="interpreter", programs=())
    loaded = est.loaded("gradient")
    native = build("region", [loaded.program], compiler=compiler)["gradient"]
    given, rows = est.core.arrays(loaded, entry.arrays(3000, 1))
    for threads in (1, 2):
        expected = native.run(given, Call(rows, threads=threads))
        calls = [native._prepare(given, Call(rows, threads=threads), None) for _ in range(3)]
        ffi = cffi.FFI()
        ffi.cdef("void together(void *run, const void **args, void **work, size_t bytes);")
        driver = ffi.dlopen(str(compile_library("together", {"together.c": IN_REGION}, compiler)))
        args, work = (ffi.new("void *[]", [ffi.cast("void *", target[k]) for target, _, _ in calls]) for k in (0, 1))
        run = ffi.cast("void *", int(native._ffi.cast("intptr_t", native._run)))
        driver.together(run, ffi.cast("const void **", args), work, calls[0][0][2])
        for _, result, _ in calls:
            assert {k: v.tobytes() for k, v in result.items()} == {k: v.tobytes() for k, v in expected.items()}


STRESS = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include "team.h"
const cpgen_team *cpgen_make_team(void);
void cpgen_use_team(const cpgen_team *given);
enum { N = 97, STEPS = 12 };

/* Each step reads what other threads wrote in the step before. */
static long compute(int threads)
{
    static __thread long a[N], b[N], total;
    long *from = a, *to = b, *sum = &total;
    total = 0;
    for (int i = 0; i < N; ++i) { a[i] = i; }
#pragma omp parallel num_threads(threads) firstprivate(from, to)
    for (int s = 0; s < STEPS; ++s) {
        long *t = from;
#pragma omp for schedule(dynamic)
        for (long i = 0; i < N; ++i) { to[i] = (from[i] * 31 + from[(i + 1) % N]) % 1000003; }
#pragma omp single nowait
        *sum += to[s];
#pragma omp for schedule(dynamic, 4) nowait
        for (long i = 0; i < 0; ++i) { to[i] = 0; }
#pragma omp barrier
        from = to;
        to = t;
    }
    return total;
}

static void *caller(void *expected)
{
    for (int k = 0; k < 300; ++k) {
        if (compute(1 + k % 5) != *(long *)expected) { abort(); }
    }
    return NULL;
}

int main(void)
{
    pthread_t t[4];
    long expected;
    cpgen_use_team(cpgen_make_team());
    expected = compute(1);
    for (int k = 0; k < 4; ++k) { pthread_create(&t[k], NULL, caller, &expected); }
    for (int k = 0; k < 4; ++k) { pthread_join(t[k], NULL); }
    printf("%ld\n", expected);
    return 0;
}
"""


@pytest.mark.parametrize("always", [True, False], ids=["always together", "as is best"])
@pytest.mark.parametrize("flags", [(), ("-fsanitize=thread", "-g")], ids=["plain", "tsan"])
def test_the_team_itself(flags: tuple[str, ...], always: bool, tmp_path: Path) -> None:
    """Loops, singles and barriers by four callers on one to five threads; the thread sanitizer finds no race."""
    compiler = find_compiler()
    if not compiler.team:
        pytest.skip("the compiler's own OpenMP is in use")
    native = ROOT / "cpgen/native"
    for file in client_files():
        shutil.copy(native / file, tmp_path)
    text = (native / "team.c").read_text()
    choice = "const int kind = known != NULL ? choose(known, &learn) : ALONE;"
    assert choice in text
    if always:
        text = text.replace(choice, "const int kind = known != NULL ? TEAM : ALONE;")
        text = text.replace("static int choose(", "__attribute__((unused)) static int choose(")
    (tmp_path / "team.c").write_text(text)
    (tmp_path / "main.c").write_text(STRESS)
    sources = ["main.c", "team.c", "team_client.c"]
    flags = ("-std=gnu11", "-O1", *flags, "-Xpreprocessor", "-fopenmp")
    build = [*compiler.command, *flags, *sources, "-o", "a", "-pthread", "-lm"]
    made = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True)
    if "-fsanitize=thread" in flags and made.returncode:
        pytest.skip("no thread sanitizer")
    assert made.returncode == 0, made.stderr
    done = subprocess.run([tmp_path / "a"], capture_output=True, text=True, timeout=120)
    a, total = list(range(97)), 0
    for step in range(12):
        a = [(a[i] * 31 + a[(i + 1) % 97]) % 1000003 for i in range(97)]
        total += a[step]
    assert (done.returncode, done.stdout) == (0, f"{total}\n"), done.stderr


LATE = r"""
#include <stdio.h>
#include <time.h>
#include "team.h"
const cpgen_team *cpgen_make_team(void);
void cpgen_use_team(const cpgen_team *given);
int omp_get_thread_num(void);
enum { N = 64, CALLS = 400 };
static long microseconds;
static int helped;

static void pass(long wanted)
{
    struct timespec start, t;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        clock_gettime(CLOCK_MONOTONIC, &t);
    } while ((t.tv_sec - start.tv_sec) * 1000000L + (t.tv_nsec - start.tv_nsec) / 1000L < wanted);
}

static void compute(long *to)
{
    const struct timespec a_while = {0, microseconds * 1000L};
#pragma omp parallel num_threads(2)
    {
#pragma omp barrier
#pragma omp for schedule(dynamic)
        for (long i = 0; i < N; ++i) {
            to[i] = i;
            pass(3);
            if (omp_get_thread_num() > 0) {
                __atomic_store_n(&helped, 1, __ATOMIC_SEQ_CST);
                if (microseconds > 0) { nanosleep(&a_while, NULL); }
            }
        }
    }
}

/* How many of some calls had help. */
static int calls(int count, long late)
{
    int found = 0;
    long to[N];
    microseconds = late;
    for (int k = 0; k < count; ++k) {
        helped = 0;
        compute(to);
        for (long i = 0; i < N; ++i) { found -= to[i] != i ? CALLS : 0; }
        found += helped;
    }
    return found;
}

int main(void)
{
    int late, later, well = 0;
    cpgen_use_team(cpgen_make_team());
    late = calls(CALLS, 200);
    later = calls(CALLS, 200);
    for (int k = 0; k < 60 && well < CALLS / 2; ++k) { well = calls(CALLS, 0); }
    printf("%d %d %d\n", late, later, well);
    return 0;
}
"""


@pytest.mark.alone
def test_a_team_whose_workers_are_late_is_left_and_taken_up_again(tmp_path: Path) -> None:
    """A worker that sleeps 200 microseconds for each point of 3: calls do without it, until it is quick again."""
    compiler = find_compiler()
    if not compiler.team:
        pytest.skip("the compiler's own OpenMP is in use")
    for file in (*client_files(), "team.c"):
        shutil.copy(ROOT / "cpgen/native" / file, tmp_path)
    (tmp_path / "main.c").write_text(LATE)
    flags = ("-std=gnu11", "-O1", "-Xpreprocessor", "-fopenmp")
    build = [*compiler.command, *flags, "main.c", "team.c", "team_client.c", "-o", "a", "-pthread", "-lm"]
    subprocess.run(build, cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "a"], capture_output=True, text=True, timeout=120, check=True)
    late, later, well = map(int, done.stdout.split())
    assert late < 100 and later < 40 and well > 0, done.stdout
    if len(os.sched_getaffinity(0)) > 1 and os.getloadavg()[0] < 0.5:
        assert well > 200, done.stdout


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_threads_of_a_call_that_names_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT"):
        monkeypatch.delenv(name, raising=False)
    before = os.sched_getaffinity(0)
    assert default_threads(tmp_path) == len(before)
    monkeypatch.setenv("OMP_NUM_THREADS", "1,4")
    assert default_threads(tmp_path) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert default_threads(tmp_path) == len(before)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    monkeypatch.setenv("OMP_THREAD_LIMIT", "7")
    assert default_threads(tmp_path) == 7
    monkeypatch.delenv("OMP_THREAD_LIMIT")
    put(tmp_path, {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"})
    _quota.cache_clear()
    assert default_threads(tmp_path) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    assert default_threads(tmp_path) == 1


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


V1 = "9:name=systemd:/x\n4:memory:/y\n3:cpu,cpuacct:/pod/one\n0::/\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/../host/path\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        (
            {
                "proc/self/cgroup": "0::/a/b/c\n",
                "sys/fs/cgroup/a/cpu.max": "250000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "900000 100000\n",
                "sys/fs/cgroup/a/b/c/cpu.max": "max 100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/pod/one/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/pod/one/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "120000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        ({"proc/self/cgroup": "broken\n0::/\n", "sys/fs/cgroup/cpu.max": "x\n"}, None),
    ],
)
def test_quotas_of_control_groups(files: dict[str, str], expected: int | None, tmp_path: Path) -> None:
    put(tmp_path, files)
    assert _quota(tmp_path) == expected
