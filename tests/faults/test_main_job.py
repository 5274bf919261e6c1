"""Nodes that are dead, hostile or broken: each has its own clear line, and the others their day."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.cli import Inventory, refusing, silent, started
from support.nodes import end, sshd_sessions

from gridops.dispatch import executor, placement, staging
from gridops.dispatch.placement import candidates
from gridops.errors import NoNode, SourceUnreadable
from gridops.inventory.settings import Settings
from gridops.model import Node, NodeHealth, RunSpec
from gridops.probe.score import rank
from gridops.sandbox import Sandbox, Setup
from gridops.system.signals import Cancel

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
RULE = "-" * 15

# What is wrong with a node, and what its line says: of what happened, and of what to do next.
FAULTS = {
    "mute": r"did not finish the SSH login|no answer",
    "refuses": r"Connection refused.*\(is it up",
    "nowhere": r"the host name no-such-host\.invalid does not resolve \(check `host:`",
    "stranger": r"the host key of .* is not known yet \(`inv trust --nodes stranger`",
    "impostor": r"the host key of .* is not the one in known_hosts \(only if that machine",
    "locked": r"the login was refused: .*Permission denied.*\(`ssh locked` must work",
    "closed": r"could not start a POSIX shell.*this account is closed",
}


@pytest.fixture(scope="module")
def closed(session_dir, _isolated_session):
    """A node whose login says something and ends."""
    options = {"ForceCommand": "echo this account is closed; exit 1"}
    with Sandbox.up(session_dir / "closed", ["closed"], options=options) as made:
        yield made


@pytest.fixture
def broken(inventory: Inventory, closed, tmp_path: Path) -> Iterator[Inventory]:
    """The three good nodes, and one of each fault."""
    sandbox = inventory.sandbox
    port = sandbox.node("node1").port
    keys = {
        line.split()[0]: line
        for line in (sandbox.root / "known_hosts").read_text().split("\n")
        if line
    }
    wrong = keys[f"[127.0.0.1]:{sandbox.node('node2').port}"].split(maxsplit=1)[1]
    (tmp_path / "wrong").write_text(f"[127.0.0.1]:{port} {wrong}\n")
    here = f"  HostName 127.0.0.1\n  Port {port}\n"
    config = tmp_path / "config"
    config.write_text(
        f"Host stranger\n{here}  UserKnownHostsFile /dev/null\n"
        f"Host impostor\n{here}  UserKnownHostsFile {tmp_path}/wrong\n"
        f"Host locked\n{here}  User no-such-user\n"
        f"Host closed\n  HostName 127.0.0.1\n  Port {closed.node('closed').port}\n"
        f"  UserKnownHostsFile {closed.root}/known_hosts\n  IdentityFile {closed.root}/client_key\n"
        f"Match all\nInclude {sandbox.ssh_config}\n"
    )
    with ExitStack() as ports:
        inventory(
            {
                "mute": {"host": "127.0.0.1", "port": ports.enter_context(silent())},
                "refuses": {"host": "127.0.0.1", "port": ports.enter_context(refusing())},
                "nowhere": {"host": "no-such-host.invalid"},
                "stranger": {},
                "impostor": {},
                "locked": {},
                "closed": {},
            },
            ssh={"config_file": str(config), "connect_timeout": 1},
            health_check={"timeout": 2, "max_load_per_core": 1000, "max_memory_percent": 100},
        )
        yield inventory


def complaints(err: str) -> dict[str, str]:
    """Of each node that is complained of, the line."""
    lines = dict(line.removeprefix("gridops: ").split(": ", 1) for line in err.splitlines())
    assert len(lines) == err.count("\n"), err
    return lines


def assert_each_has_its_own(lines: dict[str, str], faults: dict[str, str]) -> None:
    assert set(lines) == set(faults)
    for name, pattern in faults.items():
        assert re.search(pattern, lines[name]), (name, lines[name])


# -- reaching ----------------------------------------------------------------------------------


def test_exec_names_every_fault_and_runs_on_all_others(tell, broken):
    began = time.monotonic()
    done = tell("exec", "--cmd", "echo fine")
    assert time.monotonic() - began < 20
    assert done.status == 125
    assert done.out == f"{RULE}\nnode[1-3] (3)\n{RULE}\nfine\n"
    assert_each_has_its_own(complaints(done.err), FAULTS)


def test_sync_names_every_fault_and_serves_all_others(tell, broken, project):
    done = tell("sync")
    assert done.status == 125
    assert [row.split()[0] for row in done.out.splitlines()] == ["NODE", "node1", "node2", "node3"]
    assert_each_has_its_own(complaints(done.err), FAULTS)


def test_health_names_every_fault_in_its_row(tell, broken):
    done = tell("health", "--format=json")
    assert (done.status, done.err) == (1, "")
    nodes = {node["name"]: node for node in done.document["nodes"]}
    assert {name for name, node in nodes.items() if node["state"] == "healthy"} == {
        "node1", "node2", "node3",
    }  # fmt: skip
    errors = {name: node["error"] for name, node in nodes.items() if node["error"]}
    assert_each_has_its_own(errors, FAULTS)


def test_run_takes_a_node_that_works(tell, broken, project):
    began = time.monotonic()
    done = tell("run", "--cmd", "cat hello.txt")
    assert time.monotonic() - began < 10
    assert (done.status, done.out) == (0, "hello\n")


@pytest.mark.parametrize("name", FAULTS)
def test_run_on_such_a_node_alone_says_what_is_wrong(tell, broken, project, name):
    for words in (), ("--no-sync",):
        done = tell("run", "--on", name, "--cmd", "echo ran", *words)
        assert (done.status, done.out) == (125, "")
        first, *rest = done.err.splitlines()
        assert first == f"gridops: {name}: the only node selected"
        assert_each_has_its_own(complaints("\n".join(rest) + "\n"), {name: FAULTS[name]})


def test_where_nothing_serves_run_says_why_of_each(tell, broken, project):
    done = tell("run", "--nodes", "refuses,nowhere,locked", "--cmd", "echo ran")
    assert done.status == 125
    line = done.complaint
    assert line.startswith("none of the 3 selected nodes can be reached (")
    for name in ("refuses", "nowhere", "locked"):
        assert f"{name}: " in line


def test_a_dry_run_on_a_dead_node_is_125_too(tell, broken, project):
    done = tell("run", "--dry-run", "--on", "refuses", "--cmd", "x")
    assert done.status == 125
    assert "refuses: " in done.err.splitlines()[-1]


def test_a_connection_that_breaks_is_said_and_made_anew_and_the_run_goes_on(
    make_sandbox, monkeypatch, tmp_path
):
    made = make_sandbox(2)
    monkeypatch.setenv("GRIDOPS_INVENTORY", str(made.inventory))
    go = tmp_path / "go"
    waits = f"until [ -e {go} ]; do sleep 0.05; done; echo down; echo err >&2; exit 6"
    words = ("run", "--no-sync", "--cmd", f"echo ran >>{tmp_path}/marks; echo up; {waits}")
    with started(*words, cwd="/") as child:
        for node in made.nodes:
            end(sshd_sessions(node.pid))
        go.touch()
        assert child.stdout.read() == b"down\n"
        assert child.wait(20) == 6
        said = child.stderr.read().decode().splitlines()
    assert any(
        re.match(r"gridops: node\d: the connection is lost: .*; the run goes", x) for x in said
    )
    assert any(re.match(r"gridops: node\d: connected again after", x) for x in said)
    assert "err" in said
    assert (tmp_path / "marks").read_text() == "ran\n"


# -- a place for the tree ----------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "none", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@needs_root
def test_a_full_disk_is_named_and_the_next_node_tried(tell, inventory, project, mounted, by_name):
    (mounted / "filler").write_bytes(bytes(900_000))
    (project / "big").write_bytes(os.urandom(500_000))
    entry = {"remote_root": str(mounted)}
    inventory({"node1": entry}, health_check={"max_disk_percent": 100, "max_load_per_core": 1000})
    by_name()
    done = tell("run", "--on", "node1", "--cmd", "echo ran")
    assert (done.status, done.out) == (125, "")
    assert re.search(r"^gridops: node1: .*[Nn]o (room|space)", done.err.splitlines()[-1])
    done = tell("run", "--cmd", "echo $GRIDOPS_NODE")
    assert (done.status, done.out) == (0, "node2\n")
    assert re.search(r"node1: .*[Nn]o (room|space).*trying the next best node", done.err)


@needs_root
def test_a_read_only_place_is_named(tell, inventory, project, mounted):
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    inventory({"node1": {"remote_root": str(mounted)}})
    done = tell("run", "--on", "node1", "--cmd", "echo ran")
    assert (done.status, done.out) == (125, "")
    assert re.search(r"^gridops: node1: .*Read-only file system", done.err.splitlines()[-1])
    health = tell("health", "--nodes=node1", "--format=json").document["nodes"][0]
    assert health["state"] == "degraded"
    assert "cannot be written" in health["reasons"][0]
    done = tell("sync")
    assert done.status == 125
    assert [row.split()[0] for row in done.out.splitlines()] == ["NODE", "node2", "node3"]


def test_a_node_without_rsync_is_named(tell, make_sandbox, project, monkeypatch, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for program in Path("/usr/bin").iterdir():
        if program.name != "rsync":
            (tools / program.name).symlink_to(program)
    made = make_sandbox(1, setup={"node1": Setup(env_path=str(tools))})
    monkeypatch.setenv("GRIDOPS_INVENTORY", str(made.inventory))
    done = tell("run", "--on", "node1", "--cmd", "echo ran")
    assert (done.status, done.out) == (125, "")
    assert done.err.splitlines()[-1] == (
        "gridops: node1: there is no rsync on it (install rsync there)"
    )
    assert tell("run", "--on", "node1", "--no-sync", "--cmd", "echo ran").out == "ran\n"


@pytest.fixture
def by_name(monkeypatch: pytest.MonkeyPatch):
    """Have the nodes ranked by their names, node1 first."""

    def order() -> None:
        monkeypatch.setattr(
            "gridops.probe.score.rank",
            lambda healths, gpus: sorted(rank(healths), key=lambda r: r.health.node.name),
        )

    return order


# -- slow nodes --------------------------------------------------------------------------------


def slow_check(seconds: float, *, first: str = "healthy"):
    """A probe whose first node answers at once and whose second takes its time."""

    def check(nodes, settings, **how):
        yield NodeHealth(nodes[0], first, score=1.0)
        time.sleep(seconds)
        yield NodeHealth(nodes[1], "healthy", score=0.0)

    return check


NODES = (Node("quick", "quick"), Node("slow", "slow"))


def test_a_healthy_node_is_not_kept_waiting_by_a_slow_one(monkeypatch):
    monkeypatch.setattr(placement, "STRAGGLER_GRACE", 0.1)
    monkeypatch.setattr("gridops.probe.checker.check", slow_check(5))
    began = time.monotonic()
    assert [c.node.name for c in candidates(NODES, Settings())] == ["quick"]
    assert time.monotonic() - began < 2


def test_but_a_moment_is_waited_for_a_better_one(monkeypatch):
    monkeypatch.setattr(placement, "STRAGGLER_GRACE", 5.0)
    monkeypatch.setattr("gridops.probe.checker.check", slow_check(0.2))
    assert [c.node.name for c in candidates(NODES, Settings())] == ["slow", "quick"]


def test_a_degraded_node_alone_is_no_reason_to_hurry(monkeypatch):
    monkeypatch.setattr(placement, "STRAGGLER_GRACE", 0.05)
    monkeypatch.setattr("gridops.probe.checker.check", slow_check(0.5, first="degraded"))
    assert [c.node.name for c in candidates(NODES, Settings())] == ["slow", "quick"]


def test_a_file_that_cannot_be_read_here_is_no_reason_to_try_another_node(monkeypatch, tmp_path):
    asked = []

    def sync_tree(link, tree, settings, **_):
        asked.append(link.node.name)
        raise SourceUnreadable("s cannot be read here", files=["s"])

    monkeypatch.setattr(staging, "sync_tree", sync_tree)
    nodes = [Node(name, name, connection="local") for name in ("one", "two")]
    choice = [placement.Candidate(node, "") for node in nodes]
    sink = executor.Sinks(bytes, bytes)
    with pytest.raises(SourceUnreadable):
        executor.Executor(RunSpec("true", str(tmp_path)), Settings(), Cancel()).run(choice, sink)
    assert asked == ["one"]


def test_nodes_are_asked_again_only_when_none_has_answered(monkeypatch):
    asked = []

    def check(nodes, settings, *, patient):
        asked.append(patient)
        for node in nodes:
            yield NodeHealth(node, "healthy" if patient else "unreachable", score=1.0)

    monkeypatch.setattr("gridops.probe.checker.check", check)
    assert [one.node.name for one in candidates(NODES, Settings())] == ["quick", "slow"]
    assert asked == [False, True]


def test_a_probe_that_breaks_hangs_nobody(monkeypatch):
    def check(nodes, settings, **how):
        raise ZeroDivisionError
        yield

    monkeypatch.setattr("gridops.probe.checker.check", check)
    monkeypatch.setattr("threading.excepthook", lambda args: None)
    with pytest.raises(NoNode):
        candidates(NODES, Settings())
