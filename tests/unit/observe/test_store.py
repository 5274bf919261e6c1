"""The store: what many processes add to it is all there, whatever becomes of them or of it."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gridops.errors import StoreError
from gridops.observe import sql, store
from gridops.observe.paths import store_path
from gridops.observe.rows import Batch, Ending, NodeRecord, RunRow, Sample
from gridops.observe.store import Store

TASKS = "grid_tasks_submitted_total"
NOW = time.time()


def counting(*tasks: str) -> Batch:
    batch = Batch()
    for task in tasks:
        batch.count(TASKS, task)
    return batch


def run_row(
    id: str = "r1", started: float = NOW, state: str = "finished", **more: object
) -> RunRow:
    known = {"seconds": 1.0, "status": 0, "command": "true", "error": "", **more}
    return RunRow(id, "run", "a", started, state=state, **known)  # type: ignore[arg-type]


def totals(path: Path | None = None) -> dict[str, float]:
    return {labels: value for family, labels, _, value in Store(path).totals() if family == TASKS}


def python(program: str, **options: object) -> subprocess.Popen[str]:
    """A process with an eye on the same store; it goes on when its stdin is closed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-c", program],
        text=True,
        **{**pipes, **options},  # type: ignore[call-overload]
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


# -- adding up -------------------------------------------------------------------------------------


def test_before_anybody_has_written_it_is_empty_and_reading_makes_nothing():
    assert Store().totals() == Store().runs() == Store().nodes() == []
    assert Store().samples(0) == {}
    assert (Store().active(), Store().revision()) == (0, 0)
    assert not store_path().parent.exists()


def test_what_is_written_adds_up():
    Store().write(counting("run", "run", "sync"))
    Store().write(counting("run"))
    assert totals() == {'["run"]': 3, '["sync"]': 1}


def test_only_the_user_can_read_it():
    Store().write(counting("run"))
    assert stat.S_IMODE(store_path().stat().st_mode) == 0o600
    assert stat.S_IMODE(store_path().parent.stat().st_mode) == 0o700
    with sqlite3.connect(store_path()) as db:
        db.execute("BEGIN IMMEDIATE")
        modes = {stat.S_IMODE(path.stat().st_mode) for path in store_path().parent.iterdir()}
    db.close()
    assert modes == {0o600}


ONE_OF_MANY = f"""
import sys
from gridops.observe import store
from gridops.observe.rows import Batch
batch = Batch()
for _ in range(20):
    batch.count({TASKS!r}, "run")
print("ready", flush=True)
sys.stdin.read()
store.Store().write(batch)
"""


def test_fifty_processes_that_end_at_once_lose_nothing():
    """The first of them make the file, too."""
    crowd = [python(ONE_OF_MANY) for _ in range(50)]
    for one in crowd:
        assert line_of(one) == "ready\n"
    for one in crowd:
        assert one.stdin
        one.stdin.close()
        one.stdin = None
    assert [one.communicate(timeout=60)[1] for one in crowd] == [""] * 50
    assert [one.returncode for one in crowd] == [0] * 50
    assert totals() == {'["run"]': 1000}


WRITES_FOR_EVER = f"""
from gridops.observe.rows import Batch
from gridops.observe.store import Store
while True:
    batch = Batch()
    for number in range(200):
        batch.count({TASKS!r}, f"task{{number}}")
    Store().write(batch)
    print(flush=True)
"""


@pytest.mark.parametrize("after", [1, 3, 7])
def test_kill_9_in_the_middle_leaves_whole_transactions(after):
    with python(WRITES_FOR_EVER, stdin=subprocess.DEVNULL) as one:
        for _ in range(after):
            assert line_of(one)
        time.sleep(0.001 * after)
        one.send_signal(signal.SIGKILL)
    found = totals()
    assert len(found) == 200
    assert len(set(found.values())) == 1  # all of a batch or nothing
    Store().write(counting("task0"))
    assert totals()['["task0"]'] == found['["task0"]'] + 1


