"""Lock of a sync: one at a time, in any process, from this machine to one directory of a node."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from pathlib import Path

from gridops.errors import NodeTimeout
from gridops.model import Node
from gridops.observe import events
from gridops.system.rundir import runtime_dir
from gridops.transfers.sync.record import HEAD, Record

POLL_INTERVAL = 0.05  # seconds between two looks at a lock that is taken


class SyncLock:
    """Our turn to sync: the lock is ours, and its file has the record of the last sync."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.last = Record.parse(self._read())

    def begin(self, *, known: bool) -> None:
        """Note that the node's files change now; unless they are `known`, all are in doubt."""
        unfinished = replace(self.last, end=inf, token=self.last.token if known else "")
        os.pwrite(self._descriptor, unfinished.head(), 0)

    def finish(self, record: Record) -> None:
        """Write the record: everything is settled."""
        if record.digest != self.last.digest or record.marks != self.last.marks:
            os.pwrite(self._descriptor, replace(self.last, end=inf, token="").head(), 0)
            body = record.marks.tobytes() + record.names
            os.pwrite(self._descriptor, body, HEAD)
            os.ftruncate(self._descriptor, HEAD + len(body))
        os.pwrite(self._descriptor, record.head(), 0)

    def _read(self) -> bytes:
        return os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)


@contextmanager
def locked(node: Node, project: str, end: float) -> Iterator[SyncLock]:
    """Hold the lock of `project` on `node`; waits until `end` (on time.monotonic()) at most.

    Two syncs at once would each delete what the other has just brought.
    """
    descriptor = os.open(_path(node, project), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait(descriptor, node, project, end)
        yield SyncLock(descriptor)
    finally:
        os.close(descriptor)


def _path(node: Node, project: str) -> Path:
    identity = repr((node.name, node.host, node.user, node.port, node.remote_root, project))
    digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
    return runtime_dir() / f"sync-{digest[:16]}.lock"


def _wait(descriptor: int, node: Node, project: str, end: float) -> None:
    said = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        if time.monotonic() > end:
            raise NodeTimeout(f"another sync of {project} to it has not ended", node=node.name)
        if not said:
            said = True
            message = f"{node.name}: waiting for another sync of {project} to it"
            events.emit(events.WARNING, message=message)
        time.sleep(POLL_INTERVAL)
