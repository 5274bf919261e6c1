"""Socket for http.client over a connection to a port of a node."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable

from gridops.reach.link import Stream

READ = 64 * 1024


class Channel:
    """The part of a socket's interface that http.client uses, over any Stream.

    As with a socket, what `makefile` gave can still be read after `close`.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._readers = 0
        self._closed = False
        self._left = math.inf
        self._deadline = math.inf

    def allow(self, count: float, seconds: float) -> None:
        """Limit further reads to `count` bytes in `seconds`; beyond that reading raises OSError."""
        self._left = count
        self._deadline = time.monotonic() + seconds

    def recv(self, size: int) -> bytes:
        if time.monotonic() > self._deadline:
            raise TimeoutError("its answer takes too long")
        data = self._stream.recv(size)
        self._left -= len(data)
        if self._left < 0:
            raise ConnectionAbortedError("its answer is too long")
        return data

    def sendall(self, data: bytes) -> None:
        self._stream.sendall(data)

    def makefile(self, mode: str, buffering: int = -1) -> io.BufferedReader:
        del mode, buffering  # http.client reads, buffered
        self._readers += 1
        return io.BufferedReader(_Reader(self, self._drop), READ)

    def close(self) -> None:
        self._closed = True
        self._end()

    def _drop(self) -> None:
        self._readers -= 1
        self._end()

    def _end(self) -> None:
        if self._closed and not self._readers:
            self._stream.close()


class _Reader(io.RawIOBase):
    def __init__(self, channel: Channel, drop: Callable[[], None]) -> None:
        self._channel = channel
        self._drop = drop

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._channel.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._drop()
