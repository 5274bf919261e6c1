"""One sync at a time from this machine to one directory of a node, whatever process it is in."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import floor, inf
from pathlib import Path

from gridops.errors import NodeTimeout
from gridops.model import Node
from gridops.observe import events
from gridops.reach.runtime import runtime_dir
from gridops.sync.tree import Seen, Tree

PAUSE = 0.05  # seconds between two looks at a lock that is taken
GRAIN = 0.05  # seconds by which a file's time may be older than the moment it was written
MUCH = 200  # from so many files written since the last sync on, the small ones are compared
SMALL = 1 << 20  # bytes of a file that may well be read once more for that


@dataclass(frozen=True, slots=True)
class Window:
    """When an earlier sync looked at files; seconds since the epoch."""

    start: float
    end: float  # infinite: it did not come to its end

    def to_compare(self, tree: Tree) -> set[bytes]:
        """The files whose bytes are to be compared, since their times do not tell.

        rsync takes a file of the same size and the same whole second for the same file. One whose
        time is a second in which that sync looked may have been written once more in that second.
        And where much has been written since, it often is what was there before (a checkout, a
        touch, a build): to compare is cheaper then than to send and write it all.
        """
        low, high = floor(self.start - GRAIN), self.end + 1
        seen = tree.seen if tree.seen and tree.seen.at >= high else Seen.of(tree.root, tree.names)
        fresh = [one for one in zip(tree.names, seen.files, strict=True) if low <= one[1][0]]
        much = len(fresh) >= MUCH
        return {
            name for name, (written, size) in fresh if written < high or (much and size <= SMALL)
        }


class Turn:
    """Our turn to sync: the lock is ours. Its file remembers when the last one looked at files."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._began = inf
        self.last = self._read()

    def begin(self) -> None:
        """From now on files are looked at. What an unfinished sync left is ours to settle too."""
        if self._began == inf:
            self._began = time.time()
            self._write(Window(min(self._began, self.last.start if self.last else inf), inf))

    def finish(self) -> None:
        """Everything is settled that was written before `begin`."""
        self._write(Window(self._began, time.time()))

    def _read(self) -> Window | None:
        try:
            start, end = os.pread(self._descriptor, 100, 0).split()
            return Window(float(start), float(end))
        except ValueError:  # the first one ever
            return None

    def _write(self, window: Window) -> None:
        os.pwrite(self._descriptor, f"{window.start!r} {window.end!r}".ljust(50).encode(), 0)


@contextmanager
def locked(node: Node, project: str, end: float) -> Iterator[Turn]:
    """Hold the lock of `project` on `node`; waits until `end` (on time.monotonic()) at most.

    Two syncs at once would each delete what the other has just brought.
    """
    descriptor = os.open(_path(node, project), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait(descriptor, node, project, end)
        yield Turn(descriptor)
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
        time.sleep(PAUSE)
