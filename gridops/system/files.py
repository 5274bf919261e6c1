"""Atomic writes: readers see a file whole, as it was or as it is now."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from gridops.errors import OutputError


def write_whole(path: Path, text: str) -> None:
    """Write a file beside its place and move it there; others may read it. Raises OutputError."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as exc:
        raise OutputError(f"cannot write {path}: {exc.strerror}") from exc
