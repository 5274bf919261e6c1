"""The Ray cluster as rows and as a JSON document (docs/json.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gridops.ray.status import ClusterStatus, NodeStatus
from gridops.render.documents import SCHEMA
from gridops.system.text import plain

if TYPE_CHECKING:
    from gridops.render.tables import Row

HEADER = ("NODE", "ROLE", "STATE", "ADDRESS", "CPUS", "GPUS", "MEMORY", "RAY", "PYTHON", "NOTES")
GIB = 1 << 30


def row(node: NodeStatus) -> Row:
    return (
        plain(node.name),
        node.role,
        node.state,
        plain(node.address) or "-",
        _amount(node, "CPU"),
        _amount(node, "GPU"),
        _amount(node, "memory", GIB, " GiB"),
        plain(node.ray) or "-",
        plain(node.python) or "-",
        plain(node.note),
    )


def _amount(node: NodeStatus, name: str, unit: int = 1, word: str = "") -> str:
    """`used/total`, where the node has any of it."""
    total = (node.total or {}).get(name)
    if not total:
        return "-"
    used = (node.used or {}).get(name, 0.0)
    return f"{round(used / unit, 1):g}/{round(total / unit, 1):g}{word}"


def summary(status: ClusterStatus) -> list[str]:
    """Remarks beside the table, a line each."""
    if status.state == "not started":
        return ["the Ray cluster is not started (`inv cluster.start`)"]
    lines = [f"waiting for room: {plain(one)}" for one in status.demand]
    lines += [
        f"job {plain(job['id'])} {job['status'].lower()}: {plain(job['entrypoint'])}"
        for job in status.jobs
    ]
    return lines


def document(inventory: str, status: ClusterStatus) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "inventory": inventory,
        "state": status.state,
        "head": status.head.name,
        "address": status.address or None,
        "dashboard_port": status.dashboard_port,
        "nodes": [_record(node) for node in status.nodes],
        "pending": list(status.demand),
        "jobs": [dict(job) for job in status.jobs],
    }


def _record(node: NodeStatus) -> dict[str, Any]:
    return {
        "name": node.name,
        "role": node.role,
        "state": node.state,
        "address": node.address or None,
        "ray": node.ray or None,
        "python": node.python or None,
        "resources": _resources(node.total, node.used),
        "note": node.note or None,
    }


def _resources(
    total: Mapping[str, float] | None, used: Mapping[str, float] | None
) -> dict[str, dict[str, float]] | None:
    """Resources as Ray names them. The marks (`node:…`) that every node has are left out."""
    if total is None:
        return None
    return {
        name: {"total": amount, "used": (used or {}).get(name, 0.0)}
        for name, amount in sorted(total.items())
        if not name.startswith("node:")
    }
