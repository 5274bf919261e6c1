"""Stage of a fetch: a directory beside the files' places, so that each can be moved there whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gridops.errors import NodeTimeout
from gridops.model import Node
from gridops.observe import events
from gridops.reach.link import runtime_dir
from gridops.system.locks import acquire_lock
from gridops.transfers.record import STATE_NAME

STAGE_TIMEOUT = 3600.0  # seconds that another fetch of the same files may take
STAGE_INTERVAL = 0.1  # seconds between two looks whether it has ended


class Stage:
    """A directory of ours in `into/.gridops`, which no sync carries.

    It has the same name for the same files to the same place, so that a half-received one is
    continued the next time. Its maker holds its lock.
    """

    def __init__(self, into: Path, key: str) -> None:
        """Make it. Raises OSError."""
        self._root = into / STATE_NAME / f"fetch-{key}"
        self.tree = self._root / "tree"  # whole files
        self.temporary = self._root / "tmp"  # the one that is coming
        self.partial = self._root / "partial"  # the one that was, when the connection broke
        self.list = self._root / "names"
        for path in (self.tree, self.temporary):
            shutil.rmtree(path, ignore_errors=True)  # of one that was killed
            path.mkdir(parents=True)
        self._root.chmod(0o700)

    def write(self, names: Iterable[str]) -> Path:
        """Write `names` to a file for rsync's --from0; a leading # would begin a comment."""
        self.list.write_bytes(b"".join(b"./" + os.fsencode(name) + b"\0" for name in names))
        return self.list

    def remove(self, *, resume: bool) -> bool:
        """Remove it, but with `resume` keep half-received files; True if some remain."""
        with suppress(OSError):
            if resume and any(self.partial.iterdir()):
                for path in (self.tree, self.temporary):
                    shutil.rmtree(path, ignore_errors=True)
                return True
        shutil.rmtree(self._root, ignore_errors=True)
        with suppress(OSError):
            self._root.parent.rmdir()  # unless somebody else has something there
        return False


@contextmanager
def staging(into: Path, node: Node, what: str) -> Iterator[Stage]:
    """The stage for `what` of `node`, ours alone; the caller removes it.

    Raises OSError, and NodeTimeout when another process has had it for an hour.
    """
    identity = repr((str(into), node.name, node.host, node.user, node.port, what))
    key = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    path = runtime_dir() / f"fetch-{key}.lock"
    lock = _lock(path, node)
    try:
        yield Stage(into, key)
    finally:
        path.unlink(missing_ok=True)  # while it is ours
        os.close(lock)


def _lock(path: Path, node: Node) -> int:
    def tell() -> None:
        message = f"{node.name}: waiting for another fetch of the same files"
        events.emit(events.WARNING, message=message)

    end = time.monotonic() + STAGE_TIMEOUT
    try:
        return acquire_lock(path, end, interval=STAGE_INTERVAL, on_wait=tell)
    except TimeoutError as exc:
        message = "another fetch of the same files has not ended"
        raise NodeTimeout(message, node=node.name) from exc
