"""The answer of times.sh, read as it comes: the entries, and the window to judge them by."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from gridops.reach.answers import MAX_LINE, Limit, Meter
from gridops.transfers.fetch.written import Entry, Window, moment

TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?( [-+]\d{4})?")


class Times:
    """A sink for the answer of times.sh; it hands on the entries, with the window, as they come.

    A record may hold line ends, but no mark. `window` is None where it is not known.
    """

    def __init__(
        self, mark: str, run: str, on_entry: Callable[[str, Entry, Window], None], limit: Limit
    ) -> None:
        self.window: Window | None = None
        self._between = os.fsencode(f"\n{mark} ")
        self._rest = b"\n"
        self._run, self._on_entry = run, on_entry
        self._meter = Meter(limit)
        self._times: dict[str, str] = {}
        self._runs: dict[str, dict[str, str]] = {}
        self._begun = False
        self._fault: ValueError | None = None

    def __call__(self, data: bytes) -> None:
        *records, self._rest = (self._rest + data).split(self._between)
        self._meter.add(len(records), len(data))
        self._rest = self._rest[: MAX_LINE + 1]
        if self._fault:
            return
        try:
            for record in records:
                self._take(os.fsdecode(record[:MAX_LINE]))
        except (ValueError, OverflowError) as exc:
            self._fault = ValueError(str(exc))

    def finish(self) -> None:
        """Take the end of the answer. Raises ValueError when it is not whole, or no answer."""
        if self._fault:
            raise self._fault
        if self._rest != b"done\n":
            raise ValueError("not whole")
        self._begin()

    def _take(self, record: str) -> None:
        word, _, rest = record.partition(" ")
        if word == "run":
            time, _, path = rest.rpartition(" ")
            *_, name, what = path.split("/")
            self._runs.setdefault(name, {})[what] = _time(time)
        elif word in ("here", "home"):
            self._times[word] = _time(rest)
        elif word == "shared":
            self._times[word] = ""
        elif record:
            self._begin()
            name, entry = _entry(record)
            if self.window:
                self._on_entry(name, entry, self.window)

    def _begin(self) -> None:
        """Set the window, once all is there that tells of it."""
        if not self._begun:
            self._begun = True
            self.window = _window(self._run, self._runs, self._times)


def _window(run: str, runs: dict[str, dict[str, str]], times: dict[str, str]) -> Window | None:
    ours = runs.pop(run, {})
    if "child" not in ours:
        return None
    others = tuple((one["child"], one.get("exit")) for one in runs.values() if "child" in one)
    window = Window(ours["child"], ours.get("exit"), others, "shared" in times)
    if "here" in times and "home" in times:
        ahead = moment(times["here"]) - moment(times["home"])
        window = window.move_by(ahead.total_seconds())
    return window


def _entry(record: str) -> tuple[str, Entry]:
    changed, modified, links, mode, name = record.split("|", 4)
    entry = Entry(_time(changed), _time(modified), int(links), int(mode, 16))
    while name.startswith("./"):  # twice below the directory itself
        name = name[2:]
    return name.rstrip("/") or ".", entry


def _time(text: str) -> str:
    text = text.strip()
    if not TIME.fullmatch(text):
        raise ValueError("not a time")
    return text
