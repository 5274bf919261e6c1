"""What gets installed: all that the package needs, and nothing that only works in a checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
CARRIED = ("setup.cfg", "pyproject.toml", "LICENSE", "README.md", "gridops")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel that `pip install .` would make of a clean checkout."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    source.mkdir()
    for name in CARRIED:
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy(path, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    done = subprocess.run(
        [*command, "-w", str(work), str(source)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return next(work.glob("*.whl"))


def test_the_wheel_has_every_file_of_the_package(wheel):
    """The shell that runs on nodes and the marker of typing most of all."""
    package = REPOSITORY / "gridops"
    expected = {
        str(path.relative_to(REPOSITORY))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"gridops/py.typed", "gridops/sandbox/enter.sh", "gridops/probe/probe.sh"} <= expected
    names = set(zipfile.ZipFile(wheel).namelist())
    assert expected - names == set()


def test_the_wheel_has_no_tests_and_the_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"gridops"}
    assert any(name.endswith("LICENSE") for name in names)


def test_what_was_installed_works_without_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = (
        "import sys; site, sys.argv = sys.argv[1], ['gridops', '--list']\n"
        "sys.path.insert(0, site)\n"
        "import gridops; from importlib.metadata import distribution\n"
        "assert gridops.__file__.startswith(site), gridops.__file__\n"
        "scripts = distribution('gridops').entry_points\n"
        "next(script for script in scripts if script.name == 'gridops').load()()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "site")],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for task in ("health", "best", "sync", "run", "sandbox.up"):
        assert task in done.stdout


def test_the_tasks_work_from_a_users_own_file(tmp_path):
    (tmp_path / "tasks.py").write_text("from gridops.tasks import ns\n")
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "--list"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "health" in done.stdout


def test_versions_agree():
    """The package's, and the newest that the changelog knows as released."""
    import gridops

    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    sections = [line[3:] for line in changelog.splitlines() if line.startswith("## ")]
    assert next(one for one in sections if one != "Unreleased") == gridops.__version__
