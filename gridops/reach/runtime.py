"""Where control sockets live: one directory, ours alone, with a short path."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gridops.errors import ReachError

# A socket path has room for 104 bytes (macOS; 108 on Linux). Our names take 22, and ssh adds a dot
# and 16 random characters while it binds.
LONGEST = 104 - 22 - 17 - 2


def runtime_dir() -> Path:
    """The directory of control sockets, made 0700; refused when it is not ours alone.

    GRIDOPS_RUNTIME_DIR, else XDG_RUNTIME_DIR/gridops, else /tmp/gridops-UID; the first whose path
    is short enough for a socket.
    """
    for path in _candidates():
        if len(os.fsencode(path)) <= LONGEST:
            return _private(path)
    raise ReachError(
        "no directory with a short enough path for control sockets",
        hint="set GRIDOPS_RUNTIME_DIR to a short path",
    )


def _candidates() -> list[Path]:
    own = Path("/tmp") / f"gridops-{os.getuid()}"
    chosen = os.environ.get("GRIDOPS_RUNTIME_DIR")
    if chosen:
        return [Path(chosen).absolute()]
    run = os.environ.get("XDG_RUNTIME_DIR")
    return [Path(run) / "gridops", own] if run and Path(run).is_dir() else [own]


def _private(path: Path) -> Path:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as exc:
        raise ReachError(
            f"cannot make {path}: {exc.strerror}",
            hint="set GRIDOPS_RUNTIME_DIR to a directory of yours",
        ) from exc
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not ours or stat.S_IMODE(found.st_mode) & 0o077:
        raise ReachError(
            f"{path} is not a directory that only you can enter",
            hint=f"remove it or `chmod 700 {path}`",
        )
    return path
