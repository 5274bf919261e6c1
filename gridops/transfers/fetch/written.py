"""Files on a node that a run wrote or changed: by the times that the node tells of them.

A file's own time (mtime) proves nothing, since `cp -p`, `tar` and `touch` set it. That of its
inode's last change (ctime) is the file system's own; but a rename of a directory leaves those
inside alone, and a hard link to a file counts as a change of it. Times are texts as stat's %z and
%y print them in UTC, which are in order as they are.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

SECONDS = 19  # characters of a time without its fraction
TIME_LENGTH = 29
TICK_GRACE = 0.02  # seconds by which two clocks that were read one after the other may seem apart

Verdict = Literal["written", "older", "later"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Times, links and mode of one name, as a node tells them."""

    changed: str
    modified: str
    links: int
    mode: int

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


@dataclass(frozen=True, slots=True)
class Window:
    """Time span of a run; by the clock of the files' own file system."""

    began: str
    ended: str | None = None  # it goes on
    others: tuple[tuple[str, str | None], ...] = ()  # when other runs began and ended
    shared: bool = False  # other runs have snapshots, which may be hard links to these files

    def judge(self, entry: Entry) -> Verdict:
        """Judge whether the run was the last to change it."""
        if precedes(entry.changed, self.began):
            return "older"
        earlier = precedes(entry.modified, self.began)
        if self.ended is None or not precedes(self.ended, entry.changed):
            linked = self.shared and entry.links > 1 and earlier and not entry.is_directory
            return "older" if linked else "written"
        if earlier:
            return "older"  # and linked or unlinked by now, or put there by a later run
        if not precedes(self.ended, entry.modified):
            return "written"
        return "later" if self._of_another(entry) else "written"  # or changed by a person since

    def _of_another(self, entry: Entry) -> bool:
        """True if another run was there when it changed."""
        return any(
            not precedes(time, began) and (ended is None or not precedes(ended, time))
            for began, ended in self.others
            for time in (entry.changed, entry.modified)
        )

    def moved(self, entry: Entry) -> bool:
        """True if the run gave this directory its name: it changed, and no name in it did."""
        return (
            entry.is_directory
            and self.judge(entry) == "written"
            and precedes(entry.modified, self.began)
        )

    def move_by(self, seconds: float) -> Window:
        """The window by a clock that is `seconds` ahead."""
        if abs(seconds) < TICK_GRACE:
            return self

        def shift(began: str, ended: str | None) -> tuple[str, str | None]:
            early, late = seconds - TICK_GRACE, seconds + TICK_GRACE
            return _shift(began, early), ended and _shift(ended, late)

        others = tuple(shift(*other) for other in self.others)
        return Window(*shift(self.began, self.ended), others, self.shared)


@dataclass
class Choice:
    """Files that are to come, and those that are not."""

    names: dict[str, list[str]] = field(default_factory=dict)  # for each name that was matched
    older: int = 0  # files that the run did not write
    later: list[str] = field(default_factory=list)  # files that changed after its end


def precedes(one: str, other: str) -> bool:
    """True if one time is before the other; where one has no fraction, by their seconds."""
    fine = _is_fine(one) and _is_fine(other)
    size = TIME_LENGTH if fine else SECONDS
    return one[:size] < other[:size]


class Chooser:
    """Collect for each of `names` the files that the run wrote.

    Entries come one by one, as find walks: a directory right before what is in it; those above the
    names first, the outer ones before the inner. A name that ends with a slash is a symlink to a
    directory, and comes as a whole. What the run did not write takes no memory.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._shares = {name.removesuffix("/"): _Share(name) for name in names}
        self._above = set(above(self._shares))
        self._moved: dict[str, bool] = {}  # of those above the names: did the run move it here?
        self._way: list[tuple[str, bool]] = []  # the same of the directories of the last entry
        self._open: tuple[str, Verdict] | None = None  # a directory in which nothing was found yet

    def add(self, path: str, entry: Entry, window: Window, *, counts: bool = True) -> None:
        """Take the next entry; one that does not count is never chosen."""
        parent = path.rpartition("/")[0]
        if self._open and self._open[0] == parent:
            self._open = None
        self._close()
        moved = self._is_moved(parent)
        verdict = window.judge(entry)
        if verdict == "older" and moved:
            verdict = "written"
        moved = moved or window.moved(entry)
        shares = list(self._shares_of(path))
        if path in self._above and not shares:
            self._moved[path] = moved
        elif entry.is_directory:
            self._way.append((path, moved))
            if counts and path != ".":
                self._open = (path, verdict)
        elif counts:
            for share in shares:
                share.add_file(path, verdict)

    def choice(self) -> Choice:
        """The files to come, of all that was added."""
        self._close()
        shares = self._shares.values()
        return Choice(
            {share.name: share.choose() for share in shares},
            sum(share.older for share in shares),
            [path for share in shares for path in share.later],
        )

    def _close(self) -> None:
        """Count the open directory itself, since it is empty."""
        if self._open:
            path, verdict = self._open
            for share in self._shares_of(path):
                share.add_empty(path, verdict)
        self._open = None

    def _is_moved(self, parent: str) -> bool:
        while self._way and self._way[-1][0] != parent:
            self._way.pop()
        return self._way[-1][1] if self._way else self._moved.get(parent, False)

    def _shares_of(self, path: str) -> Iterator[_Share]:
        """Shares of the names that `path` is, or is below."""
        if path != "." and "." in self._shares:
            yield self._shares["."]
        while path:
            if path in self._shares and path != ".":
                yield self._shares[path]
            path = path.rpartition("/")[0]


@dataclass
class _Share:
    """Entries found of one name."""

    name: str
    files: list[str] = field(default_factory=list)  # that the run wrote, as it did these
    empty: list[str] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    older: int = 0
    others: int = 0  # empty directories that it did not write

    def add_file(self, path: str, verdict: Verdict) -> None:
        if verdict == "written":
            self.files.append(path)
        elif verdict == "later":
            self.later.append(path)
        else:
            self.older += 1

    def add_empty(self, path: str, verdict: Verdict) -> None:
        if verdict == "written":
            self.empty.append(path)
        else:
            self.others += 1

    def choose(self) -> list[str]:
        """The name itself where that is all, else the files."""
        fresh = self.files + self.empty
        whole = fresh and not (self.older or self.others or self.later)
        return [self.name] if whole or (fresh and self.name.endswith("/")) else fresh


def topmost(names: Iterable[str]) -> list[str]:
    """Names that are not below another of the names."""
    plain = {name.removesuffix("/"): name for name in names}
    if "." in plain:
        return ["."]
    return [name for path, name in plain.items() if not any(one in plain for one in above([path]))]


def above(names: Iterable[str]) -> list[str]:
    """The directories above the names, each once."""
    found: dict[str, None] = {}
    for name in names:
        path = name.removesuffix("/").rpartition("/")[0]
        while path and path not in found:
            found[path] = None
            path = path.rpartition("/")[0]
    return list(found)


def _is_fine(time: str) -> bool:
    return time[SECONDS : SECONDS + 1] == "." and time[SECONDS + 1 : TIME_LENGTH].strip("0") != ""


def moment(time: str) -> datetime:
    form = "%Y-%m-%d %H:%M:%S.%f" if _is_fine(time) else "%Y-%m-%d %H:%M:%S"
    return datetime.strptime(time[: SECONDS + (7 if _is_fine(time) else 0)], form)


def _shift(time: str, seconds: float) -> str:
    return (moment(time) + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S.%f") + "000"
