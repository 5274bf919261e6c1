"""A run that is handed to a node and left there: sync, start, and the id to come back with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.jobs import client
from gridops.model import Node, RunSpec, SyncReport
from gridops.observe import events
from gridops.reach import link_to
from gridops.sync import Tree, earlier_target, sync_tree
from gridops.sync.origin import Origin, origin_of

if TYPE_CHECKING:
    from gridops.settings import Settings


@dataclass(frozen=True, slots=True)
class Detached:
    """A run that has been started: `id` names it from any machine."""

    id: str
    node: Node
    sync: SyncReport | None = None


class Handover:
    """One durable run on its way to a node; whichever node is tried, it has one id."""

    def __init__(self, spec: RunSpec, settings: Settings) -> None:
        """Raises UsageError, before anything is done."""
        self._spec = spec
        self._settings = settings
        origin = origin_of(Path(spec.src).resolve()) if spec.src and spec.sync else Origin()
        self._job = client.JobSpec(
            command=spec.command,
            env=spec.env,
            timeout=spec.timeout,
            commit=origin.commit,
            diff=origin.diff,
        )

    @property
    def id(self) -> str:
        return self._job.id

    def __call__(self, node: Node, why: str, tree: Tree | None) -> Detached:
        """Sync `tree` to the node and start the run there.

        Raises a ReachError, NodeError, SyncError or NotStarted when it will certainly not run
        there, StartUnknown when it may.
        """
        link = link_to(node, self._settings.ssh)
        report = sync_tree(link, tree, self._settings) if tree else None
        directory = report.target if report else earlier_target(node, self._spec.src)
        job = replace(
            self._job,
            env_setup=node.env_setup,
            slots=node.slots,
            directory=directory,
            must_exist=report is not None,
            tree=directory,
            why=why,
        )
        try:
            client.start(link, job)
        except (KeyboardInterrupt, SystemExit):
            events.emit(events.WARNING, message=_in_doubt(job.id, node))
            raise
        cwd = directory or None
        events.emit(events.RUN_STARTED, node=node.name, cwd=cwd, command=job.command)
        return Detached(job.id, node, report)


def _in_doubt(job_id: str, node: Node) -> str:
    return f"{node.name}: the run {job_id} was being handed over: it may run (`inv jobs` says)"
