"""Files as they are on this machine, by name: the raw material of a Tree. Names are bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from gridops.transfers.record import STATE_DIR

Excluded = Callable[[bytes, bool], bool]  # (path relative to the tree, is it a directory?)
Kind = Literal["file", "symlink", "directory", "special", "missing", "unreadable"]


def parent(path: bytes) -> bytes:
    """The directory part; empty at the top."""
    return path.rpartition(b"/")[0]


@dataclass(slots=True)
class Files:
    """Names found below `root`, relative to it. Every directory is read at most once."""

    root: bytes
    names: list[bytes] = field(default_factory=list)  # files and symlinks
    empty: list[bytes] = field(default_factory=list)  # directories with nothing in them
    symlinks: list[bytes] = field(default_factory=list)
    special: list[bytes] = field(default_factory=list)  # sockets, pipes, devices
    unreadable: list[bytes] = field(default_factory=list)  # directories: what is in there?
    untracked: set[bytes] | None = None  # by git, if that was asked
    _seen: dict[bytes, dict[bytes, Kind] | None] = field(default_factory=dict)

    def add(self, path: bytes) -> Kind:
        """Look up the kind of `path`; take in a file or symlink.

        What lies behind a symlink is missing: it is not part of the tree.
        """
        directory, _, name = path.rpartition(b"/")
        kinds = self._inside(directory)
        kind = "unreadable" if kinds is None else kinds.get(name, "missing")
        self._take(path, kind)
        return kind

    def walk(self, excluded: Excluded | None) -> None:
        """Take in everything below the root but `.git` and `excluded` paths.

        Raises OSError when the root itself cannot be read.
        """
        os.scandir(self.root).close()
        waiting = [b""]
        while waiting:
            directory = waiting.pop()
            before = directory + b"/" if directory else b""
            kinds = self._inside(directory)
            kept = kinds is None
            for name, kind in (kinds or {}).items():
                path = before + name
                if name == b".git" or (excluded and excluded(path, kind == "directory")):
                    continue
                kept = True
                if kind == "directory":
                    waiting.append(path)
                else:
                    self._take(path, kind)
            if not kept and directory:
                self.empty.append(directory)

    def exclude(self, excluded: Excluded) -> None:
        """Leave out names that are excluded, or lie in an excluded directory."""
        inside: dict[bytes, bool] = {b"": False}

        def hidden(directory: bytes) -> bool:
            if directory not in inside:
                inside[directory] = hidden(parent(directory)) or excluded(directory, True)
            return inside[directory]

        for paths in (self.names, self.symlinks, self.special):
            paths[:] = [p for p in paths if not hidden(parent(p)) and not excluded(p, False)]
        self.unreadable[:] = [p for p in self.unreadable if not hidden(p)]

    def state_holders(self) -> Iterator[bytes]:
        """Directories that have been read and hold one of our own."""
        for path, kinds in self._seen.items():
            if kinds and kinds.get(STATE_DIR) == "directory":
                yield path

    def _take(self, path: bytes, kind: Kind) -> None:
        if kind in (
            "file",
            "symlink",
            "unreadable",
        ):  # the transfer will tell what is wrong with it
            self.names.append(path)
        if kind == "symlink":
            self.symlinks.append(path)
        elif kind == "special":
            self.special.append(path)

    def _inside(self, directory: bytes) -> dict[bytes, Kind] | None:
        """Kinds of the names in a directory; None when it cannot be read."""
        if directory not in self._seen:
            self._seen[directory] = self._read(directory)
        return self._seen[directory]

    def _read(self, directory: bytes) -> dict[bytes, Kind] | None:
        above, _, name = directory.rpartition(b"/")
        if directory and (self._inside(above) or {}).get(name, "directory") != "directory":
            return {}
        try:
            with os.scandir(self.root + b"/" + directory) as entries:
                return {entry.name: _kind(entry) for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError:
            self.unreadable.append(directory)
            return None


def _kind(entry: os.DirEntry[bytes]) -> Kind:
    if entry.is_file(follow_symlinks=False):
        return "file"
    if entry.is_dir(follow_symlinks=False):
        return "directory"
    return "symlink" if entry.is_symlink() else "special"
