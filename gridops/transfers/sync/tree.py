"""A project tree: the names of all that travels, computed once for any number of nodes.

In a git work tree these are exactly git's files (tracked and untracked, minus ignored, submodules
included), elsewhere all files and empty directories but `.git`; in both minus exclude patterns.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.errors import SyncError, UsageError
from gridops.observe import events
from gridops.transfers.output import Transfer, printable
from gridops.transfers.record import STATE
from gridops.transfers.sync.exclude import Excluded, compile_patterns
from gridops.transfers.sync.fetched import exclude_fetched
from gridops.transfers.sync.git import NotGit, git_files, in_work_tree
from gridops.transfers.sync.walk import Files, parent

if TYPE_CHECKING:
    from gridops.inventory.settings import SyncSettings

_ODD = re.compile(rb"[^ -\[\]-~]")  # everything but printable ASCII without the backslash
TIMESTAMP_GRACE = 0.05  # seconds by which a file's time may be older than the moment it was written
_SHOWN = 3  # names in a warning


@dataclass(frozen=True)
class FileTimes:
    """Stat of the files, as of a moment on time.time().

    Of each file when it was last written, its size in bytes (nan and 0 for what rsync will have to
    tell), and its mark: another one whenever the file may be another one. 0 is no mark: it changed
    so lately that it may change once more within one tick of the clock.
    """

    at: float
    files: tuple[tuple[float, int], ...]
    marks: array[int]

    @classmethod
    def of(cls, root: Path, names: Iterable[bytes]) -> FileTimes:
        at = time.time()
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            low = int((at - TIMESTAMP_GRACE) * 1e9)
            marks = array("q")
            files = tuple([_look(name, descriptor, low, marks.append) for name in names])
            return cls(at, files, marks)
        finally:
            os.close(descriptor)


def _look(name: bytes, root: int, low: int, mark: Callable[[int], None]) -> tuple[float, int]:
    try:
        found = os.stat(name, dir_fd=root, follow_symlinks=False)
    except OSError:
        mark(0)
        return nan, 0
    changed, size = found.st_ctime_ns, found.st_size
    mark(hash((found.st_mtime_ns, changed, size, found.st_ino)) if changed < low else 0)
    return found.st_mtime, size


@dataclass(frozen=True)
class Tree:
    """Names of all that travels. They are bytes relative to `root`."""

    root: Path  # absolute, without symlinks
    names: tuple[bytes, ...]  # files and symlinks
    empty: tuple[bytes, ...] = ()  # directories with nothing in them
    unreadable: tuple[bytes, ...] = ()  # directories whose contents could not be listed
    symlinks: frozenset[bytes] = frozenset()  # those among `names`
    fetched: int = 0  # files left out, since a fetch brought them
    seen: FileTimes | None = None
    source: Path | None = None  # where it comes from, when `root` is a copy of that

    def for_many(self) -> Tree:
        """The same tree, looked at once; else every node's sync would do that by itself."""
        tree = replace(self, seen=FileTimes.of(self.root, self.names))
        _ = tree.digest
        return tree

    @property
    def origin(self) -> Path:
        """The directory that the user knows it by."""
        return self.source or self.root

    @property
    def project(self) -> str:
        """Name of the tree's directory on a node."""
        return self.origin.name

    @cached_property
    def manifest(self) -> bytes:
        """One line an entry, sorted by bytes; at its end a directory has a slash, a symlink a tab.

        What is not printable ASCII, and the backslash, is written as printf's %b reads it: \\0 and
        octal.
        """
        entries = [*self.names, *(name + b"/" for name in self.empty)]
        lines = sorted(map(_escaped, entries))
        links = frozenset(map(_escaped, self.symlinks))
        return b"".join(line + (b"\t\n" if line in links else b"\n") for line in lines)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.manifest).hexdigest()

    def as_new(self) -> Transfer:
        """Outcome of a transfer to a node that has nothing."""
        folders = tuple(name + b"/" for name in self.empty)
        files = tuple(name for name in self.names if name not in self.symlinks)
        return Transfer(added=(*self.names, *folders), files=files)


def _escaped(name: bytes) -> bytes:
    return _ODD.sub(lambda match: b"\\0%03o" % match[0][0], name)


def list_tree(src: str | Path, settings: SyncSettings) -> Tree:
    """The tree at `src`, as it is now.

    Raises UsageError when there is no such directory and SyncError when git refuses to list it.
    What is left out or will not work on a node is said by warning events.
    """
    root = _directory(src)
    excluded = compile_patterns(settings.exclude_patterns)
    found = _git(root, settings.timeout) if settings.gitignore else None
    if found is not None and excluded:
        found.exclude(excluded)
    elif found is None:
        found = _everything(root, excluded)
    _leave_out_state(found)
    fetched = exclude_fetched(found, lambda: _tracked(root, found, settings.timeout))
    _warn(found)
    return Tree(
        root,
        tuple(sorted(found.names)),
        tuple(sorted(found.empty)),
        tuple(sorted(set(found.unreadable))),
        frozenset(found.symlinks),
        fetched,
    )


def _directory(src: str | Path) -> Path:
    try:
        root = Path(src).expanduser().resolve(strict=True)
    except (OSError, RuntimeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise UsageError(f"cannot sync {src}: {reason}", hint="--src names a directory") from exc
    if not root.is_dir():
        raise UsageError(f"cannot sync {src}: it is not a directory", hint="--src names one")
    return root


def _everything(root: Path, excluded: Excluded | None) -> Files:
    found = Files(os.fsencode(root))
    try:
        found.walk(excluded)
    except OSError as exc:
        raise UsageError(f"cannot read {root}: {exc.strerror}") from exc
    return found


def _git(root: Path, timeout: float) -> Files | None:
    if not in_work_tree(root):
        return None
    try:
        return git_files(root, timeout)
    except NotGit as why:
        _say(f"{root}: {why}; taking every file but .git and sync.exclude_patterns")
        return None


def _tracked(root: Path, found: Files, timeout: float) -> set[bytes]:
    """Names that git tracks; also where it was not asked what belongs to the tree."""
    if found.untracked is None:
        try:
            found = git_files(root, timeout) if in_work_tree(root) else Files(b"")
        except (NotGit, SyncError):
            return set()
    return set(found.names) - (found.untracked or set())


def _leave_out_state(found: Files) -> None:
    for paths in (found.names, found.symlinks, found.special, found.empty):
        paths[:] = [p for p in paths if p != STATE and not p.startswith(STATE + b"/")]


def _warn(found: Files) -> None:
    if found.special:
        _say(f"left out, since no regular files: {_some(found.special)}")
    leading_out = [name for name in found.symlinks if _leads_out(found.root, name)]
    if leading_out:
        _say(f"symlinks that lead out of the tree travel as they are: {_some(leading_out)}")


def _leads_out(root: bytes, name: bytes) -> bool:
    try:
        to = os.readlink(root + b"/" + name)  # noqa: PTH115 - a Path holds no bytes
    except OSError:
        return False
    inside = os.path.normpath(b"/".join((parent(name) or b".", to)))
    return to.startswith(b"/") or inside == b".." or inside.startswith(b"../")


def _some(names: Iterable[bytes]) -> str:
    every = sorted(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(printable(name) for name in every[:_SHOWN]) + more


def _say(message: str) -> None:
    events.emit(events.WARNING, message=message)
