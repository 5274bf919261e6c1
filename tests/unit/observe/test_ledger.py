"""Events become metrics and history."""

from __future__ import annotations

import os
import threading
import time

import pytest

from gridops.errors import NoNode, RunTimeout
from gridops.grid.base import report_end, task_scope
from gridops.model import Job
from gridops.observe import events, ledger
from gridops.observe.events import emit
from gridops.observe.ledger import Ledger
from gridops.observe.metrics import Metrics
from gridops.observe.recorder import Recorder
from gridops.observe.store import Store


@pytest.fixture
def recorder(monkeypatch):
    """One that listens, with metrics of its own behind it."""
    metrics = Metrics()
    monkeypatch.setattr(ledger, "_of_process", [Ledger(metrics)])
    with events.listening(made := Recorder(delay=60)):
        yield made
    made.close()
    metrics.flush()  # nothing kept for later is stored in another test


@pytest.fixture
def runs(recorder):
    def read():
        assert recorder.close() == ""
        return Store().runs()

    return read


@pytest.fixture
def totals(recorder):
    def read() -> dict[tuple[str, ...], float]:
        assert recorder.close() == ""
        return {
            (family.removeprefix("grid_"), labels, part): value
            for family, labels, part, value in Store().totals()
        }

    return read


def start(run_id: str = "r1", command: str = "true", node: str = "a") -> None:
    with events.bound(run_id=run_id):
        emit(events.RUN_STARTED, node=node, cwd="/", command=command)


def finish(run_id: str = "r1", status: int = 0) -> None:
    with events.bound(run_id=run_id):
        emit(events.RUN_FINISHED, node="a", status=status, seconds=1.5)


def fail(task: str, cause: BaseException, run_id: str = "") -> None:
    with task_scope(task):
        if run_id:
            start(run_id)
        raise cause


# -- runs --------------------------------------------------------------------------------------


def test_a_run_is_in_the_history_with_all_that_is_known_of_it(runs):
    before = time.time()
    with task_scope("run") as course:
        start(command="python train.py")
        finish(status=3)
        course.ok = False
    (row,) = runs()
    assert (row.id, row.task, row.node, row.command) == ("r1", "run", "a", "python train.py")
    assert (row.state, row.status, row.seconds, row.error) == ("finished", 3, 1.5, "")
    assert before <= row.started <= time.time()


def test_it_is_there_while_it_runs(recorder, runs):
    with task_scope("run"):
        start()
        recorder.flush()
        assert [row.state for row in Store().runs()] == ["running"]
        assert Store().active() == 1
        finish()
    assert [row.state for row in runs()] == ["finished"]
    assert Store().active() == 0


def test_one_that_was_left_to_its_node_is_detached(runs):
    with task_scope("run"):
        start()
    assert [row.state for row in runs()] == ["detached"]


def test_one_that_is_left_while_it_is_followed_is_detached(runs):
    with task_scope("run"):
        start()
        emit(events.RUN_LEFT, node="a", id="r1", reason="SIGHUP")
    assert [row.state for row in runs()] == ["detached"]


def test_one_that_waits_for_a_slot_is_there_and_then_where_it_began(recorder, runs):
    with task_scope("run"):
        emit(events.RUN_QUEUED, nodes=("a", "b"), id="r1", seconds=60)
        recorder.flush()
        assert [(row.id, row.node, row.state) for row in Store().runs()] == [
            ("r1", None, "running")
        ]
        start("r1", node="b")
        finish("r1")
    assert [(row.id, row.node, row.state) for row in runs()] == [("r1", "b", "finished")]


def test_one_that_is_handed_over_to_wait_at_its_node_is_detached(runs):
    with task_scope("run"):
        emit(events.RUN_QUEUED, nodes=("a",), id="r1", seconds=60)
    assert [(row.node, row.state) for row in runs()] == [("a", "detached")]


def test_one_that_was_stopped_in_line_has_failed(runs):
    with task_scope("run") as course:
        emit(events.RUN_QUEUED, nodes=("a", "b"), id="r1", seconds=60)
        course.ok = False
    (row,) = runs()
    assert (row.state, row.status, row.error) == ("failed", None, "stopped before it began")


def test_one_that_failed_says_why(runs):
    with pytest.raises(RunTimeout):
        fail("run", RunTimeout("the command was ended after 5 s", node="a"), "r1")
    (row,) = runs()
    assert (row.state, row.status) == ("failed", 124)
    assert row.error == "a: the command was ended after 5 s"


def test_one_that_no_node_took_is_there_without_an_id(runs):
    for _ in range(2):
        with pytest.raises(NoNode):
            fail("run", NoNode("none of the 3 selected nodes can be reached"))
    first, second = runs()
    assert (first.id, first.node, first.state, first.status) == ("", None, "failed", 125)
    assert first.error == "none of the 3 selected nodes can be reached"
    assert second.started <= first.started


def test_ctrl_c_is_not_an_error_of_ours(runs):
    with pytest.raises(KeyboardInterrupt):
        fail("run", KeyboardInterrupt(), "r1")
    assert [(row.status, row.error) for row in runs()] == [(130, "interrupted")]


def test_a_task_that_fails_before_it_runs_anything_is_no_run(runs):
    with pytest.raises(NoNode):
        fail("sync", NoNode("none"))
    assert runs() == []


def test_runs_of_several_threads_do_not_mix(runs):
    def other() -> None:
        with pytest.raises(NoNode):
            fail("run", NoNode("gone"), "r2")

    with task_scope("run"):
        start("r1")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        finish("r1")
    assert {row.id: row.state for row in runs()} == {"r1": "finished", "r2": "failed"}


