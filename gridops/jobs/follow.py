"""A run's output, byte for byte, from any offset to its end, across broken connections."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gridops.answers import whole
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
from gridops.jobs.conversation import (
    ANSWER_TIMEOUT,
    FINAL,
    PAUSES,
    SILENCE,
    Finished,
    Sleep,
    ask,
    converse,
)
from gridops.jobs.facts import jobs_from
from gridops.jobs.frames import DONE
from gridops.jobs.looking import readable
from gridops.jobs.paths import checked
from gridops.jobs.spec import JobSpec
from gridops.jobs.starting import ACK, ACK_TIMEOUT, GIVE_UP, Starting, StartReply
from gridops.model import Job
from gridops.observe import events
from gridops.reach.link import Link
from gridops.reach.streams import Sink

SLICE = 0.1  # seconds between two looks at `tick` while we wait to reconnect
MAX_END_LINES = 1000  # that tell of a run which has ended; a dozen do


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a followed run is now, and how much of its output was handed on."""

    job: Job
    out_offset: int
    err_offset: int


@dataclass(slots=True)
class Follower:
    """Where we are in a run's output, and who wants it."""

    link: Link
    id: str
    on_stdout: Sink
    on_stderr: Sink
    out: int = 0
    err: int = 0
    silence: float = SILENCE
    tick: Callable[[], None] | None = None
    state: str = ""
    _lost_at: float | None = None
    _ended: list[str] | None = field(default=None)
    _end_by: float = math.inf  # when the node must have told how the run ended

    def once(self, *, live: bool = True) -> JobEnd:
        """Follow until the run ends (with `live` False: to what there is now), over one session.

        Raises what `follow` raises.
        """
        self._ended, self._end_by = None, math.inf
        args = (self.id, str(self.out), str(self.err), *(() if live else ("once",)))
        converse(
            self.link,
            "follow",
            *args,
            on_line=self.hear,
            on_piece=self.take,
            silence=self.silence,
            tick=self.beat,
        )
        return self.result(live)

    def beat(self) -> None:
        """Call `tick`. Raises NodeTimeout when the node does not come to the end of its answer."""
        if time.monotonic() > self._end_by:
            raise NodeTimeout("its answer has not ended", node=self.link.node.name)
        if self.tick:
            self.tick()

    def hear(self, line: str) -> None:
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
            self._changed(line[6:])

    def _changed(self, state: str) -> None:
        if state != self.state:
            self.state = state
            events.emit(events.JOB_STATE, node=self.link.node.name, id=self.id, state=state)

    def take(self, stream: str, offset: int, data: bytes) -> None:
        """Hand on a piece of output."""
        if offset != (self.out if stream == "out" else self.err):
            raise NodeError("sent output that does not follow on", node=self.link.node.name)
        if stream == "out":
            self.on_stdout(data)
            self.out += len(data)
        else:
            self.on_stderr(data)
            self.err += len(data)

    def result(self, live: bool = True) -> JobEnd:
        if not self._ended or self._ended[-1] != DONE:
            raise ConnectionLost("the connection ended", node=self.link.node.name)
        job = jobs_from(self._ended, self.link.node.name).get(self.id)
        if job is None:
            raise NoJob(f"does not know a run {self.id}", node=self.link.node.name)
        if live and job.state in ("queued", "held", "running"):
            raise ConnectionLost("the follower there ended early", node=self.link.node.name)
        return JobEnd(readable(job), self.out, self.err)

    def through(
        self, give_up_after: float | None, sleep: Sleep, first: Callable[[], JobEnd] | None = None
    ) -> JobEnd:
        """Follow until the run ends, over as many sessions as that takes."""
        attempt = first or self.once
        lost_since, tries = None, 0
        while True:
            before = self.out, self.err, self.state
            try:
                return attempt()
            except (ReachError, NodeTimeout) as exc:
                if isinstance(exc, FINAL):
                    raise self._gone(exc) from exc
                if lost_since is None or before != (self.out, self.err, self.state):
                    lost_since, tries = time.monotonic(), 0
                self._lost(exc)
                pause = PAUSES.delay(tries) if tries else 0.0
                spent = time.monotonic() - lost_since
                if give_up_after is not None and spent + pause > give_up_after:
                    raise self._gone(exc) from exc
                self.pause(pause, sleep)
                tries += 1
            except NodeError as exc:  # not of the connection: it would only come again
                raise self._gone(exc) from exc
            attempt = self.once

    def _lost(self, exc: GridError) -> None:
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            events.emit(events.CONNECTION_LOST, node=self.link.node.name, error=exc.message)

    def pause(self, seconds: float, sleep: Sleep) -> None:
        while seconds > 0:
            if self.tick:
                self.tick()
            sleep(min(SLICE, seconds))
            seconds -= SLICE

    def _gone(self, exc: GridError) -> JobUnreachable:
        return JobUnreachable(
            f"the connection to the run {self.id} is lost: {exc.message}",
            node=self.link.node.name,
            hint=f"the run goes on there: `inv jobs.logs {self.id} --follow`",
        )


