"""What is decided about a Ray cluster: who is in it, what keeps it from starting, how it is."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from support.network import closed_port

from gridops.errors import ClusterError, GridError, UsageError
from gridops.inventory import Inventory
from gridops.inventory.settings import RaySettings, Settings, SshSettings
from gridops.model import Node, Outcome
from gridops.ray import connectivity, dashboard, node_mesh, paths, preflight, status
from gridops.ray.launch import Launch
from gridops.ray.model import Cluster, Look, Member, Part, Said, differences
from gridops.ray.pip_output import Pip
from gridops.ray.state import cluster_of
from gridops.reach.local import LocalLink

A, B, C = (Node(name, name) for name in "abc")


def settings(**changed: Any) -> RaySettings:
    return RaySettings(**{"version": "2.60.0", **changed})


def cluster(**changed: Any) -> Cluster:
    return Cluster("a-6379", A, (B, C), settings(**changed), SshSettings(), LocalLink)


def a_look(**changed: Any) -> Look:
    sound = Look(
        part=None,
        died="",
        venv="/venv",
        ray="2.60.0",
        python_version="3.11.7",
        temp="/tmp",
        addresses=("192.0.2.1",),
        ahead=0.2,
        disk_free=1 << 25,
        disk_percent=50,
        memory_total=1 << 24,
        memory_available=1 << 23,
    )
    return replace(sound, **changed)


def a_part(**changed: Any) -> Part:
    part = Part(
        role="worker",
        launch="l",
        id="one",
        address="192.0.2.2",
        head="192.0.2.1",
        port=6379,
        dashboard_port=8265,
        ray="2.60.0",
        python_version="3.11.7",
        venv="/venv",
    )
    return replace(part, **changed)


# -- who is in it, and what is installed -----------------------------------------------------------


def test_the_head_is_the_one_named_else_the_first_and_always_in_it() -> None:
    inventory = Inventory((A, B, C), Settings(ray=settings()))
    assert [node.name for node in cluster_of(inventory, LocalLink).nodes] == ["a", "b", "c"]
    assert [node.name for node in cluster_of(inventory, LocalLink, [C]).nodes] == ["a", "c"]
    named = Inventory((A, B, C), Settings(ray=settings(head="b")))
    assert [node.name for node in cluster_of(named, LocalLink).nodes] == ["b", "a", "c"]
    assert cluster_of(named, LocalLink).key == "b-6379"


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (None, "has no ray.version"),
        ("latest", "not a version"),
        ("2.51.1", "lets anybody who reaches it run code"),
    ],
)
def test_a_version_that_cannot_be_used_is_refused(version: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        cluster_of(Inventory((A,), Settings(ray=settings(version=version))), LocalLink)


def test_another_wish_is_another_environment() -> None:
    usual = paths.venv_name(settings())
    assert usual.startswith("2.60.0-")
    assert paths.venv_name(settings(pip_args=["--no-compile"])) == usual
    others = [{"requirements": ["torch"]}, {"python": "3.11"}, {"extras": ["default", "tune"]}]
    assert len({usual, *(paths.venv_name(settings(**one)) for one in others)}) == 4


def test_the_dashboard_is_installed_whatever_the_extras() -> None:
    assert paths.requirements(settings(extras=["tune"]))[0] == "ray[default,tune]==2.60.0"


@pytest.mark.parametrize("text", ["20000", "30000-20000", "20000-20050", "80-9000", "60000-70000"])
def test_a_range_of_ports_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="FIRST-LAST"):
        settings(ports=text)


def test_the_heads_ports_must_not_be_in_the_range() -> None:
    with pytest.raises(ValueError, match="must not hold client_port"):
        settings(ports="10000-10999")


def arguments(**changed: Any) -> list[str]:
    own = cluster(**changed)
    launch = Launch(own, B, a_look(), "worker", "one", "192.0.2.2", "192.0.2.1")
    return launch._script().splitlines()[-1].split()


def test_a_fixed_range_pins_every_port_of_a_node() -> None:
    words = arguments(ports="20000-20099")
    ports = {word for word in words if "port=" in word}
    assert "--node-manager-port=20000" in ports
    assert "--min-worker-port=20006" in ports
    assert "--max-worker-port=20099" in ports
    assert len(ports) == 8


def test_a_head_among_rays_own_ports_sends_the_workers_elsewhere() -> None:
    assert "--min-worker-port=0" not in arguments()
    assert "--min-worker-port=0" in arguments(port=12000)


def test_a_difference_is_said_for_those_who_are_few() -> None:
    versions = {"a": "3.11.7", "b": "3.11.9", "c": "3.11.7", "d": ""}
    wrong = differences("Python", versions, "do this")
    assert {name: str(error) for name, error in wrong.items()} == {
        "b": "b: Python 3.11.9 here, but 3.11.7 on a,c; Ray needs one version (do this)",
        "d": "d: Python none here, but 3.11.7 on a,c; Ray needs one version (do this)",
    }
    assert differences("Python", {"a": "1", "b": "1"}, "") == {}


# -- pip -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "reason", "hint"),
    [
        (
            ["ERROR: Could not find a version that satisfies", "ERROR: No matching distribution x"],
            "No matching distribution x",
            "ray.python",
        ),
        (["OSError: [Errno 28] No space left on device"], "No space left", "remote_root"),
        (["  × No solution found:", "  ╰─▶ Because there is no ray"], "no ray", "ray.python"),
        (["WARNING: … NewConnectionError(…)", "ERROR: gave up"], "gave up", "--wheelhouse"),
    ],
)
def test_pips_reason_is_told_with_a_remedy(lines: list[str], reason: str, hint: str) -> None:
    pip = Pip(lambda what: None)
    for line in lines:
        pip(f"pip {line}")
    error = pip.explain(ClusterError("the installation failed", node="a"), wheelhouse=False)
    assert reason in error.message
    assert hint in error.hint
    assert error.node == "a"


def test_pips_steps_are_progress_and_its_chatter_is_not() -> None:
    told: list[str] = []
    pip = Pip(told.append)
    for line in ("step installing", "pip Collecting ray[default]==2.60.0", "pip   Using cached x"):
        pip(line)
    assert told == ["installing", "Collecting ray[default]==2.60.0"]


# -- what keeps it from starting -------------------------------------------------------------------


def complaints(**looks: Look) -> list[str]:
    known = {"a": a_look(), "b": a_look(), "c": a_look(), **looks}
    return [str(error) for error in preflight.check_looks(cluster(), known, [A, B, C])]


def test_sound_nodes_may_start() -> None:
    assert complaints() == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"ray": "", "python_version": ""}, "b: Ray 2.60.0 is not installed"),
        ({"python_version": "3.11.8"}, "b: Python 3.11.8 here, but 3.11.7 on a,c"),
        ({"ahead": -40.0}, "b: its clock is 40 s off the head's (set the clocks by NTP)"),
        ({"disk_percent": 96}, "b: the disk of /tmp is full"),
        ({"disk_free": 1000}, "b: the disk of /tmp is full"),
        ({"memory_available": 1 << 19}, "b: its memory is used up: 512 of 16384 MiB"),
    ],
)
def test_what_is_wrong_with_a_node_is_said_with_its_name(found: dict[str, Any], said: str) -> None:
    (line,) = complaints(b=a_look(**found))
    assert line.startswith(said)
    assert line.endswith(")")


def test_a_part_that_runs_counts_with_what_it_runs() -> None:
    (line,) = complaints(a=a_look(part=a_part(role="head", ray="2.59.0")))[:1]
    assert line.startswith("a: Ray 2.59.0 here, but 2.60.0 on b,c")


# -- the mesh: node_mesh.py on this machine --------------------------------------------------------


@contextmanager
def listening(port: int, names: tuple[str, ...], seconds: str = "5") -> Iterator[dict[str, Any]]:
    told: dict[str, Any] = {}
    work = lambda: told.update(node_mesh.listen("n", str(port), seconds, "", *names))  # noqa: E731
    thread = threading.Thread(target=work)
    thread.start()
    yield told
    thread.join(20)


def free_port() -> int:
    """A port that the system gives to no connection: one to itself would seem to be answered."""
    while True:
        with suppress(OSError), socket.create_server(("", random.randrange(10_000, 20_000))) as one:
            return int(one.getsockname()[1])


def test_both_ways_are_tried_and_the_addresses_found() -> None:
    port = free_port()
    with listening(port, ("b",)) as told:
        ways = node_mesh.call("n", str(port), "5", "b", "", "127.0.0.1")["ways"]
    assert ways == {"127.0.0.1": {"source": "127.0.0.1", "back": ""}}
    assert told["heard"]["b"]["error"] == ""


def test_a_way_back_that_is_closed_is_said() -> None:
    port = free_port()
    with closed_port() as closed, listening(port, ("b",)):
        said = {"nonce": "n", "name": "b", "port": closed, "back": ""}
        way = node_mesh.dialogue("127.0.0.1", port, said, time.monotonic() + 5)
    assert way == {"source": "127.0.0.1", "back": "Connection refused"}


def test_a_head_that_is_not_there_or_another_is_said() -> None:
    with closed_port() as closed:
        ways = node_mesh.call("n", str(closed), "0.2", "b", "", "127.0.0.1")["ways"]
    assert ways == {"127.0.0.1": {"there": "Connection refused"}}
    port = free_port()
    with listening(port, ("b",), "1"):
        ways = node_mesh.call("other", str(port), "5", "b", "", "127.0.0.1")["ways"]
    assert ways == {"127.0.0.1": {"there": "another program answers"}}


def test_a_port_in_use_is_told_with_its_holder() -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        told = node_mesh.listen("n", str(port), "1", "")
    assert f"process {os.getpid()} (" in json.dumps(told["busy"][str(port)])


def test_what_cannot_be_reached_is_told_by_place() -> None:
    with closed_port() as closed, socket.create_server(("127.0.0.1", 0)) as server:
        places = f"127.0.0.1:{server.getsockname()[1]}", f"127.0.0.1:{closed}"
        assert node_mesh.reach("2", *places) == {places[1]: "Connection refused"}


def tried(
    monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], **looks: Look
) -> tuple[preflight.Mesh, list[GridError]]:
    def answer(cluster: Cluster, looks: Any, calls: dict[str, Any]) -> dict[str, Any]:
        return {name: preflight.Tries.of(json.dumps(answers[name]).encode()) for name in calls}

    monkeypatch.setattr(preflight, "_run", answer)
    known = {"a": a_look(addresses=("10.0.0.1", "172.17.0.1")), "b": a_look(), "c": a_look()}
    return preflight.try_addresses(cluster(), {**known, **looks}, [A, B, C])


OPEN = {"source": "10.0.0.2", "back": ""}


def test_the_head_gets_the_address_that_all_workers_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {"there": "No route to host"}
    ways = {
        "a": {"busy": {}},
        "b": {"ways": {"10.0.0.1": nowhere, "172.17.0.1": OPEN}},
        "c": {"ways": {"10.0.0.1": nowhere, "172.17.0.1": {**OPEN, "source": "10.0.0.3"}}},
    }
    mesh, wrong = tried(monkeypatch, ways)
    assert not wrong
    assert mesh.addresses == {"a": "172.17.0.1", "b": "10.0.0.2", "c": "10.0.0.3"}


def test_blocked_ports_are_said_for_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    back = {"source": "10.0.0.3", "back": "no answer (a firewall drops it?)"}
    ways = {
        "a": {"busy": {}},
        "b": {"ways": {"10.0.0.1": {"there": "no answer (a firewall drops it?)"}}},
        "c": {"ways": {"10.0.0.1": back}},
    }
    _, wrong = tried(monkeypatch, ways)
    first, second = map(str, wrong)
    assert first.startswith("b: cannot reach the head a at 10.0.0.1:6379: no answer")
    assert second.startswith("c: the head a cannot reach it at 10.0.0.3: no answer")
    assert "6379 on the head" in first
    assert "ray.node_ip" in second


def test_two_names_of_one_machine_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = {"a": {"busy": {}}, **{name: {"ways": {"10.0.0.1": OPEN}} for name in "bc"}}
    _, wrong = tried(monkeypatch, ways)
    (error,) = wrong
    assert str(error).startswith("c: has the address 10.0.0.2, as b has")


def test_a_port_in_use_is_said_with_the_key_that_changes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ways = {"a": {"busy": {"10001": "process 7 (python)"}}, "b": {"ways": {}}, "c": {"ways": {}}}
    (error,) = tried(monkeypatch, ways)[1]
    assert "port 10001 is in use there, by process 7 (python)" in str(error)
    assert "ray.client_port" in error.hint


def test_members_that_cannot_reach_each_other_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    members = tuple(
        Member(name, name * 4, f"10.0.0.{at}", alive=True, head=name == "a", ports=(40000 + at,))
        for at, name in enumerate("abc", 1)
    )

    def run(link: Any, python: str, name: str, *args: str, timeout: float) -> bytes:
        blocked = {"10.0.0.2:40002": "no answer"} if link.node.name == "a" else {}
        assert set(blocked) <= set(args)
        return json.dumps(blocked).encode()

    monkeypatch.setattr(connectivity, "run_program", run)
    looks = {name: a_look() for name in "abc"}
    (error,) = connectivity.find_barred(cluster(), looks, Said(members), ["b", "c"])
    assert str(error).startswith("b: joined, and will be lost: a cannot reach it at 10.0.0.2:40002")
    assert "open TCP between all nodes" in error.hint


# -- status ----------------------------------------------------------------------------------------


def member(name: str, alive: bool = True, **more: Any) -> Member:
    return Member(name, name * 4, "10.0.0.9", alive, name == "a", **more)


def found(
    monkeypatch: pytest.MonkeyPatch, said: Said, **looks: Look | GridError
) -> status.ClusterStatus:
    head = a_look(part=a_part(role="head"))
    known: dict[str, Look | GridError] = {"a": head, "b": head, "c": head, **looks}
    outcomes = [
        Outcome(node, error=one) if isinstance(one, GridError) else Outcome(node, one)
        for node in (A, B, C)
        for one in [known[node.name]]
    ]
    monkeypatch.setattr(status, "look", lambda cluster, nodes: iter(outcomes))
    monkeypatch.setattr(dashboard, "status", lambda cluster, head, seconds: said)
    return status.status(cluster(), [A, B, C])


def test_a_cluster_with_just_its_nodes_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    total, used = (
        {"CPU": 4.0, "object_store_memory": 8.0},
        {"bbbb": {"CPU": 1.0, "objectStoreMemory": 2.0}},
    )
    said = Said((member("a"), member("b", total=total), member("c")), used)
    whole = found(monkeypatch, said)
    assert whole.state == "whole"
    assert whole.nodes[1].used == {"CPU": 1.0, "object_store_memory": 2.0}


@pytest.mark.parametrize(
    ("look", "alive", "state"),
    [
        (a_look(), None, "missing"),
        (a_look(died="it fell"), None, "dead"),
        (a_look(), False, "dead"),
        (a_look(part=a_part()), None, "lost"),
        (a_look(part=a_part(id="two")), None, "stale"),
        (ClusterError("no route", node="b"), True, "unreachable"),
    ],
)
def test_what_differs_is_said_by_node(
    monkeypatch: pytest.MonkeyPatch, look: Look | GridError, alive: bool | None, state: str
) -> None:
    others = () if alive is None else (member("b", alive),)
    differs = found(monkeypatch, Said((member("a"), member("c"), *others)), b=look)
    assert differs.state == "differs"
    assert [node.state for node in differs.nodes] == ["alive", state, "alive"]


def test_a_member_without_a_node_is_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said((*(member(name) for name in "abcx"), member("y", alive=False)))
    differs = found(monkeypatch, said)
    assert differs.state == "differs"
    assert [node.name for node in differs.nodes if node.state == "foreign"] == ["x"]


def test_nothing_anywhere_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = dict.fromkeys("abc", a_look())
    assert found(monkeypatch, Said(()), **nothing).state == "not started"
