"""What rsync prints: the itemized changes, the progress and the totals of a transfer.

Source: rsync(1), --out-format, --info=progress2 and --stats. With LC_ALL=C a byte that is not
printable ASCII comes as a backslash, a number sign and three octal digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from gridops.render import words

MARK = b"="  # begins our lines: no message, progress or total of rsync's does
OUT_FORMAT = "--out-format==%i %n"

Progress = Callable[[int, int], None]  # percent of the tree's bytes, bytes so far

_ESCAPE = re.compile(rb"\\#([0-3][0-7]{2})")
_PROGRESS = re.compile(rb"\s*([\d.,]+)\s+(\d+)%\s")
_TOTAL = re.compile(rb"Total bytes (?:sent|received): ([\d.,]+)")
_SPECIAL = re.compile(rb'skipping (?:non-regular|special|device) file "(.*)"')
_HIDDEN = re.compile(rb"\[sender\] hiding (?:file|directory|symlink) (.*) because of pattern \S+$")
_UNSAFE = re.compile(rb'ignoring unsafe symlink "(.*)" -> ".*"')


def unescape(text: bytes) -> bytes:
    """A name as rsync prints it → the name's own bytes."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), text)


def printable(name: bytes) -> str:
    """A name for people, on one line: whatever cannot be shown is written as `ls -b` would."""
    return words.printable(name.decode("utf-8", "backslashreplace"))


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a transfer did. Names are relative to the source, a directory's with a slash."""

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

    def __init__(self, on_progress: Progress | None = None) -> None:
        self._rest = b""
        self._on_progress = on_progress
        self._added: list[bytes] = []
        self._changed: list[bytes] = []
        self._skipped: list[bytes] = []
        self._unsafe: list[bytes] = []
        self._hidden: list[bytes] = []
        self._files: list[bytes] = []
        self._bytes = 0

    def __call__(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            if line:
                self._line(line)

    def result(self) -> Transfer:
        """What has been printed so far."""
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
        if line.startswith(MARK):
            self._item(line[len(MARK) :])
        elif match := _PROGRESS.match(line):
            if self._on_progress:
                self._on_progress(int(match[2]), _number(match[1]))
        elif match := _TOTAL.match(line):
            self._bytes += _number(match[1])
        elif match := _SPECIAL.match(line):
            self._skipped.append(unescape(match[1]))
        elif match := _UNSAFE.match(line):
            self._unsafe.append(unescape(match[1]))
        elif match := _HIDDEN.match(line):
            self._hidden.append(unescape(match[1]))

    def _item(self, item: bytes) -> None:
        """`YXcstpoguax name`: Y how it is updated, X what it is, then + for new or the changes."""
        what, _, name = item.partition(b" ")
        if len(what) < 3 or what.startswith(b"*"):
            return
        plain = unescape(name)
        (self._added if what[2:3] == b"+" else self._changed).append(plain)
        if what[:1] in b"<>" and what[1:2] == b"f":
            self._files.append(plain)


def _number(text: bytes) -> int:
    return int(text.replace(b",", b"").replace(b".", b""))
