"""A node's record of a run that is not what it should be: one row, and no other run is affected."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.jobs import Kept, Place, shell_path, start

from gridops.errors import ConnectionLost, UnreadableAnswer, UnreadableRecord
from gridops.jobs import client
from gridops.jobs.listing import filter_jobs
from gridops.jobs.records import MAX_RUNS, Records, jobs_from
from gridops.model import Job, Leftover, Node
from gridops.reach.local import LocalLink
from gridops.render.jobs import job_record, row

RUN, OTHER = "20261124-100000-000aaaaa", "20261124-110000-000bbbbb"
ABOUT = {
    "id": RUN,
    "node": "n1",
    "command": "python train.py",
    "user": "ada@laptop",
    "cwd": "/home/ada/gridops/project",
    "tree": "/home/ada/gridops/project",
    "commit": "",
    "why": "",
    "timeout": None,
    "gpus": 0,
    "isolate": False,
}


def told(about: object = ABOUT, job_id: str = RUN, **links: str) -> list[str]:
    """The lines that tell of an ended run; `about` as JSON, unless it is text."""
    records = {"sup": "12.345.abcd1234.box", "child": "13.346.abcd1234", "exit": "0.0.50.3.0.exit"}
    text = about if isinstance(about, str) else json.dumps(about)
    return [
        *(
            f"file 1795534212 20 '{job_id}/{name}' -> '{to}'"
            for name, to in {**records, **links}.items()
        ),
        f"file 1795534212 3 '{job_id}/out'",
        f"file 1795534212 0 '{job_id}/err'",
        f"# ==> {job_id}/spec/run <==",
        f"# # {text}",
    ]


GOOD = told({**ABOUT, "id": OTHER}, OTHER)


def jobs(lines: list[str]) -> dict[str, Job]:
    return jobs_from(lines, "n1")


BAD_RUN_FILES: dict[str, object] = {
    "a number for a text": {**ABOUT, "command": 5},
    "a text for a number": {**ABOUT, "gpus": "two"},
    "a text for a time": {**ABOUT, "timeout": "soon"},
    "a text for a flag": {**ABOUT, "isolate": "yes"},
    "a list for a text": {**ABOUT, "user": ["ada"]},
    "a missing id": {**ABOUT, "id": None},
    "the id of another run": {**ABOUT, "id": OTHER},
    "a number for the id": {**ABOUT, "id": 7},
    "not JSON": '{"id": "' + RUN + '", ',
    "JSON, but no object": "{}]",
    "a line of the protocol": "done",
    "5000 digits": json.dumps(ABOUT)[:-1] + ', "more": ' + "9" * 5000 + "}",
    "5000 digits for a number": json.dumps({**ABOUT, "gpus": "N"}).replace('"N"', "9" * 5000),
    "deep nesting": json.dumps({**ABOUT, "why": "N"}).replace('"N"', "[" * 100_000),
    "NaN": json.dumps({**ABOUT, "timeout": float("nan")}),
    "an infinite number": json.dumps({**ABOUT, "timeout": "N"}).replace('"N"', "1e999"),
    "a huge number": {**ABOUT, "gpus": 1 << 70},
    "a negative number": {**ABOUT, "gpus": -1},
    "a NUL": {**ABOUT, "cwd": "/home\0"},
}


@pytest.mark.parametrize("about", BAD_RUN_FILES.values(), ids=BAD_RUN_FILES)
def test_a_run_file_that_is_wrong_is_one_unreadable_run(about: object) -> None:
    found = jobs([*told(about), *GOOD])
    assert [(job.id, job.state) for job in found.values()] == [
        (RUN, "unreadable"),
        (OTHER, "finished"),
    ]
    assert found[RUN].error
    assert "\n" not in found[RUN].error
    assert found[OTHER].command == "python train.py"


@pytest.mark.parametrize(
    ("links", "words"),
    [
        ({"exit": "odd"}, "its end on record is 'odd'"),
        ({"exit": "0.0.50.3.0"}, "its end on record is"),
        ({"exit": "0.0.50.3.zero.exit"}, "its end on record is"),
        ({"exit": f"{'9' * 4000}.0.50.3.0.exit"}, "its end on record is '999"),
        ({"exit": "256.0.50.3.0.exit"}, "its end on record is"),
        ({"exit": "0.0.50.3.0.\x1b[2J"}, "its end on record is"),
        ({"exit": "٣.0.50.3.0.exit"}, "its end on record is"),
    ],
)
def test_an_end_on_record_that_is_wrong_is_one_unreadable_run(
    links: dict[str, str], words: str
) -> None:
    found = jobs([*told(**links), *GOOD])
    assert (found[RUN].state, found[OTHER].state) == ("unreadable", "finished")
    assert words in found[RUN].error


def test_what_a_run_has_left_is_read_and_a_process_that_is_none_is_refused() -> None:
    found = jobs([f"left {RUN} 4711:root:sleep 4712:ada.b:a:b", *told(), *GOOD])
    assert found[RUN].left == (Leftover(4711, "root", "sleep"), Leftover(4712, "ada.b", "a:b"))
    assert found[OTHER].left == ()
    for odd in ("x:root:sleep", "4711", "4711:ro\x1b[2Jot:sleep", f"{'9' * 4000}:root:sleep"):
        found = jobs([f"left {RUN} {odd}", *told(), *GOOD])
        assert (found[RUN].state, found[OTHER].state) == ("unreadable", "finished"), odd
        assert "a process that it left is" in found[RUN].error
    many = " ".join(f"{number}:root:x" for number in range(1000))
    assert len(jobs([f"left {RUN} {many}", *told()])[RUN].left) == 10


def test_records_that_contradict_each_other_are_unreadable() -> None:
    plain_file = [line for line in told() if "/exit'" not in line]
    plain_file.append(f"file 1795534212 20 '{RUN}/exit'")
    no_run_file = told()[:-2]
    empty = [*told()[:-1], ""]
    claimed_by_nobody = [f"state {RUN} absent", *told()]
    odd_claim = [f"state {RUN} elsewhere", *told(sup="odd")]
    for lines in (plain_file, no_run_file, empty, claimed_by_nobody, odd_claim):
        found = jobs([*lines, *GOOD])
        assert (found[RUN].state, found[OTHER].state) == ("unreadable", "finished"), lines


def test_a_run_that_another_node_of_the_home_has_and_what_nobody_made_are_no_runs() -> None:
    assert list(jobs([f"state {RUN} elsewhere", *told(), *GOOD])) == [OTHER]
    assert list(jobs(["state x absent", *told(job_id="no id"), *told(job_id="ü"), *GOOD])) == [
        OTHER
    ]


def test_a_time_that_no_clock_tells_is_not_known() -> None:
    for when in ("-5", "9" * 19):
        found = jobs([line.replace("1795534212", when) for line in told()])[RUN]
        assert (found.state, found.submitted, found.started, found.ended) == (
            *("finished", None),
            *(None, None),
        )
        assert row(found, 0.0)[3] == "-"


def test_an_unreadable_run_has_a_row_and_a_record_with_the_reason() -> None:
    found = jobs(told({**ABOUT, "command": 5}))[RUN]
    assert row(found, 0.0)[1:3] == ("n1", "unreadable")
    assert row(found, 0.0)[-1] == (
        "unreadable record: its run file: command is 5, not a text of up to 65536 characters"
    )
    record = job_record(found, 0.0)
    assert (record["state"], record["exit_status"]) == ("unreadable", None)
    assert record["error"] == found.error
    assert filter_jobs([found], ended=0) == ((found,), 0)
    with pytest.raises(UnreadableRecord, match=rf"n1: the record of the run {RUN} cannot be read"):
        client.readable(found)


def test_a_listing_of_too_many_runs_is_refused() -> None:
    records = Records("n1")
    for number in range(MAX_RUNS):
        records.hear(f"state r{number} running")
    with pytest.raises(UnreadableAnswer, match=f"over {MAX_RUNS} runs"):
        records.hear("state one-more running")


# -- real nodes ------------------------------------------------------------------------------------


@pytest.fixture(params=["dash", "bash", "busybox"])
def place(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("PATH", shell_path(request.param, home))
    return Place(LocalLink(Node("here", "localhost", connection="local")), home)


Spoil = Callable[[Path], None]


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _link(path: Path, to: str) -> None:
    path.unlink()
    path.symlink_to(to)


SPOILT: dict[str, Spoil] = {
    "a number for a text": lambda job: _write(
        job / "spec/run", (job / "spec/run").read_bytes().replace(b'"command": "', b'"command": 5')
    ),
    "nothing in it": lambda job: _write(job / "spec/run", b""),
    "no end of line": lambda job: _write(job / "spec/run", b'# {"id": "x"}'),
    "protocol": lambda job: _write(job / "spec/run", b"done\n"),
    "a name of another": lambda job: _write(job / "spec/run", b"==> other/spec/run <==\n"),
    "an end of line in a link": lambda job: _link(job / "exit", "odd\ndone"),
    "bytes": lambda job: _write(job / "spec/run", bytes(range(256)) * 100),
    "a long line": lambda job: _write(job / "spec/run", b"# {" + b"x" * 200_000),
    "a directory": lambda job: ((job / "spec/run").unlink(), (job / "spec/run").mkdir())[0],
    "an odd end": lambda job: _link(job / "exit", "odd"),
    "an end of 4000 digits": lambda job: _link(job / "exit", f"0.0.1.{'9' * 4000}.0.exit"),
    "a file for an end": lambda job: ((job / "exit").unlink(), (job / "exit").touch())[0],
    "an odd claim": lambda job: (_link(job / "sup", "odd"), (job / "exit").unlink())[0],
}


@pytest.mark.skipif(sys.platform != "linux", reason="runs need Linux")
def test_a_spoilt_record_hides_no_other_run(place: Place) -> None:
    ids = {}
    for kind in SPOILT:
        ids[kind] = Kept().run(place, "echo hi").job.id
    last = Kept().run(place, "echo hi").job.id
    waiting = start(place, "sleep 300")
    for kind, spoil in SPOILT.items():
        spoil(place.job(ids[kind]))
    try:
        found = {job.id: job for job in client.list_jobs(place.link)}
        assert {kind: found[job_id].state for kind, job_id in ids.items()} == dict.fromkeys(
            SPOILT, "unreadable"
        )
        assert (found[last].state, found[last].command) == ("finished", "echo hi")
        assert found[waiting].active
        for kind, job_id in ids.items():
            one = client.status(place.link, [job_id])[job_id]
            assert one.state == "unreadable", kind
            for ask in (
                lambda job_id=job_id: client.show(place.link, job_id),
                lambda job_id=job_id: Kept().follow(place, job_id),
            ):
                with pytest.raises(UnreadableRecord):
                    ask()
    finally:
        client.kill(place.link, waiting, grace=0)


@pytest.mark.skipif(sys.platform != "linux", reason="runs need Linux")
def test_an_answer_that_is_cut_short_is_asked_for_again(place: Place) -> None:
    job_id = Kept().run(place, "echo hi").job.id
    script = next((place.home / ".gridops" / "lib").glob("*.sh"))
    whole, cut = script.with_suffix(".whole"), place.home / "cut"
    script.rename(whole)
    script.write_text(
        f'[ ! -e {cut} ] || {{ rm {cut}; echo "$3"; echo "state {OTHER} running"; exit 2; }}\n'
        f'exec sh {whole} "$@"\n'
    )
    cut.touch()
    assert [job.id for job in client.list_jobs(place.link)] == [job_id]
    assert not cut.exists()
    cut.touch()
    assert client.status(place.link, [job_id])[job_id].status == 0
    script.write_text('echo "$3"\n')
    with pytest.raises(ConnectionLost, match="cut short"):
        client.list_jobs(place.link)
