"""Errors of the disk here, as the user is told them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridops.errors import DiskFull, GridError, NotWritable, SyncError


def full_here(into: Path) -> DiskFull:
    return DiskFull(
        f"no space left on this machine: {into}",
        hint="free some space, or fetch into another directory",
    )


def no_access(into: Path) -> NotWritable:
    return NotWritable(f"cannot write on this machine: {into}", hint="fetch into another directory")


@contextmanager
def errors_here(into: Path) -> Iterator[None]:
    """Turn errors of the file system here into errors for the user."""
    try:
        yield
    except GridError:
        raise
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full_here(into) from exc
        where = exc.filename if isinstance(exc.filename, str) else str(into)
        if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise no_access(Path(where)) from exc
        raise SyncError(
            f"cannot write {where}: {exc.strerror}", hint="fetch into another directory"
        ) from exc
