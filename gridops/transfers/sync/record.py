"""Record of the last sync from here to a node's directory: the files that need no second look.

rsync takes a file of the same size and the same time for the same file. That is wrong for another
tree that came there meanwhile, and for a file that was replaced with its time kept. So each sync
notes of every file what the system says of it here, its change time and inode included, which
nobody can set; a file that is no longer so is compared by its bytes, unless its time is newer than
anything that was there. And it notes the token that the node had: while the node has it still,
nobody else has synced there.

The record is kept in the file of the lock that a sync holds: from this machine there is one at a
time, in any process, to one directory of a node.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import time
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import inf, isnan
from pathlib import Path

from gridops.errors import NodeTimeout
from gridops.model import Node
from gridops.observe import events
from gridops.reach.link import runtime_dir
from gridops.system.locks import acquire_lock
from gridops.transfers.sync.tree import FileTimes, RemoteState, Tree

MUCH = 200  # from so many files changed since the last sync on, the small ones are compared
SMALL = 1 << 20  # bytes of a file that may well be read once more for that
HEAD_SIZE = 256  # bytes before the marks
SYNC_INTERVAL = 0.05  # seconds between two looks at a lock that is taken


@dataclass(frozen=True, slots=True)
class Record:
    """State that the last sync left known."""

    end: float = inf  # no file was written later, as of then; infinite: it did not come to its end
    token: str = ""  # what the node has while nobody else has synced there; "": nothing is known
    fine: str = "?"  # whether times there are kept and compared to the nanosecond: yes, no
    digest: str = ""  # of the names
    marks: array[int] = field(
        default_factory=lambda: array("q")
    )  # of the files, in the order of the names
    names: bytes = b""

    @classmethod
    def parse(cls, text: bytes) -> Record:
        """Parse a record; one that is none gives an empty one."""
        try:
            end, token, fine, digest, count = text[:HEAD_SIZE].decode("ascii").split()
            marks = array("q")
            marks.frombytes(text[HEAD_SIZE : HEAD_SIZE + 8 * int(count)])
            if len(marks) != int(count):
                return cls()
            names = text[HEAD_SIZE + 8 * len(marks) :]
            return cls(float(end), token.lstrip("-"), fine, digest, marks, names)
        except ValueError:  # the first one ever, or one by an earlier version
            return cls()

    def head(self) -> bytes:
        words = (repr(self.end), f"-{self.token}", self.fine, self.digest or "-", len(self.marks))
        return " ".join(map(str, words)).ljust(HEAD_SIZE - 1).encode() + b"\n"

    def to_compare(self, tree: Tree, seen: FileTimes) -> set[bytes]:
        """Files to compare by their bytes: their size and time do not tell.

        Where much has changed since, it often is what was there before (a checkout, a touch, a
        build): to compare is cheaper then than to send and write it all.
        """
        if self.digest == tree.digest:
            if self.marks == seen.marks and 0 not in seen.marks:
                return set()
            marks: Iterable[int | None] = self.marks
        else:
            known = dict(zip(self.names.split(b"\0"), self.marks, strict=False))
            marks = map(known.get, tree.names)
        every = zip(tree.names, seen.files, seen.marks, marks, strict=True)
        changed = [(name, one) for name, one, now, then in every if now != then or not now]
        much, high = len(changed) >= MUCH, self.end + 1
        return {n for n, (written, size) in changed if written < high or (much and size <= SMALL)}

    def after(self, tree: Tree, seen: FileTimes, *, token: str, fine: str) -> Record:
        """Record of a sync that has come to its end; it looked at the files as in `seen`."""
        now = time.time()
        if self.digest == tree.digest and self.marks == seen.marks and self.end < inf:
            return replace(self, end=max(now, self.end), token=token, fine=fine)
        newest = max((written for written, _ in seen.files if not isnan(written)), default=now)
        names = b"\0".join(tree.names)
        return Record(max(now, newest), token, fine, tree.digest, seen.marks, names)


@dataclass(frozen=True)
class Doubts:
    """Doubts about the files on a node: those the last sync may not have left as they are here."""

    last: Record
    ready: RemoteState
    new: str  # the token to have, unless there is one

    @property
    def token(self) -> str:
        return self.ready.token or self.new

    @property
    def known(self) -> bool:
        """True if nobody else has synced there since."""
        return bool(self.ready.token) and self.ready.token == self.last.token

    @property
    def fresh(self) -> bool:
        """True if there is nothing yet."""
        return self.ready.state != "marked" or self.ready.token == self.new

    @property
    def settled(self) -> bool:
        """True if the node has our token already."""
        return bool(self.ready.token)

    def to_compare(self, tree: Tree, seen: FileTimes) -> set[bytes]:
        """The files to compare by their bytes."""
        if self.known:
            return self.last.to_compare(tree, seen)
        return set() if self.fresh else set(tree.names)


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
            os.pwrite(self._descriptor, body, HEAD_SIZE)
            os.ftruncate(self._descriptor, HEAD_SIZE + len(body))
        os.pwrite(self._descriptor, record.head(), 0)

    def _read(self) -> bytes:
        return os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)


@contextmanager
def lock_target(node: Node, project: str, end: float) -> Iterator[SyncLock]:
    """Hold the lock of `project` on `node`; waits until `end` (on time.monotonic()) at most.

    Two syncs at once would each delete what the other has just brought.
    """

    def tell() -> None:
        message = f"{node.name}: waiting for another sync of {project} to it"
        events.emit(events.WARNING, message=message)

    identity = repr((node.name, node.host, node.user, node.port, node.remote_root, project))
    digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
    path = runtime_dir() / f"sync-{digest[:16]}.lock"
    try:
        lock = acquire_lock(path, end, interval=SYNC_INTERVAL, on_wait=tell)
    except TimeoutError as exc:
        message = f"another sync of {project} to it has not ended"
        raise NodeTimeout(message, node=node.name) from exc
    try:
        yield SyncLock(lock)
    finally:
        os.close(lock)


def maker(origin: str) -> str:
    """Prefix of the tokens of syncs from `origin`; their records lie where ours do.

    Machines may share a home, and containers a host and a name.
    """
    path = runtime_dir() / "sync-id"
    if not path.exists():
        half = path.with_name(f"sync-id.{secrets.token_hex(6)}")
        half.write_text(secrets.token_hex(16))
        try:
            with suppress(FileExistsError):
                os.link(half, path)
        finally:
            half.unlink()
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    place = path.stat()
    ours = (path.read_text(), boot, socket.gethostname(), place.st_ino, place.st_dev, origin)
    return hashlib.sha256(repr(ours).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def new_token(made_by: str) -> str:
    return f"{made_by}.{secrets.token_hex(8)}"
