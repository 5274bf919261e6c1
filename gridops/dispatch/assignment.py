"""Hand-over to a node: the synced tree, and the durable run in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gridops.dispatch.candidates import Assignment, Candidate
from gridops.dispatch.staging import HOLD_LEASE, cancel_run, deliver
from gridops.errors import (
    GridError,
    NodeError,
    NotStarted,
    ReachError,
    SourceUnreadable,
    StartUnknown,
)
from gridops.jobs import client
from gridops.jobs.logs import await_begin, setup_failure
from gridops.jobs.outcome import SETUP
from gridops.jobs.spec import Acknowledgement, JobSpec, new_id
from gridops.jobs.start import start_job
from gridops.model import Node, RunSpec, SyncReport
from gridops.observe import events
from gridops.reach import link_to
from gridops.transfers.sync import previous_target

if TYPE_CHECKING:
    from gridops.inventory.settings import Settings
    from gridops.transfers.sync import Tree
    from gridops.transfers.sync.provenance import Provenance


EDIT_GRACE = 1.0  # seconds in which nobody asks for a run and then edits what it is to get

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Detached:
    """A run that has been started: `id` names it from any machine."""

    id: str
    node: Node
    sync: SyncReport | None = None


class Dispatch:
    """One durable run on its way to a node; whichever node is tried, it has one id."""

    def __init__(self, spec: RunSpec, settings: Settings) -> None:
        """List the tree. Raises UsageError, SyncError, before anything is done."""
        self._spec = spec
        self._settings = settings
        self._tree: Tree | None = None
        self._origin: Provenance | None = None
        self._asked_at = time.monotonic()
        if spec.src and spec.sync:
            from gridops.transfers.sync import list_tree
            from gridops.transfers.sync.provenance import provenance_of

            self._tree = list_tree(Path(spec.src), settings.sync)
            self._origin = provenance_of(Path(spec.src).resolve())
        self._job = JobSpec(
            command=spec.command,
            env=spec.env,
            timeout=spec.timeout,
            gpus=spec.gpus,
            isolate=spec.isolate,
            fetch=bool(spec.fetch),
            fresh=spec.fresh,
            log_cap=spec.log_cap,
            forget=settings.jobs.keep,
            commit=self._origin.commit if self._origin else "",
            diff=self._origin.diff if self._origin else "",
        )

    @property
    def id(self) -> str:
        return self._job.id

    def renew(self) -> None:
        """Make it another run, with the same tree."""
        self._job = replace(self._job, id=new_id())

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep a copy of the tree as it is now.

        The files may change until the block ends. Raises SyncError.
        """
        if self._tree is None or self._tree.source:
            yield
            return
        from gridops.transfers.sync.keep import keep_tree

        listed = self._tree
        with keep_tree(listed) as self._tree:
            yield
        self._tree = listed

    def assign_candidate(self, candidate: Candidate, *, alone: bool) -> Assignment:
        """Make the assignment for a candidate.

        A node `alone` queues the run by itself; of several, the next is tried first.
        """
        wait = self._spec.wait if alone else None
        return self.assign(candidate.node, candidate.reason, wait=wait or 0.0)

    def assign(
        self, node: Node, why: str, *, wait: float = 0.0, hold: float | None = None
    ) -> Assignment:
        """Make the assignment for a node; nothing is brought there yet.

        `wait` and `hold` are in seconds: how long the run may stand in the node's line, and how
        long the node keeps a slot for it (by default HOLD_LEASE if a tree is to be brought).
        """
        directory = previous_target(node, self._spec.src)
        job = replace(
            self._job,
            env_setup=node.env_setup,
            slots=node.slots,
            directory=directory,
            must_exist=self._tree is not None,
            tree=directory,
            why=why,
            wait=wait,
            hold=(HOLD_LEASE if self._tree else 0.0) if hold is None else hold,
        )
        return Assignment(link_to(node, self._settings.ssh), job)

    def stage(self, assignment: Assignment, reply: Acknowledgement | None = None) -> Assignment:
        """Bring the tree to the node that acknowledged the run by `reply`.

        Raises a ReachError, NodeError or SyncError, SourceUnreadable when the tree has come to be
        another than the record says; the run is cancelled then.
        """
        if self._tree is None:
            return assignment
        reply = reply or Acknowledgement(assignment.job.id, "exists")
        report = deliver(
            assignment.link,
            reply,
            self._tree,
            self._settings,
            apart=self._spec.fresh,
            verify=self._check_origin,
        )
        return replace(
            assignment, job=replace(assignment.job, directory=report.target), report=report
        )

    def _check_origin(self, tree: Tree) -> None:
        """Check that the tree did not change while it was brought.

        A kept copy cannot change; a tree that is there within EDIT_GRACE is not checked. Raises
        SourceUnreadable.
        """
        if tree.source or time.monotonic() - self._asked_at < EDIT_GRACE or not self._origin:
            return
        from gridops.transfers.sync.provenance import provenance_of

        if provenance_of(tree.root).state_of_tracked() != self._origin.state_of_tracked():
            raise SourceUnreadable(
                f"{tree.root} changed while it was copied, so the run did not begin",
                hint="start the run again",
            )


def start_detached(assignment: Assignment, dispatch: Dispatch) -> Detached:
    """Start the run, bring its tree, and leave it.

    Raises a ReachError, NodeError or
    NotStarted when it will certainly not run there, StartUnknown when it may.
    """
    node, job = assignment.link.node, assignment.job
    try:
        reply = start_job(assignment.link, job)
    except (KeyboardInterrupt, SystemExit):
        if job.hold:
            cancel_run(assignment.link, job.id)
        else:
            events.emit(events.WARNING, message=unknown_start_message(job.id, node))
        raise
    if job.hold:
        assignment = dispatch.stage(assignment, reply)
        _let_begin(assignment)
    if job.env_setup and reply.state != "queued":
        _check_setup(assignment)
    announce_start(assignment, reply)
    return Detached(job.id, node, assignment.report)


def _check_setup(assignment: Assignment) -> None:
    """Check that the node's env_setup succeeds. Raises NotStarted when it does not.

    One that takes long, or cannot be asked about, is left to itself.
    """
    with suppress(ReachError, NodeError):
        found = await_begin(assignment.link, assignment.job.id)
        if found and found.reason == SETUP:
            raise setup_failure(assignment.link, found)


def _let_begin(assignment: Assignment) -> None:
    node, job_id = assignment.link.node.name, assignment.job.id
    try:
        begins = client.confirm(assignment.link, job_id, queued=True)
    except GridError as exc:
        raise StartUnknown(
            f"the connection broke while the run was handed over: {exc.message}",
            node=node,
            hint=f"it may run there: `inv jobs.show {job_id}` when the node can be reached",
        ) from exc
    if not begins:
        raise NotStarted("the run was ended before it began", node=node, hint="`inv jobs.show`")


def announce_start(assignment: Assignment, reply: Acknowledgement | None = None) -> None:
    """Say that a node has the run, and whether it waits there."""
    node, job = assignment.link.node.name, assignment.job
    if reply and reply.state == "queued":
        events.emit(
            events.RUN_QUEUED,
            nodes=(node,),
            id=job.id,
            seconds=job.wait,
            gpus=job.gpus,
            command=job.command,
        )
    else:
        cwd = job.directory or None
        events.emit(events.RUN_STARTED, node=node, id=job.id, cwd=cwd, command=job.command)


def unknown_start_message(job_id: str, node: Node) -> str:
    return f"{node.name}: the run {job_id} was being handed over: it may run (`inv jobs` says)"
