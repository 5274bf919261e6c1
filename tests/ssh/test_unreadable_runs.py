"""`jobs` and `jobs.*` where a node's record of one run is not what it should be."""

from __future__ import annotations

import shutil

import pytest
from support.cli import Inventory, Tell
from support.jobs import Kept, Place
from support.nodes import node_of, settings_of

from gridops.reach import link_to


@pytest.fixture
def runs(inventory: Inventory) -> list[str]:
    """Three ended runs, two on node1, the first of which has a spoilt record; and one on node2."""
    ids, sandbox = [], inventory.sandbox
    for name in ("node1", "node1", "node2"):
        link = link_to(node_of(sandbox, name), settings_of(sandbox))
        place = Place(link, sandbox.node(name).home)
        ids.append(Kept().run(place, "echo hi").job.id)
    run_file = sandbox.node("node1").home / ".gridops/jobs" / ids[0] / "spec/run"
    run_file.write_bytes(run_file.read_bytes().replace(b'"user": "', b'"user": 5, "x": "'))
    yield ids
    for name in ("node1", "node2"):
        shutil.rmtree(sandbox.node(name).home / ".gridops/jobs")


def test_one_bad_record_is_one_row_and_one_entry_with_its_reason(
    tell: Tell, runs: list[str]
) -> None:
    bad, good, other = runs
    done = tell("jobs")
    assert done.status == 0, done
    lines = {line.split()[0]: line for line in done.out.splitlines()}
    assert lines[bad].split()[1:3] == ["node1", "unreadable"]
    assert "unreadable record: its run file: user is 5, not a text" in lines[bad]
    assert "finished" in lines[good]
    assert "finished" in lines[other]
    found = {job["id"]: job for job in tell("jobs", "--format", "json").document["jobs"]}
    assert (found[bad]["node"], found[bad]["state"]) == ("node1", "unreadable")
    assert found[bad]["error"].startswith("its run file: user is 5")
    assert (found[good]["error"], found[other]["state"]) == (None, "finished")
    assert [
        job["id"] for job in tell("jobs", "--state=unreadable", "--format=json").document["jobs"]
    ] == [bad]


@pytest.mark.parametrize(
    "words", [("show",), ("logs",), ("logs", "--follow"), ("wait",), ("fetch", "--pattern=x")]
)
def test_what_is_asked_of_it_ends_with_one_line(
    tell: Tell, runs: list[str], words: tuple[str, ...]
) -> None:
    verb, *flags = words
    done = tell(f"jobs.{verb}", runs[0], *flags)
    assert done.status == 125, done
    assert done.complaint == (
        f"node1: the record of the run {runs[0]} cannot be read: its run file: user is 5, not a"
        f" text of up to 1024 characters (see ~/.gridops/jobs/{runs[0]} there)"
    )
    assert tell("jobs.show", runs[1]).status == 0
