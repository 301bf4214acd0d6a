"""Every tool that is installed, on the bundles of the catalogue: one line a bundle, one column a check.

``python benchmarks/check_bundles.py [MODEL ...] [--reals float32,float64] [--checks gcc,m4f] [--out TABLE.csv]``.
A cell is "ok", what went wrong, a number, or "not installed".  Nothing here needs the network.  With --out each line is
added to the file as soon as it is known, and bundles that have a line there already are not checked again.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cpgen as cp  # noqa: E402
from cpgen.errors import CpgenError  # noqa: E402
from tests.catalogue import CATALOGUE, Entry  # noqa: E402

TARGET = Path(__file__).resolve().parent / "target"
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wdouble-promotion"]
STRICT += ["-Wvla", "-Werror"]
EXACT = ["-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
DEVIATIONS = re.compile(r"^\| ([\d., ]+) \|", re.MULTILINE)
SANITIZE = ["-g", "-O1", "-fno-sanitize-recover=all", *EXACT, "-std=c99"]
ARM = {
    "m3": ("Cortex-M3", "mps2-an385", ["-mcpu=cortex-m3"]),
    "m4f": ("Cortex-M4F", "mps2-an386", ["-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"]),
    "m7": ("Cortex-M7", "mps2-an500", ["-mcpu=cortex-m7", "-mfpu=fpv5-d16", "-mfloat-abi=hard"]),
}
RISCV = {
    "rv32": ("RV32IMAC", "qemu-system-riscv32", ["-march=rv32imac", "-mabi=ilp32"]),
    "rv64": ("RV64GC", "qemu-system-riscv64", ["-march=rv64gc", "-mabi=lp64d"]),
}
QEMU = ["-nographic", "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native"]
QEMU += ["-icount", "shift=0"]


@dataclass
class Bundle:
    """A written bundle, its folder and a scratch folder."""

    name: str
    real: str
    prefix: str
    report: cp.Report
    folder: Path
    scratch: Path
    make: Callable[[Mapping[str, Mapping[str, int]] | None], cp.Report]  # write it again with instruction counts
    instructions: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def linked(self) -> list[str]:
        return sorted(str(p) for p in self.folder.glob("*.c") if p.name != "main.c")

    @property
    def sources(self) -> list[str]:
        return sorted(str(p) for p in self.folder.glob("*.c"))

    @property
    def libm(self) -> bool:
        return "#include <math.h>" in "".join(p.read_text() for p in self.folder.glob(f"{self.prefix}*.[ch]"))


class Failed(Exception):
    """A check found something; the first line says what."""


def run(
    command: Sequence[str], cwd: Path | None = None, ok: Sequence[int] = (0,), env: Mapping[str, str] | None = None
) -> str:
    """stdout and stderr of a tool; Failed with its first complaint if it does not return one of ``ok``."""
    environment = {**os.environ, **(env or {})}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=1200)
    text = done.stdout + done.stderr
    if done.returncode not in ok:
        telling = [line for line in text.splitlines() if re.search(r"error|(?i:warning)|FAIL|FAULT|ERROR", line)]
        lines = telling or text.splitlines()
        raise Failed((lines or [f"exit {done.returncode}"])[0][-160:])
    return text


def needs(*tools: str) -> Callable[[Callable[[Bundle], str]], Callable[[Bundle], str]]:
    def wrap(check: Callable[[Bundle], str]) -> Callable[[Bundle], str]:
        def guarded(bundle: Bundle) -> str:
            missing = [tool for tool in tools if shutil.which(tool) is None]
            return f"not installed: {missing[0]}" if missing else check(bundle)

        guarded.__name__ = check.__name__
        return guarded

    return wrap


def strict(compiler: str, b: Bundle) -> str:
    for level in ("-O2", "-Os"):
        for source in b.sources:
            run([compiler, *STRICT, *EXACT, level, "-c", source, "-o", "/dev/null"])
    return "ok"


@needs("gcc")
def gcc(b: Bundle) -> str:
    return strict("gcc", b)


@needs("clang")
def clang(b: Bundle) -> str:
    return strict("clang", b)


@needs("g++")
def cpp(b: Bundle) -> str:
    unit = b.scratch / "header.cpp"
    headers = [p.name for p in b.folder.glob("*.h") if "_rt_" not in p.name]
    unit.write_text("".join(f'#include "{h}"\n' for h in sorted(headers)) + "int main() { return 0; }\n")
    flags = ["-std=c++17", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
    run(["g++", *flags, f"-I{b.folder}", "-c", str(unit), "-o", "/dev/null"])
    return "ok"


@needs("gcc")
def stack(b: Bundle) -> str:
    for source in b.linked:
        for level in ("-O2", "-Os"):
            flags = [*EXACT, "-std=c99", level, "-Wstack-usage=512", "-Werror"]
            run(["gcc", *flags, "-c", source, "-o", "/dev/null"])
    return "ok"


@needs("gcc", "nm")
def symbols(b: Bundle) -> str:
    """Only prefixed external names, nothing writable, nothing needed but memset and memcpy (and libm if used)."""
    for source in b.linked:
        target = b.scratch / "object.o"
        # as in firmware: elsewhere tables of addresses are written once, before they are read-only
        run(["gcc", "-std=c99", "-O2", "-fno-pie", *EXACT, "-c", source, "-o", str(target)])
        for line in run(["nm", str(target)]).splitlines():
            kind, name = line.split()[-2:]
            if kind in "TDBRC" and not name.startswith(f"{b.prefix}_"):
                raise Failed(f"external {name}")
            if kind in "DdBbC":
                raise Failed(f"writable {name}")
            if kind == "U" and not name.startswith(f"{b.prefix}_") and name not in ("memset", "memcpy", "memmove"):
                if not b.libm:
                    raise Failed(f"needs {name}")
    return "ok" if not b.libm else "ok, with libm"


def example(b: Bundle, compiler: str, flags: Sequence[str]) -> str:
    program = b.scratch / f"example-{compiler}"
    run([compiler, *flags, *b.sources, "-o", str(program), "-lm"])
    text = run([str(program)])
    found = re.search(r"other bits than where this was generated: (\d+)", text)
    if found and found[1] != "0":
        raise Failed(f"{found[1]} other bits")
    return "ok" if found else "ok, tolerance"


@needs("gcc")
def selftest(b: Bundle) -> str:
    example(b, "gcc", ["-std=c99", "-O0", *EXACT])
    return example(b, "gcc", ["-std=c99", "-O3", "-march=native", *EXACT])


@needs("clang")
def selftest_clang(b: Bundle) -> str:
    return example(b, "clang", ["-std=c99", "-O2", *EXACT])


@needs("gcc")
def asan(b: Bundle) -> str:
    return example(b, "gcc", [*SANITIZE, "-fsanitize=address,undefined"])


@needs("clang")
def msan(b: Bundle) -> str:
    return example(b, "clang", [*SANITIZE, "-fsanitize=memory"])


@needs("clang")
def tsan(b: Bundle) -> str:
    """Two threads, each with memory of its own, run the self-test at once."""
    unit, program = b.scratch / "threads.c", b.scratch / "threads"
    unit.write_text(THREADS.replace("REAL", "float" if b.real == "float32" else "double").replace("motor", b.prefix))
    flags = [*SANITIZE, "-fsanitize=thread", f"-I{b.folder}"]
    run(["clang", *flags, str(unit), *b.linked, "-o", str(program), "-lpthread"])
    run([str(program)])
    return "ok"


THREADS = """
#include <pthread.h>
#include "motor_selftest.h"
static REAL memory[2][MOTOR_SELFTEST_BYTES / sizeof(REAL) + 1];
static void *test(void *place)
{
    for (int k = 0; k < 20; ++k) {
        const REAL error = motor_selftest(place, sizeof memory[0], 0);
        if (!(error >= 0 && error <= MOTOR_SELFTEST_TOLERANCE)) {
            return place;
        }
    }
    return 0;
}
int main(void)
{
    pthread_t thread[2];
    void *bad[2];
    for (int k = 0; k < 2; ++k) {
        pthread_create(&thread[k], 0, test, memory[k]);
    }
    for (int k = 0; k < 2; ++k) {
        pthread_join(thread[k], &bad[k]);
    }
    return bad[0] || bad[1];
}
"""


@needs("clang")
def archer(b: Bundle) -> str:
    """OpenMP's threads inside one call, watched by the thread sanitizer, which archer tells about OpenMP's barriers."""
    tool = next((str(p) for p in sorted(Path("/usr/lib").glob("**/libarcher.so"))), "")
    if not tool:
        return "not installed: libarcher"
    text = (b.folder / "main.c").read_text().replace(".threads = 1,", ".threads = 2,")
    unit, program = b.scratch / "team.c", b.scratch / "team"
    unit.write_text(text.replace("_SELFTEST_BYTES / sizeof", "_SELFTEST_BYTES * 64U / sizeof"))
    flags = [*SANITIZE, "-fsanitize=thread", "-fopenmp", f"-D{b.prefix.upper()}_RT_SERIAL_BELOW=0", f"-I{b.folder}"]
    run(["clang", *flags, str(unit), *b.linked, "-o", str(program), "-lm"])
    run([str(program)], env={"OMP_TOOL_LIBRARIES": tool, "TSAN_OPTIONS": "ignore_noninstrumented_modules=1"})
    return "ok"


@needs("gcc")
def analyzer(b: Bundle) -> str:
    for source in b.linked:
        run(["gcc", "-std=c99", "-O1", "-fanalyzer", "-Werror", "-c", source, "-o", "/dev/null"])
    return "ok"


@needs("clang-tidy")
def tidy(b: Bundle) -> str:
    drop = ["bugprone-easily-swappable-parameters", "cert-flp30-c", "bugprone-branch-clone"]
    drop += ["bugprone-implicit-widening*", "clang-analyzer-security.insecureAPI*"]
    checks = ",".join(["-*", "clang-analyzer-*", "bugprone-*", "cert-*", *(f"-{name}" for name in drop)])
    run(["clang-tidy", f"-checks={checks}", "-warnings-as-errors=*", "--quiet", *b.linked, "--", "-std=c99"])
    return "ok"


@needs("cppcheck")
def cppcheck(b: Bundle) -> str:
    drop = ["missingIncludeSystem", "unmatchedSuppression", "unusedFunction", "variableScope", "unreadVariable"]
    drop += ["knownConditionTrueFalse"]
    drop += ["unusedStructMember", "ConfigurationNotChecked", "constParameter", "duplicateExpression"]
    suppress = [f"--suppress={name}" for name in drop]
    # it does not look for the compiler's headers, so that the guards would refuse every configuration
    limits = ["FLT_MANT_DIG=24", "FLT_MAX_EXP=128", "DBL_MANT_DIG=53", "DBL_MAX_EXP=1024", "FLT_EVAL_METHOD=0"]
    limits += ["INT_MAX=2147483647", "PTRDIFF_MAX=2147483647", "SIZE_MAX=4294967295U"]
    command = ["cppcheck", "--enable=all", "--std=c99", "--quiet", "--error-exitcode=1", "--max-configs=64"]
    run([*command, *(f"-D{limit}" for limit in limits), *suppress, *b.linked])
    return "ok"


@needs("cppcheck")
def misra(b: Bundle) -> str:
    """Rules broken that DEVIATIONS.md does not list."""
    addon = next((str(p) for p in Path("/usr").glob("**/cppcheck/addons/misra.py")), "")
    if not addon:
        return "not installed: misra addon"
    listed: set[str] = set()
    for rules in DEVIATIONS.findall((b.folder / "DEVIATIONS.md").read_text()):
        listed |= {rule.strip() for rule in rules.split(",")}
    text = run(["cppcheck", "--addon=misra", "--std=c99", "--quiet", *b.linked], cwd=b.scratch)
    broken = set(re.findall(r"misra-c2012-([\d.]+)", text))
    if broken - listed:
        raise Failed("rules " + ", ".join(sorted(broken - listed)))
    return "ok, deviates from " + " ".join(sorted(broken, key=lambda rule: [int(n) for n in rule.split(".")]))


def board(b: Bundle) -> Path:
    """A main() for a bare board: self-test, then one row of every program, counted."""
    text = (b.folder / "main.c").read_text()
    runs = re.findall(r"static int run_(\w+)\(void\)", text)
    body = re.sub(r"#include <stdio.h>\n", '#include "board.h"\n', text[: text.index("static void show(")])
    calls = text[text.index("static int run_") : text.index("int main(void)")]
    calls = re.sub(r"\n    printf\(.*?;\n|\n    show\(.*?;(?=\n)", "\n", re.sub(r"\n    show\(.*?;", "", calls))
    lines = [
        "int main(void)",
        "{",
        "    int32_t different = 0;",
        "    uint32_t before;",
        "    board_start();",
        f"    const {'float' if b.real == 'float32' else 'double'} error ="
        f" {b.prefix}_selftest(memory, sizeof memory, &different);",
        f"    if (!(error >= 0 && error <= {b.prefix.upper()}_SELFTEST_TOLERANCE)) {{ return 1; }}",
        '    board_text("different "); board_number((uint32_t)different); board_text("\\n");',
    ]
    for name in runs:
        lines += [
            "    before = board_ticks();",
            f"    if (run_{name}() != 0) {{ return 2; }}",
            f'    board_text("{name} ");'
            f" board_number((board_ticks() - before) * BOARD_INSTRUCTIONS_PER_TICK / {b.prefix.upper()}_TEST_ROWS);"
            ' board_text("\\n");',
        ]
    lines += ["    return 0;", "}", ""]
    place = b.scratch / "board_main.c"
    place.write_text(body + calls + "\n".join(lines))
    return place


def emulate(b: Bundle, machine: str, compile_command: Sequence[str], emulator: Sequence[str]) -> str:
    program = b.scratch / "program.elf"
    sources = [*b.linked, str(board(b)), str(TARGET / "start.c")]
    flags = ["-std=c99", "-O2", *EXACT, "-ffunction-sections", "-fdata-sections", f"-I{b.folder}", f"-I{TARGET}"]
    run([*compile_command, *flags, *sources, "-nostartfiles", "-Wl,--gc-sections", "-o", str(program), "-lm"])
    text = run([*emulator, *QEMU, "-kernel", str(program)])
    counts = dict(re.findall(r"^(\w+) (\d+)$", text, re.MULTILINE))
    different = counts.pop("different", "?")
    if different != "0":
        raise Failed(f"{different} other bits")
    b.instructions[machine] = {name: int(count) for name, count in counts.items()}
    return ", ".join(f"{name} {count}" for name, count in counts.items()) + ("" if not b.libm else " (libm)")


def arm(core: str) -> Callable[[Bundle], str]:
    label, machine, flags = ARM[core]

    @needs("arm-none-eabi-gcc", "qemu-system-arm")
    def check(b: Bundle) -> str:
        link = ["-mthumb", *flags, "-T", str(TARGET / "cortex_m.ld"), "-specs=nosys.specs", "-Wl,--no-warn-rwx-segments"]
        return emulate(b, label, ["arm-none-eabi-gcc", *link], ["qemu-system-arm", "-M", machine])

    return check


def riscv(core: str) -> Callable[[Bundle], str]:
    label, emulator, flags = RISCV[core]

    @needs("riscv64-unknown-elf-gcc", emulator)
    def check(b: Bundle) -> str:
        link = [*flags, "-mcmodel=medany", "--specs=picolibc.specs", "-T", str(TARGET / "riscv.ld")]
        return emulate(
            b,
            label,
            ["riscv64-unknown-elf-gcc", *link, "-Wl,--no-warn-rwx-segments"],
            [emulator, "-M", "virt", "-bios", "none"],
        )

    return check


@needs("arm-none-eabi-gcc", "arm-none-eabi-nm")
def soft_float(b: Bundle) -> str:
    """No double arithmetic in a float32 library on a core without a floating-point unit."""
    if b.real != "float32":
        return "-"
    for source in b.linked:
        target = b.scratch / "soft.o"
        flags = ["-mcpu=cortex-m3", "-mthumb", "-std=c99", "-Os", *EXACT]
        run(["arm-none-eabi-gcc", *flags, "-c", source, "-o", str(target)])
        found = re.findall(r"__aeabi_(?:d\w+|\w*2d\b|f2d)", run(["arm-none-eabi-nm", "-u", str(target)]))
        if found:
            raise Failed(found[0])
    return "ok"


@needs("arm-none-eabi-gcc", "arm-none-eabi-size")
def flash(b: Bundle) -> str:
    """Bytes estimated / measured, of the library without self-test, Cortex-M4F, -Os."""
    total = 0
    for source in b.linked:
        if source.endswith(("_vectors.c", "_selftest.c")):
            continue
        target = b.scratch / "size.o"
        flags = ["-mthumb", *ARM["m4f"][2], "-std=c99", "-Os", *EXACT]
        run(["arm-none-eabi-gcc", *flags, "-c", source, "-o", str(target)])
        total += int(run(["arm-none-eabi-size", str(target)]).splitlines()[1].split()[0])
    return f"{b.report.flash} / {total}"


@needs("clang")
def fuzz(b: Bundle) -> str:
    """libFuzzer on random arguments: NULL, wrong sizes, NaN, huge numbers."""
    text = (b.folder / "main.c").read_text()
    runs = re.findall(r"static int run_(\w+)\(void\)", text)
    parts = ["#include <string.h>\n#include <stdlib.h>\n"]
    for file in sorted(b.folder.glob("*.h")):
        if "_rt_" not in file.name:
            parts.append(f'#include "{file.name}"\n')
    upper = b.prefix.upper()
    real = "float" if b.real == "float32" else "double"
    parts.append(FUZZ_HELPERS.replace("REAL", real).replace("PREFIX", upper))
    header = (b.folder / f"{b.prefix}.h").read_text()
    for name in runs:
        block = header[header.index(f"typedef struct {b.prefix}_{name}_args") :]
        block = block[: block.index("}")]
        lines = [f"static void fuzz_{name}(void)", "{", f"    {b.prefix}_{name}_args args;"]
        for pointer in re.findall(r"\*(\w+)[,;]", block):
            lines.append(f"    args.{pointer} = array();")
        for kind, members in re.findall(r"^    (u?int\d+_t) ([\w, ]+);", block, re.MULTILINE):
            for member in members.split(", "):
                lines.append(f"    args.{member} = ({kind})number({FUZZ_MOST[member]});")
        for scales in re.findall(rf"^    {real} ([\w, ]+);", block, re.MULTILINE):
            lines += [f"    args.{scale} = value();" for scale in scales.split(", ")]
        call = f"{b.prefix}_{name}"
        sized = re.search(rf"^size_t {call}_workspace_bytes\((.*)\);", header, re.MULTILINE)
        most = [(n, m) for n, m in (("n_rows", 3), ("columns", 4)) if re.search(rf" {n}[,;]", block)]
        large = " || ".join(f"args.{n} > {m}" for n, m in most)
        if large:
            lines.append(f"    if ({large}) {{ return; }} /* the arrays here are not that large */")
        if sized is None:
            lines += [f"    (void){call}_run((byte() & 31U) == 0U ? NULL : &args);", "}", ""]
            parts.append("\n".join(lines))
            continue
        sizes = ", ".join(f"args.{part.split()[-1]}" for part in sized[1].split(", ") if part != "void")
        lines += [
            f"    size_t need = {call}_workspace_bytes({sizes});",
            "    size_t have = (byte() & 3U) != 0U ? need : need / 2U;",
            "    if (have > (1U << 22)) { have = 0U; }",
            "    unsigned char *work = (unsigned char *)malloc(have + 1U);",
            f"    (void){call}_run((byte() & 31U) == 0U ? NULL : &args, (byte() & 31U) == 0U ? NULL : work, have);",
            "    free(work);",
            "}",
            "",
        ]
        parts.append("\n".join(lines))
    calls = "".join(f"    case {k}U: fuzz_{name}(); break;\n" for k, name in enumerate(runs))
    parts.append(
        "int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t count)\n{\n    at = bytes; end = bytes + count;\n"
        f"    fill();\n    switch (byte() % {len(runs)}U) {{\n{calls}    default: break;\n    }}\n    return 0;\n}}\n"
    )
    unit, program = b.scratch / "fuzz.c", b.scratch / "fuzz"
    unit.write_text("\n".join(parts))
    flags = ["-g", "-O1", "-std=c99", *EXACT, "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
    run(["clang", *flags, f"-I{b.folder}", str(unit), *b.linked, "-o", str(program)])
    run([str(program), f"-runs={FUZZ_RUNS}", "-seed=1", "-max_len=512", "-len_control=0", "-rss_limit_mb=4096"])
    return f"ok, {FUZZ_RUNS} calls"


def readme(b: Bundle) -> str:
    """The counts of the emulated machines stand in the README of the bundle made again with them."""
    if not b.instructions:
        return "not installed: an emulator"
    b.make(b.instructions)
    text = (b.folder / "README.md").read_text()
    for machine, counts in b.instructions.items():
        line = f"| {machine} | {' | '.join(str(count) for count in counts.values())} |"
        if line not in text:
            raise Failed(f"README lacks {line}")
    return f"ok, {len(b.instructions)} machines"


FUZZ_RUNS = 1_000_000
FUZZ_MOST = {
    "n_rows": 3, "columns": 4, "first_row": 9, "first_column": 9, "seed": 9, "design": 3, "accumulate": 2, "threads": 2
}  # fmt: skip
FUZZ_HELPERS = """
static const unsigned char *at, *end;
static REAL pool[1 << 16];
static unsigned int byte(void)
{
    return at < end ? *at++ : 0U;
}
static REAL value(void)
{
    static const REAL odd[8] = {0, -1, (REAL)1e30, (REAL)-1e30, (REAL)1e-40, (REAL)(0.0 / 1.0), 1, 0.5};
    const unsigned int kind = byte();
    REAL x = 0;
    if (kind < 128U) {
        return (REAL)((int)kind - 64) / 16;
    }
    if (kind < 160U) {
        return odd[kind & 7U];
    }
    for (size_t k = 0U; k < sizeof x; ++k) {
        ((unsigned char *)&x)[k] = (unsigned char)byte();
    }
    return x;
}
static int64_t number(int64_t most)
{
    const unsigned int kind = byte();
    if (kind < 200U) {
        return (int64_t)kind % (most + 1);
    }
    if (kind < 230U) {
        return -(int64_t)(kind - 199U);
    }
    {
        uint64_t x = 0U;
        for (int k = 0; k < 8; ++k) {
            x = (x << 8) | byte();
        }
        return (int64_t)x;
    }
}
static REAL *array(void)
{
    return (byte() & 15U) == 0U ? NULL : pool + (byte() & 63U);
}
static void fill(void)
{
    for (size_t k = 0U; k < 64U; ++k) {
        pool[k] = value();
    }
}
"""

CHECKS: dict[str, Callable[[Bundle], str]] = {
    "gcc": gcc,
    "clang": clang,
    "c++17": cpp,
    "stack": stack,
    "symbols": symbols,
    "selftest": selftest,
    "clang bits": selftest_clang,
    "asan+ubsan": asan,
    "msan": msan,
    "tsan": tsan,
    "archer": archer,
    "fanalyzer": analyzer,
    "clang-tidy": tidy,
    "cppcheck": cppcheck,
    "misra": misra,
    "fuzz": fuzz,
    "soft float": soft_float,
    "flash": flash,
    **{core: arm(core) for core in ARM},
    **{core: riscv(core) for core in RISCV},
    "readme": readme,
}


def write(entry: Entry, real: str, folder: Path) -> Bundle:
    scratch = folder / "scratch"
    scratch.mkdir()
    place = folder / "bundle"

    def make(instructions: Mapping[str, Mapping[str, int]] | None = None) -> cp.Report:
        return cp.bundle(
            entry.build(),
            place,
            wrt=list(entry.wrt),
            real=real,
            prefix="motor",
            vectors=entry.arrays(),
            instructions=instructions,
        )

    return Bundle(entry.name, real, "motor", make(), place, scratch, make)


def check(entry: Entry, real: str, names: Sequence[str]) -> dict[str, str]:
    """The cells of one line."""
    with tempfile.TemporaryDirectory(prefix="cpgen-bundle-") as place:
        try:
            bundle = write(entry, real, Path(place))
        except CpgenError as error:
            return {"gcc": f"no bundle: {error}"[:200]}
        cells = {}
        for name in names:
            try:
                cells[name] = CHECKS[name](bundle)
            except Failed as problem:
                cells[name] = f"FAILED {problem}"
            except subprocess.TimeoutExpired:
                cells[name] = "FAILED time"
        return cells


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(CATALOGUE))
    parser.add_argument("--reals", default="float32,float64")
    parser.add_argument("--checks", default=",".join(CHECKS))
    parser.add_argument("--out")
    options = parser.parse_args()
    names = options.checks.split(",")
    head = ["model", "real", *names]
    known: set[tuple[str, str]] = set()
    out = Path(options.out) if options.out else None
    if out and out.exists():
        with out.open() as file:
            known = {(row["model"], row["real"]) for row in csv.DictReader(file)}
    elif out:
        out.write_text(",".join(head) + "\n")
    failures = 0
    for real in options.reals.split(","):
        for model in options.models:
            if (model, real) in known:
                continue
            cells = check(CATALOGUE[model], real, names)
            bad = {name: text for name, text in cells.items() if text.startswith(("FAILED", "no bundle"))}
            failures += len(bad)
            print(f"{model} {real}: {'; '.join(f'{n}: {t}' for n, t in bad.items()) or 'ok'}", flush=True)
            if out:
                with out.open("a", newline="") as file:
                    csv.writer(file, lineterminator="\n").writerow([model, real, *(cells.get(n, "") for n in names)])
            else:
                print("\n".join(f"  {name}: {text}" for name, text in cells.items()))
    print(f"{failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
