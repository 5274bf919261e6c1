"""Atomic writes: readers see a file whole, as it was or as it is now."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

UNFINISHED = r"\..+\.[0-9a-f]{16}"  # the name of what a writer left that was killed half-way


def write_atomic(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file beside its place and move it there; it has the permissions `mode`.

    When that fails nothing is left, and what was there stays. A writer that is killed leaves
    a file whose name is like UNFINISHED, for its owner alone to read. Raises OSError.
    """
    unfinished = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, mode)
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
