"""What a node is handed: the synced tree, and the durable run that is to happen in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gridops.errors import GridError, NodeError, NotStarted, ReachError
from gridops.jobs import client
from gridops.jobs.begin import await_begin, setup_failure
from gridops.jobs.verdict import SETUP
from gridops.model import Job, Node, RunSpec, SyncReport
from gridops.observe import events
from gridops.reach import link_to
from gridops.reach.link import Link
from gridops.sync import Tree, earlier_target, list_tree, sync_tree
from gridops.sync.origin import Origin, origin_of

if TYPE_CHECKING:
    from gridops.settings import Settings


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Detached:
    """A run that has been started: `id` names it from any machine."""

    id: str
    node: Node
    sync: SyncReport | None = None


@dataclass(frozen=True, slots=True)
class Parcel:
    """A run as one node gets it."""

    link: Link
    job: client.JobSpec
    report: SyncReport | None = None


class Handover:
    """One durable run on its way to a node; whichever node is tried, it has one id."""

    def __init__(self, spec: RunSpec, settings: Settings) -> None:
        """List the tree. Raises UsageError, SyncError, before anything is done."""
        self._spec = spec
        self._settings = settings
        self._tree: Tree | None = None
        origin = Origin()
        if spec.src and spec.sync:
            self._tree = list_tree(Path(spec.src), settings.sync)
            origin = origin_of(Path(spec.src).resolve())
        self._job = client.JobSpec(
            command=spec.command,
            env=spec.env,
            timeout=spec.timeout,
            gpus=spec.gpus,
            isolate=spec.isolate,
            fetch=bool(spec.fetch),
            log_cap=spec.log_cap,
            forget=settings.jobs.keep,
            commit=origin.commit,
            diff=origin.diff,
        )

    @property
    def id(self) -> str:
        return self._job.id

    @property
    def wanted(self) -> str:
        """What it may have to wait for, in words."""
        return wanted_of(self._job.gpus)

    def address(self, node: Node, why: str, *, wait: float = 0.0, hold: float = 0.0) -> Parcel:
        """What the node is to get; nothing is brought there yet."""
        directory = earlier_target(node, self._spec.src)
        job = replace(
            self._job,
            env_setup=node.env_setup,
            slots=node.slots,
            directory=directory,
            must_exist=self._tree is not None,
            tree=directory,
            why=why,
            wait=wait,
            hold=hold,
        )
        return Parcel(link_to(node, self._settings.ssh), job)

    def bring(self, parcel: Parcel) -> Parcel:
        """Sync the tree to the node. Raises a ReachError, NodeError or SyncError."""
        if self._tree is None:
            return parcel
        report = bring(parcel.link, self._tree, self._settings)
        job = replace(parcel.job, directory=report.target, tree=report.target)
        return replace(parcel, job=job, report=report)


def with_free_id(parcel: Parcel, begin: Callable[[Parcel], T]) -> T:
    """What `begin` makes of the parcel.

    Where another node with the same home has its id (and refused it, or may give it a slot), of one
    with an id of its own.
    """
    try:
        return begin(parcel)
    except NotStarted as exc:
        if exc.reason != client.ELSEWHERE:
            raise
    return begin(replace(parcel, job=replace(parcel.job, id=client.new_id())))


def detached(parcel: Parcel) -> Detached:
    """Start the run and leave it.

    Raises a ReachError, NodeError or NotStarted when it will certainly not run there, StartUnknown
    when it may.
    """
    node, job = parcel.link.node, parcel.job
    try:
        reply = client.start(parcel.link, job)
    except (KeyboardInterrupt, SystemExit):
        events.emit(events.WARNING, message=in_doubt(job.id, node))
        raise
    if job.env_setup and reply.state != "queued":
        _check_setup(parcel)
    tell_started(parcel, reply)
    return Detached(job.id, node, parcel.report)


def _check_setup(parcel: Parcel) -> None:
    """See that the run gets past the node's env_setup. Raises NotStarted when it does not.

    One that takes long, or cannot be asked about, is left to itself.
    """
    with suppress(ReachError, NodeError):
        found = await_begin(parcel.link, parcel.job.id)
        if found and found.reason == SETUP:
            raise setup_failure(parcel.link, found)


def tell_started(parcel: Parcel, reply: client.StartReply | None = None) -> None:
    """Say that a node has the run, and whether it waits there."""
    node, job = parcel.link.node.name, parcel.job
    if reply and reply.state == "queued":
        events.emit(
            events.RUN_QUEUED,
            nodes=(node,),
            id=job.id,
            seconds=job.wait,
            wanted=wanted_of(job.gpus),
            command=job.command,
        )
    else:
        cwd = job.directory or None
        events.emit(events.RUN_STARTED, node=node, id=job.id, cwd=cwd, command=job.command)


def wanted_of(gpus: int) -> str:
    """What a run needs to begin, in words: `slot`, `slot with 2 GPUs`."""
    return "slot" + (f" with {gpus} GPU{'s' * (gpus > 1)}" if gpus else "")


def in_doubt(job_id: str, node: Node) -> str:
    return f"{node.name}: the run {job_id} was being handed over: it may run (`inv jobs` says)"


def bring(link: Link, tree: Tree, settings: Settings, *, dry_run: bool = False) -> SyncReport:
    """Sync `tree` to the node, and say which runs use what that has changed.

    Raises what `sync_tree` raises.
    """
    report = sync_tree(link, tree, settings, dry_run=dry_run)
    if not dry_run and (report.files or report.deleted):
        with suppress(GridError):  # it is synced all the same; trouble there will show soon enough
            if users := client.using(client.list_jobs(link), report.target):
                events.emit(events.WARNING, message=_changed_under(link.node, users))
    return report


def _changed_under(node: Node, users: Sequence[Job]) -> str:
    named = ", ".join(job.id for job in users[:3]) + (", …" if len(users) > 3 else "")
    runs, use = ("runs", "use") if len(users) > 1 else ("run", "uses")
    return (
        f"{node.name}: the {runs} {named} {use} the tree that this sync has changed"
        " (a run with --isolate has its own copy)"
    )
