"""Files as they are on this machine, by name: the raw material of a Tree. Names are bytes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from gridops.sync.patterns import Excluded

Kind = Literal["file", "symlink", "directory", "special", "missing", "unreadable"]
STATE = b".gridops"  # at the top of a tree on a node: gridops' own, never part of a tree


def parent(path: bytes) -> bytes:
    """The directory part; empty at the top."""
    return path.rpartition(b"/")[0]


@dataclass(slots=True)
class Files:
    """What was found below `root`, relative to it."""

    root: bytes
    names: list[bytes] = field(default_factory=list)  # files and symlinks
    empty: list[bytes] = field(default_factory=list)  # directories with nothing in them
    symlinks: list[bytes] = field(default_factory=list)
    special: list[bytes] = field(default_factory=list)  # sockets, pipes, devices
    unreadable: list[bytes] = field(default_factory=list)  # what is in there is not known

    def add(self, path: bytes) -> Kind:
        """Look what `path` is; a file or symlink is taken in."""
        try:
            mode = os.lstat(self.root + b"/" + path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return "missing"
        except OSError:
            self.names.append(path)  # the transfer will say what is wrong with it
            return "unreadable"
        if stat.S_ISDIR(mode):
            return "directory"
        return self._take(path, symlink=stat.S_ISLNK(mode), regular=stat.S_ISREG(mode))

    def _take(self, path: bytes, *, symlink: bool, regular: bool) -> Kind:
        if symlink:
            self.symlinks.append(path)
        elif not regular:
            self.special.append(path)
            return "special"
        self.names.append(path)
        return "symlink" if symlink else "file"

    def walk(self, excluded: Excluded | None) -> None:
        """Take in everything below the root but `.git` and what is `excluded`."""
        waiting = [b""]
        while waiting:
            prefix = waiting.pop()
            below = self._scan(prefix, excluded)
            if below is None:
                continue
            waiting += [name + b"/" for name in below]

    def _scan(self, prefix: bytes, excluded: Excluded | None) -> list[bytes] | None:
        """Take in one directory; returns the directories in it."""
        directories: list[bytes] = []
        kept = False
        try:
            with os.scandir(self.root + b"/" + prefix) as entries:
                for entry in entries:
                    path = prefix + entry.name
                    is_directory = entry.is_dir(follow_symlinks=False)
                    if entry.name == b".git" or (excluded and excluded(path, is_directory)):
                        continue
                    kept = True
                    if is_directory:
                        directories.append(path)
                    else:
                        self._take(
                            path,
                            symlink=entry.is_symlink(),
                            regular=entry.is_file(follow_symlinks=False),
                        )
        except OSError:
            if not prefix:
                raise
            self.unreadable.append(prefix.rstrip(b"/"))
            return None
        if not kept and prefix:
            self.empty.append(prefix.rstrip(b"/"))
        return directories

    def exclude(self, excluded: Excluded) -> None:
        """Leave out what is excluded, or lies in an excluded directory."""
        inside: dict[bytes, bool] = {b"": False}

        def hidden(directory: bytes) -> bool:
            if directory not in inside:
                above = hidden(parent(directory))
                inside[directory] = above or excluded(directory, True)
            return inside[directory]

        for paths in (self.names, self.symlinks, self.special):
            paths[:] = [p for p in paths if not hidden(parent(p)) and not excluded(p, False)]
        self.unreadable[:] = [p for p in self.unreadable if not hidden(p)]


def real_directories(root: bytes) -> Callable[[bytes], bool]:
    """A question that remembers its answers: is that relative path a directory, and are all above
    it, without a symlink among them?"""
    known: dict[bytes, bool] = {b"": True}

    def is_real(directory: bytes) -> bool:
        if directory not in known:
            known[directory] = is_real(parent(directory)) and _is_directory(root + b"/" + directory)
        return known[directory]

    return is_real


def _is_directory(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # cannot be looked at: what is said to be in it will tell
