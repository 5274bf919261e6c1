"""Parser of rsync's output: the itemized changes, the progress and the totals of a transfer.

Source: rsync(1), --out-format, --info=progress2 and --stats. With LC_ALL=C a byte that is not
printable ASCII comes as a backslash, a number sign and three octal digits.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from gridops.errors import UnreadableAnswer
from gridops.reach.answers import Limit, Lines
from gridops.transfers.names import unescape

ITEM_MARK = b"="  # begins our lines: no message, progress or total of rsync's does
OUT_FORMAT = "--out-format==%i %n"

EVENT_INTERVAL = 0.1  # seconds
MAX_NOTED = 50_000  # names of what was not transferred; the rest is passed over
# A line a file, and progress: beyond that somebody else than rsync speaks.
OUTPUT_LIMIT = Limit(lines=2_000_000, bytes=512 * 1024 * 1024, rate=20_000.0)

Progress = Callable[[int, int], None]  # percent of the tree's bytes, bytes so far

_PROGRESS = re.compile(rb"\s{0,32}(\d[\d.,]{0,30})\s{1,32}(\d{1,3})%\s")
_TOTAL = re.compile(rb"Total bytes (?:sent|received): (\d[\d.,]{0,30})")
_SPECIAL = re.compile(rb'skipping (?:non-regular|special|device) file "(.*)"')
_HIDDEN = re.compile(rb"\[sender\] hiding (?:file|directory|symlink) (.*) because of pattern \S+$")
_UNSAFE = re.compile(rb'ignoring unsafe symlink "(.*?)" -> "')


def throttle(tell: Callable[..., None]) -> Progress:
    """Progress that calls `tell(percent=…, bytes=…)`, no oftener than every EVENT_INTERVAL."""
    last = 0.0

    def report(percent: int, count: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= EVENT_INTERVAL:
            last = now
            tell(percent=percent, bytes=count)

    return report


@dataclass(frozen=True, slots=True)
class Transfer:
    """Outcome of a transfer. Names are relative to the source, a directory's with a slash."""

    added: tuple[bytes, ...] = ()
    changed: tuple[bytes, ...] = ()
    skipped: tuple[bytes, ...] = ()  # neither file, directory nor symlink
    unsafe: tuple[bytes, ...] = ()  # symlinks that lead out, with --safe-links
    hidden: tuple[bytes, ...] = ()  # excluded, with --debug=filter1
    files: tuple[bytes, ...] = ()  # regular files whose content was sent
    bytes: int = 0  # on the wire, both ways

    def __add__(self, other: Transfer) -> Transfer:
        return Transfer(
            self.added + other.added,
            self.changed + other.changed,
            self.skipped + other.skipped,
            self.unsafe + other.unsafe,
            self.hidden + other.hidden,
            self.files + other.files,
            self.bytes + other.bytes,
        )


class Output:
    """A sink for rsync's standard output."""

    def __init__(self, on_progress: Progress | None = None, most: int = 1_000_000) -> None:
        """`most`: limit of the items that rsync can have to tell of; 0: they are passed over."""
        self._lines = Lines(self._line, OUTPUT_LIMIT)
        self._most = most
        self._on_progress = on_progress
        self._added: list[bytes] = []
        self._changed: list[bytes] = []
        self._skipped: list[bytes] = []
        self._unsafe: list[bytes] = []
        self._hidden: list[bytes] = []
        self._files: list[bytes] = []
        self._bytes = 0

    def __call__(self, data: bytes) -> None:
        self._lines(data.replace(b"\r", b"\n"))

    def result(self) -> Transfer:
        """The outcome as printed so far."""
        return Transfer(
            tuple(self._added),
            tuple(self._changed),
            tuple(self._skipped),
            tuple(self._unsafe),
            tuple(self._hidden),
            tuple(self._files),
            self._bytes,
        )

    def _line(self, line: bytes) -> None:
        if line.startswith(ITEM_MARK):
            self._item(line[len(ITEM_MARK) :])
        elif match := _PROGRESS.match(line):
            if self._on_progress:
                self._on_progress(int(match[2]), _number(match[1]))
        elif match := _TOTAL.match(line):
            self._bytes += _number(match[1])
        elif match := _SPECIAL.match(line):
            _note(self._skipped, match[1])
        elif match := _UNSAFE.match(line):
            _note(self._unsafe, match[1])
        elif match := _HIDDEN.match(line):
            _note(self._hidden, match[1])

    def _item(self, item: bytes) -> None:
        """Parse `YXcstpoguax name`: Y the update, X the file type, then + for new or changes."""
        what, _, name = item.partition(b" ")
        if len(what) < 3 or what.startswith(b"*") or not self._most:
            return
        if len(self._added) + len(self._changed) >= self._most:
            raise UnreadableAnswer("rsync lists more files than there are")
        plain = unescape(name)
        (self._added if what[2:3] == b"+" else self._changed).append(plain)
        if what[:1] in b"<>" and what[1:2] == b"f":
            self._files.append(plain)


def _note(names: list[bytes], name: bytes) -> None:
    if len(names) < MAX_NOTED:
        names.append(unescape(name))


def _number(text: bytes) -> int:
    return int(text.replace(b",", b"").replace(b".", b""))
