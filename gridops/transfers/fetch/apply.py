"""Move whole files from the stage into place, or keep those here."""

from __future__ import annotations

import errno
import filecmp
import os
import secrets
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass, field

from gridops.transfers.names import REPOSITORY, holds_private, is_private, is_repository
from gridops.transfers.record import STATE_NAME

NOT_A_DIRECTORY = "what is in its place here is not a directory"
LEADS_OUT = "a symlink that leads elsewhere is in its place here"
A_DIRECTORY = "a directory is in its place here"
LEADS_TO_PRIVATE = f"a symlink into a repository or {STATE_NAME} is in its place here"
SPECIAL = "a special file is in its place here"


@dataclass
class Installer:
    """Mover of files from one directory into another; it keeps account. Names are relative.

    A file here that is newer and differs stays, unless `overwrite`. Each file takes its place in
    one step. Nothing is written outside `into`: a symlink here that leads out is not followed.
    """

    stage: str
    into: str  # absolute, without symlinks
    overwrite: bool = False
    new: list[str] = field(default_factory=list)
    replaced: dict[str, os.stat_result] = field(default_factory=dict)  # what was here before
    kept: list[str] = field(default_factory=list)  # newer here
    obstacles: dict[str, str] = field(default_factory=dict)  # could not take its place, and why
    made: list[str] = field(default_factory=list)  # directories that were not here
    private: list[str] = field(default_factory=list)  # stay away: what they mean is for us to say
    _ready: set[str] = field(default_factory=set)  # directories that are there

    def take(self, name: str) -> None:
        """Move the file or directory `name`, if it is in the stage. Raises OSError."""
        parts = [] if name == "." else name.split("/")
        folders = ["/".join(parts[:count]) for count in range(1, len(parts))]
        if any(os.path.islink(self._path_in_stage(folder)) for folder in folders):  # noqa: PTH114
            return  # it leads to something that comes by its own name, or nowhere good
        if any(map(self._private, folders)):
            return
        if not os.path.lexists(self._path_in_stage(name)) or not all(map(self._directory, folders)):
            return
        pending = [name]
        while pending:
            one = pending.pop()
            if self._private(one):
                continue
            info = os.lstat(self._path_in_stage(one))
            if not stat.S_ISDIR(info.st_mode):
                self._file(one, info)
            elif one == "." or self._directory(one):
                inside = os.listdir(self._path_in_stage(one))  # noqa: PTH208
                pending += inside if one == "." else [f"{one}/{entry}" for entry in inside]

    def _path_in_stage(self, name: str) -> str:
        return f"{self.stage}/{name}"

    def _here(self, name: str) -> str:
        return f"{self.into}/{name}"

    def _private(self, name: str) -> bool:
        """True for (part of) a repository or gridops' own, once in place."""
        above, _, last = name.rpartition("/")
        found = is_private(last) or (
            last.lower() in REPOSITORY and is_repository(self._beside(above or "."))
        )
        if found and name not in self.private:
            self.private.append(name)
        return found

    def _beside(self, directory: str) -> set[str]:
        """Names in a directory here or still staged for it."""
        names: set[str] = set()
        for path in (self._path_in_stage(directory), self._here(directory)):
            with suppress(OSError):
                names.update(os.listdir(path))  # noqa: PTH208
        return names

    def _directory(self, name: str) -> bool:
        """Make the directory here if need be; its parents are there. False: it cannot be had."""
        if name in self._ready:
            return True
        path = self._here(name)
        with suppress(FileExistsError):
            os.mkdir(path)  # noqa: PTH102 - names are texts here throughout
            self.made.append(name)
        if not os.path.isdir(path):  # noqa: PTH112
            self.obstacles[name] = NOT_A_DIRECTORY
        elif os.path.islink(path) and not self._within(os.path.realpath(path)):  # noqa: PTH114
            self.obstacles[name] = LEADS_OUT
        elif os.path.islink(path) and self._leads_to_private(path):  # noqa: PTH114
            self.obstacles[name] = LEADS_TO_PRIVATE
        else:
            self._ready.add(name)
            return True
        return False

    def _within(self, path: str) -> bool:
        return path.startswith(self.into.rstrip("/") + "/")

    def _leads_to_private(self, path: str) -> bool:
        way = os.path.realpath(path)[len(self.into.rstrip("/")) + 1 :].split("/")
        return holds_private(way) or is_repository(self._beside("/".join(way)))

    def _file(self, name: str, staged: os.stat_result) -> None:
        try:
            here = os.lstat(self._here(name))
        except FileNotFoundError:
            self._move(name)
            self.new.append(name)
            return
        if stat.S_ISDIR(here.st_mode):
            self.obstacles[name] = A_DIRECTORY
        elif not stat.S_ISREG(here.st_mode) and not stat.S_ISLNK(here.st_mode):
            self.obstacles[name] = SPECIAL
        elif here.st_mtime_ns <= staged.st_mtime_ns or self.overwrite:
            self._move(name)
            self.replaced[name] = here
        elif not self._same(name, staged, here):
            self.kept.append(name)

    def _same(self, name: str, staged: os.stat_result, here: os.stat_result) -> bool:
        one, other = self._path_in_stage(name), self._here(name)
        if stat.S_IFMT(staged.st_mode) != stat.S_IFMT(here.st_mode):
            return False
        if stat.S_ISLNK(here.st_mode):
            return os.readlink(one) == os.readlink(other)  # noqa: PTH115
        return staged.st_size == here.st_size and filecmp.cmp(one, other, shallow=False)

    def _move(self, name: str) -> None:
        try:
            os.replace(self._path_in_stage(name), self._here(name))  # noqa: PTH105
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
            self._copy(name)

    def _copy(self, name: str) -> None:
        """Move it onto another file system, which some directory here may be."""
        folder = os.path.dirname(self._here(name))  # noqa: PTH120
        half = f"{folder}/{STATE_NAME}-{secrets.token_hex(6)}"
        try:
            shutil.copy2(self._path_in_stage(name), half, follow_symlinks=False)
            os.replace(half, self._here(name))  # noqa: PTH105
        finally:
            with suppress(FileNotFoundError):
                os.unlink(half)  # noqa: PTH108
