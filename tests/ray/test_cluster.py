"""install, start, status and stop of a real Ray cluster on three machines."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.cli import BIN, Done

pytestmark = pytest.mark.xdist_group("ray")  # here, for xdist sees no marks that are added later

ALL = ("n1", "n2", "n3")


def states(done: Done) -> dict[str, str]:
    return {node["name"]: node["state"] for node in done.document["nodes"]}


def status(nodes: Any) -> Done:
    return nodes("cluster.status", "--format=json")


def parts(nodes: Any) -> dict[str, str]:
    """Each node's record of what runs there."""
    return {
        one.name: "".join(path.read_text() for path in one.home.glob(".gridops/ray/*/*/record"))
        for one in nodes.all
    }


def wait_for(what: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)


# -- install ---------------------------------------------------------------------------------------


def test_the_second_installation_is_quick(raynodes: Any) -> None:
    took = []
    for _ in range(3):  # the machine may be busy with something else
        began = time.monotonic()
        done = raynodes("cluster.install")
        took.append(time.monotonic() - began)
        assert done.status == 0, done.err
        assert done.err.count("there already") == 3
    assert min(took) < 3


def test_an_installation_that_was_killed_is_repaired(raynodes: Any, tmp_path: Path) -> None:
    """Client and node alike, while pip writes; even if pip itself goes on."""
    node = raynodes["n1"]
    other = {"remote_root": "~/other"}
    path = raynodes.variant(tmp_path / "other.yaml", {"n1": other}, head="n1")
    words = ("cluster.install", "--nodes=n1", f"--wheelhouse={raynodes.wheels}")
    env = {**os.environ, "GRIDOPS_INVENTORY": str(path)}
    child = subprocess.Popen(
        [str(BIN / "gridops"), *words], env=env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: list(node.home.glob("other/.ray/2*/lib/python*/site-packages/ray/_*")))
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    shells = [pid for pid, line in node.processes().items() if line.startswith("sh -c")]
    node.run("kill", "-9", *map(str, shells))
    assert not list(node.home.glob("other/.ray/2*/ready"))
    done = raynodes(*words, inventory=path)
    assert done.status == 0, done.err
    (ready,) = node.home.glob("other/.ray/2*/ready")
    imported = node.run(
        str(ready.parent / "bin/python"), "-c", "import ray; print(ray.__version__)"
    )
    assert imported.stdout.strip() == ready.read_text().split()[0] == "2.60.0"


def test_another_python_on_one_node_is_said_before_anything_is_installed(
    raynodes: Any, tmp_path: Path
) -> None:
    fake = raynodes["n2"].home / "fake"
    fake.mkdir()
    (fake / "python3").write_text("#!/bin/sh\necho 3.9.1\n")
    (fake / "python3").chmod(0o755)
    changed = {name: {"remote_root": "~/third"} for name in ALL}
    changed["n2"]["env_setup"] = f"PATH={fake}:$PATH"
    path = raynodes.variant(tmp_path / "third.yaml", changed, python=None)
    done = raynodes("cluster.install", f"--wheelhouse={raynodes.wheels}", inventory=path)
    assert done.status == 125
    assert done.err.startswith("gridops: n2: Python 3.9.1 here, but 3.")
    assert "on n[1,3]; Ray needs one version (install one everywhere" in done.err
    assert not any(list(one.home.glob("third/.ray/*/bin")) for one in raynodes.all)


def test_a_wheelhouse_without_ray_is_said_with_what_is_missing(
    raynodes: Any, tmp_path: Path
) -> None:
    """Said by each of the three, which write to one home at once."""
    home = tmp_path / "home"
    changed = {name: {"remote_root": str(home)} for name in ALL}
    path = raynodes.variant(tmp_path / "fourth.yaml", changed)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "other-1.0-py3-none-any.whl").touch()
    done = raynodes("cluster.install", f"--wheelhouse={wheels}", inventory=path)
    assert done.status == 125
    last = done.err.splitlines()[-1]
    assert last.startswith("gridops: n[1-3]: ")
    assert "the installation failed: No matching distribution found for ray" in last
    assert "the wheelhouse lacks it" in last


# -- what keeps it from starting -------------------------------------------------------------------


def test_what_is_not_installed_is_said_by_node(stopped: Any, tmp_path: Path) -> None:
    changed = {name: {"remote_root": "~/nowhere"} for name in ("n2", "n3")}
    done = stopped("cluster.start", inventory=stopped.variant(tmp_path / "x.yaml", changed))
    assert done.status == 125
    assert done.err.splitlines() == [
        "gridops: n[2-3]: Ray 2.60.0 is not installed as the inventory wants it"
        " (run `inv cluster.install`)"
    ]