def follow(
    link: Link,
    job_id: str,
    out_offset: int = 0,
    err_offset: int = 0,
    *,
    on_stdout: Sink,
    on_stderr: Sink,
    live: bool = True,
    silence: float = SILENCE,
    tick: Callable[[], None] | None = None,
) -> JobEnd:
    """Hand on the output from these offsets until the run ends, over one session of the link.

    With `live` False, hand on what there is now. `tick` is called a few times a second; what it
    raises ends this. Raises NodeTimeout after `silence` seconds without a sign of life,
    ConnectionLost when the connection broke, a ReachError, or NoJob.
    """
    return Follower(
        link, checked(job_id), on_stdout, on_stderr, out_offset, err_offset, silence, tick
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
    silence: float = SILENCE,
    tick: Callable[[], None] | None = None,
    sleep: Sleep = time.sleep,
) -> JobEnd:
    """The same, but a broken connection is made anew, with growing pauses, and the output goes on
    at the very byte. Emits CONNECTION_LOST and CONNECTION_REGAINED.

    Raises JobUnreachable after `give_up_after` seconds without the node (None: never), or when only
    a person can mend it (host key, login); NoJob.
    """
    follower = Follower(
        link, checked(job_id), on_stdout, on_stderr, out_offset, err_offset, silence, tick
    )
    return follower.through(give_up_after, sleep)


def run(
    link: Link,
    spec: JobSpec,
    *,
    on_stdout: Sink,
    on_stderr: Sink,
    on_started: Callable[[StartReply], None] | None = None,
    give_up_after: float | None = None,
    silence: float = SILENCE,
    tick: Callable[[], None] | None = None,
    sleep: Sleep = time.sleep,
) -> JobEnd:
    """`start` and `follow_through`, sharing their first session: the quickest way to a result.

    `on_started` is called once, when the node has the run. Until then this raises what `start`
    raises (another node may be tried, except after StartUnknown), after that only JobUnreachable
    and NoJob.
    """
    follower = Follower(link, spec.id, on_stdout, on_stderr, silence=silence, tick=tick)
    session = _FirstSession(follower, on_started or _nothing)
    reply = Starting(link, spec, GIVE_UP, lambda pause: follower.pause(pause, sleep)).run(session)
    if not session.told:
        session.tell(reply)
    return follower.through(give_up_after, sleep, session.result)


class _FirstSession:
    """Hands a run over and follows it for as long as that one session lasts."""

    def __init__(self, follower: Follower, tell: Callable[[StartReply], None]) -> None:
        self._follower = follower
        self._broke: GridError | None = None
        self._followed = False
        self.told = False
        self.tell = tell

    def __call__(self, starting: Starting) -> None:
        def hear(line: str) -> None:
            if starting.reply:
                self._follower.hear(line)
            elif starting.hear(line):
                if starting.reply is None or starting.reply.state == "exists":
                    raise Finished
                self.told = self._followed = True
                self.tell(starting.reply)

        self._broke = None
        try:
            converse(
                starting.link,
                "run",
                *starting.arguments,
                on_line=hear,
                on_piece=self._follower.take,
                stdin=starting.upload,
                silence=lambda: self._follower.silence if starting.reply else ACK,
                timeout=lambda: math.inf if starting.reply else ACK_TIMEOUT,
                tick=self._follower.beat,
                sent=starting.sent,
            )
        except GridError as exc:
            self._broke = exc
            raise

    def result(self) -> JobEnd:
        """What the session came to; raises what ended it."""
        if not self._followed:
            return self._follower.once()
        if self._broke:
            raise self._broke
        return self._follower.result()


def _nothing(reply: StartReply) -> None:
    pass


def tail_offset(link: Link, job_id: str, stream: str, lines: int) -> int:
    """From which byte on the stream ("out" or "err") has its last `lines` lines."""
    for line in ask(link, "tail", checked(job_id), stream, str(lines)):
        if line.startswith("offset "):
            try:
                return whole(line[7:])
            except ValueError as exc:
                raise UnreadableAnswer(f"its answer: {exc}", node=link.node.name) from None
    raise NoJob(f"does not know a run {job_id}", node=link.node.name)
