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
    Assignment,
    Detached,
    Dispatch,
    announce_start,
    describe_resources,
    retry_with_new_id,
    start_detached,
    unknown_start_message,
)
from gridops.dispatch.holders import busy_candidates, explain_busy
from gridops.dispatch.placement import Candidate, first_able
from gridops.dispatch.queue import Queue
from gridops.dispatch.results import exit_status_after_run
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
from gridops.jobs.attach import Attachment
from gridops.jobs.begin import setup_failure
from gridops.jobs.follow import JobEnd
from gridops.jobs.outcome import SETUP, describe_outcome, exit_status, remains
from gridops.model import Job, Node, RunResult, RunSpec
from gridops.observe import events
from gridops.reach import link_to
from gridops.reach.port_forward import Forwards
from gridops.reach.pump import Sink
from gridops.system.signals import STOPPED_STATUS, Cancel, cancel_or_detach_on_signals

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

    def __init__(self, spec: RunSpec, settings: Settings, stop: Cancel) -> None:
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
            dispatch = Dispatch(self._spec, self._settings)
            if not self._spec.restart_lost:
                return self._run(dispatch, choice, output)
            with dispatch.keeping():
                return self._run_again(dispatch, choice, output)

    def _run_again(
        self, dispatch: Dispatch, choice: Sequence[Candidate], output: Output
    ) -> RunResult:
        for _ in range(RESTARTS):
            try:
                return self._run(dispatch, choice, output)
            except RunLost as exc:
                self._make_sure(exc, choice)
                dispatch.renew()
                events.emit(events.RUN_RESTARTED, node=exc.node, id=exc.id, error=str(exc))
        return self._run(dispatch, choice, output)

    def _run(self, dispatch: Dispatch, choice: Sequence[Candidate], output: Output) -> RunResult:
        def attend(one: Candidate) -> RunResult:
            assignment = self._addressed(dispatch, one, choice)
            return retry_with_new_id(
                assignment, lambda assignment: self._attend(assignment, output, dispatch)
            )

        with events.bound(run_id=dispatch.id):
            try:
                return first_able(choice, attend)
            except GridError as exc:
                full = self._full(exc, choice)
        return self._wait(dispatch, full, output)

    def _wait(self, dispatch: Dispatch, full: Sequence[Candidate], output: Output) -> RunResult:
        with self._in_line(dispatch, full) as assignment:
            if assignment is None:
                return self._stopped(full[0].node, "")
            on = partial(follow.follow_through, assignment.link, assignment.job.id)
            return self._attend(assignment, output, dispatch, on)

    def _attend(
        self, assignment: Assignment, output: Output, dispatch: Dispatch, on: Follow | None = None
    ) -> RunResult:
        """Stay with the run; start it, unless `on` follows one that has begun."""
        node, job, began = assignment.link.node, assignment.job, time.monotonic()
        handed_over, waits = bool(on), False

        def started(reply: client.Acknowledgement | None) -> None:
            nonlocal handed_over, waits
            handed_over, waits = True, bool(reply and reply.state == "queued")
            announce_start(assignment, reply)
            self._forwards.lead()

        if on:
            started(None)
        else:
            self._forwards.prepare(assignment.link)
        start = partial(follow.run, assignment.link, job, on_started=started)
        signals = ExitStack()

        def deliver(reply: client.Acknowledgement) -> None:
            nonlocal assignment
            assignment = dispatch.bring(assignment, reply)
            signals.enter_context(self._signals(node))  # until now it could be interrupted

        if job.hold and not on:
            start = partial(start, deliver=deliver)
        else:
            signals.enter_context(self._signals(node))
        attendance = Attachment(assignment.link, job.id, self._stop, output.stdout, output.stderr)
        try:
            with signals, self._explaining(assignment, held=bool(job.hold) and not on):
                end = attendance.stay(partial(on or start, give_up_after=self._spec.give_up_after))
        except NotStarted:
            if self._stop.reason:
                return self._stopped(node, job.id)
            raise
        if end is None:
            return self._left(assignment, handed_over, waits)
        return self._concluded(assignment, end.job, time.monotonic() - began)

    @contextmanager
    def _explaining(self, assignment: Assignment, *, held: bool) -> Iterator[None]:
        """Add the run's fate to errors of staying with it; cancel one that is `held`."""
        node, job_id = assignment.link.node, assignment.job.id
        try:
            yield
        except (KeyboardInterrupt, SystemExit):  # only until its tree is there
            if held:
                cancel(assignment.link, job_id)
            raise
        except OutputError as exc:
            exc.hint = f"the run goes on on {node.name}: `inv jobs.logs {job_id} --follow`"
            raise
        except NoJob as exc:
            raise self._forgotten(job_id, node) from exc

    def _concluded(self, assignment: Assignment, job: Job, seconds: float) -> RunResult:
        node = assignment.link.node
        if self._stop.reason and not job.began:
            return self._stopped(node, job.id)
        if not job.began and job.reason == SETUP:
            raise setup_failure(assignment.link, job)
        if not job.began and job.state in ("refused", "lost"):
            raise self._refused(job)
        if job.cut:
            events.emit(events.WARNING, message=f"{node.name}: {_CUT[job.cut]}")
        status = STOPPED_STATUS.get(self._stop.reason or "", exit_status(job))
        status = exit_status_after_run(status, assignment.link, job, self._spec, self._settings)
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
        return RunResult(node, status, seconds, job.id, assignment.report, self._stop.reason)

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
                f"the run {job.id}: {describe_outcome(job)}",
                id=job.id,
                node=job.node,
                hint=f"--restart-lost runs it again; its output: `inv jobs.logs {job.id}`",
            )
        if said := describe_outcome(job):
            events.emit(events.WARNING, message=f"{job.node}: the run {job.id}: {said}")

    def _forgotten(self, job_id: str, node: Node) -> RunLost:
        return RunLost(
            f"the files of the run {job_id} under ~/.gridops are gone: nobody can tell how it ends",
            id=job_id,
            node=node.name,
            hint="its command may still run there",
        )

    def _refused(self, job: Job) -> NotStarted:
        message, hint = describe_outcome(job), f"`inv jobs.show {job.id}`"
        if job.reason == "busy" and self._spec.wait is not None:
            wanted = describe_resources(self._spec.gpus)
            message = f"no {wanted} came free within {self._spec.wait:g} s"
            hint = "`inv jobs` shows who has them"
        return NotStarted(message, reason=job.reason, node=job.node, hint=hint)

    def _left(self, assignment: Assignment, started: bool, waits: bool) -> RunResult:
        node, job_id = assignment.link.node, assignment.job.id
        left = self._stop.left or ""
        if started:
            fate = "is being ended there" if self._stop.reason else "goes on there"
            fate = "waits for its turn there, or has begun" if waits else fate
            events.emit(events.RUN_LEFT, node=node.name, id=job_id, reason=left, fate=fate)
        else:
            events.emit(events.WARNING, message=unknown_start_message(job_id, node))
        status = STOPPED_STATUS.get(left, 0)
        return RunResult(
            node, status, 0.0, job_id, assignment.report, stopped=self._stop.reason, left=left
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
        if client.kill_with_retry(link, lost.id, give_up_after=self._spec.give_up_after).orphan:
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
        dispatch = Dispatch(self._spec, self._settings)
        with events.bound(run_id=dispatch.id):
            try:
                return first_able(
                    choice,
                    lambda one: retry_with_new_id(
                        self._addressed(dispatch, one, choice),
                        lambda assignment: start_detached(assignment, dispatch.bring),
                    ),
                )
            except GridError as exc:
                full = self._full(exc, choice)
        with self._in_line(dispatch, full) as assignment:
            if assignment is None:
                raise KeyboardInterrupt
            announce_start(assignment)
            return Detached(assignment.job.id, assignment.link.node, assignment.report)

    # -- both ------------------------------------------------------------------------------------

    def _addressed(
        self, dispatch: Dispatch, one: Candidate, choice: Sequence[Candidate]
    ) -> Assignment:
        """Make the assignment for one node of `choice`.

        A node alone queues the run by itself; of several, the next is tried first.
        """
        wait = self._spec.wait if len(choice) == 1 else None
        return dispatch.address(one.node, one.reason, wait=wait or 0.0, hold=dispatch.hold)

    def _full(self, exc: GridError, choice: Sequence[Candidate]) -> Sequence[Candidate]:
        """The nodes to queue on, after `exc`; raises it, or better, when there are none."""
        full = busy_candidates(exc, choice)
        if not full or (self._spec.wait is not None and len(choice) == 1):
            raise exc
        if self._spec.wait is None:
            raise explain_busy(exc, choice, self._settings) from exc
        return full

    @contextmanager
    def _in_line(
        self, dispatch: Dispatch, full: Sequence[Candidate]
    ) -> Iterator[Assignment | None]:
        """Queue for the first free slot; yields the run's assignment there.

        None when it is to begin no more.
        """
        dispatch.renew()
        wait = self._spec.wait or 0.0
        with events.bound(run_id=dispatch.id):
            with dispatch.keeping():
                line = Queue(dispatch, full, self._settings, wait, self._forwards.prepare)
                with cancel_or_detach_on_signals(self._stop, _say_nothing):
                    assignment = line.first(self._stop)
            yield assignment

    @contextmanager
    def _signals(self, node: Node) -> Iterator[None]:
        def tell(reason: str) -> None:
            events.emit(events.RUN_STOPPING, node=node.name, reason=reason)

        with cancel_or_detach_on_signals(self._stop, tell, kill_on_exit=self._spec.kill_on_exit):
            yield


_CUT = {
    "full": "its disk is full: some of the run's output was not kept",
    "cap": "the run printed more than --log-cap: the rest was not kept",
}


def _say_nothing(reason: str) -> None:
    pass
