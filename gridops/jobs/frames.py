"""Parser of the node's side of a session: lines, and pieces of the two streams.

`out OFFSET LENGTH` or `err OFFSET LENGTH` is followed by so many bytes; every other line stands for
itself. Nothing is kept longer than a line, and lines are taken as far as the limit goes; pieces,
which are handed on as they come, have none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gridops.errors import UnreadableAnswer
from gridops.jobs.paths import BASE
from gridops.reach.answers import MAX_LINE, Limit, Meter

PIECE = re.compile(r"(out|err) (\d{1,18}) ([1-9]\d{0,17})", re.ASCII)
DONE = "done"  # the last line of an answer


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a run's output."""

    stream: str  # "out" or "err"
    offset: int  # of its first byte in the stream
    data: bytes


Message = str | Chunk


class FrameParser:
    """Parser of a node's bytes. Raises UnreadableAnswer when they do not end."""

    def __init__(self, limit: Limit) -> None:
        self._meter = Meter(limit)
        self._line = bytearray()
        self._stream = ""
        self._offset = 0
        self._left = 0  # bytes of the piece that are still to come
        self.last = ""  # the last line

    def feed(self, data: bytes) -> Iterator[Message]:
        """Iterate over the lines and pieces in the next bytes."""
        at = 0
        while at < len(data):
            if self._left:
                part = data if at == 0 and len(data) <= self._left else data[at : at + self._left]
                offset, at = self._offset, at + len(part)
                self._offset += len(part)
                self._left -= len(part)
                yield Chunk(self._stream, offset, part)
                continue
            end = data.find(b"\n", at)
            ends, end = end >= 0, end if end >= 0 else len(data)
            self._line += data[at : min(end, at + MAX_LINE - len(self._line))]
            count, at = end - at, end + 1
            if not ends:
                self._meter.add(0, count)
            elif not self._begins_piece(line := self._take_line()):
                self._meter.add(1, count + 1)
                yield line

    def _take_line(self) -> str:
        if self.last == DONE:
            raise UnreadableAnswer("its answer goes on after its end")
        self.last = self._line.decode(errors="replace")
        self._line.clear()
        return self.last

    def _begins_piece(self, line: str) -> bool:
        match = PIECE.fullmatch(line)
        if match:
            self._stream, self._offset, self._left = match[1], int(match[2]), int(match[3])
        return bool(match)


def unsupported_reason(line: str) -> tuple[str, str] | None:
    """Parse the line of a node that can have no durable runs.

    Returns why, and what to do; None if this is no such line.
    """
    word, _, rest = line.partition(" ")
    if line == "unsupported":
        return "runs need Linux, which it does not have", "use `inv exec` there"
    if word == "unwritable":
        return (
            f"{BASE} there cannot be written to: {rest[:200]}",
            "see who owns it, and how it is mounted",
        )
    return None
