"""Every command that README.md shows runs as it stands there, on real nodes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gridops.sandbox import Sandbox

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent

# Commands of the README that stand alone, and what shows that they did what they say. `make demo`
# and `make test` are stages of .ci/run.
COMMANDS = {
    "inv health": "node1",
    "inv health --format json": '"schema": 1',
    "inv best": "node",
    "inv best --explain": "PLACE",
    'inv run --cmd "python train.py"': "epoch",
    "inv run -- python train.py --lr 0.1": "epoch",
    "inv jobs": "COMMAND",
    "inv history": "",
    "inv metrics": "grid_tasks_submitted_total",
    "inv report --html grid.html": "",
    "inv exec --cmd hostname": "node[1-3] (3)",
    "inv sync": "TARGET",
    "inv sync --dry-run": "",
    "inv trust": "SHA256:",
    "inv inventory.check": "3 nodes",
    "inv inventory.list": "node3",
    "inv inventory.schema": '"$schema"',
    "inv pool.open": "",
    "inv pool.status": "node2",
    "inv pool.close": "",
    'gridops health --nodes "node[1-3]!node2"': "node3",
    "ssh $(inv best) true": "",
    "source <(gridops --print-completion-script bash)": "",
    "source <(inv --print-completion-script bash)": "",
}


@pytest.fixture(scope="module")
def checkout(sandbox: Sandbox, session_dir: Path) -> Path:
    """A directory as after `make install`, with a project in it and an ~/.ssh/config of its own."""
    path = session_dir / "readme"
    (path / "inventories").mkdir(parents=True)
    for name in ("tasks.py", "inventories/local.yaml"):
        shutil.copy(REPOSITORY / name, path / name)
    shutil.copy(REPOSITORY / "examples/train/train.py", path)
    (path / "nodes.yaml").write_text('nodes: ["node[1-3]"]\n')
    (path / ".venv").symlink_to(BIN.parent)
    ssh = path / "home/.ssh"
    ssh.mkdir(parents=True, mode=0o700)
    config = sandbox.ssh_config.read_text()
    own = re.sub(r"UserKnownHostsFile .*", f"UserKnownHostsFile {ssh / 'known_hosts'}", config)
    (ssh / "config").write_text(own)
    shim = path / "bin/ssh"  # OpenSSH looks for that file where /etc/passwd says, not in HOME
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {ssh / "config"} "$@"\n')
    shim.chmod(0o755)
    return path


def bash(checkout: Path, text: str) -> subprocess.CompletedProcess[str]:
    path = os.environ["PATH"]
    env = {**os.environ, "HOME": str(checkout / "home"), "PATH": f"{checkout}/bin:{BIN}:{path}"}
    return subprocess.run(
        ["bash", "-ec", text],
        cwd=checkout,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def five_lines() -> str:
    block = re.search(r"in five lines:\n\n```sh\n(.*?)```", README, re.DOTALL)
    assert block is not None
    return block[1]


def test_the_five_lines_for_your_own_machines_work(checkout: Path, fresh_runtime_dir: Path) -> None:
    lines = five_lines().replace('alpha, beta, "gpu[01-16]"', '"node[1-3]"')
    assert lines != five_lines()
    done = bash(checkout, lines)
    assert done.returncode == 0, done.stderr
    assert "epoch  10/10" in done.stdout
    assert "SHA256:" in done.stdout
    assert (checkout / "home/.ssh/known_hosts").read_text().count("ssh-ed25519") == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_of_the_readme_works(command: str, checkout: Path) -> None:
    if not (checkout / "home/.ssh/known_hosts").exists():
        assert bash(checkout, "inv trust --inventory nodes.yaml").returncode == 0
    (checkout / "inventories/default.yaml").write_text('nodes: ["node[1-3]"]\n')
    done = bash(checkout, command)
    assert done.returncode == 0, done.stderr
    assert COMMANDS[command] in done.stdout


def test_the_readme_shows_no_command_that_is_not_run_here() -> None:
    ours = {
        word for command in COMMANDS for word in re.findall(r"(?:inv|gridops) ([\w.]+)", command)
    }
    code = "\n".join(re.findall(r"(?s)`+([^`]+)`+", README))
    shown = set(re.findall(r"\b(?:inv|(?<!from )gridops) ([a-z][\w.]*\w)", code))
    # Some as pool.*; what there is of Ray runs in tests/ray, jobs.logs in test_jobs_cli.
    assert shown - ours <= {"sandbox.up", "pool", "inventory", "cluster", "jobs.logs"}
    assert {"health", "best", "run", "exec", "sync", "trust"} <= shown


def test_the_python_of_the_readme_imports() -> None:
    statements = re.findall(r"`(from gridops[\w.]* import \w+)`", README)
    dotted = re.findall(r"`(gridops(?:\.\w+)+)`", README)
    assert len(statements) >= 2
    assert len(dotted) >= 2
    checks = [*statements]
    checks += [f"from {m} import {n}" for m, n in (name.rsplit(".", 1) for name in dotted)]
    code = "; ".join(checks)
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


def test_the_documents_of_docs_json_are_documents() -> None:
    text = (REPOSITORY / "docs/json.md").read_text(encoding="utf-8")
    for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL):
        assert json.loads(block)["schema"] == 1
