"""Metrics that add up over processes.

    from gridops.observe.metrics import get_metrics

    metrics = get_metrics()
    metrics.record_task("train")
    metrics.record_task_complete("train", duration=12.5)
    print(metrics.export_prometheus())

What is recorded stays in memory until `flush`, at the latest until the process ends. That it cannot
be stored is a warning in the log, once, and no error.
"""

from __future__ import annotations

import threading
import time
import weakref
from pathlib import Path

from gridops.observe import families
from gridops.observe.buffer import Pending
from gridops.observe.rows import Batch, Ending, NodeRecord, RunRow, plain, sample_of


class Metrics:
    """Metrics in the store at `store` (default: the user's), to be recorded and exported."""

    def __init__(self, store: Path | None = None) -> None:
        self._pending = Pending(store)
        # Where the process ends without a word; logging is still there then.
        weakref.finalize(self, self._pending.flush_or_warn)

    # -- recording ---------------------------------------------------------------------------

    def record_task(self, task_type: str, *, at: float | None = None) -> None:
        """Record a task's start; it counts as active until it is complete, or this process dead."""
        with self._pending as batch:
            batch.count(families.SUBMITTED, task_type)
            batch.stamp(families.LAST_ATTEMPT, task_type, at=at or time.time())
        self._pending.begin(task_type)

    def record_task_complete(
        self,
        task_type: str,
        status: str = "success",
        duration: float = 0,
        *,
        at: float | None = None,
    ) -> None:
        """Record a task's end; `duration` in seconds, `status` "success" or "failure"."""
        with self._pending as batch:
            batch.count(families.COMPLETED, task_type, status)
            _observe(batch, families.DURATION, duration, task_type)
            if status == "success":
                batch.stamp(families.LAST_SUCCESS, task_type, at=at or time.time())
        self._pending.end(task_type)

    def record_sync(
        self, node: str, status: str = "success", *, duration: float | None = None
    ) -> None:
        """Record a sync of a tree to the node, done or failed; `duration` in seconds."""
        with self._pending as batch:
            batch.count(families.SYNCS, node, status)
            if duration is not None:
                _observe(batch, families.SYNC_DURATION, duration, node)

    def record_node_health(self, node: str, score: float | None) -> None:
        """Record the node's score, 0 idle to 100 full; None: it cannot be reached."""
        state = "unreachable" if score is None else "healthy"
        self.record_node(NodeRecord(node, time.time(), state, score))

    def record_node(self, record: NodeRecord) -> None:
        """Record all that was seen of a node."""
        record = record._replace(node=plain(record.node))
        with self._pending as batch:
            batch.nodes[record.node] = record
            batch.samples[int(record.at // 60), record.node] = sample_of(record)

    def record_selection(self, duration: float) -> None:
        """Record the `duration` of choosing a node, in seconds."""
        with self._pending as batch:
            _observe(batch, families.SELECTION_DURATION, duration)

    def record_retry(self, reason: str) -> None:
        """Record a failed attempt that is made again; `reason` is a kind, never a message."""
        with self._pending as batch:
            batch.count(families.RETRIES, reason)

    def record_run(self, key: str, row: RunRow) -> None:
        """Record a run as it is now. It replaces what was recorded under `key` before."""
        with self._pending as batch:
            batch.runs[key] = row

    def record_ending(self, run_id: str, ending: Ending) -> None:
        """Record the end of a run that was left to its node."""
        with self._pending as batch:
            batch.endings[run_id] = ending

    # -- telling -----------------------------------------------------------------------------

    def flush(self) -> str:
        """Store the records. Returns what the user should know, mostly "". Never raises."""
        return self._pending.flush()

    def export_prometheus(self, *, openmetrics: bool = False) -> str:
        """The exposition of all that this and earlier processes have recorded.

        Where the store cannot be used: of what this process has.
        """
        from gridops.observe import exposition

        self._pending.flush_or_warn()
        return exposition.generate(self._pending.metrics(), openmetrics=openmetrics)


_of_process: list[Metrics] = []
_lock = threading.Lock()


def get_metrics() -> Metrics:
    """The `Metrics` of this process."""
    with _lock:
        if not _of_process:
            _of_process.append(Metrics())
        return _of_process[0]


def _observe(batch: Batch, family: str, value: float, *labels: str) -> None:
    batch.count(family, *labels, part=families.TOTALS[family].bucket(value))
    batch.count(family, *labels, part=families.SUM, by=value)
