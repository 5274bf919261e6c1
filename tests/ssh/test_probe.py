"""The probe on real nodes: over sshd, and on this machine without it."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest
from support.nodes import find_program, node_of, nodes_of, processes_of, settings_of, wait_until

from gridops.inventory.settings import Settings
from gridops.model import Node, NodeHealth
from gridops.probe.checker import check
from gridops.probe.score import rank
from gridops.sandbox import Sandbox, Setup

DATA = Path(__file__).parent.parent / "data" / "gpu"


def settings(sandbox: Sandbox, **changes: dict[str, object]) -> Settings:
    ssh = settings_of(sandbox, **changes.pop("ssh", {}))
    health = {"max_load_per_core": 1000, **changes.pop("health_check", {})}  # others are at work
    return Settings.model_validate({"ssh": ssh, "health_check": health, **changes})


def test_every_node_is_probed_in_one_round_trip(sandbox: Sandbox) -> None:
    healths = list(check(nodes_of(sandbox), settings(sandbox)))
    assert sorted(h.node.name for h in healths) == ["node1", "node2", "node3"]
    for health in healths:
        assert health.error is None
        assert health.cpu is not None
        assert health.cpu.cores == os.cpu_count()
        assert health.disk is not None
        assert health.disk.path == "~/gridops"
        assert health.latency_ms is not None
        assert 0 < health.latency_ms < 5000
    assert [ranked.place for ranked in rank(healths)] == [1, 2, 3]


def test_this_machine_needs_no_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridops.reach.ssh.SshLink.start", None)
    (health,) = check([Node("here", "here", connection="local")], Settings())
    assert (health.error, health.jobs and health.jobs.slots) == (None, 1)


@pytest.mark.parametrize("shell", ["fish", "tcsh", "zsh", "dash", "busybox sh"])
def test_any_login_shell_will_do(make_sandbox, shell: str) -> None:
    name, *word = shell.split()
    made = make_sandbox(1, setup={"node1": Setup(shell=" ".join([find_program(name), *word]))})
    (health,) = check(nodes_of(made), settings(made))
    assert health.error is None
    assert health.cpu is not None


def test_a_chatty_login_does_not_confuse_the_probe(make_sandbox) -> None:
    made = make_sandbox(1, setup={"node1": Setup(shell=shutil.which("bash"))})
    bashrc = made.node("node1").home / ".bashrc"
    bashrc.write_text("echo gridops-probe 1; echo end; echo welcome >&2\n")
    (health,) = check(nodes_of(made), settings(made))
    assert health.error is None
    assert health.cpu is not None


def test_a_login_that_runs_something_else_is_an_error_of_that_node(make_sandbox, sandbox) -> None:
    made = make_sandbox(1, options={"ForceCommand": "echo no shell for you"})
    (health,) = check(nodes_of(made), settings(made))
    assert health.state == "unreachable"
    assert "no shell for you" in (health.error or "")


def test_dead_nodes_do_not_hide_or_delay_the_others(sandbox: Sandbox, make_sandbox) -> None:
    """One refuses, one takes the connection and never speaks, one does not resolve."""
    with socket.socket() as silent, socket.socket() as closed:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        closed.bind(("127.0.0.1", 0))
        nodes = [
            node_of(sandbox, "node1"),
            Node("silent", "127.0.0.1", port=silent.getsockname()[1]),
            Node("refuses", "127.0.0.1", port=closed.getsockname()[1]),
            Node("nowhere", "no-such-host.invalid"),
        ]
        made = settings(sandbox, ssh={"connect_timeout": 1}, health_check={"timeout": 2})
        began = time.monotonic()
        arrived: dict[str, tuple[float, NodeHealth]] = {}
        for health in check(nodes, made, patient=False):
            arrived[health.node.name] = (time.monotonic() - began, health)
        took = time.monotonic() - began
    assert arrived["node1"][1].error is None
    assert arrived["node1"][0] < 1.5
    assert took < 3.0
    errors = {name: health.error or "" for name, (_, health) in arrived.items()}
    assert "Connection refused" in errors["refuses"]
    assert "does not resolve" in errors["nowhere"]
    assert errors["silent"]


def test_a_node_that_comes_back_in_time_is_found(make_sandbox) -> None:
    made = make_sandbox(1)
    made.stop("node1")
    late = threading.Timer(0.7, made.start, ["node1"])
    late.start()
    try:
        (health,) = check(nodes_of(made), settings(made, retry={"initial_delay": 0.3}))
    finally:
        late.join()
    assert health.error is None


def test_a_probe_that_hangs_ends_at_the_nodes_timeout(make_sandbox) -> None:
    tools = _tools(make_sandbox)
    (tools / "df").unlink()
    _script(tools / "df", "exec sleep 997")
    made = make_sandbox(1, setup={"node1": Setup(env_path=str(tools))})
    began = time.monotonic()
    (health,) = check(nodes_of(made), settings(made, health_check={"timeout": 1.0}))
    assert time.monotonic() - began < 2.5
    assert (health.state, health.error) == ("unreachable", "no answer within 1 s")


def test_a_gpu_tool_that_hangs_degrades_the_node_and_frees_the_session(make_sandbox) -> None:
    tools = _tools(make_sandbox)
    _script(tools / "nvidia-smi", "trap '' TERM HUP; exec sleep 998")
    made = make_sandbox(1, setup={"node1": Setup(env_path=str(tools))})
    began = time.monotonic()
    (health,) = check(nodes_of(made), settings(made, health_check={"timeout": 2.0}))
    assert time.monotonic() - began < 2.5
    assert health.state == "degraded"
    assert health.reasons == ("nvidia-smi did not answer in time",)
    wait_until(lambda: "998" not in " ".join(processes_of(made.root, 0).values()))


def test_real_gpu_output_arrives_over_ssh(make_sandbox) -> None:
    tools = _tools(make_sandbox)
    _script(
        tools / "nvidia-smi",
        f"case $1 in --query-gpu=*) cat {DATA}/nvidia-v100x8.csv;; "
        f"*) cat {DATA}/nvidia-v100x8.apps.csv;; esac",
    )
    made = make_sandbox(1, setup={"node1": Setup(env_path=str(tools))})
    (health,) = check(nodes_of(made), settings(made))
    assert (len(health.gpus), health.gpu_error) == (8, None)
    assert (health.gpus[6].processes, health.gpus[6].other_processes) == (1, 1)


def _tools(make_sandbox) -> Path:
    """A directory for a node's PATH with what a shell needs."""
    path = Path(os.environ["HOME"]) / "tools"
    path.mkdir()
    for name in ("bash", "cat", "df", "kill", "rm", "sh", "sleep", "uname", "who"):
        (path / name).symlink_to(shutil.which(name) or "/bin/false")
    return path


def _script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
