"""A run: choose a node, sync the tree, start the command, follow it to its end; else the next best.

Moving on to another node is safe only while it is certain that nothing has begun. From there on the
run belongs to its node: a connection that breaks is made anew, and nothing is run a second time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gridops.dispatch.assignment import (
    Detached,
    Handover,
    Parcel,
    detached,
    in_doubt,
    tell_started,
    wanted_of,
    with_free_id,
)
from gridops.dispatch.holders import full_among, told
from gridops.dispatch.placement import Candidate, first_able
from gridops.dispatch.queue import Line
from gridops.dispatch.results import after_run
from gridops.dispatch.staging import cancel
from gridops.errors import (
    GridError,
    JobUnreachable,
    NoJob,
    NotStarted,
    OutputError,
    RunLost,
    RunTimeout,
)
from gridops.jobs import client, follow
from gridops.jobs.attach import Attendance, stop_or_leave
from gridops.jobs.begin import setup_failure
from gridops.jobs.follow import JobEnd
from gridops.jobs.foreground import STOPPED_STATUS, Stop
from gridops.jobs.outcome import SETUP, exit_status, remains, verdict
from gridops.model import Job, Node, RunResult, RunSpec
from gridops.observe import events
from gridops.reach import link_to
from gridops.reach.port_forward import Forwards
from gridops.reach.pump import Sink

if TYPE_CHECKING:
    from gridops.inventory.settings import Settings

RESTARTS = 3  # of a run that is lost again and again
Follow = Callable[..., JobEnd]


@dataclass(frozen=True, slots=True)
class Output:
    """Sinks for a run's stdout and stderr."""

    stdout: Sink
    stderr: Sink


