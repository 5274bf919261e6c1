"""What a run wrote or changed comes home, and nothing else, whatever reaches the node."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.jobs import Kept, Place, begun, done, start
from support.nodes import settings_of

from gridops.errors import NodeError
from gridops.inventory.settings import Settings, SshSettings
from gridops.jobs import client
from gridops.transfers.fetch import FetchReport, fetch_results


@dataclass
class Tree:
    """A directory on a node, the runs in it, and the place at home."""

    place: Place
    root: Path
    into: Path
    settings: Settings

    def run(self, command: str, **options: object) -> str:
        options = {"directory": str(self.root), "fetch": True, **options}
        end = Kept().run(self.place, command, **options)
        assert end.job.status == 0
        return end.job.id

    def fetch(self, run: str, *patterns: str, directory: str = "") -> FetchReport:
        where = directory or str(self.root)
        return fetch_results(
            self.place.link, where, patterns or ("results",), self.into, self.settings, run=run
        )

    def home(self) -> dict[str, str]:
        """What has come, path → text."""
        found = {
            str(path.relative_to(self.into)): path.read_text()
            for path in self.into.rglob("*")
            if path.is_file() and ".gridops" not in path.parts
        }
        shutil.rmtree(self.into)
        return found


@pytest.fixture
def tree(
    place: Place, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tree]:
    ssh = SshSettings()
    if place.home != Path(os.environ["HOME"]):
        ssh = settings_of(request.getfixturevalue("sandbox"))
    if place.busybox:
        tools = Path(os.environ["PATH"].split(":")[0])
        (tools / "rsync").symlink_to("/usr/bin/rsync")
    root = place.home / "gridops" / "a tree"
    root.mkdir(parents=True)
    yield Tree(place, root, tmp_path / "home", Settings(ssh=ssh))
    shutil.rmtree(root.parent)


MAKE = "mkdir -p results; echo 1 >results/a; echo 2 >results/b"


def test_an_earlier_runs_results_are_not_this_ones(tree: Tree) -> None:
    earlier = tree.run(MAKE)
    later = tree.run("true")
    report = tree.fetch(later)
    assert (report.found, report.unwritten, report.missing) == (False, ("results",), ())
    assert not tree.into.exists()
    assert tree.fetch(earlier).new == ("results/a", "results/b")
    assert tree.home() == {"results/a": "1\n", "results/b": "2\n"}
    assert tree.fetch(later, "nothing*").missing == ("nothing*",)


def test_of_a_directory_only_what_was_written_comes(tree: Tree) -> None:
    tree.run(f"{MAKE}; mkdir -p results/old/empty results/more; echo log >results/log")
    run = tree.run(
        "echo 3 >results/c; echo more >>results/log; mkdir -p results/new/empty;"
        " echo x >results/more/x; chmod 600 results/a"
    )
    report = tree.fetch(run)
    assert report.older == 1
    assert (tree.into / "results/new/empty").is_dir()
    assert not (tree.into / "results/old").exists()
    expected = {"results/a": "1\n", "results/c": "3\n", "results/log": "log\nmore\n"}
    assert tree.home() == {**expected, "results/more/x": "x\n"}
    assert tree.fetch(run, "results/*", "**/x").unwritten == ()
    assert set(tree.home()) == {*expected, "results/more/x"}


@pytest.mark.parametrize(
    "command",
    [
        "cp -p old results/a",
        "touch -d '2001-01-01 00:00:00' results/a",
        "mv old results/a",
        "tar cf - old | (cd results && tar xf -) && mv results/old results/a",
        "rm -f results/a; echo 1 >results/a; touch -r old results/a",
        "echo 1 >results/a",
        "ln -f old results/a",
        "ln -sf ../old results/a && cat results/a",
        "cp results/a x; mv x results/a",
    ],
)
def test_what_has_the_time_of_another_file_comes_all_the_same(tree: Tree, command: str) -> None:
    tree.run("mkdir results; echo 1 >results/a; echo 1 >old; touch -d '2002-02-02 00:00:00' old")
    report = tree.fetch(tree.run(command))
    assert (report.found, report.unwritten) == (True, ())


def test_what_lies_in_a_directory_that_was_moved_in_comes(tree: Tree) -> None:
    tree.run("mkdir -p tmp/results/deep; echo 1 >tmp/results/deep/a")
    run = tree.run("mv tmp/results results")
    assert tree.fetch(run).new == ("results/deep/a",)
    assert tree.fetch(run, "**/a").found
    tree.home()
    run = tree.run("mv results tmp/again; mv tmp moved")
    assert tree.fetch(run, "moved/again/deep/*").new == ("moved/again/deep/a",)
    assert not tree.fetch(tree.run("true"), "moved").found


def test_a_later_runs_results_are_not_handed_out_as_an_earlier_ones(tree: Tree) -> None:
    first = tree.run(f"{MAKE}; echo only >results/only")
    time.sleep(0.05)
    second = tree.run("echo two >results/a; rm results/b; echo two >results/b")
    report = tree.fetch(first)
    assert report.new == ("results/only",)
    assert report.later == ("results/a", "results/b")
    assert tree.home() == {"results/only": "only\n"}
    assert tree.fetch(second).new == ("results/a", "results/b")
    tree.run("rm results/only; echo three >results/only")
    assert not tree.fetch(first).found


def test_what_a_person_has_changed_since_comes(tree: Tree) -> None:
    run = tree.run(MAKE)
    (tree.root / "results/a").write_text("corrected\n")
    (tree.root / "results/plot").write_text("drawn\n")
    assert not tree.fetch(run).later
    assert tree.home() == {
        "results/a": "corrected\n",
        "results/b": "2\n",
        "results/plot": "drawn\n",
    }


def test_snapshots_of_other_runs_change_nothing(tree: Tree) -> None:
    """They may be hard links, and a link is a change of the file's inode."""
    tree.run("mkdir results; echo old >results/old")
    job_id = start(tree.place, "echo new >results/new; sleep 2", directory=str(tree.root), slots=3)
    begun(tree.place, job_id)
    time.sleep(0.2)
    isolated = tree.run("echo in >results/isolated", isolate=True, slots=3)
    assert tree.fetch(job_id).new == ("results/new",)
    assert done(tree.place, job_id).status == 0
    tree.home()
    tree.run("true", isolate=True)
    assert tree.fetch(job_id).new == ("results/new",)
    there = client.show(tree.place.link, isolated).cwd
    assert tree.fetch(isolated, directory=there).new == ("results/isolated",)


