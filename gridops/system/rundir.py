"""Directory of control sockets, and the limit on this process's open files."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path

# A socket path has room for 104 bytes (macOS; 108 on Linux). Our names take at most 19, and ssh
# adds a dot and 16 random characters while it binds.
LONGEST = 104 - 20 - 17 - 2
SPARE_FILES = 64  # descriptors for everything that is not a connection to a node


class NoPrivateDirectory(OSError):
    """Error that no directory is ours alone; `remedy` says what the user can do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


def private_dir() -> Path:
    """The directory of control sockets, made 0700; refused when it is not ours alone.

    GRIDOPS_RUNTIME_DIR, else XDG_RUNTIME_DIR/gridops, else /tmp/gridops-UID; the first whose path
    is short enough for a socket. Raises NoPrivateDirectory.
    """
    for path in _candidates():
        if len(os.fsencode(path)) <= LONGEST:
            return _private(path)
    raise NoPrivateDirectory(
        "no directory with a short enough path for control sockets",
        f"set GRIDOPS_RUNTIME_DIR to a path of at most {LONGEST} bytes",
    )


def _candidates() -> list[Path]:
    chosen = os.environ.get("GRIDOPS_RUNTIME_DIR")
    if chosen:
        return [Path(chosen).absolute()]
    own = Path("/tmp") / f"gridops-{os.getuid()}"
    run = os.environ.get("XDG_RUNTIME_DIR")
    return [Path(run) / "gridops", own] if run and os.access(run, os.W_OK) else [own]


def _private(path: Path) -> Path:
    try:
        found = _lstat(path)
    except OSError as exc:
        raise NoPrivateDirectory(
            f"cannot make {path}: {exc.strerror}",
            "set GRIDOPS_RUNTIME_DIR to a directory of your own",
        ) from exc
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not ours or stat.S_IMODE(found.st_mode) & 0o077:
        raise NoPrivateDirectory(
            f"{path} is not a directory that only you can enter",
            f"remove it, `chmod 700 {path}`, or set GRIDOPS_RUNTIME_DIR",
        )
    return path


def _lstat(path: Path) -> os.stat_result:
    """Stat the directory, made first where there is none."""
    try:
        return path.lstat()
    except FileNotFoundError:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path.lstat()


def make_room(files: int) -> int:
    """Let this process hold `files` more descriptors; returns how many it may hold.

    Raises the soft limit only as far as needed, because children inherit it. Fewer than asked for
    come back when the hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (OSError, ValueError):  # macOS has a further limit of its own
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return files if soft == resource.RLIM_INFINITY else max(1, min(files, soft - SPARE_FILES))
