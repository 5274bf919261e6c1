"""Follow a run's output from any offset across broken connections.

The output comes byte for byte, to its end.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from gridops.errors import (
    ConnectionLost,
    GridError,
    JobUnreachable,
    NodeError,
    NodeTimeout,
    NoJob,
    ReachError,
    UnreadableAnswer,
)
from gridops.jobs.frames import DONE, Chunk, Message
from gridops.jobs.outcome import readable
from gridops.jobs.paths import check_id
from gridops.jobs.protocol import (
    ANSWER_TIMEOUT,
    RETRY_DELAYS,
    SILENCE_TIMEOUT,
    ScriptSession,
    Sleep,
    Tick,
    call,
    pause,
)
from gridops.jobs.records import jobs_from
from gridops.model import Job
from gridops.observe import events
from gridops.reach.answers import whole
from gridops.reach.link import Link
from gridops.reach.pump import Sink

MAX_END_LINES = 1000  # that tell of a run which has ended; a dozen do


def follow(
    link: Link,
    job_id: str,
    out_offset: int = 0,
    err_offset: int = 0,
    *,
    on_stdout: Sink,
    on_stderr: Sink,
    live: bool = True,
    silence: float = SILENCE_TIMEOUT,
    tick: Tick | None = None,
) -> JobEnd:
    """Hand on a run's output over one session of the link.

    It goes from these offsets until the run ends. With `live` False, hand on what there is now.
    `tick` is called a few times a second; what it raises ends this. Raises NodeTimeout after
    `silence` seconds without a sign of life, ConnectionLost when the connection broke, a
    ReachError, or NoJob.
    """
    return Follower(
        link, check_id(job_id), on_stdout, on_stderr, out_offset, err_offset, silence, tick
    ).once(live=live)


def follow_through(
    link: Link,
    job_id: str,
    out_offset: int = 0,
    err_offset: int = 0,
    *,
    on_stdout: Sink,
    on_stderr: Sink,
    give_up_after: float | None = None,
    silence: float = SILENCE_TIMEOUT,
    tick: Tick | None = None,
    sleep: Sleep = time.sleep,
) -> JobEnd:
    """Do as `follow`, but reconnect when the connection breaks.

    A broken connection is made anew, with growing pauses, and the output goes on at the very byte.
    Emits CONNECTION_LOST and CONNECTION_REGAINED.

    Raises JobUnreachable after `give_up_after` seconds without the node (None: never), or when only
    a person can mend it (host key, login); NoJob.
    """
    follower = Follower(
        link, check_id(job_id), on_stdout, on_stderr, out_offset, err_offset, silence, tick
    )
    return follower.through(give_up_after, sleep)


@dataclass(frozen=True, slots=True)
class JobEnd:
    """Present state of a followed run, and the offsets of its output.

    The offsets say how much of each stream was handed on.
    """

    job: Job
    out_offset: int
    err_offset: int


@dataclass(slots=True)
class Follower:
    """Offsets reached in a run's output, and the sinks for it."""

    link: Link
    id: str
    on_stdout: Sink
    on_stderr: Sink
    out: int = 0
    err: int = 0
    silence: float = SILENCE_TIMEOUT
    tick: Tick | None = None
    state: str = ""
    confirmed: bool = False  # it may still have to hear that it is to begin
    _lost_at: float | None = None
    _ended: list[str] | None = field(default=None)
    _end_by: float = math.inf  # when the node must have told how the run ended

    def once(self, *, live: bool = True) -> JobEnd:
        """Follow until the run ends, over one session.

        With `live` False, follow to what there is now. Raises what `follow` raises.
        """
        args = (self.id, str(self.out), str(self.err), *(() if live else ("once",)))
        verb = "begin" if self.confirmed else "follow"
        return self.read(ScriptSession(self.link, verb, *args), live=live)

    def read(self, session: ScriptSession, *, live: bool = True) -> JobEnd:
        """Follow the run over this session, which is at an end then."""
        self._ended, self._end_by = None, math.inf
        session.silence, session.timeout = self.silence, math.inf
        with session:
            for message in session:
                self.take(message)
        return self.result(live)

    def take(self, message: Message | None) -> None:
        """Take what a session yields: hand on output, keep the rest."""
        if message is None:
            self._beat()
        elif isinstance(message, Chunk):
            self._hand_on(message)
        else:
            self._hear(message)

    def _beat(self) -> None:
        """Call `tick`. Raises NodeTimeout when the node does not come to the end of its answer."""
        if time.monotonic() > self._end_by:
            raise NodeTimeout("its answer has not ended", node=self.link.node.name)
        if self.tick:
            self.tick()

    def _hear(self, line: str) -> None:
        """Take a line of the node that is not output."""
        if self._lost_at is not None:
            events.emit(
                events.CONNECTION_REGAINED,
                node=self.link.node.name,
                seconds=time.monotonic() - self._lost_at,
            )
            self._lost_at = None
        if self._ended is not None:
            if len(self._ended) >= MAX_END_LINES:
                raise UnreadableAnswer("its answer does not end", node=self.link.node.name)
            self._ended.append(line)
        elif line == "end":
            self._ended, self._end_by = [], time.monotonic() + ANSWER_TIMEOUT
        elif line.startswith("state "):
            self._report_state(line[6:])

    def _report_state(self, state: str) -> None:
        if state != self.state:
            self.state = state
            events.emit(events.JOB_STATE, node=self.link.node.name, id=self.id, state=state)

    def _hand_on(self, chunk: Chunk) -> None:
        """Hand on a piece of output."""
        if chunk.offset != (self.out if chunk.stream == "out" else self.err):
            raise NodeError("sent output out of order", node=self.link.node.name)
        if chunk.stream == "out":
            self.on_stdout(chunk.data)
            self.out += len(chunk.data)
        else:
            self.on_stderr(chunk.data)
            self.err += len(chunk.data)

    def result(self, live: bool = True) -> JobEnd:
        if not self._ended or self._ended[-1] != DONE:
            raise ConnectionLost("the connection ended", node=self.link.node.name)
        job = jobs_from(self._ended, self.link.node.name).get(self.id)
        if job is None:
            raise NoJob(f"has no run {self.id}", node=self.link.node.name)
        if live and job.state in ("queued", "held", "running"):
            raise ConnectionLost("its follow script ended early", node=self.link.node.name)
        return JobEnd(readable(job), self.out, self.err)

    def through(
        self, give_up_after: float | None, sleep: Sleep, session: ScriptSession | None = None
    ) -> JobEnd:
        """Follow until the run ends, over as many sessions as that takes.

        The first one is `session`, if there is one.
        """
        lost_since, tries = None, 0
        while True:
            before = self.out, self.err, self.state
            try:
                return self.read(session) if session else self.once()
            except (ReachError, NodeTimeout) as exc:
                if exc.needs_a_person:
                    raise self._unreachable_error(exc) from exc
                if lost_since is None or before != (self.out, self.err, self.state):
                    lost_since, tries = time.monotonic(), 0
                self._report_lost(exc)
                delay = RETRY_DELAYS.delay(tries) if tries else 0.0
                spent = time.monotonic() - lost_since
                if give_up_after is not None and spent + delay > give_up_after:
                    raise self._unreachable_error(exc) from exc
                pause(delay, self.tick, sleep)
                tries += 1
            except NodeError as exc:  # not of the connection: it would only come again
                raise self._unreachable_error(exc) from exc
            session = None

    def _report_lost(self, exc: GridError) -> None:
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            events.emit(events.CONNECTION_LOST, node=self.link.node.name, error=exc.message)

    def _unreachable_error(self, exc: GridError) -> JobUnreachable:
        return JobUnreachable(
            f"the connection to the run {self.id} is lost: {exc.message}",
            node=self.link.node.name,
            hint=f"the run goes on there: `inv jobs.logs {self.id} --follow`",
        )


def tail_offset(link: Link, job_id: str, stream: str, lines: int) -> int:
    """Byte offset of the last `lines` lines of "out" or "err"."""
    for line in call(link, "tail", check_id(job_id), stream, str(lines)):
        if line.startswith("offset "):
            try:
                return whole(line[7:])
            except ValueError as exc:
                raise UnreadableAnswer(f"its answer: {exc}", node=link.node.name) from None
    raise NoJob(f"has no run {job_id}", node=link.node.name)
