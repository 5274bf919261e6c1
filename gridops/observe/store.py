"""The store: one SQLite file at home, to which every process adds at its end.

In WAL mode, each writer takes one short transaction. A writer that finds the file locked waits a
few seconds; a file that is no database (any more) is set aside and a new one begun.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from gridops.errors import StoreError
from gridops.observe.paths import DIRECTORY, SWITCH, store_path
from gridops.observe.rows import Batch, NodeRecord, RunRow, Sample
from gridops.observe.sql import COLUMNS, add, migrate, prune, version
from gridops.system.processes import is_running

T = TypeVar("T")

STORE_LOCK_TIMEOUT = 5.0  # seconds that a writer waits for the others
NODE_MAX_AGE = 86400.0  # seconds: a node that was not seen for so long is not told of any more


class Store:
    """The file at `path` (default: the user's). Nothing is opened, or made, before it is needed."""

    def __init__(self, path: Path | None = None, *, patience: float | None = None) -> None:
        """`patience`: seconds to wait for other users; by default STORE_LOCK_TIMEOUT."""
        self.path = path or store_path()
        self._patience = STORE_LOCK_TIMEOUT if patience is None else patience
        self._wait = min(1.0, self._patience)  # seconds for one statement

    # -- writing -----------------------------------------------------------------------------

    def write(self, batch: Batch) -> str:
        """Add `batch`, whole or not at all. Returns what the user should know, mostly "".

        Raises StoreError.
        """
        with _explain_errors(self.path):
            _make_private(self.path)
            seen = self.path.stat().st_ino
            try:
                self._write(batch)
            except sqlite3.DatabaseError as exc:
                if not _is_damaged(exc):
                    raise
                aside = self._set_aside(seen)
                self._write(batch)
                return f"{self.path} was damaged ({exc}); moved to {aside}, begun anew"
        return ""

    def _write(self, batch: Batch) -> None:
        def work() -> None:
            with _connect(str(self.path), self._wait) as db:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=NORMAL")
                with _transaction(db):
                    migrate(db)
                    add(db, batch)
                    prune(db, time.time())

        _while_locked(work, self._patience)

    def _set_aside(self, seen: int) -> Path:
        """Move the damaged file away, unless another process has done so already."""
        aside = self.path.with_name(f"{self.path.name}.damaged")
        if self.path.stat().st_ino == seen:
            self.path.replace(aside)
            for suffix in ("-wal", "-shm"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        _make_private(self.path)
        return aside

    # -- reading -----------------------------------------------------------------------------

    def revision(self) -> int:
        """A number that changes when totals or stamps do."""
        return int(self._one("SELECT value FROM meta WHERE key = 'revision'") or 0)

    def totals(self) -> list[tuple[str, str, str, float]]:
        """Family, labels (JSON), part and value of all that is added up."""
        return self._rows("SELECT family, labels, part, value FROM totals")

    def stamps(self) -> list[tuple[str, str, float]]:
        return self._rows("SELECT family, labels, at FROM stamps")

    def active(self) -> int:
        """Number of tasks under way, in processes that live."""
        rows = self._rows("SELECT process, sum(tasks) FROM active GROUP BY process")
        return sum(tasks for process, tasks in rows if is_running(process))

    def node_records(self, since: float | None = None) -> list[NodeRecord]:
        """Last record of each node, not before `since` (default: a day ago)."""
        begin = time.time() - NODE_MAX_AGE if since is None else since
        rows = self._rows(
            "SELECT node, at, state, score, figures FROM nodes WHERE at >= ? ORDER BY node", begin
        )
        return [
            NodeRecord(node, at, state, score, json.loads(known or "{}"))
            for node, at, state, score, known in rows
        ]

    def nodes(self) -> list[Sample]:
        """The last record of each node, as a sample."""
        from gridops.observe.rows import sample_of

        return [sample_of(record) for record in self.node_records()]

    def samples(self, since: float, node: str | None = None) -> dict[str, list[Sample]]:
        """Samples by node, oldest first, at most one a minute."""
        rows = self._rows(
            f"SELECT {COLUMNS} FROM samples WHERE minute >= ? AND at >= ? AND ? IN (node, '')"
            " ORDER BY minute",
            int(since // 60),
            since,
            node or "",
        )
        found: dict[str, list[Sample]] = {}
        for row in rows:
            found.setdefault(row[0], []).append(Sample(*row))
        return found

    def runs(self, limit: int = 50, since: float = 0.0) -> list[RunRow]:
        """The runs that were started from here, newest first."""
        rows = self._rows(
            "SELECT id, task, node, started, seconds, state, status, command, error, process"
            " FROM runs WHERE started >= ? ORDER BY started DESC, key DESC LIMIT ?",
            since,
            limit,
        )
        return [_run_row(row) for row in rows]

    def _one(self, query: str) -> Any:
        rows = self._rows(query)
        return rows[0][0] if rows else None

    def _rows(self, query: str, *values: object) -> list[Any]:
        if not self.path.exists():
            return []

        def work() -> list[Any]:
            with _connect(f"{self.path.absolute().as_uri()}?mode=ro", self._wait, uri=True) as db:
                if not version(db):
                    return []
                return db.execute(query, values).fetchall()

        with _explain_errors(self.path):
            return _while_locked(work, self._patience)


def _run_row(row: Sequence[Any]) -> RunRow:
    *values, process = row
    found = RunRow(*values)
    if found.state == "running" and not is_running(process):
        values[5] = "unknown"
        return RunRow(*values)
    return found


# -- the connection --------------------------------------------------------------------------------


@contextmanager
def _connect(name: str, timeout: float, *, uri: bool = False) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(name, timeout=timeout, isolation_level=None, uri=uri)
    try:
        yield db
    finally:
        db.close()


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def _while_locked(work: Callable[[], T], patience: float) -> T:
    """Do `work` again while others have the file: SQLite itself does not wait in every case."""
    end = time.monotonic() + patience
    while True:
        try:
            return work()
        except sqlite3.OperationalError as exc:
            if "locked" not in str(exc) or time.monotonic() > end:
                raise
        time.sleep(random.uniform(0.005, 0.05))


def _make_private(path: Path) -> None:
    """Have the file there, for the user alone; SQLite gives its companions the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _is_damaged(exc: sqlite3.DatabaseError) -> bool:
    return "malformed" in str(exc) or "not a database" in str(exc)


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    hint = f"repair {path}, name another directory by {DIRECTORY}, or set {SWITCH}=off"
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise StoreError(f"metrics and history cannot be kept: {reason}", hint=hint) from exc
