"""The steps of the GitHub example, run as a runner would run them, on real nodes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from support.cli import BIN, Inventory

GITHUB = Path(__file__).parents[2] / "deploy/ci/github-actions.yml"
PROGRAM = "mkdir -p results && echo 0.97 > results/accuracy && echo trained"


class Runner:
    """Runs steps by their name, each as `bash -e` does, in the checkout."""

    def __init__(self, checkout: Path) -> None:
        steps = yaml.safe_load(GITHUB.read_text())["jobs"]["train"]["steps"]
        self._scripts = {step["name"]: step["run"] for step in steps if "run" in step}
        self.summary = checkout.parent / "summary.md"
        self._environment = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "CI": "true",
        }

    def __call__(self, name: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", self._scripts[name]],
            env={**self._environment, **more}, capture_output=True, text=True, timeout=90,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip


@pytest.fixture
def runner(project: Path, inventory: Inventory) -> Runner:
    return Runner(project)


def test_a_run_that_succeeds_brings_its_results_and_a_report_home(runner, project):
    looked = runner("Look at the nodes")
    assert (looked.returncode, looked.stderr) == (0, "")
    assert looked.stdout.count("healthy") == 3
    ran = runner("Run on the best node", COMMAND=PROGRAM)
    assert (ran.returncode, ran.stdout) == (0, "trained\n"), ran.stderr
    assert (project / "results/accuracy").read_text() == "0.97\n"
    reported = runner("Report")
    assert (reported.returncode, reported.stdout) == (0, "")
    assert "3 of 3 nodes healthy" in (project / "grid.html").read_text()
    summary = runner.summary.read_text()
    assert "3 of 3 nodes healthy" in summary
    assert "✅ ok" in summary


def test_a_command_that_fails_fails_the_step_and_is_in_the_report(runner):
    ran = runner("Run on the best node", COMMAND="exit 42")
    assert ran.returncode == 42
    assert runner("Report").returncode == 0
    assert "❌ status 42" in runner.summary.read_text()


def test_a_grid_that_is_gone_fails_the_step_and_is_in_the_report(runner, inventory):
    gone = {name: {"host": "127.0.0.1", "port": 1} for name in ("node1", "node2", "node3")}
    inventory(gone)
    assert runner("Look at the nodes").returncode == 1
    assert runner("Run on the best node", COMMAND="true").returncode == 125
    assert runner("Report").returncode == 0
    assert "### ❌ 0 of 3 nodes healthy" in runner.summary.read_text()


def test_a_command_is_data_to_the_script(runner, project):
    """What somebody types into the form does not run on the runner."""
    words = "mkdir -p results; touch results/x; echo '$(touch owned)'\"; touch owned\" #"
    ran = runner("Run on the best node", COMMAND=words)
    assert ran.returncode == 0, ran.stderr
    assert not (project / "owned").exists()
