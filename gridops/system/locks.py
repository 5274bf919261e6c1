"""Locks between processes and threads, on files and directories (flock)."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

LOCK_INTERVAL = 0.02  # seconds between two looks at a lock that is taken


def acquire_lock(
    path: Path | str,
    end: float,
    *,
    flags: int = os.O_RDWR | os.O_CREAT,
    interval: float = LOCK_INTERVAL,
    on_wait: Callable[[], None] | None = None,
) -> int:
    """Lock the file at `path`; waits until `end` (on time.monotonic()) at most.

    It is opened with `flags`, and made 0600 where there is none. Returns its descriptor: to close
    that is to let go of the lock. Where its former holder has removed or replaced the file, the one
    that has its place now is locked instead, because others will look for that one. A lock that is
    free is had whatever `end` is. `on_wait` is called once, before the first wait; `interval` is
    seconds between two tries. Raises TimeoutError, and OSError when the file cannot be opened.
    """
    while True:
        lock, ours = os.open(path, flags, 0o600), False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(lock), os.stat(path))  # noqa: PTH116 - or a str
        except (BlockingIOError, FileNotFoundError):
            pass
        finally:
            if not ours:
                os.close(lock)
        if ours:
            return lock
        if time.monotonic() >= end:
            raise TimeoutError(errno.ETIMEDOUT, "another process holds its lock", str(path))
        if on_wait:
            on_wait()
            on_wait = None
        time.sleep(interval)
