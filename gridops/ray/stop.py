"""Stop of the cluster's parts: all that we started and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gridops.model import Node, Outcome
from gridops.observe import events
from gridops.ray.model import Cluster
from gridops.ray.state import ask_node
from gridops.reach.fanout import fan_out

STOP_GRACE = 30.0  # seconds beyond the grace in which a node must have ended everything


@dataclass(frozen=True, slots=True)
class Stopped:
    """Result of a stop on one node."""

    role: str  # "head", "worker", or nothing ran
    processes: int
    logs: str = ""  # where the node keeps them


def stop(
    cluster: Cluster, nodes: Sequence[Node], *, grace: int, keep_logs: bool
) -> Iterator[Outcome[Stopped]]:
    """Stop Ray on `nodes`, the workers first; yields each one's outcome."""

    def end(node: Node) -> Stopped:
        args = (str(grace), "yes" if keep_logs else "")
        told = ask_node(cluster, node, "stop", *args, timeout=grace + STOP_GRACE)
        done = Stopped(told["role"], int(told.number("ended") or 0), told["logs"])
        if done.role or done.processes:
            facts = {"role": done.role, "processes": done.processes}
            events.emit(events.CLUSTER_STEP, node=node.name, step="stopped", **facts)
        return done

    workers = [node for node in nodes if node.name != cluster.head.name]
    heads = [node for node in nodes if node.name == cluster.head.name]
    yield from fan_out(workers, end, max_workers=cluster.ssh.pool_size)
    yield from fan_out(heads, end)
