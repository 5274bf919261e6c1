"""Record of the files fetched into a directory: results of runs, not the user's source.

`DIRECTORY/.gridops/fetched` holds one entry for each file, ended by NUL: size, mtime_ns and name
(relative to DIRECTORY) with a space between; a directory that a fetch made has a slash at its end
and figures of 0. A file that is no longer as its entry says has been changed since and is the
user's own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress

STATE_NAME = ".gridops"  # our own directory in a tree, here and on nodes
STATE_DIR = STATE_NAME.encode()
RECORD = STATE_DIR + b"/fetched"

Stamp = tuple[int, int]  # size, mtime_ns
Record = dict[bytes, Stamp]


def stamp_of(info: os.stat_result) -> Stamp:
    return info.st_size, info.st_mtime_ns


def read_record(directory: bytes) -> Record:
    """Read the record in `directory`; it is empty where there is no record of this user's own."""
    try:
        with open(directory + b"/" + RECORD, "rb") as file:  # noqa: PTH123 - a Path holds no bytes
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                return {}
            entries = file.read().split(b"\0")
    except OSError:
        return {}
    record: Record = {}
    for entry in entries:
        size, _, rest = entry.partition(b" ")
        mtime, _, name = rest.partition(b" ")
        with suppress(ValueError):
            record[name] = int(size), int(mtime)
    return record


def still_there(directory: bytes, record: Record) -> Record:
    """The entries that are as they were brought."""
    return {name: stamp for name, stamp in record.items() if _now(directory + b"/" + name) == stamp}


def _now(path: bytes) -> Stamp | None:
    with suppress(OSError):
        info = os.lstat(path.rstrip(b"/"))
        if stat.S_ISDIR(info.st_mode) == path.endswith(b"/"):
            return (0, 0) if path.endswith(b"/") else stamp_of(info)
    return None


def directories_above(root: bytes) -> Iterable[bytes]:
    """`root`, and every directory that it lies in. Absolute, "" for the topmost."""
    yield root
    while root:
        root = root.rpartition(b"/")[0]
        yield root


def read_above(root: bytes) -> Record:
    """Entries of the records in `root` and above it, by absolute name."""
    found: Record = {}
    for directory in directories_above(root):
        for name, stamp in read_record(directory).items():
            found[directory + b"/" + name] = stamp
    return found
