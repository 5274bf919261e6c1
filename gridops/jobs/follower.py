"""Follower that keeps its place in a run's output: over one session or as many as it takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
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
from gridops.jobs.frames import DONE
from gridops.jobs.looking import readable
from gridops.jobs.protocol import ANSWER_TIMEOUT, PAUSES, SILENCE_TIMEOUT, Sleep, request
from gridops.jobs.records import jobs_from
from gridops.model import Job
from gridops.observe import events
from gridops.reach.link import Link
from gridops.reach.pump import Sink

TICK_INTERVAL = 0.1  # seconds between two looks at `tick` while we wait to reconnect
MAX_END_LINES = 1000  # that tell of a run which has ended; a dozen do


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
    tick: Callable[[], None] | None = None
    state: str = ""
    delivered: bool = False  # it may still have to hear that its tree is there
    _lost_at: float | None = None
    _ended: list[str] | None = field(default=None)
    _end_by: float = math.inf  # when the node must have told how the run ended

    def once(self, *, live: bool = True) -> JobEnd:
        """Follow until the run ends, over one session.

        With `live` False, follow to what there is now. Raises what `follow` raises.
        """
        self._ended, self._end_by = None, math.inf
        args = (self.id, str(self.out), str(self.err), *(() if live else ("once",)))
        request(
            self.link,
            "begin" if self.delivered else "follow",
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
            raise NodeError("sent output out of order", node=self.link.node.name)
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
            raise NoJob(f"has no run {self.id}", node=self.link.node.name)
        if live and job.state in ("queued", "held", "running"):
            raise ConnectionLost("its follow script ended early", node=self.link.node.name)
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
                if exc.needs_a_person:
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
            sleep(min(TICK_INTERVAL, seconds))
            seconds -= TICK_INTERVAL

    def _gone(self, exc: GridError) -> JobUnreachable:
        return JobUnreachable(
            f"the connection to the run {self.id} is lost: {exc.message}",
            node=self.link.node.name,
            hint=f"the run goes on there: `inv jobs.logs {self.id} --follow`",
        )
