"""Follow a run's output from any offset across broken connections.

The output comes byte for byte, to its end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from gridops.errors import GridError, NoJob, UnreadableAnswer
from gridops.jobs.follower import Follower, JobEnd
from gridops.jobs.paths import checked
from gridops.jobs.protocol import SILENCE_TIMEOUT, Finished, Sleep, Speaker, call, request
from gridops.jobs.spec import JobSpec
from gridops.jobs.start import (
    ACK_SILENCE_TIMEOUT,
    ACK_TIMEOUT,
    RETRY_TIMEOUT,
    Acknowledgement,
    Start,
)
from gridops.reach.answers import whole
from gridops.reach.link import Link
from gridops.reach.pump import Sink

__all__ = ["JobEnd", "follow", "follow_through", "run", "tail_offset"]


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
    tick: Callable[[], None] | None = None,
) -> JobEnd:
    """Hand on a run's output over one session of the link.

    It goes from these offsets until the run ends. With `live` False, hand on what there is now.
    `tick` is called a few times a second; what it raises ends this. Raises NodeTimeout after
    `silence` seconds without a sign of life, ConnectionLost when the connection broke, a
    ReachError, or NoJob.
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
    silence: float = SILENCE_TIMEOUT,
    tick: Callable[[], None] | None = None,
    sleep: Sleep = time.sleep,
) -> JobEnd:
    """Do as `follow`, but reconnect when the connection breaks.

    A broken connection is made anew, with growing pauses, and the output goes on at the very byte.
    Emits CONNECTION_LOST and CONNECTION_REGAINED.

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
    on_started: Callable[[Acknowledgement], None] | None = None,
    deliver: Callable[[Acknowledgement], None] | None = None,
    give_up_after: float | None = None,
    silence: float = SILENCE_TIMEOUT,
    tick: Callable[[], None] | None = None,
    sleep: Sleep = time.sleep,
) -> JobEnd:
    """Call `start` and `follow_through`, sharing their first session: the quickest way to a result.

    `on_started` is called once, when the node has the run. Until then this raises what `start`
    raises (another node may be tried, except after StartUnknown), after that only JobUnreachable
    and NoJob.

    A `spec` with a hold wants `deliver`, which is called once before that: when the node holds a
    slot for the run, or has it wait for one. When it returns the run may begin; what it raises is
    raised.
    """
    follower = Follower(link, spec.id, on_stdout, on_stderr, silence=silence, tick=tick)
    session = _FirstSession(follower, on_started or _nothing, deliver)
    starting = Start(link, spec, RETRY_TIMEOUT, lambda pause: follower.pause(pause, sleep))
    try:
        reply = starting.run(session)
        if not session.told:
            session.begin(reply)
    except _NotDelivered as exc:
        raise exc.why from exc.why.__cause__
    return follower.through(give_up_after, sleep, session.result)


class _NotDelivered(Exception):
    """Failure of `deliver`, not of the connection: the start is not to be tried again."""

    def __init__(self, why: GridError) -> None:
        self.why = why


class _FirstSession:
    """Hand a run over and follow it while that one session lasts."""

    def __init__(
        self,
        follower: Follower,
        tell: Callable[[Acknowledgement], None],
        deliver: Callable[[Acknowledgement], None] | None,
    ) -> None:
        self._follower = follower
        self._deliver = deliver
        self._speaker = Speaker() if deliver else None
        self._broke: GridError | None = None
        self._followed = False
        self._tell = tell
        self.told = False

    def begin(self, reply: Acknowledgement) -> None:
        """Call `deliver`, and report that the run has been handed over.

        `deliver` brings what the run begins with.
        """
        if self._deliver:
            try:
                self._deliver(reply)
            except GridError as exc:
                raise _NotDelivered(exc) from exc
            self._follower.delivered = True
        self.told = True
        self._tell(reply)

    def __call__(self, starting: Start) -> None:
        def hear(line: str) -> None:
            if starting.reply:
                self._follower.hear(line)
            elif starting.hear(line):
                if starting.reply is None or starting.reply.state == "exists":
                    raise Finished
                self.begin(starting.reply)
                self._followed = True
                if self._speaker:
                    self._speaker.say(b"go\n")

        self._broke = None
        try:
            request(
                starting.link,
                "run",
                *starting.arguments,
                on_line=hear,
                on_piece=self._follower.take,
                stdin=starting.upload,
                silence=lambda: self._follower.silence if starting.reply else ACK_SILENCE_TIMEOUT,
                timeout=lambda: math.inf if starting.reply else ACK_TIMEOUT,
                tick=self._follower.beat,
                sent=starting.sent,
                speaker=self._speaker,
            )
        except GridError as exc:
            self._broke = exc
            raise

    def result(self) -> JobEnd:
        """Result of the session; raises what ended it."""
        if not self._followed:
            return self._follower.once()
        if self._broke:
            raise self._broke
        return self._follower.result()


def _nothing(reply: Acknowledgement) -> None:
    pass


def tail_offset(link: Link, job_id: str, stream: str, lines: int) -> int:
    """Byte offset of the last `lines` lines of "out" or "err"."""
    for line in call(link, "tail", checked(job_id), stream, str(lines)):
        if line.startswith("offset "):
            try:
                return whole(line[7:])
            except ValueError as exc:
                raise UnreadableAnswer(f"its answer: {exc}", node=link.node.name) from None
    raise NoJob(f"has no run {job_id}", node=link.node.name)
