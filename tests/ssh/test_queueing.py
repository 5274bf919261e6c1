"""`run` on a grid whose slots are taken: who has them, standing in line, snapshots of the tree."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli import Inventory, Tell, started
from support.jobs import Place, begun, start
from support.nodes import node_of, settings_of, wait_until

from gridops.dispatch.assignment import Dispatch
from gridops.dispatch.queue import Queue
from gridops.grid import Grid
from gridops.jobs import client
from gridops.model import Job, RunSpec
from gridops.reach import link_to

NODES = ("node1", "node2", "node3")
ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")


def place(inventory: Inventory, name: str) -> Place:
    sandbox = inventory.sandbox
    return Place(link_to(node_of(sandbox, name), settings_of(sandbox)), sandbox.node(name).home)


def jobs(inventory: Inventory, name: str) -> tuple[Job, ...]:
    return client.list_jobs(place(inventory, name).link)


@pytest.fixture(autouse=True)
def no_runs(inventory: Inventory, project: Path) -> Iterator[None]:
    """No node has a run, before and after."""
    _forget(inventory)
    yield
    _forget(inventory)


def _forget(inventory: Inventory) -> None:
    for name in NODES:
        for job in jobs(inventory, name):
            if job.active:
                client.kill(place(inventory, name).link, job.id, grace=0)
        client.prune(place(inventory, name).link, 0)


@pytest.fixture
def fill(inventory: Inventory) -> Callable[..., str]:
    """Take the slot of a node until the test, or `client.kill`, ends it."""

    def take(name: str, command: str = "sleep 600") -> str:
        job_id = start(place(inventory, name), command)
        begun(place(inventory, name), job_id)
        return job_id

    return take


def free(inventory: Inventory, name: str, job_id: str) -> None:
    client.kill(place(inventory, name).link, job_id, grace=0)


# -- a full grid -------------------------------------------------------------------------------


def test_a_full_grid_is_125_and_says_who_holds_what(tell: Tell, inventory, fill):
    held = {name: fill(name, f"sleep 600 # {name}") for name in NODES}
    done = tell("run", "--no-sync", "--cmd", "echo ran")
    assert (done.status, done.out) == (125, "")
    said = done.err.splitlines()[-1]
    assert said.startswith("gridops: none of the 3 nodes can take the run now (")
    for name, job_id in held.items():
        assert re.search(
            rf"{name}: all its slots are taken: {job_id} by \S+: sleep 600 # {name}", said
        )
    assert "--wait 30m waits in the queue" in said


def test_a_full_node_alone_says_who_holds_it(tell: Tell, inventory, fill):
    job_id = fill("node2")
    done = tell("run", "--on", "node2", "--no-sync", "--cmd", "echo ran")
    assert (done.status, done.out) == (125, "")
    said = done.err.splitlines()[-1]
    assert said.startswith(f"gridops: node2: all its slots are taken ({job_id} by ")


def test_a_node_with_a_free_slot_is_taken_first(tell: Tell, inventory, fill):
    fill("node1"), fill("node3")
    for _ in range(3):
        done = tell("run", "--no-sync", "--cmd", "echo $GRIDOPS_NODE")
        assert (done.status, done.out) == (0, "node2\n"), done.err
    assert "trying the next best" not in done.err


# -- standing in line --------------------------------------------------------------------------


def test_one_node_queues_the_run_and_begins_it_when_its_slot_is_free(inventory, fill):
    job_id = fill("node1")
    words = (
        "run",
        "--on",
        "node1",
        "--no-sync",
        "--wait",
        "1m",
        "--cmd",
        "echo ran; sleep 1; exit 4",
    )
    with started(*words, until=b"") as child:
        wait_until(lambda: any(job.state == "queued" for job in jobs(inventory, "node1")))
        assert child.poll() is None
        free(inventory, "node1", job_id)
        assert child.wait(20) == 4
        assert child.stdout.read() == b"ran\n"
        said = child.stderr.read().decode()
    assert re.search(r"node1: no slot is free: the run \S+ is queued for 60 s at most", said)
    assert "node1: the run begins" in said


def test_a_run_waits_on_many_nodes_and_begins_once_on_the_first_that_is_free(
    inventory, project, fill, tmp_path
):
    held = {name: fill(name) for name in NODES}
    command = f"echo $GRIDOPS_NODE >>{tmp_path}/marks; cat hello.txt; exit 5"
    with started("run", "--wait", "1m", "--cmd", command, until=b"") as child:
        for name in NODES:
            wait_until(lambda name=name: any(j.state == "queued" for j in jobs(inventory, name)))
        (project / "hello.txt").write_text("edited while the run waits\n")
        free(inventory, "node2", held["node2"])
        assert child.wait(30) == 5
        assert child.stdout.read() == b"hello\n"
    assert (tmp_path / "marks").read_text() == "node2\n"
    free(inventory, "node1", held["node1"])
    time.sleep(1)
    assert (tmp_path / "marks").read_text() == "node2\n"
    for name in ("node1", "node3"):
        assert not any(job.state in ("queued", "held") for job in jobs(inventory, name))


def test_who_waits_too_long_is_told_so(tell: Tell, inventory, fill):
    for name in NODES:
        fill(name)
    for words in ((), ("--on", "node1")):
        done = tell("run", *words, "--no-sync", "--wait", "1", "--cmd", "echo ran")
        assert (done.status, done.out) == (125, "")
        assert "no slot came free within 1 s" in done.err.splitlines()[-1]


@pytest.mark.parametrize("nodes", ["node1", "node[1-3]"])
def test_ctrl_c_leaves_the_line_and_nothing_runs(inventory, fill, tmp_path, nodes):
    held = {name: fill(name) for name in NODES}
    words = ("run", "--nodes", nodes, "--no-sync", "--wait", "1m", "--cmd", f"touch {tmp_path}/ran")
    with started(*words, until=b"") as child:
        wait_until(lambda: any(job.state == "queued" for job in jobs(inventory, "node1")))
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
        assert (
            nodes == "node1"
            or b"SIGINT: the run has not begun, and will not" in child.stderr.read()
        )
    for name, job_id in held.items():
        free(inventory, name, job_id)
    time.sleep(1)
    assert not (tmp_path / "ran").exists()


def test_a_client_that_dies_in_line_blocks_nobody_for_long(
    inventory, tell: Tell, fill, monkeypatch
):
    """Its places lapse, before their turn comes or when it does."""
    held = fill("node1")
    settings = Grid.load(inventory.path).settings
    one = node_of(inventory.sandbox, "node1")
    dispatch = Dispatch(RunSpec("echo never"), settings)
    place = dispatch.assign(one, "", wait=60, hold=1.0)
    line = Queue([place], dispatch.stage, max_workers=1)
    line._enqueue()  # and nothing more is heard of it
    waiting = [job.id for job in jobs(inventory, "node1") if job.state == "queued"]
    assert len(waiting) == 1
    wait_until(lambda: not any(job.state == "queued" for job in jobs(inventory, "node1")))
    free(inventory, "node1", held)
    done = tell("run", "--on", "node1", "--no-sync", "--wait", "1m", "--cmd", "echo ran")
    assert (done.status, done.out) == (0, "ran\n")


def test_a_detached_run_on_one_node_is_left_in_line(tell: Tell, inventory, fill):
    job_id = fill("node1")
    done = tell("run", "--detach", "--on", "node1", "--no-sync", "--wait", "1m", "--cmd", "exit 3")
    assert done.status == 0
    assert ID.fullmatch(done.out.strip())
    free(inventory, "node1", job_id)
    assert tell("jobs.wait", done.out.strip()).status == 3


def test_a_detached_run_that_waits_on_many_nodes_is_left_when_it_has_begun(inventory, fill, tell):
    held = {name: fill(name) for name in NODES}
    words = ("run", "--detach", "--no-sync", "--wait", "1m", "--cmd", "sleep 1; exit 3")
    with started(*words, until=b"") as child:
        wait_until(lambda: any(job.state == "queued" for job in jobs(inventory, "node3")))
        free(inventory, "node3", held["node3"])
        assert child.wait(20) == 0
        job_id = child.stdout.read().decode().strip()
    assert tell("jobs.wait", job_id).status == 3


# -- trees that are in use ---------------------------------------------------------------------


def test_a_sync_by_hand_into_a_tree_that_a_run_uses_says_so(tell: Tell, inventory, project):
    job_id = tell("run", "--detach", "--on", "node1", "--cmd", "sleep 600").out.strip()
    assert "warning" not in tell("sync", "--nodes", "node1").err  # nothing changed
    (project / "hello.txt").write_text("again\n")
    said = tell("sync", "--nodes", "node1").err
    assert f"node1: the run {job_id} uses the tree that this sync has changed" in said


def test_an_isolated_run_keeps_its_code_whatever_is_synced(
    tell: Tell, inventory, project, tmp_path
):
    inventory({name: {"slots": 2} for name in NODES})
    go = tmp_path / "go"
    command = f"until [ -e {go} ]; do sleep 0.05; done; cat hello.txt"
    done = tell("run", "--detach", "--isolate", "--on", "node1", "--cmd", command)
    job_id = done.out.strip()
    (project / "hello.txt").write_text("changed\n")
    second = tell("run", "--on", "node1", "--cmd", "cat hello.txt")
    assert second.out == "changed\n"
    assert "uses the tree" not in second.err
    go.touch()
    assert tell("jobs.wait", job_id).status == 0
    assert tell("jobs.logs", job_id).out == "hello\n"


def test_a_lost_run_is_run_again_only_when_asked(tell: Tell, inventory, project, tmp_path):
    marks = tmp_path / "marks"
    dies = "{ kill -9 $PPID; sleep 60; }"
    command = f"echo ran >>{marks}; [ $(wc -l <{marks}) = 2 ] || {dies}; echo end"
    done = tell("run", "--on", "node1", "--no-sync", "--cmd", command)
    assert done.status == 125
    said = done.err.splitlines()[-1]
    assert re.search(r"the run \S+: it is lost: its supervisor was killed", said)
    assert "--restart-lost" in said
    assert marks.read_text() == "ran\n"
    marks.unlink()
    done = tell("run", "--restart-lost", "--on", "node1", "--no-sync", "--cmd", command)
    assert (done.status, done.out) == (0, "end\n"), done.err
    assert "running it again" in done.err
    assert marks.read_text() == "ran\nran\n"


def test_a_run_that_a_shutdown_ended_is_run_again_when_asked(
    tell: Tell, inventory, project, tmp_path
):
    marks = tmp_path / "marks"
    ends = "{ kill -TERM $PPID $$; sleep 60; }"  # the supervisor, and the command itself
    command = f"echo ran >>{marks}; [ $(wc -l <{marks}) = 2 ] || {ends}; echo end"
    done = tell("run", "--on", "node1", "--no-sync", "--cmd", command)
    assert done.status == 125
    assert "the node ended its processes, as at a shutdown (it ended with status 143)" in done.err
    job = jobs(inventory, "node1")[-1]
    shown = tell("jobs.show", job.id, "--format=json").document["job"]
    assert (shown["state"], shown["reason"], shown["status"]) == ("lost", "shutdown", 143)
    assert (shown["exit_status"], tell("jobs.wait", job.id).status) == (125, 125)
    marks.unlink()
    done = tell("run", "--restart-lost", "--on", "node1", "--no-sync", "--cmd", command)
    assert (done.status, done.out) == (0, "end\n"), done.err
    assert marks.read_text() == "ran\nran\n"


def test_a_log_cap_and_bad_numbers(tell: Tell, inventory, project):
    words = ("run", "--on", "node1", "--no-sync")
    done = tell(*words, "--log-cap", "4K", "--cmd", "head -c 100000 /dev/zero; exit 6")
    assert (done.status, len(done.out)) == (6, 4096)
    assert "printed more than --log-cap" in done.err
    for flag in ("kill-on-exit", "restart-lost", "give-up-after=5"):
        assert tell("run", "--detach", f"--{flag}", "--cmd", "true").status == 2
    for env in ("CUDA_VISIBLE_DEVICES=7", "GRIDOPS_NODE=x"):
        assert tell(*words, "--gpus", "1", "--env", env, "--cmd", "true").status == 2
    seen = tell(*words, "--gpus", "0", "--cmd", 'echo "${CUDA_VISIBLE_DEVICES-unset}."').out
    assert seen == ".\n"
    for flag, value in (("log-cap", "x"), ("log-cap", "0"), ("gpus", "-1"), ("wait", "soon")):
        done = tell(*words, f"--{flag}={value}", "--cmd", "true")
        assert done.status == 2
        assert f"--{flag} {value!r}" in done.complaint


def test_a_run_whose_files_are_deleted_is_no_mistake_of_the_user(tell: Tell, inventory, tmp_path):
    home = inventory.sandbox.node("node1").home
    command = "rm -rf ~/.gridops/jobs; sleep 1"
    done = tell("run", "--on", "node1", "--no-sync", "--cmd", command)
    assert done.status == 125
    assert "under ~/.gridops are gone" in done.err.splitlines()[-1]
    leases = next((home / ".gridops/locks").iterdir()) / "leases"
    wait_until(lambda: not list(leases.iterdir()))  # the slot is free once the command has ended
