"""The ways to install that README.md and deploy/ name, each as it stands there."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from support.wheels import OFFLINE, REPOSITORY, Environment, run

DEPLOY = REPOSITORY / "deploy"
GITHUB = DEPLOY / "ci/github-actions.yml"
UNIT = DEPLOY / "systemd/gridops-exporter.service"


pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def checkout(dist: Path) -> Path:
    """A directory as after `make dist`."""
    return dist.parent


@pytest.fixture
def wheel(dist: Path) -> Path:
    return next(dist.glob("*.whl"))


def bash(text: str, cwd: Path, **environment: str) -> None:
    done = run("bash", "-ec", text, cwd=cwd, env={**os.environ, **OFFLINE, **environment})
    assert done.returncode == 0, done.stderr


def test_the_wheel_of_the_readme_is_the_one_that_is_built(checkout, tmp_path):
    readme = (REPOSITORY / "README.md").read_text()
    line = re.search(r"^make dist && (pip install dist/.*)$", readme, re.MULTILINE)
    assert line
    here = Environment(tmp_path / "venv")
    bash(line[1], checkout, PATH=f"{here.bin}:{os.environ['PATH']}")
    assert here("gridops", "--version").stdout.startswith("gridops ")


def test_the_github_example_installs_what_its_variable_names(wheel, tmp_path):
    job = yaml.safe_load(GITHUB.read_text())["jobs"]["train"]
    install = next(step["run"] for step in job["steps"] if step.get("name") == "Install gridops")
    wanted = job["env"]["GRIDOPS"].replace("${{ vars.GRIDOPS_URL }}", wheel.as_uri())
    assert wanted == f"gridops-ssh @ {wheel.as_uri()}"
    here = Environment(tmp_path / "venv")
    bash(install, tmp_path, PATH=f"{here.bin}:{os.environ['PATH']}", GRIDOPS=wanted)
    assert here("gridops", "--version").stdout.startswith("gridops ")


def test_the_units_program_is_where_its_head_installs_it(checkout, home):
    head = UNIT.read_text().split("# Then install the service")[0]
    lines = re.findall(r"^#   (.+)$", head, re.MULTILINE)
    assert lines.pop(0) == "make dist"
    bash("\n".join(lines), checkout)
    program = re.search(r"^ExecStart=%h/(\S+)", UNIT.read_text(), re.MULTILINE)
    assert program
    here = Environment(home / "unused")
    assert here(str(home / program[1]), "--version").stdout.startswith("gridops ")


def test_the_image_takes_the_wheel_that_is_built(wheel):
    named = re.findall(r"/wheels/(\S*\.whl)", (DEPLOY / "docker/Dockerfile").read_text())
    assert named
    assert all(fnmatch(wheel.name, pattern) for pattern in named)


def test_nothing_installs_the_other_project_of_that_name():
    files = [REPOSITORY / "README.md", *(path for path in DEPLOY.rglob("*") if path.is_file())]
    wrong = re.compile(r"gridops\s*==|(?:pipx?|uv tool) install (?:-\S+ )*\"?gridops(?![\w-])")
    assert [str(path) for path in files if wrong.search(path.read_text())] == []
