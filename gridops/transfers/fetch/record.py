"""Keep the record of fetched files: no sync is to take them for the user's source."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gridops.reach.link import runtime_dir
from gridops.system.files import write_atomic
from gridops.system.locks import acquire_lock
from gridops.transfers.fetch.apply import Installer
from gridops.transfers.record import (
    RECORD,
    STATE_DIR,
    Record,
    read_above,
    read_record,
    stamp_of,
    still_there,
)

RECORD_TIMEOUT = 10.0  # seconds for other fetches into the same directory to write theirs


def write_record(landing: Installer) -> None:
    """Record the files that have landed; entries that no longer hold are dropped. Raises OSError.

    What was new is a result, and so is what took the place of one. A file that took the place of
    the user's own remains the user's: a sync may have brought it to the node in the first place.
    """
    if not (landing.new or landing.replaced or landing.made):
        return
    into = os.fsencode(landing.into).rstrip(b"/")
    with _alone(into):
        known = read_above(into)
        results = [os.fsencode(name) for name in landing.new]
        for name, before in landing.replaced.items():
            path = _real(into, os.fsencode(name))
            if known.get(path) == stamp_of(before):
                results.append(os.fsencode(name))
        record = still_there(into, {**read_record(into), **_entries(into, results)})
        record.update({os.fsencode(name) + b"/": (0, 0) for name in landing.made})
        _write(into, record)


def _real(into: bytes, name: bytes) -> bytes:
    """Absolute path of a name in `into`, with its directory's symlinks resolved."""
    above, _, last = (into + b"/" + name).rpartition(b"/")
    return os.path.realpath(above) + b"/" + last


def _entries(into: bytes, names: list[bytes]) -> Record:
    found: Record = {}
    for name in names:
        path = _real(into, name)
        with suppress(OSError):
            found[path[len(into) + 1 :]] = stamp_of(os.lstat(path))
    return found


def _write(into: bytes, record: Record) -> None:
    """Write the record at once or not at all, hidden from git."""
    path = Path(os.fsdecode(into + b"/" + RECORD))
    path.parent.mkdir(exist_ok=True)
    with suppress(FileExistsError), (path.parent / ".gitignore").open("x") as file:
        file.write("*\n")
    lines = [b"%d %d %s\0" % (*stamp, name) for name, stamp in sorted(record.items())]
    write_atomic(path, b"".join(lines))


@contextmanager
def _alone(into: bytes) -> Iterator[None]:
    key = hashlib.sha256(into + b"/" + STATE_DIR).hexdigest()[:12]
    path = runtime_dir() / f"fetched-{key}.lock"
    lock = acquire_lock(path, time.monotonic() + RECORD_TIMEOUT)
    try:
        yield
    finally:
        os.close(lock)
