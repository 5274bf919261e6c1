"""Events to metrics and history."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gridops.observe import events
from gridops.observe.metrics import Metrics, get_metrics
from gridops.observe.rows import COMMAND_LIMIT, Ending, NodeRecord, RunRow, RunState, plain

_lock = threading.Lock()
_numbers = itertools.count(1)


class _Runs:
    """Runs of one task, by their key in the history."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.rows: dict[str, RunRow] = {}


class Ledger:
    """Writer of events into `metrics`; remembers the runs that have not ended."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._runs: dict[int, _Runs] = {}  # by the thread of their task

    def enter(self, event: events.Event, thread: int) -> None:
        """Enter an event from `thread`, where it was emitted; a task's own events come in one."""
        entry = _ENTRIES.get(event.name)
        if entry:
            entry(self, event, thread)

    # -- tasks -------------------------------------------------------------------------------

    def task_started(self, event: events.Event, thread: int) -> None:
        self.metrics.record_task(event.fields["task"], at=event.at)
        self._runs[thread] = _Runs(event.at)

    def task_finished(self, event: events.Event, thread: int) -> None:
        known = event.fields
        self.metrics.record_task_complete(
            known["task"], known["status"], known["seconds"], at=event.at
        )
        runs = self._runs.pop(thread, None)
        if runs is None:
            return
        failed = known.get("error") is not None
        if known["task"] == "run" and failed and not runs.rows:
            row = RunRow("", "run", None, runs.began, None, "failed", None, "")
            self._put(runs, f"none-{os.getpid()}-{runs.began}-{next(_numbers)}", row)
        for key, row in runs.rows.items():
            if row.state == "running" or not row.id:
                self._put(runs, key, _end_unseen(row, known))

    # -- runs --------------------------------------------------------------------------------

    def run_queued(self, event: events.Event, thread: int) -> None:
        nodes = event.fields["nodes"]
        self._begin(event, thread, nodes[0] if len(nodes) == 1 else None)

    def run_started(self, event: events.Event, thread: int) -> None:
        self._begin(event, thread, event.fields["node"])

    def _begin(self, event: events.Event, thread: int, node: str | None) -> None:
        run_id = _run_id(event)
        row = RunRow(
            run_id,
            str(event.context.get("task", "run")),
            node,
            event.at,
            None,
            "running",
            None,
            plain(str(event.fields.get("command") or "")[:COMMAND_LIMIT]),
        )
        key = run_id or f"none-{os.getpid()}-{event.at}-{next(_numbers)}"
        self._put(self._runs.setdefault(thread, _Runs(event.at)), key, row)

    def run_finished(self, event: events.Event, thread: int) -> None:
        self._end(event, "finished", event.fields["status"], event.fields["seconds"])

    def run_left(self, event: events.Event, thread: int) -> None:
        self._end(event, "detached", None, None)

    def run_restarted(self, event: events.Event, thread: int) -> None:
        self._end(event, "failed", None, None, plain(str(event.fields.get("error", ""))))

    def _end(
        self,
        event: events.Event,
        state: RunState,
        status: int | None,
        seconds: float | None,
        error: str = "",
    ) -> None:
        key = _run_id(event)
        runs = next((runs for runs in self._runs.values() if key in runs.rows), None)
        if runs is None:
            self.metrics.record_ending(key, Ending(state, status, seconds, error))
            return
        row = runs.rows[key]
        ended = row._replace(state=state, status=status, seconds=seconds, error=error)
        self._put(runs, key, ended)

    def _put(self, runs: _Runs, key: str, row: RunRow) -> None:
        runs.rows[key] = row
        self.metrics.record_run(key, row)

    def job_ended(self, event: events.Event, thread: int) -> None:
        known = event.fields
        state: RunState = "finished" if known.get("status") is not None else "failed"
        ending = Ending(
            state, known.get("status"), known.get("seconds"), plain(str(known.get("error") or ""))
        )
        self.metrics.record_ending(known["id"], ending)

    # -- the rest ----------------------------------------------------------------------------

    def node_probed(self, event: events.Event, thread: int) -> None:
        known = event.fields
        figures = known.get("figures") or {}
        self.metrics.record_node(
            NodeRecord(known["node"], event.at, known["state"], known["score"], figures)
        )

    def nodes_ranked(self, event: events.Event, thread: int) -> None:
        self.metrics.record_selection(event.fields["seconds"])

    def sync_finished(self, event: events.Event, thread: int) -> None:
        known = event.fields
        self.metrics.record_sync(known["node"], known["status"], duration=known["seconds"])

    def retry(self, event: events.Event, thread: int) -> None:
        self.metrics.record_retry(str(event.fields.get("reason", "unknown")))


def _run_id(event: events.Event) -> str:
    return str(event.fields.get("id") or event.context.get("run_id") or "")


def _end_unseen(row: RunRow, known: Mapping[str, Any]) -> RunRow:
    """The row of a run that ended unseen: its task has ended as `known` says."""
    if known.get("error") is not None:
        error = plain(str(known["error"]))
        return row._replace(state="failed", status=known.get("exit_status"), error=error)
    if known["status"] == "success":
        return row._replace(state="detached")
    return row._replace(state="failed", error="stopped before it began")


_ENTRIES: Mapping[str, Callable[[Ledger, events.Event, int], None]] = {
    events.TASK_STARTED: Ledger.task_started,
    events.TASK_FINISHED: Ledger.task_finished,
    events.RUN_QUEUED: Ledger.run_queued,
    events.RUN_STARTED: Ledger.run_started,
    events.RUN_FINISHED: Ledger.run_finished,
    events.RUN_LEFT: Ledger.run_left,
    events.RUN_RESTARTED: Ledger.run_restarted,
    events.JOB_ENDED: Ledger.job_ended,
    events.NODE_PROBED: Ledger.node_probed,
    events.NODES_RANKED: Ledger.nodes_ranked,
    events.SYNC_FINISHED: Ledger.sync_finished,
    events.RETRY: Ledger.retry,
}

_of_process: list[Ledger] = []


def enter(heard: Sequence[tuple[events.Event, int]]) -> str:
    """Enter events into this process' metrics and store them. Returns what the user should know."""
    said = ""
    with _lock:
        if not _of_process:
            _of_process.append(Ledger(get_metrics()))
        for event, thread in heard:
            try:
                _of_process[0].enter(event, thread)
            except Exception as exc:  # noqa: BLE001 - the others are to be entered all the same
                said = f"{event.name} could not be recorded: {type(exc).__name__}: {exc}"
    return _of_process[0].metrics.flush() or said
