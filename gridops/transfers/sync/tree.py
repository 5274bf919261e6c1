"""A project tree: the names of all that travels, and its directory on a node."""

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

_ODD = re.compile(rb"[^ -\[\]-~]")  # everything but printable ASCII without the backslash
TIMESTAMP_GRACE = 0.05  # seconds by which a file's time may be older than the moment it was written


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
        lines = sorted(map(_escape, entries))
        links = frozenset(map(_escape, self.symlinks))
        return b"".join(line + (b"\t\n" if line in links else b"\n") for line in lines)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.manifest).hexdigest()


def _escape(name: bytes) -> bytes:
    return _ODD.sub(lambda match: b"\\0%03o" % match[0][0], name)


@dataclass(frozen=True, slots=True)
class RemoteState:
    """The node's directory as `prepare` found or made it."""

    state: str  # "marked", or in a dry run "absent", "new" (empty, not yet ours)
    target: str  # absolute; without symlinks where it exists
    digest: str  # of the manifest it has from this origin, as it was sent
    exact: bool  # it holds nothing else
    previous: str  # who synced to it last; empty: nobody
    partial: bool  # half-received files of an earlier sync are there
    packs: bool  # it has gzip
    token: str  # of the last sync, if that left one and was ours
    blocked: tuple[bytes, ...] = ()  # as in Deleted, by the names that it knows

    def up_to_date(self, tree: Tree, delete: bool) -> bool:
        """True if its manifest is the tree's and no deletion remains."""
        return self.digest == tree.digest and (self.exact or not delete)


@dataclass(frozen=True, slots=True)
class Deleted:
    """Names that `stage` deleted or `plan` would; `more` such names were too many to send."""

    names: tuple[bytes, ...] = ()
    more: int = 0
    kept: tuple[bytes, ...] = ()  # could not be deleted
    blocked: tuple[bytes, ...] = ()  # in their place is what no sync brought
