"""What of the files on a node a run wrote or changed: by the times that the node tells of them.

A file's own time (mtime) proves nothing, since `cp -p`, `tar` and `touch` set it. That of its
inode's last change (ctime) is the file system's own; but a rename of a directory leaves those
inside alone, and a hard link to a file counts as a change of it. Times are texts as stat's %z and
%y print them in UTC, which are in order as they are.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

SECONDS = 19  # characters of a time without its fraction
NANOSECONDS = 29
CLOCK_MARGIN = 0.02  # seconds by which two clocks that were read one after the other may seem apart
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?( [-+]\d{4})?")

Verdict = Literal["written", "older", "later"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What a node tells of one name."""

    changed: str
    modified: str
    links: int
    mode: int

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


@dataclass(frozen=True, slots=True)
class Window:
    """When a run was there, by the clock of the files' own file system."""

    began: str
    ended: str | None = None  # it goes on
    others: tuple[tuple[str, str | None], ...] = ()  # when other runs began and ended
    shared: bool = False  # other runs have snapshots, which may be hard links to these files

    def judge(self, entry: Entry) -> Verdict:
        """Whether the run was the last to change it."""
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
        """Whether another run was there when it changed."""
        return any(
            not precedes(time, began) and (ended is None or not precedes(ended, time))
            for began, ended in self.others
            for time in (entry.changed, entry.modified)
        )

    def moved(self, entry: Entry) -> bool:
        """Whether the run gave this directory its name: it changed, and no name in it did."""
        return (
            entry.is_directory
            and self.judge(entry) == "written"
            and precedes(entry.modified, self.began)
        )

    def shifted(self, seconds: float) -> Window:
        """By a clock that is so much ahead."""
        if abs(seconds) < CLOCK_MARGIN:
            return self

        def shift(began: str, ended: str | None) -> tuple[str, str | None]:
            early, late = seconds - CLOCK_MARGIN, seconds + CLOCK_MARGIN
            return _shift(began, early), ended and _shift(ended, late)

        others = tuple(shift(*other) for other in self.others)
        return Window(*shift(self.began, self.ended), others, self.shared)


@dataclass
class Choice:
    """What is to come, and what is not."""

    names: dict[str, list[str]] = field(default_factory=dict)  # for each name that was matched
    older: int = 0  # files that the run did not write
    later: list[str] = field(default_factory=list)  # files that changed after its end


def precedes(one: str, other: str) -> bool:
    """Whether one time is before the other; where one has no fraction, by their seconds."""
    fine = _is_fine(one) and _is_fine(other)
    size = NANOSECONDS if fine else SECONDS
    return one[:size] < other[:size]


def choose(
    names: Iterable[str], entries: Mapping[str, Entry], window: Window, skip: Iterable[str] = ()
) -> Choice:
    """For each of `names` what of it the run wrote: itself where that is all, else the files.

    `entries` has all that is in them, and the directories above. A name that ends with a slash is a
    symlink to a directory, and comes as a whole. `skip`: what never comes.
    """
    within = _within(names, entries, set(skip))
    moved: dict[str, bool] = {}

    def is_moved(path: str) -> bool:
        if path not in moved:
            above = path.rpartition("/")[0]
            entry = entries.get(path)
            moved[path] = bool(entry and window.moved(entry)) or (bool(above) and is_moved(above))
        return moved[path]

    def judge(path: str) -> Verdict:
        verdict = window.judge(entries[path])
        return "written" if verdict == "older" and is_moved(path.rpartition("/")[0]) else verdict

    full = {path.rpartition("/")[0] for path in entries}
    choice = Choice()
    for name, paths in within.items():
        verdicts = {path: judge(path) for path in paths}
        files = [path for path in paths if not entries[path].is_directory]
        fresh = [path for path in files if verdicts[path] == "written"]
        empty = [p for p in paths if p not in full and entries[p].is_directory]
        fresh += [path for path in empty if verdicts[path] == "written"]
        whole = len(fresh) == len(files) + len(empty) and bool(fresh)
        choice.names[name] = [name] if whole or (fresh and name.endswith("/")) else fresh
        choice.older += sum(verdicts[path] == "older" for path in files)
        choice.later += [path for path in files if verdicts[path] == "later"]
    return choice


def read_answer(text: str, mark: str, run: str) -> tuple[Window | None, list[tuple[str, Entry]]]:
    """The window and the entries of what times.sh says; no window when it is not known.

    Raises ValueError when the answer is not whole.
    """
    times: dict[str, str] = {}
    runs: dict[str, dict[str, str]] = {}
    found: list[tuple[str, Entry]] = []
    *records, last = text.removeprefix(f"{mark} ").split(f"\n{mark} ")
    if last != "done\n":
        raise ValueError("not whole")
    for record in records:
        word, _, rest = record.partition(" ")
        if word == "run":
            time, _, path = rest.rpartition(" ")
            *_, name, what = path.split("/")
            runs.setdefault(name, {})[what] = _time(time)
        elif word in ("here", "home"):
            times[word] = _time(rest)
        elif word == "shared":
            times[word] = ""
        else:
            found.append(_entry(record))
    ours = runs.pop(run, {})
    if "child" not in ours:
        return None, found
    others = tuple((one["child"], one.get("exit")) for one in runs.values() if "child" in one)
    window = Window(ours["child"], ours.get("exit"), others, "shared" in times)
    if "here" in times and "home" in times:
        ahead = _moment(times["here"]) - _moment(times["home"])
        window = window.shifted(ahead.total_seconds())
    return window, found


def above(names: Iterable[str]) -> list[str]:
    """The directories above the names, each once."""
    found: dict[str, None] = {}
    for name in names:
        path = name.removesuffix("/").rpartition("/")[0]
        while path and path not in found:
            found[path] = None
            path = path.rpartition("/")[0]
    return list(found)


def _within(
    names: Iterable[str], entries: Mapping[str, Entry], skip: set[str]
) -> dict[str, Sequence[str]]:
    """The entries at and below each name."""
    plain = {name.removesuffix("/"): name for name in names}
    within: dict[str, list[str]] = {name: [] for name in plain.values()}
    for path in entries:
        at = path
        if path in skip:
            continue
        while at:
            if at in plain:
                within[plain[at]].append(path)
            at = at.rpartition("/")[0]
        if "." in plain and path != ".":
            within["."].append(path)
    return {name: tuple(paths) for name, paths in within.items()}


def _entry(record: str) -> tuple[str, Entry]:
    changed, modified, links, mode, name = record.split("|", 4)
    entry = Entry(_time(changed), _time(modified), int(links), int(mode, 16))
    return name.removeprefix("./").rstrip("/") or ".", entry


def _time(text: str) -> str:
    text = text.strip()
    if not TIME.fullmatch(text):
        raise ValueError("not a time")
    return text


def _is_fine(time: str) -> bool:
    return time[SECONDS : SECONDS + 1] == "." and time[SECONDS + 1 : NANOSECONDS].strip("0") != ""


def _moment(time: str) -> datetime:
    form = "%Y-%m-%d %H:%M:%S.%f" if _is_fine(time) else "%Y-%m-%d %H:%M:%S"
    return datetime.strptime(time[: SECONDS + (7 if _is_fine(time) else 0)], form)


def _shift(time: str, seconds: float) -> str:
    return (_moment(time) + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S.%f") + "000"
