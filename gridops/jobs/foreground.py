"""Foreground command: it lives as long as the client listens to it.

What is sent is `attached.sh` with its arguments, over the standard input of a POSIX sh on the node:
nothing of it, the environment least of all, is ever in a command line of ours. Until the whole of
it has arrived nothing runs, so a start that fails may be tried elsewhere.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from gridops.errors import NodeTimeout
from gridops.model import RunSpec
from gridops.reach.link import Link
from gridops.reach.preamble import become, command_for, error_mark, no_shell, script_input, shield
from gridops.reach.pump import Prelude, Process, Sink, marker, pump
from gridops.system import scripts
from gridops.system.signals import OUTPUT_CLOSED, Cancel

GRACE = 10  # whole seconds between TERM and KILL
START_TIMEOUT = 30.0  # seconds that a login shell may take until it has read the script
QUICK_START_TIMEOUT = 5.0  # and where the command has less time: as long as that, or this
END_TIMEOUT = GRACE + 5.0  # seconds that a command may take to end once it has been told to
LONGEST_LINE = 2048  # bytes of what attached.sh says that it could not end
LEFT_LINE = re.compile(rb"gridops: (these processes could not be ended: [\x20-\x7e]+)\n\Z")
OUT_OF_TIME = "timeout"


@dataclass(frozen=True, slots=True)
class Ended:
    status: int
    stopped: str | None = None  # why we ended it: a signal's name, OUT_OF_TIME or OUTPUT_CLOSED
    left: str = ""  # what of it the node could not end, in words


class ForegroundCommand:
    """A command that was handed to a node; `follow` it to its end."""

    def __init__(
        self,
        link: Link,
        spec: RunSpec,
        *,
        run_id: str,
        directory: str = "",
        must_exist: bool = False,
        timeout: float,
    ) -> None:
        """Open the session; `timeout` bounds that alone. Raises a GridError when it cannot be.

        `directory` is where the command runs; one that is missing is an error when `must_exist`,
        else the home directory serves.
        """
        self._node = link.node.name
        self._mark = marker()
        args = (
            directory,
            "fail" if must_exist else "home",
            str(GRACE),
            run_id,
            link.node.env_setup,
            spec.command,
            *(
                f"{name}={value}"
                for name, value in {**spec.env, "GRIDOPS_NODE": self._node}.items()
            ),
        )
        self._script = script_input(_text(), args, self._mark)
        self._limit = spec.timeout
        self._process: Process = link.start(
            command_for(self._script, self._mark, has_input=True), timeout=timeout
        )

    def follow(self, on_stdout: Sink, on_stderr: Sink, stop: Cancel) -> Ended:
        """Hand on the output as it comes until the command ends.

        Raises ConnectionLost when the connection broke (the node then ends the command by itself)
        and NodeTimeout when the command does not begin, or does not end after it was told to.
        """
        stdout = Prelude(self._mark.encode(), _closing(on_stdout, stop))
        last = _LastLine(_closing(on_stderr, stop))
        stderr = Prelude(error_mark(self._mark).encode(), last)
        watch = _Watch(self._process, self._limit, stop, self._node, lambda: stdout.passed, last)
        try:
            status = pump(
                self._process,
                stdin=self._script,
                keep_stdin=True,
                on_stdout=stdout,
                on_stderr=stderr,
                timeout=None,
                tick=watch,
            )
        finally:
            self._process.close()
        if not stdout.passed:
            raise no_shell(status, stdout.held, stderr.held, self._node)
        return Ended(status, watch.stopped, last.left if watch.stopped else "")


class _LastLine:
    """Sink that hands on all, and keeps the node's last words."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._tail = b""

    def __call__(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-LONGEST_LINE:]
        self._sink(data)

    @property
    def left(self) -> str:
        """Processes that could not be ended, in the words of attached.sh; else ""."""
        found = LEFT_LINE.search(self._tail)
        return found[1].decode() if found else ""


class _Watch:
    """Deadlines of a command: to begin, to stop, to give up; looked at a few times a second."""

    def __init__(
        self,
        process: Process,
        limit: float | None,
        stop: Cancel,
        node: str,
        begun: Callable[[], bool],
        last: _LastLine,
    ) -> None:
        now = time.monotonic()
        self._process = process
        self._stop = stop
        self._node = node
        self._begun = begun
        self._last = last
        self._patience = (
            START_TIMEOUT if limit is None else min(START_TIMEOUT, max(QUICK_START_TIMEOUT, limit))
        )
        self._must_begin = now + self._patience
        self._must_end = math.inf if limit is None else now + limit
        self._give_up = math.inf
        self.stopped: str | None = None

    def __call__(self) -> None:
        now = time.monotonic()
        if self.stopped is not None:
            self._check_end(now)
        elif not self._begun():
            self._check_begin(now)
        elif self._stop.reason or now >= self._must_end:
            # The limit is this command's alone, the wish may be shared with others'.
            self.stopped = self._stop.reason or OUT_OF_TIME
            self._give_up = now + END_TIMEOUT
            self._process.close_stdin()

    def _check_begin(self, now: float) -> None:
        if now > self._must_begin:
            raise NodeTimeout(
                f"its login shell has not begun the command within {self._patience:g} s",
                node=self._node,
            )

    def _check_end(self, now: float) -> None:
        if now > self._give_up:
            rest = f"; {left}" if (left := self._last.left) else ""
            raise NodeTimeout(
                f"the command was told to stop ({self.stopped}) and has not ended within"
                f" {END_TIMEOUT:g} s{rest}",
                node=self._node,
            )


def _closing(sink: Sink, stop: Cancel) -> Sink:
    """`sink` with a reader that may go away (`| head`): then the command is to end as well."""

    def write(data: bytes) -> None:
        try:
            sink(data)
        except BrokenPipeError:
            stop.request(OUTPUT_CLOSED)

    return write


@cache
def _text() -> str:
    text = scripts.script("jobs/attached.sh")
    return shield() + become() + text
