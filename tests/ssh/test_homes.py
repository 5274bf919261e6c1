"""Homes that are not like ours: shared by nodes, or with blanks and quotes in their paths."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli import Tell, run
from support.jobs import Kept, Place, begun, shell_path, start
from support.nodes import node_of, settings_of

from gridops.jobs import client
from gridops.model import Node
from gridops.probe.score import rank
from gridops.reach import link_to
from gridops.reach.local import LocalLink
from gridops.sandbox import Sandbox, Setup

NODES = ("node1", "node2")


@pytest.fixture
def shared(
    make_sandbox: Callable[..., Sandbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sandbox]:
    """Two nodes with one home, as an NFS server gives it, and a host name each."""
    if os.getuid():
        pytest.skip("only root can give them host names")
    for name in NODES:
        shell = tmp_path / f"{name}.sh"
        rename = f'echo {name} >/proc/sys/kernel/hostname; exec /bin/bash "$@"'
        shell.write_text(f"#!/bin/sh\nexec unshare --uts /bin/sh -c '{rename}' bash \"$@\"\n")
        shell.chmod(0o755)
    made = make_sandbox(
        2, setup={name: Setup(shell=str(tmp_path / f"{name}.sh")) for name in NODES}
    )
    home = made.node("node2").home
    shutil.rmtree(home)
    home.symlink_to(made.node("node1").home)
    monkeypatch.setenv("GRIDOPS_INVENTORY", str(made.inventory))
    yield made
    for name in NODES:
        there = place(made, name).link
        for job in client.list_jobs(there):
            if job.active:
                client.kill(there, job.id, grace=0)


def place(sandbox: Sandbox, name: str) -> Place:
    return Place(link_to(node_of(sandbox, name), settings_of(sandbox)), sandbox.node(name).home)


def test_each_node_of_a_shared_home_has_slots_of_its_own(shared: Sandbox) -> None:
    ids = [start(place(shared, name), "cat /proc/sys/kernel/hostname; sleep 60") for name in NODES]
    for name, job_id in zip(NODES, ids, strict=True):
        begun(place(shared, name), job_id)
        found = client.list_jobs(place(shared, name).link)
        assert {job.id: job.state for job in found if job.active} == {job_id: "running"}
        assert (place(shared, name).job(job_id) / "out").read_text() == f"{name}\n"


def test_a_run_is_shown_where_it_is_whoever_else_knows_it(shared: Sandbox, tell: Tell) -> None:
    ids = []
    for command in "exit 3", "sleep 60":
        done = run("gridops", "run", "--detach", "--no-sync", "--on", "node2", "--cmd", command)
        ids.append(done.out.strip())
        assert command != "exit 3" or tell("jobs.wait", ids[0]).status == 3
    for _ in range(3):
        found = tell("jobs", "--format=json").document["jobs"]
        assert [(job["id"], job["node"]) for job in found] == [(one, "node2") for one in ids]
        for job_id in ids:
            shown = tell("jobs.show", job_id, "--format=json").document["job"]
            assert shown["node"] == "node2"
    assert tell("jobs.kill", ids[1]).status == 0


def test_a_run_stands_in_line_on_all_nodes_of_a_shared_home(shared: Sandbox) -> None:
    holders = [start(place(shared, name), "sleep 60") for name in NODES]
    words = (
        "gridops",
        "run",
        "--no-sync",
        "--wait",
        "60",
        "--cmd",
        "cat /proc/sys/kernel/hostname",
    )
    for name, holder in zip(NODES, holders, strict=True):
        threading.Timer(3, client.kill, (place(shared, name).link, holder), {"grace": 0}).start()
        done = run(*words)
        assert (done.status, done.out) == (0, f"{name}\n"), done.err
        holders[NODES.index(name)] = start(place(shared, name), "sleep 60")


@pytest.mark.parametrize("more", [(), ("--detach",)])
def test_a_run_that_one_node_of_a_shared_home_refuses_goes_to_the_other(
    shared: Sandbox, tell: Tell, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    by_name = lambda healths, gpus: sorted(rank(healths), key=lambda one: one.health.node.name)  # noqa: E731
    monkeypatch.setattr("gridops.probe.score.rank", by_name)
    start(place(shared, "node1"), "sleep 60")
    done = tell("run", "--no-sync", *more, "--cmd", "cat /proc/sys/kernel/hostname")
    assert done.status == 0, done.err
    assert "node1: all its slots are taken" in done.err
    if more:
        done = tell("jobs.logs", done.out.strip(), "--follow")
    assert done.out == "node2\n"


def test_a_full_grid_with_a_shared_home_says_who_holds_what(shared: Sandbox, tell: Tell) -> None:
    holders = [start(place(shared, name), "sleep 60") for name in NODES]
    done = tell("run", "--no-sync", "--cmd", "echo never")
    assert (done.status, done.out) == (125, "")
    for holder in holders:
        assert holder in done.err


# -- odd paths -------------------------------------------------------------------------------------

ODD = "o'd d\"h $(x)"


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_the_path_of_a_home_may_hold_anything(
    shell: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / f"{ODD} ü"  # fish, without a locale, would garble that by itself
    odd.mkdir()
    monkeypatch.setenv("PATH", shell_path(shell, home))
    monkeypatch.setenv("HOME", str(odd))
    _all_works(Place(LocalLink(Node("here", "localhost", connection="local")), odd))


@pytest.mark.parametrize("shell", ["bash", "fish", "tcsh"])
def test_the_path_of_a_home_may_hold_blanks_over_ssh(
    make_sandbox: Callable[..., Sandbox], shell: str
) -> None:
    made = make_sandbox(1, setup={"node1": Setup(shell=shutil.which(shell) or shell)})
    home = made.node("node1").home
    odd = home.with_name(ODD)
    home.rename(odd)
    home.symlink_to(odd)
    enter = made.root / "enter.sh"
    enter.write_text(
        enter.read_text().replace("HOME=$dir/home\n", "HOME=$(cd -P $dir/home && pwd)\n")
    )
    found = Place(link_to(node_of(made), settings_of(made)), odd)
    assert found.link.script("pwd", timeout=20).stdout.decode() == f"{odd}\n"
    _all_works(found)


def _all_works(place: Place) -> None:
    tree = place.home / "my code"
    tree.mkdir()
    (tree / "a b").write_text("hi\n")
    kept = Kept()
    end = kept.run(
        place, "pwd; cat 'a b'; exit 4", directory="~/my code", isolate=True, diff="x", timeout=50.0
    )
    where = f"{place.home}/.gridops/jobs/{end.job.id}/tree"
    assert (end.job.status, kept.out.decode(), kept.err) == (4, f"{where}\nhi\n", b"")
    assert client.diff(place.link, end.job.id) == b"x"
    job_id = start(place, "sleep 60", directory="~/my code")
    begun(place, job_id)
    assert client.kill(place.link, job_id, grace=0).state == "killed"
    assert len(client.prune(place.link, 0)) == 2
    assert client.list_jobs(place.link) == ()


def test_a_run_does_not_change_the_tree_that_one_on_another_node_uses(
    shared: Sandbox, tell: Tell, tmp_path: Path
) -> None:
    go, trees = tmp_path / "go", {name: tmp_path / name / "demo" for name in ("a", "b")}
    for name, tree in trees.items():
        tree.mkdir(parents=True)
        (tree / "who").write_text(f"{name}\n")
    command = f"until [ -e {go} ]; do cat who; sleep 0.05; done; cat who"
    words = ("run", "--detach", "--on", "node1", "--src", str(trees["a"]), "--cmd", command)
    first = tell(*words).out.strip()
    begun(place(shared, "node1"), first)
    second = tell("run", "--on", "node2", "--src", str(trees["b"]), "--cmd", "cat who")
    assert (second.status, second.out) == (0, "b\n"), second.err
    assert f"node2: the run {first} uses" in second.err
    go.touch()
    assert tell("jobs.wait", first).status == 0
    assert set(tell("jobs.logs", first).out.split()) == {"a"}
