"""What is installed: the package list, the templates in every form of the distribution, a wheel outside the checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def template_files() -> set[str]:
    """The files of templates/ that an installed cpgen needs, as paths inside ``templates/``."""
    folder = ROOT / "templates"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in {".j2", ".h"}}


def project_text() -> str:
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_every_package_on_disk_is_listed() -> None:
    listing = re.search(r"^packages = \[(.*?)^\]", project_text(), re.DOTALL | re.MULTILINE)
    assert listing is not None
    listed = re.findall(r'"([^"]+)"', listing.group(1))
    parents = {path.parent for path in (ROOT / "cpgen").rglob("*.py")}
    on_disk = {".".join(folder.relative_to(ROOT).parts) for folder in parents}
    assert listed == sorted(on_disk | {"cpgen.templates"})


def test_every_template_has_a_packaged_suffix() -> None:
    ignored = {".py", ".pyc", ".md"}
    files = [path for path in (ROOT / "templates").rglob("*") if path.is_file() and path.suffix not in ignored]
    assert files
    assert {path.suffix for path in files} <= {".j2", ".h", ".cu"}


def test_the_readme_is_in_the_metadata() -> None:
    assert ('readme = "README.md"' in project_text()) == (ROOT / "README.md").exists()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build reads, so that building leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("tree")
    skip = shutil.ignore_patterns("__pycache__")
    for folder in ("cpgen", "templates"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=skip)
    for file in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / file).exists():
            shutil.copy(ROOT / file, copy / file)
    return copy


def environment(folder: Path) -> tuple[Path, Path]:
    """An empty virtual environment in ``folder``; returns its python and its site-packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    text = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([str(python), "-c", text], check=True, capture_output=True, text=True).stdout.strip()
    return python, Path(site)


def install(python: Path, site: Path, *what: str) -> None:
    """Install ``what`` without its dependencies, which are then borrowed from the environment that runs the tests.

    They are borrowed with a .pth file of directories, which does not activate an editable cpgen that lies there.
    """
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "--quiet"]
    if "--editable" in what:
        (site / "build-tools.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [*pip, "install", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed", *what]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")


def run(python: Path, code: str, folder: Path) -> str:
    """Run ``code`` in ``folder`` with an empty home and no PYTHON* variable; returns what it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CPGEN"))}
    variables = kept | {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [str(python), "-c", code], cwd=folder, env=variables, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


LOCATION = """
import json, cpgen
from cpgen.emit.runtime import template_folder
folder = template_folder()
names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
print(json.dumps([cpgen.__file__, str(folder), names]))
"""

ROSENBROCK = """
import cpgen as cp, numpy as np, sympy as sp
u, v = sp.symbols("u v")
estimator = cp.compile((1 - u) ** 2 + 100 * (v - u**2) ** 2, wrt=[u, v])
found = estimator.hessian(u=0.5, v=-1.0).matrix().reshape(2, 2)  # of one row
expected = np.array([[2 + 1200 * 0.5**2 - 400 * -1.0, -400 * 0.5], [-400 * 0.5, 200.0]])
np.testing.assert_allclose(found, expected, rtol=1e-12)
print("agrees")
"""


@pytest.mark.slow
def test_wheel_works_outside_the_checkout(tree: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    command = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("cpgen_curvature-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"cpgen/templates/{name}" for name in template_files()} | {"cpgen/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests/", "templates/", "build/"))]

    python, site = environment(tmp_path / "environment")
    install(python, site, str(wheel))
    file, folder, templates = json.loads(run(python, LOCATION, tmp_path))
    assert Path(file).is_relative_to(site) and Path(folder).is_relative_to(site)
    assert template_files() <= set(templates)
    assert run(python, ROSENBROCK, tmp_path).strip().endswith("agrees")
    command = [str(python.parent / "cpgen"), "--version"]
    assert subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.startswith("cpgen ")


@pytest.mark.slow
def test_sdist_carries_the_templates(tree: Path, tmp_path: Path) -> None:
    code = f"import setuptools.build_meta as b; b.build_sdist({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = tmp_path.glob("cpgen_curvature-*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.split("/", 1)[1] for name in tar.getnames() if "/" in name}
    assert {f"templates/{name}" for name in template_files()} | {"cpgen/py.typed", "LICENSE"} <= names


@pytest.mark.slow
def test_editable_install_finds_the_templates(tree: Path, tmp_path: Path) -> None:
    python, site = environment(tmp_path / "environment")
    install(python, site, "--editable", str(tree))
    file, folder, templates = json.loads(run(python, LOCATION, tmp_path))
    assert Path(file).is_relative_to(tree) and Path(folder).is_relative_to(tree)
    assert template_files() <= set(templates)