class Executor:
    """Executor of one spec on nodes, over the links of the settings."""

    def __init__(self, spec: RunSpec, settings: Settings, stop: Stop) -> None:
        """Take `stop`, a request to end the run or to leave it.

        Any thread may make it.
        """
        self._spec = spec
        self._settings = settings
        self._stop = stop
        self._forwards = Forwards()

    # -- to its end ------------------------------------------------------------------------------

    def run(self, choice: Sequence[Candidate], output: Output) -> RunResult:
        """Run on the first able node of `choice`, to the end.

        Raises UsageError for a port that cannot be had, the node's own error when only one was
        asked, NoneAble when none of several could take it, NotStarted when they are full,
        RunTimeout when the time ran out, RunLost when nobody saw how it ended, StartUnknown and
        JobUnreachable when it may go on without us.
        """
        with Forwards.reserve(self._spec.ports) as self._forwards:
            handover = Handover(self._spec, self._settings)
            if not self._spec.restart_lost:
                return self._run(handover, choice, output)
            with handover.keeping():
                return self._run_again(handover, choice, output)

    def _run_again(
        self, handover: Handover, choice: Sequence[Candidate], output: Output
    ) -> RunResult:
        for _ in range(RESTARTS):
            try:
                return self._run(handover, choice, output)
            except RunLost as exc:
                self._make_sure(exc, choice)
                handover.renew()
                events.emit(events.RUN_RESTARTED, node=exc.node, id=exc.id, error=str(exc))
        return self._run(handover, choice, output)

    def _run(self, handover: Handover, choice: Sequence[Candidate], output: Output) -> RunResult:
        def attend(one: Candidate) -> RunResult:
            parcel = self._addressed(handover, one, choice)
            return with_free_id(parcel, lambda parcel: self._attend(parcel, output, handover))

        with events.bound(run_id=handover.id):
            try:
                return first_able(choice, attend)
            except GridError as exc:
                full = self._full(exc, choice)
        return self._wait(handover, full, output)

    def _wait(self, handover: Handover, full: Sequence[Candidate], output: Output) -> RunResult:
        with self._in_line(handover, full) as parcel:
            if parcel is None:
                return self._stopped(full[0].node, "")
            on = partial(follow.follow_through, parcel.link, parcel.job.id)
            return self._attend(parcel, output, handover, on)

    def _attend(
        self, parcel: Parcel, output: Output, handover: Handover, on: Follow | None = None
    ) -> RunResult:
        """Stay with the run of `parcel`; start it, unless `on` follows what has begun already."""
        node, job, began = parcel.link.node, parcel.job, time.monotonic()
        handed_over, waits = bool(on), False

        def started(reply: client.StartReply | None) -> None:
            nonlocal handed_over, waits
            handed_over, waits = True, bool(reply and reply.state == "queued")
            tell_started(parcel, reply)
            self._forwards.lead()

        if on:
            started(None)
        else:
            self._forwards.prepare(parcel.link)
        start = partial(follow.run, parcel.link, job, on_started=started)
        signals = ExitStack()

        def deliver(reply: client.StartReply) -> None:
            nonlocal parcel
            parcel = handover.bring(parcel, reply)
            signals.enter_context(self._signals(node))  # until now it could be interrupted

        if job.hold and not on:
            start = partial(start, deliver=deliver)
        else:
            signals.enter_context(self._signals(node))
        attendance = Attendance(parcel.link, job.id, self._stop, output.stdout, output.stderr)
        try:
            with signals, self._explaining(parcel, held=bool(job.hold) and not on):
                end = attendance.stay(partial(on or start, give_up_after=self._spec.give_up_after))
        except NotStarted:
            if self._stop.reason:
                return self._stopped(node, job.id)
            raise
        if end is None:
            return self._left(parcel, handed_over, waits)
        return self._concluded(parcel, end.job, time.monotonic() - began)

    @contextmanager
    def _explaining(self, parcel: Parcel, *, held: bool) -> Iterator[None]:
        """Add the run's fate to errors of staying with it; cancel one that is `held`."""
        node, job_id = parcel.link.node, parcel.job.id
        try:
            yield
        except (KeyboardInterrupt, SystemExit):  # only until its tree is there
            if held:
                cancel(parcel.link, job_id)
            raise
        except OutputError as exc:
            exc.hint = f"the run goes on on {node.name}: `inv jobs.logs {job_id} --follow`"
            raise
        except NoJob as exc:
            raise self._forgotten(job_id, node) from exc

    def _concluded(self, parcel: Parcel, job: Job, seconds: float) -> RunResult:
        node = parcel.link.node
        if self._stop.reason and not job.began:
            return self._stopped(node, job.id)
        if not job.began and job.reason == SETUP:
            raise setup_failure(parcel.link, job)
        if not job.began and job.state in ("refused", "lost"):
            raise self._refused(job)
        if job.cut:
            events.emit(events.WARNING, message=f"{node.name}: {_CUT[job.cut]}")
        status = STOPPED_STATUS.get(self._stop.reason or "", exit_status(job))
        status = after_run(status, parcel.link, job, self._spec, self._settings)
        seconds = seconds if job.seconds is None else job.seconds
        events.emit(
            events.RUN_FINISHED,
            node=node.name,
            id=job.id,
            status=status,
            signal=job.signal,
            seconds=seconds,
            left=remains(job),
        )
        if not self._stop.reason:
            self._say(job)
        return RunResult(node, status, seconds, job.id, parcel.report, self._stop.reason)

    def _say(self, job: Job) -> None:
        """Report details that an exit status alone does not tell. Raises RunTimeout, RunLost."""
        if job.state == "timed out":
            rest = f"; {remains(job)}" if job.left else ""
            raise RunTimeout(
                f"the command was ended after {job.timeout:g} s{rest}",
                node=job.node,
                hint="--timeout",
            )
        if job.state == "lost":
            raise RunLost(
                f"the run {job.id}: {verdict(job)}",
                id=job.id,
                node=job.node,
                hint=f"--restart-lost runs it again; its output: `inv jobs.logs {job.id}`",
            )
        if said := verdict(job):
            events.emit(events.WARNING, message=f"{job.node}: the run {job.id}: {said}")

    def _forgotten(self, job_id: str, node: Node) -> RunLost:
        return RunLost(
            f"the files of the run {job_id} under ~/.gridops are gone: nobody can tell how it ends",
            id=job_id,
            node=node.name,
            hint="its command may still run there",
        )

    def _refused(self, job: Job) -> NotStarted:
        message, hint = verdict(job), f"`inv jobs.show {job.id}`"
        if job.reason == "busy" and self._spec.wait is not None:
            wanted = wanted_of(self._spec.gpus)
            message = f"no {wanted} came free within {self._spec.wait:g} s"
            hint = "`inv jobs` shows who has them"
        return NotStarted(message, reason=job.reason, node=job.node, hint=hint)

    def _left(self, parcel: Parcel, started: bool, waits: bool) -> RunResult:
        node, job_id = parcel.link.node, parcel.job.id
        left = self._stop.left or ""
        if started:
            fate = "is being ended there" if self._stop.reason else "goes on there"
            fate = "waits for its turn there, or has begun" if waits else fate
            events.emit(events.RUN_LEFT, node=node.name, id=job_id, reason=left, fate=fate)
        else:
            events.emit(events.WARNING, message=in_doubt(job_id, node))
        status = STOPPED_STATUS.get(left, 0)
        return RunResult(
            node, status, 0.0, job_id, parcel.report, stopped=self._stop.reason, left=left
        )

    def _stopped(self, node: Node, run_id: str) -> RunResult:
        """Result of a run that was stopped before it began."""
        reason = self._stop.reason or self._stop.left or ""
        events.emit(events.WARNING, message=f"{reason}: the run has not begun, and will not")
        return RunResult(node, STOPPED_STATUS.get(reason, 125), 0.0, run_id, stopped=reason)

    def _make_sure(self, lost: RunLost, choice: Sequence[Candidate]) -> None:
        """Kill the remains of a lost run before it runs again. Raises JobUnreachable."""
        node = next(one.node for one in choice if one.node.name == lost.node)
        link = link_to(node, self._settings.ssh)
        if client.kill_until_heard(link, lost.id, give_up_after=self._spec.give_up_after).orphan:
            raise JobUnreachable(
                f"processes of the lost run {lost.id} do not end: it is not run again",
                node=lost.node,
            )

    # -- handed over and left --------------------------------------------------------------------

    def detach(self, choice: Sequence[Candidate]) -> Detached:
        """Start a durable run on the first able node of `choice`.

        The run is left there. Where several are full and it may wait, this returns when it has
        begun on one. Raises what `run` raises, and StartUnknown when it may have begun; then no
        other node is tried.
        """
        handover = Handover(self._spec, self._settings)
        with events.bound(run_id=handover.id):
            try:
                return first_able(
                    choice,
                    lambda one: with_free_id(
                        self._addressed(handover, one, choice),
                        lambda parcel: detached(parcel, handover.bring),
                    ),
                )
            except GridError as exc:
                full = self._full(exc, choice)
        with self._in_line(handover, full) as parcel:
            if parcel is None:
                raise KeyboardInterrupt
            tell_started(parcel)
            return Detached(parcel.job.id, parcel.link.node, parcel.report)

    # -- both ------------------------------------------------------------------------------------

    def _addressed(self, handover: Handover, one: Candidate, choice: Sequence[Candidate]) -> Parcel:
        """Make the parcel for one node of `choice`.

        A node alone queues the run by itself; of several, the next is tried first.
        """
        wait = self._spec.wait if len(choice) == 1 else None
        return handover.address(one.node, one.reason, wait=wait or 0.0, hold=handover.hold)

    def _full(self, exc: GridError, choice: Sequence[Candidate]) -> Sequence[Candidate]:
        """The nodes to queue on, after `exc`; raises it, or better, when there are none."""
        full = full_among(exc, choice)
        if not full or (self._spec.wait is not None and len(choice) == 1):
            raise exc
        if self._spec.wait is None:
            raise told(exc, choice, self._settings) from exc
        return full

    @contextmanager
    def _in_line(self, handover: Handover, full: Sequence[Candidate]) -> Iterator[Parcel | None]:
        """Queue for the first free slot; yields the run's parcel there.

        None when it is to begin no more.
        """
        handover.renew()
        wait = self._spec.wait or 0.0
        with events.bound(run_id=handover.id):
            with handover.keeping():
                line = Line(handover, full, self._settings, wait, self._forwards.prepare)
                with stop_or_leave(self._stop, _say_nothing):
                    parcel = line.first(self._stop)
            yield parcel

    @contextmanager
    def _signals(self, node: Node) -> Iterator[None]:
        def tell(reason: str) -> None:
            events.emit(events.RUN_STOPPING, node=node.name, reason=reason)

        with stop_or_leave(self._stop, tell, kill_on_exit=self._spec.kill_on_exit):
            yield


_CUT = {
    "full": "its disk is full: some of the run's output was not kept",
    "cap": "the run printed more than --log-cap: the rest was not kept",
}


def _say_nothing(reason: str) -> None:
    pass
