"""What gets installed: all that the package needs, and nothing that only works in a checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.wheels import Environment, run

REPOSITORY = Path(__file__).parents[1]
CARRIED = ("setup.cfg", "pyproject.toml", "LICENSE", "README.md", "gridops")


pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def wheel(dist) -> Path:
    return next(dist.glob("*.whl"))


@pytest.fixture(scope="module")
def direct(tmp_path_factory) -> Path:
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
    done = run(*command, "-w", work, source)
    assert done.returncode == 0, done.stderr
    return next(work.glob("*.whl"))


def package_files() -> set[str]:
    """The shell that runs on nodes, the status page and the marker of typing most of all."""
    package = REPOSITORY / "gridops"
    found = {
        str(path.relative_to(REPOSITORY))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"gridops/py.typed", "gridops/sandbox/enter.sh", "gridops/probe/probe.sh"} <= found
    sections = ("page", "macros", "summary", "nodes", "runs")
    page = ("page.css", "page.js", *(f"{name}.html" for name in sections))
    assert {f"gridops/render/page/{name}" for name in page} <= found
    return found


def test_the_wheel_has_every_file_of_the_package(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert package_files() - names == set()


def test_the_sdist_has_every_file_of_the_package_and_what_builds_it(dist):
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = package_files() | {"setup.cfg", "pyproject.toml", "LICENSE", "README.md"}
    assert wanted - names == set()


def test_the_sdist_builds_the_wheel_that_the_checkout_builds(wheel, direct):
    """`make dist` builds the wheel from the sdist."""
    one, other = (zipfile.ZipFile(path) for path in (wheel, direct))
    assert wheel.name == direct.name
    assert sorted(one.namelist()) == sorted(other.namelist())
    differing = [name for name in one.namelist() if one.read(name) != other.read(name)]
    assert [name for name in differing if not name.endswith("/RECORD")] == []


def test_the_wheel_has_no_tests_and_the_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"gridops", "gridops_ssh"}
    assert any(name.endswith("LICENSE") for name in names)


# -- beside the other project of that name -----------------------------------------------------


@pytest.fixture(scope="module")
def namesake(tmp_path_factory) -> Path:
    """A wheel as the package index has it: another `gridops`, of the same import package."""
    path = tmp_path_factory.mktemp("other") / "gridops-1.0.0-py3-none-any.whl"
    info = "gridops-1.0.0.dist-info"
    files = {
        "gridops/__init__.py": '__version__ = "1.0.0"\n',
        "gridops/model.py": "class Model: ...\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: gridops\nVersion: 1.0.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path


def test_a_namesake_installed_over_us_is_said_in_one_line_and_mended_as_it_says(
    wheel, namesake, tmp_path
):
    here = Environment(tmp_path / "venv")
    here.pip("install", wheel)
    assert here("gridops", "--version").stderr == ""
    here.pip("install", namesake)
    done = here("gridops", "--list")
    assert (done.returncode, done.stdout) == (125, "")
    assert len(done.stderr.splitlines()) == 1
    assert "another project called gridops was installed over it" in done.stderr
    asked = here("python", "-c", "from gridops.grid import Grid")
    assert asked.stderr.splitlines()[-1].startswith("ImportError: ")
    assert "pip uninstall gridops, then install gridops-ssh again" in asked.stderr
    here.pip("uninstall", "-y", "gridops")
    assert here("gridops", "--list").returncode == 125
    here.pip("install", "--force-reinstall", wheel)
    done = here("gridops", "--version")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_namesake_below_us_is_said_by_those_who_look_after_the_installation(
    wheel, namesake, tmp_path
):
    here = Environment(tmp_path / "venv")
    here.pip("install", namesake)
    here.pip("install", wheel)
    assert here("gridops", "--list").stderr == ""
    (tmp_path / "grid.yaml").write_text("nodes: [here]\n")
    for words in ["--version"], ["inventory.check", "--inventory", str(tmp_path / "grid.yaml")]:
        done = here("gridops", *words)
        assert done.returncode == 0
        (line,) = done.stderr.splitlines()
        assert line.startswith("gridops: gridops 1.0.0, another project, is installed in the same")


def test_what_was_installed_works_without_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = (
        "import sys; site, sys.argv = sys.argv[1], ['gridops', '--list']\n"
        "sys.path.insert(0, site)\n"
        "import gridops; from importlib.metadata import distribution\n"
        "assert gridops.__file__.startswith(site), gridops.__file__\n"
        "scripts = distribution('gridops-ssh').entry_points\n"
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


def test_the_api_is_at_the_packages_door():
    import gridops
    from gridops import Grid
    from gridops.grid import Grid as same

    assert Grid is same
    with pytest.raises(AttributeError, match="module 'gridops' has no attribute 'Gird'"):
        gridops.Gird  # noqa: B018


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
