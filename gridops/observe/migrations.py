"""The store's tables. A change of them is one more entry in MIGRATIONS, never an edit."""

from __future__ import annotations

FIRST = (
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

MIGRATIONS: tuple[tuple[str, ...], ...] = (FIRST,)
VERSION = len(MIGRATIONS)
