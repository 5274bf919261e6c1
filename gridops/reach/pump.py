"""Feed and drain a Process, with limits on time and memory."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from gridops.errors import NodeError, NodeTimeout

PIPE_SIZE = 64 * 1024  # bytes, as a pipe holds; larger buffers would be mapped anew for every read
PUMP_INTERVAL = 0.2  # seconds between two looks whether a silent command has ended
QUIET_GRACE = 0.15  # seconds of silence before we look whether the command has ended
REPLY_LIMIT = 4 * 1024 * 1024  # bytes of one stream that a script's reply may hold
OUTPUT_GRACE = 0.5  # seconds of silence after the exit until we stop waiting for the output's end

Sink = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Sinks:
    """Sinks for a run's stdout and stderr."""

    stdout: Sink
    stderr: Sink


class Process(Protocol):
    """A process on a node; its streams are file descriptors of this process.

    `stdin` is writable, `stdout` and `stderr` are readable. Closing `stdin` (or losing the
    connection) is how the other side learns that nobody listens any more.
    """

    stdin: int
    stdout: int
    stderr: int

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. Raises NodeTimeout after `timeout` seconds, ConnectionLost when the
        connection ended without one."""

    def close_stdin(self) -> None:
        """Say that no more input comes. Twice is harmless."""

    def close(self) -> None:
        """Give up every descriptor and the channel. Twice is harmless."""


def pump(
    process: Process,
    *,
    stdin: bytes = b"",
    keep_stdin: bool = False,
    on_stdout: Sink,
    on_stderr: Sink,
    timeout: float | None,
    tick: Callable[[], None] | None = None,
) -> int:
    """Write `stdin`, hand the output to the sinks, return the exit status.

    Every chunk is handed on as it comes. `tick` is called at least every 0.2 s; what it raises ends
    the pump. Raises NodeTimeout after `timeout` seconds.
    """
    running = Pump(process, stdin, keep_stdin=keep_stdin, timeout=timeout)
    sinks = {process.stdout: on_stdout, process.stderr: on_stderr}
    for chunk in running:
        if chunk:
            sinks[chunk[0]](chunk[1])
        elif tick:
            tick()
    return running.status


class Pump:
    """Iterator over a process's output, which feeds its input meanwhile.

    It yields a file descriptor of the process and some bytes that came there, and None at least
    every 0.2 s. Memory stays bounded: who iterates slowly holds the node back. A process left
    behind in the background that keeps the streams open does not hold us: when the command has
    ended and nothing came for OUTPUT_GRACE seconds, that is the end. Raises NodeTimeout after
    `timeout` seconds, and what waiting for the process raises.
    """

    status: int  # the exit status, once the iteration has come to its end

    def __init__(
        self,
        process: Process,
        stdin: bytes = b"",
        *,
        keep_stdin: bool = False,
        timeout: float | None = None,
    ) -> None:
        self._process = process
        self._pending = memoryview(stdin)
        self._keep_stdin = keep_stdin
        self._end = None if timeout is None else time.monotonic() + timeout
        self._timeout = timeout
        self._open = {process.stdout, process.stderr}
        self._poll = select.poll()
        for fd in self._open:
            self._poll.register(fd, select.POLLIN)

    def __iter__(self) -> Iterator[tuple[int, bytes] | None]:
        self._start_input()
        ended = False
        while self._open and not (ended and self._silent > OUTPUT_GRACE):
            for fd in self._ready():
                if data := self._read(fd):
                    yield fd, data
                    self._quiet_since = time.monotonic()  # however long that took
            yield None
            ended = ended or self._has_ended()
        if not ended:
            self.status = self._process.wait(self._time_left())

    def _start_input(self) -> None:
        self._quiet_since = time.monotonic()
        if self._pending:
            os.set_blocking(self._process.stdin, False)
            self._poll.register(self._process.stdin, select.POLLOUT)
        elif not self._keep_stdin:
            self._process.close_stdin()

    def _ready(self) -> list[int]:
        """The streams that have something to read; waits PUMP_INTERVAL for one at most."""
        left = self._time_left()
        wait = PUMP_INTERVAL if left is None else min(PUMP_INTERVAL, left)
        found = [fd for fd, _ in self._poll.poll(1000 * wait)]
        if self._process.stdin in found and self._pending:
            self._feed()
        return [fd for fd in found if fd in self._open]

    def _has_ended(self) -> bool:
        """Look once, without waiting, whether the command has ended; only when it is quiet."""
        if not self._open or self._silent < QUIET_GRACE:
            return False
        try:
            self.status = self._process.wait(0)
        except NodeTimeout:
            return False
        return True

    @property
    def _silent(self) -> float:
        return time.monotonic() - self._quiet_since

    def _time_left(self) -> float | None:
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise NodeTimeout(f"no answer within {self._timeout:g} s")
        return left

    def _feed(self) -> None:
        try:
            written = os.write(self._process.stdin, self._pending[:PIPE_SIZE])
            self._pending = self._pending[written:]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._pending = memoryview(b"")
        if not self._pending:
            self._poll.unregister(self._process.stdin)
            if not self._keep_stdin:
                self._process.close_stdin()

    def _read(self, fd: int) -> bytes:
        data = os.read(fd, PIPE_SIZE)
        if not data:
            self._poll.unregister(fd)
            self._open.discard(fd)
        return data


class Prelude:
    """A sink that drops everything before a marker line: what a chatty login shell says first."""

    def __init__(self, marker: bytes, sink: Sink, limit: int = 1024 * 1024) -> None:
        self._marker = marker + b"\n"
        self._sink = sink
        self._held: bytearray | None = bytearray()
        self._limit = limit
        self.passed_at: float | None = None  # on time.monotonic()

    @property
    def passed(self) -> bool:
        return self._held is None

    @property
    def held(self) -> bytes:
        return bytes(self._held or b"")

    def __call__(self, data: bytes) -> None:
        if rest := self.strip(data):
            self._sink(rest)

    def strip(self, data: bytes) -> bytes:
        """The part of `data` that is behind the marker line. Raises NodeError when none comes."""
        if self._held is None:
            return data
        self._held += data
        at = self._held.find(self._marker)
        if at < 0:
            if len(self._held) > self._limit:
                raise NodeError("the login shell printed over 1 MiB before the script began")
            return b""
        rest = bytes(self._held[at + len(self._marker) :])
        self._held = None
        self.passed_at = time.monotonic()
        return rest


def marker() -> str:
    """A line that nobody else prints."""
    return f"gridops-{os.urandom(12).hex()}"


class Collected:
    """A sink that keeps its input, up to a limit."""

    def __init__(self, limit: int = REPLY_LIMIT) -> None:
        self.data = bytearray()
        self._limit = limit

    def __call__(self, data: bytes) -> None:
        if len(self.data) + len(data) > self._limit:
            raise NodeError(f"the answer is longer than {self._limit} bytes")
        self.data += data
