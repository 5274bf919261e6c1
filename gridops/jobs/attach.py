"""Attachment of a user to a durable run: start it, follow it, end it or leave it."""

from __future__ import annotations

import contextvars
import errno
import threading
import time
from contextlib import suppress
from types import TracebackType

from gridops.errors import GridError, JobError
from gridops.jobs.client import kill, kill_with_retry
from gridops.jobs.follow import Follower, JobEnd
from gridops.jobs.outcome import describe_outcome
from gridops.jobs.protocol import SILENCE_TIMEOUT, ScriptSession, Sleep
from gridops.jobs.spec import Acknowledgement, JobSpec
from gridops.jobs.start import Start
from gridops.observe import events
from gridops.reach.link import Link
from gridops.reach.pump import Sink
from gridops.system.signals import OUTPUT_CLOSED, Cancel

# Who read our output may have gone because all of the session did; then a signal comes, too.
HANGUP_GRACE = 0.5  # seconds
KILL_SENT_TIMEOUT = 3.0  # seconds that we stay for the node to learn that it is to end the run


class DetachRequested(Exception):
    """Exception that ends the attachment: we are to leave the run, which goes on."""


class Attachment:
    """A durable run that somebody stays with, to its end.

    It is started here, or has begun already; one session serves as long as it lasts.

    Whatever waits here looks at `cancel` a few times a second: asked to stop, it has the node kill
    the run, and goes on to see that end; asked to leave, it raises DetachRequested.
    """

    def __init__(
        self,
        link: Link,
        job_id: str,
        cancel: Cancel,
        reply: Acknowledgement | None = None,
        *,
        silence: float = SILENCE_TIMEOUT,
        sleep: Sleep = time.sleep,
    ) -> None:
        """Attach to the run `job_id`; `reply` is there when its node has acknowledged it already.

        `silence` is in seconds; a node that says nothing for so long has lost its connection.
        """
        self.reply = reply
        self.ending = False  # we leave, and the node has learnt that it is to end the run
        self._link = link
        self._id = job_id
        self._cancel = cancel
        self._silence = silence
        self._sleep = sleep
        self._session: ScriptSession | None = None
        self._confirmed = False
        self._kills = False
        self._asked_at: float | None = None

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._session:
            self._session.close()

    def start(self, spec: JobSpec) -> Acknowledgement:
        """Start the run, at most once. Its session stays open for `follow`.

        Raises what `start_job` raises: until the node has the run, another node may be tried.
        """
        start = Start(self._link, spec, attached=True, tick=self._check, sleep=self._sleep)
        self.reply = start.run()
        self._session = start.session
        return self.reply

    def confirm(self) -> None:
        """Tell a run that was started with `hold` to begin; `follow` says it again if need be."""
        self._confirmed = True
        if self._session:
            self._session.say(b"go\n")

    def follow(self, stdout: Sink, stderr: Sink, *, give_up_after: float | None = None) -> JobEnd:
        """Hand on the run's output until it ends, across broken connections.

        Raises JobUnreachable and NoJob as `follow_through` does.
        """
        follower = Follower(
            self._link,
            self._id,
            _closing(stdout, self._cancel),
            _closing(stderr, self._cancel),
            silence=self._silence,
            tick=self._check,
            confirmed=self._confirmed,
        )
        return follower.through(give_up_after, self._sleep, self._session)

    # -- the user's wish -----------------------------------------------------------------------

    def _check(self) -> None:
        if self._cancel.left:
            # It may have been asked for a moment ago: then nobody knows there.
            if self._cancel.reason and self._is_time():
                self._pass_on_kill()
            raise DetachRequested
        if self._cancel.reason and not self._kills and self._is_time():
            self._kills = True
            run = contextvars.copy_context().run
            threading.Thread(target=run, args=(self._kill,), daemon=True, name="kill").start()

    def _is_time(self) -> bool:
        now = time.monotonic()
        self._asked_at = self._asked_at or now
        return self._cancel.reason != OUTPUT_CLOSED or now - self._asked_at >= HANGUP_GRACE

    def _pass_on_kill(self) -> None:
        """Tell the node to end the run, in KILL_SENT_TIMEOUT at most."""

        def tell() -> None:
            with suppress(GridError):
                kill(self._link, self._id, wait=0)
                self.ending = True

        thread = threading.Thread(target=tell, daemon=True, name="kill")
        thread.start()
        thread.join(KILL_SENT_TIMEOUT)

    def _kill(self) -> None:
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


def _closing(sink: Sink, cancel: Cancel) -> Sink:
    """`sink` with a reader that may go away.

    With `| head` the run is to end, with the terminal not.
    """

    def write(data: bytes) -> None:
        try:
            sink(data)
        except BrokenPipeError as exc:
            if exc.errno == errno.EIO:
                cancel.leave("SIGHUP")
            else:
                cancel.request(OUTPUT_CLOSED)

    return write
