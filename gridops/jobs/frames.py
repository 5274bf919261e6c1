"""Parser of the node's side of a conversation: lines, and pieces of the two streams.

`out OFFSET LENGTH` or `err OFFSET LENGTH` is followed by so many bytes; every other line stands for
itself. Nothing is kept longer than a line, and lines are taken as far as the limit goes; pieces,
which are handed on as they come, have none.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gridops.errors import UnreadableAnswer
from gridops.reach.answers import MAX_LINE, Limit, Meter

PIECE = re.compile(r"(out|err) (\d{1,18}) ([1-9]\d{0,17})", re.ASCII)
DONE = "done"  # the last line of an answer

OnLine = Callable[[str], None]
OnPiece = Callable[[str, int, bytes], None]  # stream, offset, bytes


class Frames:
    """Sink for the bytes that a node sends. Raises UnreadableAnswer when they do not end."""

    def __init__(self, on_line: OnLine, on_piece: OnPiece, limit: Limit) -> None:
        self._on_line = on_line
        self._on_piece = on_piece
        self._meter = Meter(limit)
        self._line = bytearray()
        self._stream = ""
        self._offset = 0
        self._left = 0
        self.last = ""  # the last line

    def __call__(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            at = self._piece(data, at) if self._left else self._text(data, at)

    def _piece(self, data: bytes, at: int) -> int:
        part = data if at == 0 and len(data) <= self._left else data[at : at + self._left]
        offset = self._offset
        self._offset += len(part)
        self._left -= len(part)
        self._on_piece(self._stream, offset, part)
        return at + len(part)

    def _text(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        if end < 0:
            end = len(data)
        self._line += data[at : min(end, at + MAX_LINE - len(self._line))]
        if end < len(data):
            line = self._line.decode(errors="replace")
            self._line.clear()
            self._take(line, end + 1 - at)
        else:
            self._meter.add(0, end - at)
        return end + 1

    def _take(self, line: str, count: int) -> None:
        if self.last == DONE:
            raise UnreadableAnswer("its answer goes on after its end")
        self.last = line
        if match := PIECE.fullmatch(line):
            self._stream, self._offset, self._left = match[1], int(match[2]), int(match[3])
        else:
            self._meter.add(1, count)
            self._on_line(line)
