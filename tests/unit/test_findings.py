"""findings/: a head that says what was seen, and a run that says what is still so."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FINDINGS = sorted((REPOSITORY / "findings").glob("*.sh"))


def run(*files: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [REPOSITORY / ".ci/findings", *files],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def finding(tmp_path):
    def write(name: str, body: str) -> Path:
        path = tmp_path / f"{name}.sh"
        path.write_text(body)
        return path

    return write


def test_all_run_and_one_that_has_changed_fails_them(finding):
    done = run(
        finding("changed", "echo seen otherwise; exit 1"),
        finding("kept", "exit 0"),
        finding("absent", "echo no network; exit 2"),
    )
    assert done.returncode == 1
    assert [" ".join(line.split()) for line in done.stdout.splitlines()] == [
        "changed changed",
        "seen otherwise",
        "kept ok",
        "absent could not install",
        "no network",
    ]


def test_what_could_not_be_installed_is_no_failure(finding):
    assert run(finding("kept", "exit 0"), finding("absent", "exit 2")).returncode == 0


def test_one_that_takes_too_long_is_ended_and_does_not_hide_the_next(finding):
    done = run(finding("slow", "sleep 30"), finding("kept", "exit 0"), FINDING_TIMEOUT="1")
    assert done.returncode == 1
    assert "changed (ended after 1 s)" in done.stdout
    assert done.stdout.splitlines()[-1].split() == ["kept", "ok"]


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_its_head_says_tool_expectation_and_what_was_seen(path):
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/bin/sh"
    head = lines[1 : lines.index("")]
    assert all(line.startswith("# ") for line in head)
    fields = [line[2:].split(":")[0] for line in head if not line.startswith("#  ")]
    assert fields == ["Tool", "Expected", "Seen", "Output"]
    assert any(char.isdigit() for char in head[0]), "no version"
    assert "gridops" not in "\n".join(lines)
    assert os.access(path, os.X_OK)
