"""`jobs.fetch` and `jobs.wait --fetch` on real nodes: results come home after a reattach."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli import Inventory, run, started
from support.jobs import pids_with
from support.nodes import node_of, settings_of, wait_until

from gridops.grid import Grid
from gridops.jobs import client
from gridops.jobs.logs import BEYOND
from gridops.jobs.spec import JobSpec
from gridops.jobs.start import start_job
from gridops.reach import link_to
from gridops.reach.link import Link

RESULTS = "mkdir -p results/deep && echo 1 >results/a.json && echo 2 >results/deep/b"


@pytest.fixture
def link(inventory: Inventory) -> Iterator[Link]:
    """node2, whose runs are ended and forgotten afterwards."""
    sandbox = inventory.sandbox
    made = link_to(node_of(sandbox, "node2"), settings_of(sandbox))
    yield made
    for job in client.list_jobs(made):
        if job.active:
            client.kill(made, job.id, grace=0)
    client.prune(made, 0)


@pytest.fixture
def there(inventory: Inventory) -> Iterator[Path]:
    """A directory of this test's own in node2's home."""
    path = inventory.sandbox.node("node2").home / f"run-{time.monotonic_ns()}"
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def start(link: Link, there: Path) -> Callable[..., str]:
    """Start a run in that directory; its id."""

    def begin(command: str, **options: object) -> str:
        spec = {"command": command, "directory": f"~/{there.name}", **options}
        return start_job(link, JobSpec(**spec)).id  # type: ignore[arg-type]

    return begin


def files(root: Path) -> set[str]:
    """All but the record of fetches."""
    every = (path.relative_to(root) for path in root.rglob("*") if not path.is_dir())
    return {str(path) for path in every if path.parent.name != ".gridops"}


# -- jobs.wait --fetch ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 3])
def test_wait_brings_the_results_home_whatever_the_run_ended_with(tell, start, project, status):
    job = start(f"sleep 0.5; {RESULTS}; exit {status}")
    done = tell("jobs.wait", job, "--fetch", "results/*.json", "--fetch", "results/deep")
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith("gridops: node2: fetched 2 files, ")
    assert files(project) == {"hello.txt", "results/a.json", "results/deep/b"}


def test_wait_brings_the_results_of_a_run_whose_time_ran_out(tell, start, project, tmp_path):
    job = start(f"{RESULTS}; sleep 60", timeout=1.0)
    done = tell("jobs.wait", job, "--fetch", "results", "--into", str(tmp_path / "new"))
    assert done.status == 124
    assert files(tmp_path / "new") == {"results/a.json", "results/deep/b"}
    assert files(project) == {"hello.txt"}


@pytest.mark.parametrize(("run_status", "status"), [(0, 125), (4, 4)])
def test_a_success_without_its_results_is_none(tell, start, project, run_status, status):
    job = start(f"exit {run_status}")
    done = tell("jobs.wait", job, "--fetch", "results")
    assert done.status == status
    assert "node2: results matches nothing in ~/" in done.err
    assert ("the run succeeded, but its results were not fetched" in done.err) == (not run_status)


def test_what_is_in_the_way_here_makes_a_success_125_and_the_rest_comes(tell, start, project):
    (project / "results").write_text("a file")
    job = start(f"{RESULTS}; touch more")
    done = tell("jobs.wait", job, "--fetch", "results", "--fetch", "more")
    assert done.status == 125
    assert (
        "fetched but not stored: results: what is in its place here is not a directory" in done.err
    )
    assert files(project) == {"hello.txt", "results", "more"}


def test_a_wait_that_is_left_brings_nothing(start, there, project):
    job = start(f"{RESULTS}; sleep 60")
    wait_until(lambda: (there / "results/deep/b").exists())
    with started("jobs.wait", job, "--fetch", "results", until=b"", cwd=project) as child:
        wait_until(lambda: pids_with(f"\0{job}\0{BEYOND}\0"))  # the node's follower
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=20)
    assert child.returncode == 130
    assert b"the run " + job.encode() + b" goes on there" in said
    assert files(project) == {"hello.txt"}


def test_wait_refuses_what_makes_no_sense_before_it_waits(tell, start, project):
    job = start("sleep 60")
    for words, said in (
        (["--fetch", "../x"], "leads out of the run's directory"),
        (["--into", "x"], "--into goes with --fetch PATTERN"),
        (["--overwrite"], "--overwrite goes with --fetch PATTERN"),
    ):
        done = tell("jobs.wait", job, *words)
        assert (done.status, said in done.complaint) == (2, True)


# -- jobs.fetch ----------------------------------------------------------------------------------


def test_fetch_takes_one_pattern_or_several(tell, start, project, there):
    job = start(f"{RESULTS}; echo log >log")
    assert tell("jobs.wait", job).status == 0
    assert tell("jobs.fetch", job, "results/*.json").status == 0
    assert files(project) == {"hello.txt", "results/a.json"}
    assert tell("jobs.fetch", job, "results", "--pattern=log", "--pattern", "no").status == 0
    assert files(project) == {"hello.txt", "results/a.json", "results/deep/b", "log"}
    assert tell("jobs.fetch", job[:-1], "--pattern", "log", "--into", "in to").status == 0
    assert files(project / "in to") == {"log"}


def test_fetch_of_nothing_ends_with_1_and_says_why(tell, start, project):
    job = start("true")
    tell("jobs.wait", job)
    done = tell("jobs.fetch", job, "no", "--pattern", "neither")
    assert (done.status, done.out) == (1, "")
    assert [line.partition(" in ~")[0] for line in done.err.splitlines()] == [
        "gridops: warning: node2: no matches nothing",
        "gridops: warning: node2: neither matches nothing",
    ]
    assert tell("jobs.fetch", job).status == 2  # no pattern
    assert tell("jobs.fetch", job, ".git").status == 2


def test_fetch_of_a_running_run_brings_what_there_is_and_says_that_it_goes_on(
    tell, start, project, there
):
    job = start(f"{RESULTS}; sleep 60")
    wait_until(lambda: (there / "results/deep/b").exists())
    done = tell("jobs.fetch", "@last", "results")
    assert done.status == 0
    assert f"node2: the run {job} goes on; this is what there was by now" in done.err
    assert files(project) == {"hello.txt", "results/a.json", "results/deep/b"}


def test_a_newer_file_here_stays_unless_it_may_be_overwritten(tell, start, project):
    job = start(RESULTS)
    assert tell("jobs.wait", job, "--fetch", "results").status == 0
    path = project / "results/a.json"
    path.write_text("mine")
    os.utime(path, (time.time() + 10,) * 2)
    done = tell("jobs.fetch", job, "results")
    assert done.status == 0
    assert "kept, since newer here (--overwrite replaces them): results/a.json" in done.err
    assert path.read_text() == "mine"
    done = tell("jobs.fetch", job, "results", "--overwrite")
    assert "fetched 1 file (1 replaced)" in done.err
    assert path.read_text() == "1\n"


def test_an_isolated_run_has_its_results_in_its_own_tree(tell, start, project, there):
    (there / "code").write_text("x")
    job = start(RESULTS, isolate=True)
    assert tell("jobs.wait", job, "--fetch", "results").status == 0
    assert files(there) == {"code"}
    assert files(project) == {"hello.txt", "results/a.json", "results/deep/b"}


def test_a_run_that_began_at_home_since_there_was_no_tree_has_its_results_there(
    tell, start, project, there, inventory
):
    there.rmdir()
    name = f"out-{time.monotonic_ns()}"
    job = start(f"echo 1 >{name}")
    done = tell("jobs.wait", job, "--fetch", name)
    assert done.status == 0, done.err
    assert f"~/{there.name} does not exist: searching the home directory" in done.err
    assert files(project) == {"hello.txt", name}
    (inventory.sandbox.node("node2").home / name).unlink()


def test_a_run_that_never_began_has_no_results(tell, start, project):
    start("sleep 60")
    job = start("true", wait=600)
    done = tell("jobs.fetch", job, "x")
    assert done.status == 125
    assert done.complaint == f"node2: the run {job} has not begun: it has no results"


def test_any_machine_with_the_inventory_brings_them_home(start, inventory, tmp_path, home):
    """A process of its own, in another place."""
    job = start(RESULTS)
    (tmp_path / "elsewhere").mkdir()
    done = run("gridops", "jobs.wait", job, "--fetch", "results", cwd=tmp_path / "elsewhere")
    assert done.status == 0, done.err
    assert files(tmp_path / "elsewhere") == {"results/a.json", "results/deep/b"}


def test_python_has_the_same(start, link, inventory, tmp_path):
    grid = Grid.load(inventory.path)
    job = grid.wait(grid.find_job(start(RESULTS)))
    report = grid.fetch(job, ["results"], tmp_path / "results of it")
    assert report.new == ("results/a.json", "results/deep/b")
    assert report.node.name == "node2"


# -- results of earlier runs -----------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--isolate",)])
def test_the_results_of_an_earlier_run_are_not_this_ones(tell, link, project, flags):
    words = ("run", "--on", "node2", "--fetch", "results", *flags, "--cmd")
    assert tell(*words, f"{RESULTS}; echo old >ckpt").status == 0
    assert files(project) == {"hello.txt", "results/a.json", "results/deep/b"}
    tell("run", "--on", "node2", "--cmd", RESULTS)  # with --isolate, too, it is in the tree
    shutil.rmtree(project / "results")
    shutil.rmtree(project / ".gridops")
    done = tell(*words, "true")
    assert (done.status, files(project)) == (125, {"hello.txt"})
    assert "node2: results matches nothing that this run wrote" in done.err
    done = tell(*words, "echo 3 >results/c")
    assert (done.status, files(project)) == (0, {"hello.txt", "results/c"})
    assert "not fetched, since this run did not write them: 2 files" in done.err


def test_an_older_run_does_not_hand_out_what_a_newer_one_wrote(tell, link, start, project):
    first = start(f"{RESULTS}; echo mine >mine")
    tell("jobs.wait", first)
    time.sleep(0.1)
    tell("jobs.wait", start("echo 9 >results/a.json"))
    done = tell("jobs.fetch", first, "results/a.json")
    assert (done.status, files(project)) == (1, {"hello.txt"})
    assert "not fetched, since a later run has changed them: results/a.json" in done.err
    assert tell("jobs.wait", first, "--fetch", "mine", "--fetch", "results").status == 0
    assert files(project) == {"hello.txt", "mine", "results/deep/b"}


def test_a_fresh_run_has_nothing_but_the_tree_and_brings_its_own_results(tell, link, project):
    words = ("run", "--on", "node2", "--src", ".")
    assert tell(*words, "--cmd", RESULTS).status == 0
    seen = "ls; mkdir results; echo 7 >results/new"
    done = tell(*words, "--fresh", "--fetch", "results", "--cmd", seen)
    assert (done.status, done.out) == (0, "hello.txt\n")
    assert files(project) == {"hello.txt", "results/new"}
    assert tell(*words, "--fresh", "--detach", "--cmd", "ls").status == 0
    assert tell("jobs.logs", "@last", "--follow").out == "hello.txt\n"
    assert tell(*words, "--cmd", "ls results").out == "a.json\ndeep\n"
    done = tell(*words, "--fresh", "--no-sync", "--cmd", "ls")
    assert (done.status, done.complaint[:20]) == (2, "--fresh needs a sync")


@pytest.mark.parametrize("made", ["mkfifo odd", "ln -s /nowhere/at/all odd"])
def test_a_result_that_cannot_come_is_no_success(project, inventory, tell, made):
    done = tell("run", "--on", "node1", "--fetch", "odd", "--cmd", f"rm -f odd; {made}")
    assert done.status == 125, done.err
    assert "its results were not fetched" in done.err
