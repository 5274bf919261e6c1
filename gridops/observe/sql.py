"""SQL of the store's transactions, for SQLite 3.24 and later."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gridops.errors import StoreError
from gridops.observe.rows import Batch, Sample
from gridops.system.processes import identity, is_running

if TYPE_CHECKING:
    import sqlite3

DAY = 86400.0
STORED_SAMPLE_AGE = 7 * DAY
STORED_RUN_AGE = 90 * DAY
MAX_STORED_SAMPLES = 300_000
MAX_STORED_RUNS = 20_000
PRUNE_INTERVAL = 3600.0

COLUMNS = ", ".join(Sample._fields)


def version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: sqlite3.Connection) -> None:
    found = version(db)
    if found > SCHEMA_VERSION:
        raise StoreError(
            "metrics and history are stored in the format of a newer gridops", hint="update gridops"
        )
    for statements in MIGRATIONS[found:]:
        for statement in statements:
            db.execute(statement)
    if found < SCHEMA_VERSION:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def add(db: sqlite3.Connection, batch: Batch) -> None:
    process = identity()
    db.executemany(
        "INSERT INTO totals VALUES (?, ?, ?, ?)"
        " ON CONFLICT (family, labels, part) DO UPDATE SET value = value + excluded.value",
        [(*series, value) for series, value in batch.totals.items()],
    )
    db.executemany(
        "INSERT INTO stamps VALUES (?, ?, ?)"
        " ON CONFLICT (family, labels) DO UPDATE SET at = max(at, excluded.at)",
        [(*stamp, at) for stamp, at in batch.stamps.items()],
    )
    if batch.totals or batch.stamps:
        db.execute(
            "INSERT INTO meta VALUES ('revision', 1)"
            " ON CONFLICT (key) DO UPDATE SET value = value + 1"
        )
    for number, tasks in batch.active.items():
        owner = f"{process}:{number}"
        db.execute("DELETE FROM active WHERE process = ?", (owner,))
        rows = [(owner, task, count) for task, count in tasks.items() if count]
        db.executemany("INSERT INTO active VALUES (?, ?, ?)", rows)
    _add_nodes(db, batch)
    _add_runs(db, batch, process)


def _add_nodes(db: sqlite3.Connection, batch: Batch) -> None:
    db.executemany(
        "INSERT INTO nodes VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (node) DO UPDATE SET at = excluded.at,"
        " state = excluded.state, score = excluded.score, figures = excluded.figures"
        " WHERE excluded.at >= at",
        [
            (one.node, one.at, one.state, one.score, json.dumps(one.figures))
            for one in batch.nodes.values()
        ],
    )
    marks = ", ".join("?" for _ in Sample._fields)
    db.executemany(
        f"INSERT OR REPLACE INTO samples (minute, {COLUMNS}) VALUES (?, {marks})",
        [(minute, *sample) for (minute, _), sample in batch.samples.items()],
    )


def _add_runs(db: sqlite3.Connection, batch: Batch, process: str) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(key, *row, process) for key, row in batch.runs.items()],
    )
    db.executemany(
        "UPDATE runs SET state = ?, status = ?, seconds = coalesce(?, seconds), error = ?"
        " WHERE id = ? AND state IN ('running', 'detached', 'failed')",
        [(*ending, id) for id, ending in batch.endings.items()],
    )


def prune(db: sqlite3.Connection, now: float) -> None:
    """Delete old and surplus rows, about once an hour."""
    found = db.execute("SELECT value FROM meta WHERE key = 'pruned'").fetchone()
    if found and now - PRUNE_INTERVAL < found[0] <= now:
        return
    db.execute("INSERT OR REPLACE INTO meta VALUES ('pruned', ?)", (now,))
    _forget(db, "samples", "minute", (now - STORED_SAMPLE_AGE) // 60, MAX_STORED_SAMPLES)
    _forget(db, "runs", "started", now - STORED_RUN_AGE, MAX_STORED_RUNS)
    db.execute("DELETE FROM nodes WHERE at < ?", (now - STORED_SAMPLE_AGE,))
    dead = [row for row in db.execute("SELECT process FROM active") if not is_running(row[0])]
    db.executemany("DELETE FROM active WHERE process = ?", dead)


def _forget(db: sqlite3.Connection, table: str, column: str, oldest: float, most: int) -> None:
    """Delete the rows before `oldest`; of more than about `most`, the oldest."""
    surplus = db.execute(
        f"SELECT {column} FROM {table} ORDER BY {column} DESC LIMIT 1 OFFSET ?", (most,)
    ).fetchone()
    if surplus:
        oldest = max(oldest, surplus[0])
    db.execute(f"DELETE FROM {table} WHERE {column} <= ?", (oldest,))


FIRST_SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    # Counters and histograms: what is added up. `part` is "" for a counter, and the upper bound,
    # "+Inf" or "sum" for a histogram; each observation is counted in one bucket only.
    """CREATE TABLE totals (
        family TEXT, labels TEXT, part TEXT, value REAL NOT NULL,
        PRIMARY KEY (family, labels, part)
    ) WITHOUT ROWID""",
    """CREATE TABLE stamps (
        family TEXT, labels TEXT, at REAL NOT NULL, PRIMARY KEY (family, labels)
    ) WITHOUT ROWID""",
    # The tasks under way, by process (boot:pid:start, see processes.py) and who counts in there.
    """CREATE TABLE active (
        process TEXT, task TEXT, tasks INTEGER NOT NULL, PRIMARY KEY (process, task)
    ) WITHOUT ROWID""",
    """CREATE TABLE nodes (
        node TEXT PRIMARY KEY, at REAL NOT NULL, state TEXT NOT NULL, score REAL, figures TEXT
    ) WITHOUT ROWID""",
    """CREATE TABLE samples (
        minute INTEGER, node TEXT, at REAL NOT NULL, state TEXT NOT NULL, score REAL,
        cpu_percent REAL, load1 REAL, cores INTEGER, memory_percent REAL, disk_percent REAL,
        gpu_memory_percent REAL, gpu_percent REAL, gpu_temperature_c REAL,
        running INTEGER, slots INTEGER, latency_ms REAL,
        PRIMARY KEY (minute, node)
    ) WITHOUT ROWID""",
    """CREATE TABLE runs (
        key TEXT PRIMARY KEY, id TEXT NOT NULL, task TEXT NOT NULL, node TEXT,
        started REAL NOT NULL, seconds REAL, state TEXT NOT NULL, status INTEGER,
        command TEXT NOT NULL, error TEXT NOT NULL, process TEXT NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX runs_started ON runs (started)",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (FIRST_SCHEMA,)
SCHEMA_VERSION = len(MIGRATIONS)