# -- tasks under way -------------------------------------------------------------------------------

ACTIVE = """
import sys
from gridops.observe.rows import Batch
from gridops.observe.store import Store
batch = Batch()
batch.active = {1: {"run": 2}, 2: {"sync": 1}}
Store().write(batch)
print("written", flush=True)
sys.stdin.read()
batch.active = {1: {}, 2: {"sync": 0}}
Store().write(batch)
"""


def test_tasks_of_a_process_that_was_killed_do_not_count():
    first, second = python(ACTIVE), python(ACTIVE)
    for one in (first, second):
        assert line_of(one)
    assert Store().active() == 6
    second.kill()
    second.communicate()
    assert Store().active() == 3
    first.communicate()
    assert Store().active() == 0


# -- trouble ---------------------------------------------------------------------------------------


def test_a_store_that_somebody_keeps_locked_is_an_error_in_bounded_time():
    Store().write(counting("run"))
    other = sqlite3.connect(store_path(), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(StoreError, match="locked"):
        Store(patience=0.3).write(counting("run"))
    assert time.monotonic() - began < 2
    assert totals() == {'["run"]': 1}  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    Store().write(counting("run"))
    assert totals() == {'["run"]': 2}


def test_a_writer_waits_for_another_one():
    Store().write(counting("run"))
    program = f"""
import sqlite3, time
db = sqlite3.connect({str(store_path())!r}, isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(0.5)
"""
    with python(program) as other:
        assert line_of(other)
        Store().write(counting("run"))
        assert other.wait(10) == 0
    assert totals() == {'["run"]': 2}


def test_a_writer_tries_again_where_sqlite_itself_does_not_wait(monkeypatch):
    """As when another process is just closing the file, or bringing it into WAL mode."""
    tries: list[int] = []

    def refusing(db: sqlite3.Connection) -> None:
        tries.append(1)
        if len(tries) < 4:
            raise sqlite3.OperationalError("database is locked")
        sql.migrate(db)

    monkeypatch.setattr(store, "migrate", refusing)
    Store().write(counting("run"))
    assert len(tries) == 4
    assert totals() == {'["run"]': 1}


def test_a_full_disk_is_an_error_and_what_was_there_stays():
    Store().write(counting("run"))
    program = f"""
import resource, signal
from gridops.errors import StoreError
from gridops.observe.rows import Batch
from gridops.observe.store import Store
batch = Batch()
for number in range(3000):
    batch.count({TASKS!r}, f"task{{number}}")
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
try:
    Store().write(batch)
except StoreError as exc:
    print(exc)
"""
    assert resource.RLIMIT_FSIZE  # not every system has it
    said = python(program).communicate(timeout=60)[0]
    assert "metrics and history cannot be kept" in said
    assert totals() == {'["run"]': 1}


def test_a_place_that_cannot_be_is_an_error_that_says_what_to_do(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GRIDOPS_STATE_DIR", str(tmp_path / "file" / "state"))
    with pytest.raises(StoreError) as caught:
        Store().write(counting("run"))
    assert "GRIDOPS_STATE_DIR" in caught.value.hint
    assert "GRIDOPS_METRICS=off" in caught.value.hint


@pytest.mark.parametrize("damage", ["garbage", "truncated", "overwritten"])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(damage):
    batch = counting(*(f"task{number}" for number in range(500)))
    Store().write(batch)
    data = store_path().read_bytes()
    spoilt = {
        "garbage": b"no database at all, but longer than a header is" * 100,
        "truncated": data[: len(data) // 2],
        "overwritten": data[:4096] + os.urandom(len(data) - 4096),
    }
    store_path().write_bytes(spoilt[damage])
    said = Store().write(counting("run"))
    aside = store_path().with_name("gridops.db.damaged")
    assert str(aside) in said
    assert aside.read_bytes()[:100] == spoilt[damage][:100]
    assert totals() == {'["run"]': 1}
    assert Store().write(counting("run")) == ""


def test_an_empty_file_is_a_store_that_nobody_has_written_to():
    store_path().parent.mkdir(parents=True)
    store_path().touch()
    assert Store().totals() == []
    assert Store().write(counting("run")) == ""
    assert totals() == {'["run"]': 1}


def test_reading_a_damaged_file_is_an_error():
    store_path().parent.mkdir(parents=True)
    store_path().write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="not a database"):
        Store().totals()


def test_a_newer_gridops_store_is_left_alone():
    Store().write(counting("run"))
    with sqlite3.connect(store_path()) as db:
        db.execute(f"PRAGMA user_version = {sql.SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(StoreError, match="newer"):
        Store().write(counting("run"))
    assert totals() == {'["run"]': 1}


def test_an_older_store_is_brought_up_to_date_with_what_is_in_it(monkeypatch):
    Store().write(counting("run"))
    more = ("CREATE TABLE further (a)", "UPDATE totals SET value = value * 10")
    monkeypatch.setattr(sql, "MIGRATIONS", (*sql.MIGRATIONS, more))
    monkeypatch.setattr(sql, "SCHEMA_VERSION", 2)
    Store().write(counting("run"))
    assert totals() == {'["run"]': 11}
    with sqlite3.connect(store_path()) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert db.execute("SELECT count(*) FROM further").fetchone() == (0,)
    db.close()


# -- nodes -----------------------------------------------------------------------------------------


def seen(node: str, at: float, score: float | None = 1.0) -> Batch:
    batch = Batch()
    state = "unreachable" if score is None else "healthy"
    batch.nodes[node] = NodeRecord(node, at, state, score, {"cores": 4, "gpus": [{"index": 0}]})
    batch.samples[int(at // 60), node] = Sample(node, at, state, score)
    return batch


def test_samples_come_by_node_oldest_first_one_a_minute():
    minute = NOW // 60 * 60
    for at, score in ((minute - 120, 1.0), (minute - 60, 2.0), (minute - 59, 3.0)):
        Store().write(seen("a", at, score))
    Store().write(seen("b", minute, None))
    found = Store().samples(minute - 3600)
    assert [(one.at - minute, one.score) for one in found["a"]] == [(-120, 1.0), (-59, 3.0)]
    assert [(one.state, one.score) for one in found["b"]] == [("unreachable", None)]
    assert list(Store().samples(minute - 3600, "b")) == ["b"]
    assert [one.score for one in Store().samples(minute - 90)["a"]] == [3.0]


def test_the_newest_of_a_node_counts_whoever_writes_last():
    Store().write(seen("a", NOW, 5.0))
    Store().write(seen("a", NOW - 10, 7.0))
    (record,) = Store().node_records()
    assert (record.score, record.at) == (5.0, NOW)
    assert record.figures == {"cores": 4, "gpus": [{"index": 0}]}
    (sample,) = Store().nodes()
    assert (sample.node, sample.score, sample.cores) == ("a", 5.0, 4)


def test_a_node_that_was_not_seen_for_a_day_is_not_told_of():
    Store().write(seen("old", NOW - 2 * 86400))
    Store().write(seen("new", NOW))
    assert [record.node for record in Store().node_records()] == ["new"]


# -- runs ------------------------------------------------------------------------------------------


def written(*rows: RunRow) -> None:
    batch = Batch()
    batch.runs = {row.id: row for row in rows}
    Store().write(batch)


def test_runs_come_newest_first_and_as_many_as_are_asked_for():
    written(*(run_row(f"r{number}", NOW + number) for number in range(5)))
    assert [row.id for row in Store().runs(limit=3)] == ["r4", "r3", "r2"]
    assert [row.id for row in Store().runs(since=NOW + 3)] == ["r4", "r3"]


def test_a_run_is_what_was_written_of_it_last():
    written(run_row(state="running", status=None, seconds=None))
    assert [row.state for row in Store().runs()] == ["running"]
    written(run_row(status=3))
    assert Store().runs() == [run_row(status=3)]


def test_a_running_run_whose_client_died_is_unknown():
    program = """
import time
from gridops.observe.rows import Batch
from gridops.observe.rows import RunRow
from gridops.observe.store import Store
batch = Batch()
batch.runs["r1"] = RunRow("r1", "run", "a", time.time(), None, "running", None, "true")
Store().write(batch)
"""
    python(program).communicate(timeout=60)
    assert [row.state for row in Store().runs()] == ["unknown"]


@pytest.mark.parametrize("state", ["detached", "running", "failed"])
def test_the_end_of_a_run_may_be_seen_later_by_another_process(state):
    written(run_row(state=state, status=None, seconds=None))
    batch = Batch()
    batch.endings = {"r1": Ending("finished", 7, 12.5), "never-heard-of": Ending("failed", 1, None)}
    Store().write(batch)
    assert [(row.state, row.status, row.seconds) for row in Store().runs()] == [
        ("finished", 7, 12.5)
    ]


def test_an_end_that_is_known_stays():
    written(run_row(status=3))
    batch = Batch()
    batch.endings = {"r1": Ending("failed", 125, None)}
    Store().write(batch)
    assert Store().runs() == [run_row(status=3)]


# -- bounds ----------------------------------------------------------------------------------------


@pytest.fixture
def always_pruning(monkeypatch):
    monkeypatch.setattr(sql, "PRUNE_INTERVAL", -1.0)


@pytest.mark.usefixtures("always_pruning")
def test_what_is_old_is_forgotten():
    batch = seen("a", NOW - 8 * 86400)
    batch.samples.update(seen("a", NOW - 6 * 86400).samples)
    batch.runs = {
        "old": run_row("old", NOW - 91 * 86400),
        "new": run_row("new", NOW - 89 * 86400),
    }
    Store().write(batch)
    assert len(Store().samples(0)["a"]) == 1
    assert [row.id for row in Store().runs()] == ["new"]


@pytest.mark.usefixtures("always_pruning")
def test_there_are_never_more_than_so_many(monkeypatch):
    monkeypatch.setattr(sql, "MAX_STORED_SAMPLES", 10)
    monkeypatch.setattr(sql, "MAX_STORED_RUNS", 5)
    batch = Batch()
    for number in range(30):
        at = NOW - 60 * number
        batch.samples[int(at // 60), "a"] = Sample("a", at, "healthy")
        batch.runs[f"r{number}"] = run_row(f"r{number}", at)
    Store().write(batch)
    assert len(Store().samples(0)["a"]) == 10
    assert [row.id for row in Store().runs()] == ["r0", "r1", "r2", "r3", "r4"]


def test_pruning_is_done_once_in_a_while(monkeypatch):
    Store().write(counting("run"))
    monkeypatch.setattr(sql, "MAX_STORED_RUNS", 1)
    written(run_row("r1"), run_row("r2", NOW + 1))
    assert len(Store().runs()) == 2
    with sqlite3.connect(store_path()) as db:
        db.execute("UPDATE meta SET value = value - ? WHERE key = 'pruned'", (sql.PRUNE_INTERVAL,))
    db.close()
    Store().write(counting("run"))
    assert len(Store().runs()) == 1


def test_the_revision_changes_with_what_adds_up_alone():
    Store().write(counting("run"))
    first = Store().revision()
    Store().write(seen("a", NOW))
    assert Store().revision() == first
    Store().write(counting("run"))
    assert Store().revision() == first + 1


def test_the_store_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("GRIDOPS_STATE_DIR", str(tmp_path / "elsewhere"))
    Store().write(counting("run"))
    assert (tmp_path / "elsewhere" / "gridops.db").exists()
    assert store.Store().path == tmp_path / "elsewhere" / "gridops.db"