def test_a_run_in_a_snapshot_brings_only_its_own(tree: Tree) -> None:
    tree.run(MAKE)
    run = tree.run("true", isolate=True)
    where = client.show(tree.place.link, run).cwd
    assert not tree.fetch(run, directory=where).found
    run = tree.run("echo 5 >results/e", isolate=True)
    where = client.show(tree.place.link, run).cwd
    assert tree.fetch(run, directory=where).new == ("results/e",)


def test_a_run_that_goes_on_brings_what_it_has_written_by_now(tree: Tree) -> None:
    tree.run(MAKE)
    job_id = start(tree.place, "echo 3 >results/c; sleep 60", directory=str(tree.root))
    begun(tree.place, job_id)
    time.sleep(0.3)
    assert tree.fetch(job_id).new == ("results/c",)


def test_links_and_odd_names_come_by_the_same_rule(tree: Tree) -> None:
    tree.run("mkdir -p data/d; echo 1 >data/old; ln -s data link; ln -s data/old one")
    odd = "new\nline |x|% *"
    (tree.root / "odd").mkdir()
    run = tree.run(f"echo 2 >'odd/{odd}'; echo 2 >'odd/-x'; echo 3 >data/d/new")
    assert set(tree.fetch(run, "odd").new) == {"odd/-x", "odd/new\\nline |x|% *"}
    assert not tree.fetch(run, "one").found
    tree.home()
    assert tree.fetch(run, "link").found
    run = tree.run("echo 4 >data/old")
    assert tree.fetch(run, "one").new == ("one",)


def test_the_whole_directory_brings_what_is_new(tree: Tree) -> None:
    tree.run("mkdir -p src .gridops; echo code >src/code.py; echo x >.gridops/marker")
    run = tree.run("echo 1 >out; echo 2 >src/out")
    tree.fetch(run, ".")
    assert tree.home() == {"out": "1\n", "src/out": "2\n"}
    assert not tree.fetch(tree.run("true"), ".").found


def test_patterns_elsewhere_on_the_node_obey_as_well(tree: Tree) -> None:
    logs = tree.place.home / "logs"
    logs.mkdir()
    try:
        tree.run(f"echo 1 >{logs}/one.txt")
        run = tree.run(f"echo 2 >{logs}/two.txt")
        assert tree.fetch(run, f"{logs}/*.txt").new == ("two.txt",)
        assert tree.fetch(run, "~/logs").new == ("logs/two.txt",)
    finally:
        shutil.rmtree(logs)


def test_a_run_that_the_node_does_not_know_is_said(tree: Tree) -> None:
    tree.run(MAKE)
    with pytest.raises(NodeError, match="has no record of when the run nosuch-1 began"):
        tree.fetch("nosuch-1")


def test_where_files_times_have_no_fractions_a_run_begins_in_a_second_of_its_own(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if tree.place.home != Path(os.environ["HOME"]):
        pytest.skip("its PATH is another")
    real = shutil.which("stat")
    tools = tmp_path / "coarse"
    tools.mkdir()
    cut = "s/\\(:[0-9][0-9]\\)\\.[0-9]*/\\1.000000000/g"
    (tools / "stat").write_text(f"#!/bin/sh\n{real} \"$@\" | sed '{cut}'\n")
    (tools / "stat").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    for _ in range(3):
        tree.run("mkdir -p results; echo 1 >results/a; echo 2 >results/b")
        run = tree.run("true")
        assert not tree.fetch(run).found
    run = tree.run("echo 3 >results/c")
    assert tree.fetch(run).new == ("results/c",)
