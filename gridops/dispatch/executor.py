"""A run: choose a node, sync the tree, start the command, follow it to its end; else the next best.

Moving on to another node is safe only while it is certain that nothing has begun. From there on the
run belongs to its node: a connection that breaks is made anew, and nothing is run a second time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

from gridops.dispatch.assignment import (
    Detached,
    Dispatch,
    announce_start,
    start_detached,
    unknown_start_message,
)
from gridops.dispatch.candidates import (
    Assignment,
    Candidate,
    first_able,
    retry_with_new_id,
)
from gridops.dispatch.staging import HOLD_LEASE, cancel_run
from gridops.errors import (
    GridError,
    JobUnreachable,
    NoJob,
    NotStarted,
    OutputError,
    RunLost,
)
from gridops.jobs import client
from gridops.jobs.attach import Attachment, DetachRequested
from gridops.jobs.logs import setup_failure
from gridops.jobs.outcome import (
    CUT_OUTPUT,
    SETUP,
    describe_outcome,
    exit_status,
    forgotten_error,
    raise_unless_ended,
    refused_error,
)
from gridops.jobs.spec import Acknowledgement
from gridops.model import Job, Node, RunResult, RunSpec
from gridops.observe import events
from gridops.reach import link_to
from gridops.reach.pump import Sinks
from gridops.system.signals import STOPPED_STATUS, Cancel, cancel_or_detach_on_signals

if TYPE_CHECKING:
    from gridops.inventory.settings import Settings
    from gridops.reach.port_forward import Forwards

RESTARTS = 3  # of a run that is lost again and again


class Executor:
    """Executor of one spec on nodes, over the links of the settings."""

    def __init__(self, spec: RunSpec, settings: Settings, cancel: Cancel) -> None:
        """Take `cancel`, by which any thread may end the run."""
        self._spec = spec
        self._settings = settings
        self._cancel = cancel
        self._forwards: Forwards | None = None  # of a run with ports

    # -- to its end ------------------------------------------------------------------------------

    def run(self, choice: Sequence[Candidate], output: Sinks) -> RunResult:
        """Run on the first able node of `choice`, to the end.

        Raises UsageError for a port that cannot be had, the node's own error when only one was
        asked, NoneAble when none of several could take it, NotStarted when they are full,
        RunTimeout when the time ran out, RunLost when nobody saw how it ended, StartUnknown and
        JobUnreachable when it may go on without us.
        """
        with ExitStack() as ports:
            if self._spec.ports:
                from gridops.reach.port_forward import Forwards

                self._forwards = ports.enter_context(Forwards.reserve(self._spec.ports))
            dispatch = Dispatch(self._spec, self._settings)
            if not self._spec.restart_lost:
                return self._run(dispatch, choice, output)
            with dispatch.keeping():
                return self._run_again(dispatch, choice, output)

    def _run_again(
        self, dispatch: Dispatch, choice: Sequence[Candidate], output: Sinks
    ) -> RunResult:
        for _ in range(RESTARTS):
            try:
                return self._run(dispatch, choice, output)
            except RunLost as exc:
                self._end_remains(exc, choice)
                dispatch.renew()
                events.emit(events.RUN_RESTARTED, node=exc.node, id=exc.id, error=str(exc))
        return self._run(dispatch, choice, output)

    def _run(self, dispatch: Dispatch, choice: Sequence[Candidate], output: Sinks) -> RunResult:
        """Run on the first able node; where all are full, on the first with a free slot."""

        def run_on(candidate: Candidate) -> RunResult:
            assignment = dispatch.assign_candidate(candidate, alone=len(choice) == 1)
            return retry_with_new_id(assignment, lambda a: self._attend(dispatch, a, output))

        with events.bound(run_id=dispatch.id):
            try:
                return first_able(choice, run_on)
            except GridError as exc:
                full = self._full_candidates(exc, choice)
        dispatch.renew()
        with events.bound(run_id=dispatch.id):
            if (assignment := self._queue(dispatch, full)) is None:
                return self._cancelled_result(full[0].node, "")
            begun = Acknowledgement(assignment.job.id, "exists")
            return self._attend(dispatch, assignment, output, begun)

    def _attend(
        self,
        dispatch: Dispatch,
        assignment: Assignment,
        output: Sinks,
        begun: Acknowledgement | None = None,
    ) -> RunResult:
        """Start the run on one node, unless it has `begun`; follow it to its end; conclude."""
        node, job_id, began = assignment.link.node, assignment.job.id, time.monotonic()
        attachment = Attachment(assignment.link, job_id, self._cancel, begun)
        give_up_after = self._spec.give_up_after
        with attachment as run, ExitStack() as signals:
            try:
                assignment = self._start(run, dispatch, assignment, signals)
                end = run.follow(output.stdout, output.stderr, give_up_after=give_up_after)
            except DetachRequested:
                return self._left_result(assignment, run)
            except NotStarted:
                if not self._cancel.reason:
                    raise
                return self._cancelled_result(node, job_id)
            except OutputError as exc:
                exc.hint = f"the run goes on on {node.name}: `inv jobs.logs {job_id} --follow`"
                raise
            except NoJob as exc:
                raise forgotten_error(job_id, node.name) from exc
        return self._finish(assignment, end.job, time.monotonic() - began)

    def _start(
        self, run: Attachment, dispatch: Dispatch, assignment: Assignment, signals: ExitStack
    ) -> Assignment:
        """Have the node begin the run, with its tree; signals stop or leave it from then on."""
        link, job = assignment.link, assignment.job
        holds = bool(job.hold) and run.reply is None
        if not run.reply and self._forwards:
            self._forwards.prepare(link)
        if holds:
            try:
                assignment = dispatch.stage(assignment, run.start(job))
            except (KeyboardInterrupt, SystemExit):
                cancel_run(link, job.id)
                raise
        signals.enter_context(self._signals(link.node))
        announce_start(assignment, run.reply or run.start(job))
        if self._forwards:
            self._forwards.lead()
        if holds:
            run.confirm()
        return assignment

    # -- its end -----------------------------------------------------------------------------------

    def _finish(self, assignment: Assignment, job: Job, seconds: float) -> RunResult:
        """Fetch the results of a run that has ended.

        Its end is told as an event. Raises NotStarted for a run whose command never began,
        RunTimeout, RunLost.
        """
        node = assignment.link.node
        if self._cancel.reason and not job.began:
            return self._cancelled_result(node, job.id)
        if not job.began and job.reason == SETUP:
            raise setup_failure(assignment.link, job)
        if not job.began and job.state in ("refused", "lost"):
            raise refused_error(job, self._spec.wait)
        if job.cut:
            events.emit(events.WARNING, message=f"{node.name}: {CUT_OUTPUT[job.cut]}")
        status = STOPPED_STATUS.get(self._cancel.reason or "", exit_status(job))
        if self._spec.fetch:
            from gridops.dispatch.results import exit_status_after_run

            status = exit_status_after_run(status, assignment.link, job, self._spec, self._settings)
        seconds = seconds if job.seconds is None else job.seconds
        events.emit(
            events.RUN_FINISHED,
            node=node.name,
            id=job.id,
            status=status,
            signal=job.signal,
            seconds=seconds,
            left=[asdict(one) for one in job.left],
        )
        if not self._cancel.reason:
            raise_unless_ended(job)
            if said := describe_outcome(job):
                events.emit(events.WARNING, message=f"{job.node}: the run {job.id}: {said}")
        return RunResult(node, status, seconds, job.id, assignment.report, self._cancel.reason)

    def _left_result(self, assignment: Assignment, run: Attachment) -> RunResult:
        """Result of a run that we leave; without a reply nobody knows whether it has begun."""
        node, job_id, left = assignment.link.node, assignment.job.id, self._cancel.left or ""
        if run.reply:
            state = "queued" if run.reply.state == "queued" else "running"
            state = "stopping" if run.ending else state
            events.emit(events.RUN_LEFT, node=node.name, id=job_id, reason=left, state=state)
        else:
            events.emit(events.WARNING, message=unknown_start_message(job_id, node))
        status, stopped = STOPPED_STATUS.get(left, 0), self._cancel.reason
        return RunResult(node, status, 0.0, job_id, assignment.report, stopped=stopped, left=left)

    def _cancelled_result(self, node: Node, run_id: str) -> RunResult:
        """Result of a run that was cancelled before it began."""
        reason = self._cancel.reason or self._cancel.left or ""
        events.emit(events.WARNING, message=f"{reason}: the run has not begun, and will not")
        return RunResult(node, STOPPED_STATUS.get(reason, 125), 0.0, run_id, stopped=reason)

    def _end_remains(self, lost: RunLost, choice: Sequence[Candidate]) -> None:
        """Kill the remains of a lost run before it runs again. Raises JobUnreachable."""
        node = next(one.node for one in choice if one.node.name == lost.node)
        link = link_to(node, self._settings.ssh)
        if client.kill_with_retry(link, lost.id, give_up_after=self._spec.give_up_after).orphan:
            message = f"processes of the lost run {lost.id} do not end: it is not run again"
            raise JobUnreachable(message, node=lost.node)

    # -- left to its node --------------------------------------------------------------------------

    def detach(self, choice: Sequence[Candidate]) -> Detached:
        """Start a durable run on the first able node, and leave it.

        Where several are full and it may wait, this returns when it has begun on one. Raises what
        `run` raises, and StartUnknown when it may have begun; then no other node is tried.
        """
        dispatch = Dispatch(self._spec, self._settings)

        def start_on(candidate: Candidate) -> Detached:
            assignment = dispatch.assign_candidate(candidate, alone=len(choice) == 1)
            return retry_with_new_id(assignment, lambda a: start_detached(a, dispatch))

        with events.bound(run_id=dispatch.id):
            try:
                return first_able(choice, start_on)
            except GridError as exc:
                full = self._full_candidates(exc, choice)
        dispatch.renew()
        with events.bound(run_id=dispatch.id):
            if (assignment := self._queue(dispatch, full)) is None:
                raise KeyboardInterrupt
            announce_start(assignment)
            return Detached(assignment.job.id, assignment.link.node, assignment.report)

    # -- both ------------------------------------------------------------------------------------

    def _full_candidates(self, exc: GridError, choice: Sequence[Candidate]) -> Sequence[Candidate]:
        from gridops.dispatch.holders import full_candidates

        return full_candidates(exc, choice, self._spec.wait, self._settings)

    def _queue(self, dispatch: Dispatch, full: Sequence[Candidate]) -> Assignment | None:
        """Queue on the nodes of `full`: the assignment for the first with a free slot.

        The run has begun there. None when it was cancelled before.
        """
        from gridops.dispatch.queue import Queue

        def stage(place: Assignment) -> Assignment:
            staged = dispatch.stage(place)
            if self._forwards:
                self._forwards.prepare(place.link)
            return staged

        wait = self._spec.wait or 0.0
        places = [dispatch.assign(one.node, one.reason, wait=wait, hold=HOLD_LEASE) for one in full]
        queue = Queue(places, stage, max_workers=self._settings.ssh.pool_size)
        with dispatch.keeping(), cancel_or_detach_on_signals(self._cancel, lambda reason: None):
            return queue.wait(self._cancel)

    def _signals(self, node: Node) -> AbstractContextManager[None]:
        def tell(reason: str) -> None:
            events.emit(events.RUN_STOPPING, node=node.name, reason=reason)

        kill_on_exit = self._spec.kill_on_exit
        return cancel_or_detach_on_signals(self._cancel, tell, kill_on_exit=kill_on_exit)
