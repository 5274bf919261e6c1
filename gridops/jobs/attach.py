"""Follow a durable run until it ends or the user leaves it."""

from __future__ import annotations

import contextvars
import errno
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from gridops.errors import JobError
from gridops.jobs.ending import kill_with_retry
from gridops.jobs.follow import JobEnd
from gridops.jobs.outcome import describe_outcome
from gridops.observe import events
from gridops.reach.link import Link
from gridops.reach.pump import Sink
from gridops.system.signals import OUTPUT_CLOSED, Cancel

# Who read our output may have gone because all of the session did; then a signal comes, too.
HANGUP_GRACE = 0.5  # seconds


class Attachment:
    """Follow the run `job_id`, and stop or leave it as `stop` asks."""

    def __init__(self, link: Link, job_id: str, stop: Cancel, stdout: Sink, stderr: Sink) -> None:
        self._link = link
        self._id = job_id
        self._stop = stop
        self._stdout = _closing(stdout, stop)
        self._stderr = _closing(stderr, stop)
        self._asked = False
        self._wished: float | None = None

    def stay(self, follow: Callable[..., JobEnd]) -> JobEnd | None:
        """Call `follow` and return its result; None when we were to leave.

        `follow` is `follow.run`, say, with all but the sinks and `tick` given. After None the run
        goes on. Raises what `follow` raises.
        """
        with suppress(_Left):
            return follow(on_stdout=self._stdout, on_stderr=self._stderr, tick=self._tick)
        return None

    def _tick(self) -> None:
        if self._stop.left:
            raise _Left
        if self._stop.reason and not self._asked and self._is_time():
            self._asked = True
            run = contextvars.copy_context().run
            threading.Thread(target=run, args=(self._end,), daemon=True, name="kill").start()

    def _is_time(self) -> bool:
        now = time.monotonic()
        self._wished = self._wished or now
        return self._stop.reason != OUTPUT_CLOSED or now - self._wished >= HANGUP_GRACE

    def _end(self) -> None:
        """Kill the run, in a thread beside the follower.

        The follower sees the run end, or comes back to see it.
        """
        try:
            job = kill_with_retry(self._link, self._id)
            if job.active and job.left:  # nobody knows whether it ever ends
                message = f"{job.node}: the run {job.id}: {describe_outcome(job)}; Ctrl-C leaves it"
                events.emit(events.WARNING, message=message)
        except JobError as exc:
            events.emit(events.WARNING, message=str(exc))


class _Left(Exception):
    """Exception that stops `follow`: we are to leave the run."""


def _closing(sink: Sink, stop: Cancel) -> Sink:
    """`sink` with a reader that may go away.

    With `| head` the run is to end, with the terminal not.
    """

    def write(data: bytes) -> None:
        try:
            sink(data)
        except BrokenPipeError as exc:
            if exc.errno == errno.EIO:
                stop.leave("SIGHUP")
            else:
                stop.request(OUTPUT_CLOSED)

    return write