def test_a_port_in_use_is_said_with_who_has_it(stopped: Any) -> None:
    program = "import socket,time; s=socket.create_server(('',8265)); print(1,flush=True); input()"
    words = stopped["n1"].inside("python3", "-c", program)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as taker:
        assert taker.stdout
        assert taker.stdout.readline() == b"1\n"
        done = stopped("cluster.start")
        taker.communicate(b"\n")
    assert done.status == 125
    assert "n1: port 8265 is in use there, by process " in done.err
    assert "choose another ray.dashboard_port" in done.err
    assert set(parts(stopped).values()) == {""}


@contextmanager
def unreachable(machine: Any, address: str) -> Iterator[None]:
    """Nothing goes from the machine to that address."""
    route = ["ip", "-n", machine.namespace, "route"]
    subprocess.run([*route, "add", "blackhole", f"{address}/32"], check=True)
    try:
        yield
    finally:
        subprocess.run([*route, "del", "blackhole", f"{address}/32"], check=True)


def test_a_worker_that_cannot_reach_the_head_is_said_with_the_ports_to_open(stopped: Any) -> None:
    with unreachable(stopped["n1"], stopped["n3"].address):
        done = stopped("cluster.start")
    assert done.status == 125
    head = stopped["n1"].address
    assert f"n3: cannot reach the head n1 at {head}:6379: no answer" in done.err
    assert "open TCP between all nodes: 6379 on the head" in done.err
    assert set(parts(stopped).values()) == {""}


def test_other_versions_on_one_node_are_said_by_node(stopped: Any, tmp_path: Path) -> None:
    (ready,) = stopped["n3"].home.glob("gridops/.ray/*/ready")
    other = stopped["n3"].home / "fifth/.ray" / ready.parent.name
    other.mkdir(parents=True)
    (other / "ready").write_text("2.60.0 3.1.4\n")
    path = stopped.variant(tmp_path / "fifth.yaml", {"n3": {"remote_root": "~/fifth"}})
    done = stopped("cluster.start", inventory=path)
    assert done.status == 125
    assert "n3: Python 3.1.4 here, but 3." in done.err
    assert "on n[1-2]" in done.err


# -- start, status ---------------------------------------------------------------------------------


def test_a_cluster_that_is_not_started_is_said_so(stopped: Any) -> None:
    done = stopped("cluster.status")
    assert done.status == 1
    assert "not started (`inv cluster.start`)" in done.err
    assert status(stopped).document["state"] == "not started"
    assert "RAY" not in stopped("health").out


def test_a_started_cluster_is_whole_and_starting_it_again_changes_nothing(cluster: Any) -> None:
    found = status(cluster)
    assert (found.status, found.document["state"]) == (0, "whole")
    assert states(found) == dict.fromkeys(ALL, "alive")
    addresses = {node["name"]: node["address"] for node in found.document["nodes"]}
    assert addresses == {name: cluster[name].address for name in ALL}
    assert {n["resources"]["CPU"]["total"] for n in found.document["nodes"]} == {1.0}
    roles = {
        node["name"]: node["ray"] for node in cluster("health", "--format=json").document["nodes"]
    }
    assert roles == {"n1": "head", "n2": "worker", "n3": "worker"}
    before = parts(cluster)
    again = cluster("cluster.start")
    assert again.status == 0
    assert "all ran already" in again.err
    assert parts(cluster) == before


def test_the_token_is_for_nobody_else_to_read_and_in_no_command_line(cluster: Any) -> None:
    (token,) = {
        p.read_text().strip() for one in cluster.all for p in one.home.glob(".gridops/ray/*/token")
    }
    for one in cluster.all:
        (path,) = one.home.glob(".gridops/ray/*/token")
        assert path.stat().st_mode & 0o777 == 0o600
        (directory,) = one.tmp.glob("gridops-ray-*")
        assert directory.stat().st_mode & 0o777 == 0o700
        words = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null"
        inside = one.run("sh", "-c", words, errors="replace").stdout
        assert "RAY_AUTH_TOKEN_PATH" in inside
        assert token not in inside
        for log in directory.rglob("*"):
            if log.is_file():
                assert token.encode() not in log.read_bytes(), log


