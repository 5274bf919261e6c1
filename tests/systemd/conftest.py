"""Whole Debian machines, shared by all tests of this directory; GRIDOPS_DEBIAN names the releases.

A test may do with a machine what it likes: `machine` has it in order for the next one. All need
root and take minutes, so that `make test` leaves them out.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.cli import BIN, Done, project, run
from support.debian import Debian, Debians, debians, unsupported_reason
from support.debianroots import SUITES
from support.nodes import wait_until

__all__ = ["project"]

CHOSEN = tuple((os.environ.get("GRIDOPS_DEBIAN") or ",".join(SUITES)).split(","))
TEST_TIMEOUT = 180.0  # seconds
BUILD_TIMEOUT = 1800.0  # seconds, on the first run
LOGIND = "/etc/systemd/logind.conf.d/tests.conf"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in mine:
        item.add_marker(pytest.mark.timeout(TEST_TIMEOUT))
    for item in mine[:1]:
        item.add_marker(pytest.mark.timeout(BUILD_TIMEOUT), append=False)


@pytest.fixture(scope="session")
def machines(session_dir: Path, _isolated_session: None) -> Iterator[Debians]:
    if reason := unsupported_reason():
        pytest.skip(f"no Debian machines here: {reason}")
    with debians(session_dir / "debian", CHOSEN) as made:
        yield made


@dataclass
class Client:
    """gridops on this machine, whose nodes are the machines, named as their releases."""

    machines: Debians
    inventory: Path
    project: Path

    def __call__(self, *words: str, **options: Any) -> Done:
        """`gridops WORDS` as a process."""
        return run("gridops", *words, **{"env": self.env, "timeout": 120, **options})

    def must(self, *words: str, **options: Any) -> Done:
        done = self(*words, **options)
        assert done.status == 0, (words, done)
        return done

    def start(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """The same, not waited for."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [str(BIN / "gridops"), *words],
            **{"stdin": subprocess.DEVNULL, **streams, "env": self.env, **options},
        )

    def detach(self, machine: Debian, command: str, *words: str) -> str:
        """The id of a run that has begun there."""
        words = ("run", "--no-sync", "--detach", "--on", machine.name, *words, "--cmd", command)
        job_id = self.must(*words).out.strip()
        wait_until(lambda: self.job(job_id)["state"] == "running", 20)
        return job_id

    def job(self, job_id: str) -> dict[str, Any]:
        """What `jobs.show` knows of it."""
        job: dict[str, Any] = self.must("jobs.show", job_id, "--format=json").document["job"]
        return job

    def leave(self) -> None:
        """Close all connections: the last login of ours ends."""
        self.must("pool.close")

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "GRIDOPS_INVENTORY": str(self.inventory)}

    def ssh(self, name: str, command: str) -> subprocess.CompletedProcess[str]:
        """Plain ssh, beside gridops; a login of its own."""
        words = ["ssh", "-F", str(self.machines.ssh_config), "-o", "BatchMode=yes", name, command]
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture
def grid(
    machines: Debians, project: Path, tmp_path: Path, fresh_runtime_dir: Path
) -> Iterator[Client]:
    """A client in a project of its own, with no connection open yet."""
    made = Client(machines, machines.inventory(tmp_path / "nodes.yaml"), project)
    yield made
    made.leave()


@pytest.fixture(params=CHOSEN)
def machine(machines: Debians, grid: Client, request: pytest.FixtureRequest) -> Iterator[Debian]:
    """One after the other, each as after its installation: on, and with no run."""
    made = machines[request.param]
    yield made
    if not made.first:
        made.power_on()
    if (made.files / LOGIND.lstrip("/")).exists():
        made.must("rm", LOGIND)
        made.must("systemctl", "restart", "systemd-logind")
    made.must("systemctl", "start", "ssh")
    made.must("loginctl", "disable-linger", "alice")
    grid.leave()
    made.run("loginctl", "terminate-user", "alice", "bob")
    made.run("pkill", "-KILL", "-u", "alice,bob")
    made.must("find", "/home/alice", "-mindepth", "1", "-maxdepth", "1", "!", "-name", ".ssh",
              "-exec", "rm", "-rf", "{}", "+")  # fmt: skip


@pytest.fixture
def kill_user_processes(machine: Debian) -> None:
    """What some distributions and administrators choose: with the last login all ends."""
    machine.write(LOGIND, "[Login]\nKillUserProcesses=yes\n")
    machine.must("systemctl", "restart", "systemd-logind")
