"""Records of a process that are not stored yet."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from gridops.errors import StoreError
from gridops.observe.rows import Batch, NodeRecord, plain

if TYPE_CHECKING:
    from prometheus_client import Metric

    from gridops.observe.store import Store

_numbers = itertools.count(1)


class Pending:
    """A batch that several threads add to; `with pending as batch` adds to it alone."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._batch = Batch()
        self._active: dict[str, int] = {}
        self._owner = next(_numbers)
        self._trouble = ""
        self._lock = threading.RLock()
        self._storing = threading.Lock()  # one transaction at a time, so that none overtakes

    def __enter__(self) -> Batch:
        self._lock.acquire()
        return self._batch

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._lock.release()

    def begin(self, task: str) -> None:
        self._change(task, 1)

    def end(self, task: str) -> None:
        self._change(task, -1)

    def _change(self, task: str, by: int) -> None:
        name = plain(task)
        with self as batch:
            self._active[name] = max(0, self._active.get(name, 0) + by)
            batch.active = {self._owner: dict(self._active)}

    # -- storing -----------------------------------------------------------------------------

    def flush(self) -> str:
        """Store the batch; one that cannot be stored now is kept for the next time.

        Returns what the user should know, once: "" while that is nothing new.
        """
        with self._storing:
            with self:
                batch, self._batch = self._batch, Batch()
            if not batch:
                return ""
            try:
                said = self._store().write(batch)
            except StoreError as exc:
                self._keep(batch)
                said, self._trouble = ("" if self._trouble else str(exc)), str(exc)
                return said
            except Exception as exc:  # noqa: BLE001 - counting is never worth the work it counts
                return f"metrics and history were not kept: {type(exc).__name__}: {exc}"
            self._trouble = ""
            return said

    def flush_or_warn(self) -> None:
        """Store the batch as `flush` does. What the user should know goes into the log."""
        if trouble := self.flush():
            logging.getLogger("gridops").warning("%s", trouble)

    def _keep(self, batch: Batch) -> None:
        with self:
            batch.absorb(self._batch)
            self._batch = batch

    def _store(self) -> Store:
        from gridops.observe.store import Store

        return Store(self._path)

    # -- telling -----------------------------------------------------------------------------

    def metrics(self) -> Iterator[Metric]:
        """Metrics in the store, if readable, and those not stored yet."""
        from gridops.observe import exposition

        store = self._store()
        try:
            totals, stamps, active = store.totals(), store.stamps(), store.active()
            records = {record.node: record for record in store.node_records()}
        except StoreError:
            totals, stamps, active, records = [], [], sum(self._active.values()), {}
        with self as batch:
            totals += [(*series, value) for series, value in batch.totals.items()]
            stamps += [(*stamp, at) for stamp, at in batch.stamps.items()]
            records.update(batch.nodes)
        yield from exposition.of_processes(totals, stamps, active)
        yield from exposition.of_nodes(_by_name(records))


def _by_name(records: dict[str, NodeRecord]) -> list[NodeRecord]:
    return [records[name] for name in sorted(records)]
