"""Status of the cluster: the inventory's nodes compared with the running ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gridops.errors import ClusterError
from gridops.model import Node, Outcome
from gridops.ray import dashboard
from gridops.ray.model import Cluster, Look, Member, Part, Said
from gridops.ray.state import look

STATUS_TIMEOUT = 10.0  # seconds until the dashboard must have answered

Standing = Literal[
    "alive",
    "missing",  # the inventory has it, and Ray does not run there
    "dead",  # Ray ran there, and ended by itself
    "lost",  # Ray runs there, and the cluster does not count it
    "stale",  # Ray runs there, for a head that is no more
    "foreign",  # the cluster counts it, and the inventory does not have it
    "unreachable",
]


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node's part; `total` and `used` are resources as Ray counts them (memory in bytes)."""

    name: str
    role: str  # "head", "worker"
    state: Standing
    address: str = ""
    ray: str = ""  # versions; of a foreign node they are not known
    python: str = ""
    total: Mapping[str, float] | None = None
    used: Mapping[str, float] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """Status of the whole cluster.

    `state`: whole (just the inventory's nodes, all alive), differs, or not started.
    """

    state: Literal["whole", "differs", "not started"]
    head: Node
    address: str  # the head's, with its port
    dashboard_port: int
    nodes: tuple[NodeStatus, ...]
    demand: tuple[str, ...] = ()
    jobs: tuple[Mapping[str, str], ...] = ()


def status(cluster: Cluster, inventory: Sequence[Node]) -> ClusterStatus:
    """Status of the cluster and of each node.

    `inventory` are all nodes that may be in it, selected or not. Raises ReachError when the
    head cannot be asked, ClusterError when its dashboard is silent.
    """
    outcomes = {outcome.node.name: outcome for outcome in look(cluster, cluster.nodes)}
    first = outcomes[cluster.head.name]
    if first.value is None:
        raise first.error or ClusterError("no answer from the Ray script", node=cluster.head.name)
    head = first.value.part
    said = Said(())
    if head and head.role == "head":
        said = dashboard.status(cluster, head, STATUS_TIMEOUT)
    else:
        head = None
    rows = [_row(cluster, outcomes[node.name], head, said) for node in cluster.nodes]
    rows += _foreign(said, {node.name for node in inventory})
    if head is None and not any(row.state in ("lost", "stale", "dead") for row in rows):
        state: Literal["whole", "differs", "not started"] = "not started"
    else:
        state = "whole" if all(row.state == "alive" for row in rows) else "differs"
    return ClusterStatus(
        state=state,
        head=cluster.head,
        address=f"{head.address}:{head.port}" if head else "",
        dashboard_port=cluster.settings.dashboard_port,
        nodes=tuple(rows),
        demand=said.demand,
        jobs=said.jobs,
    )


def _row(cluster: Cluster, outcome: Outcome[Look], head: Part | None, said: Said) -> NodeStatus:
    name, role = outcome.node.name, cluster.role(outcome.node)
    member = said.alive.get(name)
    if outcome.value is None:
        note = outcome.error.message if outcome.error else ""
        return NodeStatus(name, role, "unreachable", member.address if member else "", note=note)
    part = outcome.value.part
    state, note = _standing(outcome.value, head, member, said, name)
    return NodeStatus(
        name=name,
        role=role,
        state=state,
        address=part.address if part else "",
        ray=part.ray if part else outcome.value.ray,
        python=part.python_version if part else outcome.value.python_version,
        total=member.total if member else None,
        used=_usage(said, member) if member else None,
        note=note,
    )


def _standing(
    found: Look, head: Part | None, member: Member | None, said: Said, name: str
) -> tuple[Standing, str]:
    part = found.part
    if part and (head is None or part.id != head.id):
        return "stale", "its head is gone; restart it by `inv cluster.start`"
    if part and member:
        return "alive", ""
    if part:
        why = next((one.why for one in said.members if one.name == name and one.why), "")
        return "lost", why or "Ray runs there, but the cluster does not count it"
    if found.died or any(one.name == name for one in said.members):
        return "dead", found.died
    return "missing", "" if found.ray else "Ray is not installed there"


def _usage(said: Said, member: Member) -> Mapping[str, float]:
    """A member's used resources, by the names that its total has.

    Ray's dashboard spells them in its own way here: object_store_memory is objectStoreMemory.
    """
    told = said.used.get(member.id, {})
    return {name: told.get(_camel(name), 0.0) for name in member.total}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def _foreign(said: Said, known: set[str]) -> list[NodeStatus]:
    return [
        NodeStatus(
            name=member.name,
            role="head" if member.head else "worker",
            state="foreign",
            address=member.address,
            total=member.total,
            used=_usage(said, member),
            note="it is not in the inventory",
        )
        for name, member in sorted(said.alive.items())
        if name not in known
    ]