def test_a_killed_worker_is_said_and_starting_adds_just_that_one(cluster: Any) -> None:
    node = cluster["n2"]
    before = parts(cluster)
    node.run("sh", "-c", "kill -9 $(pgrep -x raylet)")
    wait_for(lambda: not node.processes("raylet"))
    wait_for(
        lambda: status(cluster).status == 1
    )  # what remains of its Ray takes a second to notice
    found = status(cluster)
    assert (found.status, found.document["state"]) == (1, "differs")
    assert states(found) == {"n1": "alive", "n2": "dead", "n3": "alive"}
    (note,) = [one["note"] for one in found.document["nodes"] if one["name"] == "n2"]
    assert "raylet" in note
    done = cluster("cluster.start")
    assert done.status == 0, done.err
    assert "1 started" in done.err
    after = parts(cluster)
    assert {name: after[name] == before[name] for name in ALL} == {
        "n1": True,
        "n2": False,
        "n3": True,
    }
    assert states(status(cluster)) == dict.fromkeys(ALL, "alive")


def test_workers_of_a_head_that_died_are_said_and_started_anew(cluster: Any) -> None:
    node = cluster["n1"]
    node.run("sh", "-c", "kill -9 $(pgrep -x gcs_server)")
    wait_for(lambda: not node.processes("raylet"))
    found = status(cluster)
    assert found.status == 1
    assert states(found) == {"n1": "dead", "n2": "stale", "n3": "stale"}
    done = cluster("cluster.start")
    assert done.status == 0, done.err
    assert "3 started" in done.err


def test_a_node_that_the_inventory_lacks_is_foreign(cluster: Any, tmp_path: Path) -> None:
    path = cluster.variant(tmp_path / "two.yaml")
    path.write_text(path.read_text().replace('"n3"', '"n9"'))
    done = cluster("cluster.status", "--format=json", inventory=path)
    assert done.status == 1
    assert states(done)["n3"] == "foreign"
    assert states(done)["n9"] == "unreachable"


def test_what_waits_for_room_is_told(cluster: Any, tmp_path: Path) -> None:
    words = ("cluster.submit", "--detach", f"--src={tmp_path}", "--num-cpus=7", "--cmd=true")
    assert cluster(*words).status == 0
    wait_for(lambda: status(cluster).document["pending"])
    done = cluster("cluster.status")
    assert "waiting for room: 1 x CPU 7" in done.err
    assert "pending: true" in done.err
    cluster("cluster.stop-job", "@last")  # Ray may take its time for one that has not begun


# -- stop ------------------------------------------------------------------------------------------


def rays(node: Any) -> set[int]:
    """All that runs there and has to do with some Ray."""
    return {pid for pid, line in node.processes("ray").items() if "sshd" not in line}


@contextmanager
def strangers_ray(node: Any, python: Path) -> Iterator[set[int]]:
    """A Ray of somebody else's on the same machine; its processes."""
    before = rays(node)
    env = {"PATH": f"{python.parent}:{os.environ['PATH']}", "HOME": str(node.tmp)}
    words = ["--head", "--port=7777", "--include-dashboard=false", "--temp-dir=/tmp/stranger"]
    words += ["--num-cpus=1", f"--node-ip-address={node.address}", "--ray-client-server-port=27777"]
    done = node.run(str(python), str(python.parent / "ray"), "start", *words, env=env)
    assert done.returncode == 0, done.stderr
    theirs = rays(node) - before
    try:
        yield theirs
    finally:
        node.run("kill", "-9", *map(str, theirs))
        node.run("rm", "-rf", "/tmp/stranger")


def test_stop_leaves_nothing_of_ours_and_all_of_a_strangers(cluster: Any) -> None:
    node = cluster["n2"]
    (python,) = node.home.glob("gridops/.ray/*/bin/python")
    with strangers_ray(node, python) as theirs:
        assert len(theirs) > 3
        done = cluster("cluster.stop", "--keep-logs")
        assert done.status == 0, done.err
        assert rays(node) == theirs
    for one in cluster.all:
        assert rays(one) == set()
        assert not list(one.tmp.glob("gridops-ray-*"))
        assert not list(one.tmp.glob("pymp-*"))
        assert one.run("ls", "/dev/shm").stdout == ""
        assert list(one.home.glob(".gridops/ray/*/*/logs/*/raylet.out"))
    assert set(parts(cluster).values()) == {""}
    assert "nothing ran" in cluster("cluster.stop").err
    assert cluster("cluster.status").status == 1
