"""The node's side of a conversation, taken apart: lines, and pieces of the two streams.

`out OFFSET LENGTH` or `err OFFSET LENGTH` is followed by so many bytes; every other line stands for
itself. Nothing is kept longer than a line.
"""

from __future__ import annotations

from collections.abc import Callable

from gridops.errors import NodeError

LONGEST = 1024 * 1024  # bytes of one line

OnLine = Callable[[str], None]
OnPiece = Callable[[str, int, bytes], None]  # stream, offset, bytes


class Frames:
    """A sink for what the node sends."""

    def __init__(self, on_line: OnLine, on_piece: OnPiece) -> None:
        self._on_line = on_line
        self._on_piece = on_piece
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
        self._line += data[at:end]
        if len(self._line) > LONGEST:
            raise NodeError("the node answered something that is not understood")
        if end < len(data):
            line = self._line.decode(errors="replace")
            self._line.clear()
            self._take(line)
        return end + 1

    def _take(self, line: str) -> None:
        self.last = line
        words = line.split(" ")
        if words[0] in ("out", "err") and len(words) == 3 and (words[1] + words[2]).isdecimal():
            self._stream, self._offset, self._left = words[0], int(words[1]), int(words[2])
        else:
            self._on_line(line)
