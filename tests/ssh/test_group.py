"""Groups of Connections: Fabric's own, and ours with limits."""

from __future__ import annotations

import io
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fabric
import invoke
import pytest
from fabric.exceptions import GroupException
from support.nodes import nodes_of, settings_of

from gridops.errors import ConnectRefused, HostUnknown, NodeTimeout, ReachError
from gridops.reach.connection import Connection
from gridops.reach.group import BoundedGroup
from gridops.sandbox import Sandbox

QUIET: dict[str, Any] = {"hide": True, "in_stream": False}
NAMES = ("node1", "node2", "node3")


def connections(sandbox: Sandbox) -> list[Connection]:
    return [Connection(name, ssh=settings_of(sandbox)) for name in NAMES]


@contextmanager
def mute_server() -> Iterator[int]:
    """It takes connections and never speaks."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("kind", [fabric.SerialGroup, fabric.ThreadingGroup, BoundedGroup])
def test_any_group_runs_on_every_member(sandbox: Sandbox, kind: type[fabric.Group]) -> None:
    with kind.from_connections(connections(sandbox)) as group:
        results = group.run("pwd", **QUIET)
    assert {c.host: result.stdout.strip() for c, result in results.items()} == {
        node.name: str(node.home) for node in sandbox.nodes
    }


def test_hosts_are_named_as_fabric_names_them(sandbox: Sandbox) -> None:
    with BoundedGroup(*NAMES, ssh=settings_of(sandbox), max_workers=2) as group:
        assert [c.host for c in group] == list(NAMES)
        assert len(group.run("true", hide=True).succeeded) == 3


def test_nodes_of_an_inventory_make_a_group(sandbox: Sandbox) -> None:
    with BoundedGroup.for_nodes(nodes_of(sandbox), settings_of(sandbox), timeout=20) as group:
        assert [c.name for c in group] == list(NAMES)
        assert len(group.run("true", hide=True)) == 3


def test_put_and_get_go_to_every_member(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    with BoundedGroup(*NAMES, ssh=settings_of(sandbox)) as group:
        assert len(group.put("file", "from-group")) == 3
        assert len(group.get("from-group")) == 3
    assert [(tmp_path / name / "from-group").read_text() for name in NAMES] == ["x"] * 3


def test_whoever_fails_is_in_the_exception_and_the_others_too(sandbox: Sandbox) -> None:
    with BoundedGroup(*NAMES, ssh=settings_of(sandbox)) as group:
        with pytest.raises(GroupException) as caught:
            group.run('case "$PWD" in *node2*) exit 4;; esac', hide=True)
        result = caught.value.result
        assert [c.host for c in result.failed] == ["node2"]
        assert {c.host for c in result.succeeded} == {"node1", "node3"}
        (error,) = result.failed.values()
        assert isinstance(error, invoke.UnexpectedExit)


def test_a_mute_a_dead_an_unknown_and_a_hanging_member_cost_the_others_nothing(
    sandbox: Sandbox,
) -> None:
    ssh = settings_of(sandbox)
    with mute_server() as mute, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        bad = {
            "mute": Connection("127.0.0.1", port=mute, ssh=ssh, name="mute"),
            "dead": Connection("127.0.0.1", port=closed.getsockname()[1], ssh=ssh, name="dead"),
            "lost": Connection("nowhere.invalid", ssh=ssh, name="lost"),
        }
        group = BoundedGroup.from_connections(
            [*bad.values(), *connections(sandbox)], timeout=3, max_workers=6
        )
        began = time.monotonic()
        came: list[tuple[str, Any, float]] = []
        command = 'case "$PWD" in *node2*) exec sleep 30;; esac; echo hi'
        for c, outcome in group.as_completed("run", command, hide=True):
            came.append((c.name, outcome, time.monotonic() - began))
        group.close()
    by_name = {name: outcome for name, outcome, _ in came}
    assert len(came) == len(by_name) == 6
    assert isinstance(by_name["mute"], NodeTimeout)
    assert isinstance(by_name["dead"], ConnectRefused)
    assert isinstance(by_name["lost"], HostUnknown)
    assert isinstance(by_name["node2"], NodeTimeout)
    assert by_name["node2"].node == "node2"
    assert by_name["node1"].stdout == by_name["node3"].stdout == "hi\n"
    when = {name: seconds for name, _, seconds in came}
    assert max(when["node1"], when["node3"]) < 2
    assert max(when.values()) < 5


def test_results_come_as_they_finish(sandbox: Sandbox) -> None:
    with BoundedGroup(*NAMES, ssh=settings_of(sandbox)) as group:
        command = 'case "$PWD" in *node1*) sleep 1;; esac'
        order = [c.host for c, _ in group.as_completed("run", command, hide=True)]
    assert order[-1] == "node1"


def test_the_overall_deadline_ends_those_who_run_and_those_who_wait(sandbox: Sandbox) -> None:
    with BoundedGroup(*NAMES, ssh=settings_of(sandbox), max_workers=1, deadline=1.5) as group:
        began = time.monotonic()
        outcomes = dict(group.as_completed("run", "sleep 1", hide=True))
        assert time.monotonic() - began < 4
    kinds = [type(outcome).__name__ for outcome in outcomes.values()]
    assert sorted(kinds) == ["NodeTimeout", "NodeTimeout", "Result"]


def test_a_member_that_ran_out_of_time_is_closed_and_works_again(sandbox: Sandbox) -> None:
    with BoundedGroup("node1", ssh=settings_of(sandbox), timeout=0.5) as group:
        with pytest.raises(GroupException):
            group.run("sleep 30", hide=True)
        assert not group[0].is_connected
        group.timeout = 20
        assert group.run("echo hi", hide=True)[group[0]].stdout == "hi\n"


def test_commands_find_an_empty_input_and_nobody_reads_ours(sandbox: Sandbox) -> None:
    """pytest's standard input raises when it is read, as a closed one in CI would."""
    with BoundedGroup("node1", ssh=settings_of(sandbox)) as group:
        assert group.run("cat", hide=True)[group[0]].stdout == ""
        said = group.run("head -n 1", hide=True, in_stream=io.StringIO("x\n"))
        assert said[group[0]].stdout == "x\n"


def test_more_members_than_open_files_is_said_before_anything_begins(sandbox: Sandbox) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    group = BoundedGroup(*["node1"] * (hard if hard < 3000 else 300), ssh=settings_of(sandbox))
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 200), hard))
    try:
        if hard > 3000:  # room can be made
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 200
            next(iter(group.as_completed("run", "true", hide=True)))
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 300
        else:
            with pytest.raises(ReachError, match="too many files open"):
                next(iter(group.as_completed("run", "true", hide=True)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        group.close()