def test_a_lost_run_that_begins_again_is_two(runs):
    with task_scope("run"):
        start("r1")
        emit(events.RUN_RESTARTED, node="a", id="r1", error="the node rebooted")
        start("r2", node="b")
        finish("r2")
    assert {row.id: (row.state, row.error) for row in runs()} == {
        "r1": ("failed", "the node rebooted"),
        "r2": ("finished", ""),
    }


def test_how_a_detached_run_ended_is_entered_when_somebody_sees_it(recorder, runs):
    with task_scope("run"):
        start("r1")
    recorder.flush()
    job = Job("r1", "a", "finished", began=True, status=4, seconds=60.0)
    assert report_end(job) is job
    (row,) = runs()
    assert (row.state, row.status, row.seconds) == ("finished", 4, 60.0)


@pytest.mark.parametrize("state", ["queued", "running", "refused", "unknown"])
def test_a_run_that_has_not_ended_has_no_end(state, runs):
    with task_scope("run"):
        start("r1")
    report_end(Job("r1", "a", state, began=state == "running"))
    assert [row.state for row in runs()] == ["detached"]


def test_only_the_beginning_of_a_command_is_kept_whatever_it_holds(runs):
    with task_scope("run"):
        start(command="\udcff\n'" + "x" * 1000)
    (row,) = runs()
    assert len(row.command) < 250
    assert row.command.startswith("\\udcff\n'xxx")


# -- metrics -----------------------------------------------------------------------------------


def test_tasks_are_counted_by_how_they_ended(totals):
    with task_scope("run"):
        pass
    with task_scope("run") as course:
        course.ok = False
    with pytest.raises(NoNode):
        fail("sync", NoNode("none"))
    found = totals()
    assert found["tasks_submitted_total", '["run"]', ""] == 2
    assert found["tasks_completed_total", '["run", "success"]', ""] == 1
    assert found["tasks_completed_total", '["run", "failure"]', ""] == 1
    assert found["tasks_completed_total", '["sync", "failure"]', ""] == 1
    assert found["task_duration_seconds", '["run"]', "0.1"] == 2
    newest = {(family, labels) for family, labels, _ in Store().stamps()}
    assert ("grid_task_last_attempt_timestamp_seconds", '["sync"]') in newest
    assert ("grid_task_last_success_timestamp_seconds", '["sync"]') not in newest
    assert ("grid_task_last_success_timestamp_seconds", '["run"]') in newest


def test_syncs_selections_and_retries_are_counted(totals):
    emit(events.SYNC_FINISHED, node="a", status="failure", files=0, bytes=0, seconds=0.7)
    emit(events.NODES_RANKED, seconds=0.3, candidates=2, silent=0)
    emit(
        events.RETRY, what="reaching a", attempt=1, delay=1.0, error="...", reason="ConnectRefused"
    )
    found = totals()
    assert found["sync_operations_total", '["a", "failure"]', ""] == 1
    assert found["sync_duration_seconds", '["a"]', "1"] == 1
    assert found["node_selection_seconds", "[]", "0.5"] == 1
    assert found["retries_total", '["ConnectRefused"]', ""] == 1


def test_a_probed_node_is_remembered_with_its_figures(recorder):
    emit(
        events.NODE_PROBED, node="a", state="healthy", score=5.0, seconds=0.1, error=None,
        figures={"cores": 4, "load1": 0.5},
    )  # fmt: skip
    recorder.close()
    (sample,) = Store().samples(0)["a"]
    assert (sample.score, sample.cores, sample.load1) == (5.0, 4, 0.5)


# -- the recorder ------------------------------------------------------------------------------


def test_a_long_task_is_stored_while_it_runs(monkeypatch):
    monkeypatch.setattr(ledger, "_of_process", [Ledger(Metrics())])
    recorder = Recorder(delay=0.05)
    with events.listening(recorder), task_scope("run"):
        start()
        end = time.monotonic() + 10
        while not Store().runs() and time.monotonic() < end:
            time.sleep(0.01)
        assert [row.state for row in Store().runs()] == ["running"]
    recorder.close()


def test_what_is_being_stored_when_the_task_ends_is_waited_for(recorder, monkeypatch):
    stored: list[str] = []

    def slow(heard: object) -> str:
        time.sleep(0.3)
        stored.append("all of it")
        return ""

    monkeypatch.setattr(ledger, "enter", slow)
    emit(events.TASK_STARTED, task="run")
    thread = threading.Thread(target=recorder.flush)
    thread.start()
    time.sleep(0.05)
    recorder.close()
    assert stored == ["all of it"]
    thread.join()


def test_nothing_is_stored_where_nothing_happened(recorder):
    emit(events.SYNC_PROGRESS, node="a", percent=5, bytes=7)
    assert recorder.close() == ""
    assert not Store().path.exists()


def test_a_store_that_cannot_be_is_told_once(recorder, monkeypatch, tmp_path):
    monkeypatch.setenv("GRIDOPS_STATE_DIR", os.devnull)
    with task_scope("run"):
        pass
    recorder.flush()
    with task_scope("run"):
        pass
    recorder.flush()
    assert "cannot be kept" in recorder.close()
    assert recorder.close() == ""
    monkeypatch.setenv("GRIDOPS_STATE_DIR", str(tmp_path))


def test_an_event_that_nobody_understands_harms_no_other(recorder):
    emit(events.TASK_FINISHED, task="run")  # without its other fields
    with task_scope("run"):
        pass
    assert "KeyError" in recorder.close()
    assert len(Store().totals()) > 2
