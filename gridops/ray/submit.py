"""Submission of a job to the cluster: first the tree, then the command, exactly once."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.errors import NodeError, RayUnavailable, ReachError, UsageError
from gridops.jobs.spec import new_id, whoami
from gridops.model import Node
from gridops.observe import events
from gridops.ray.client import RayClient
from gridops.ray.jobsapi import RayJob, Submission
from gridops.ray.model import Connect
from gridops.ray.package import make_package
from gridops.reach.fanout import fan_out
from gridops.retry import RetryConfig, attempts
from gridops.system import scripts
from gridops.transfers.sync import list_tree, target_of
from gridops.transfers.sync.provenance import provenance_of

if TYPE_CHECKING:
    from gridops.inventory.settings import Settings

IN_PLACE = (2, 60)  # the first Ray that takes a directory of the nodes (local://)
LOOKUP_TIMEOUT = 30.0  # seconds that a node may take to say whether it has the tree
TRIES = RetryConfig(max_retries=4, initial_delay=0.5, max_delay=5.0, max_elapsed=60.0)


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """A command to run on the cluster. Resources are the command's own."""

    command: str
    src: str
    shared: bool = False  # in what `inv sync` brought, rather than in a package of the tree
    env: Mapping[str, str] = field(default_factory=dict)
    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: int | None = None  # bytes


def submit(client: RayClient, spec: ClusterSpec, settings: Settings, connect: Connect) -> RayJob:
    """Bring the tree to the cluster and submit the job; the job, pending.

    The id is ours, so that a broken connection is no reason for a second job. Raises UsageError for
    what cannot be submitted, SyncError, RayJobError, ReachError.
    """
    if spec.shared:
        working_dir = _local_tree(client, spec, settings, connect)
    else:
        working_dir = _upload(client, spec, settings)
    origin = provenance_of(Path(spec.src))
    submission = Submission(
        id=f"ray-{new_id()}",
        command=spec.command,
        working_dir=working_dir,
        env=spec.env,
        num_cpus=spec.num_cpus,
        num_gpus=spec.num_gpus,
        memory=spec.memory,
        metadata={"gridops_user": whoami(), "gridops_commit": origin.commit},
    )
    _hand_over(client, submission)
    events.emit(events.CLUSTER_JOB_SUBMITTED, node=client.node, id=submission.id)
    return RayJob(submission.id, "pending", spec.command)


def _hand_over(client: RayClient, submission: Submission) -> None:
    """Submit the job, again while the connection breaks: the cluster takes an id once."""
    try:
        for attempt in attempts(TRIES, what="submit the job"):
            with attempt:
                client.jobs.submit(submission)
    except (ReachError, RayUnavailable, KeyboardInterrupt, SystemExit):
        message = f"the cluster may have the job {submission.id}; see `inv cluster.jobs`"
        events.emit(events.WARNING, message=message)
        raise


def _upload(client: RayClient, spec: ClusterSpec, settings: Settings) -> str:
    """Upload the tree's package unless the cluster has it; its URI."""
    began = time.monotonic()
    with make_package(list_tree(spec.src, settings.sync)) as package:
        there = False
        for attempt in attempts(TRIES, what="send the tree"):
            with attempt:
                there = client.jobs.has(package)
                if not there:
                    package.file.seek(0)
                    client.jobs.upload(package)
        events.emit(
            events.PACKAGE_READY,
            node=client.node,
            files=package.files,
            bytes=package.bytes,
            seconds=time.monotonic() - began,
            uploaded=not there,
        )
        return package.uri


def _local_tree(client: RayClient, spec: ClusterSpec, settings: Settings, connect: Connect) -> str:
    """The URI of the synced tree (local://).

    Every node of the cluster must have it at the same path. Raises UsageError when they do not.
    """
    text = scripts.script("ray/where.sh")

    def where(node: Node) -> str:
        target = target_of(node, spec.src)
        reply = connect(node).script(text, target, timeout=LOOKUP_TIMEOUT)
        if reply.status:
            raise NodeError(f"there is no {target}", node=node.name, hint="run `inv sync`")
        return reply.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")

    version = client.jobs.version()
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < IN_PLACE:
        raise UsageError(f"--shared needs Ray 2.60 or later, and the cluster has {version}")
    nodes = tuple(dict.fromkeys(client.facts.members.values()))
    found: dict[str, list[str]] = {}
    for outcome in fan_out(nodes, where, max_workers=settings.ssh.pool_size):
        if outcome.error:
            raise outcome.error
        found.setdefault(outcome.value or "", []).append(outcome.node.name)
    if len(found) > 1:
        named = "; ".join(f"{path} on {', '.join(sorted(names))}" for path, names in found.items())
        raise UsageError(
            f"the nodes have the tree at different paths: {named}",
            hint="use one remote_root on all nodes, or leave --shared out",
        )
    return f"local://{next(iter(found))}"
