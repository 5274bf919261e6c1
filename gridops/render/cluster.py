"""The Ray cluster and its jobs as rows and JSON documents (docs/json.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gridops.ray.jobsapi import RayJob
from gridops.ray.outcome import exit_status
from gridops.ray.status import ClusterStatus, NodeStatus
from gridops.render.documents import SCHEMA
from gridops.render.jobs import COMMAND_WIDTH
from gridops.render.units import duration, moment
from gridops.system.text import plain

if TYPE_CHECKING:
    from gridops.render.tables import Row

CLUSTER_HEADER = (
    "NODE", "ROLE", "STATE", "ADDRESS", "CPUS", "GPUS", "MEMORY", "RAY", "PYTHON", "NOTES",
)  # fmt: skip
CLUSTER_JOBS_HEADER = ("ID", "STATE", "STARTED", "TOOK", "STATUS", "USER", "COMMAND")
GIB = 1 << 30


def node_row(node: NodeStatus) -> Row:
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
        "nodes": [_node_record(node) for node in status.nodes],
        "pending": list(status.demand),
        "jobs": [dict(job) for job in status.jobs],
    }


def _node_record(node: NodeStatus) -> dict[str, Any]:
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


def job_row(job: RayJob, now: float) -> Row:
    return (
        plain(job.id),
        job.state,
        moment(job.started),
        duration(job_seconds(job, now)),
        "-" if job.exit_code is None else str(exit_status(job)),
        plain(job.user) or "-",
        plain(" ".join(job.command.split())[:COMMAND_WIDTH]),
    )


def job_seconds(job: RayJob, now: float) -> float | None:
    """Seconds of the job's life so far; `now` by our clock, its start by the head's."""
    if job.started is None or (job.ended is None and not job.active):
        return None
    return max(0.0, (job.ended or now) - job.started)


def jobs_document(inventory: str, head: str, jobs: Iterable[RayJob], now: float) -> dict[str, Any]:
    records = [job_record(job, now) for job in jobs]
    return {"schema": SCHEMA, "inventory": inventory, "head": head, "jobs": records}


def job_record(job: RayJob, now: float) -> dict[str, Any]:
    seconds = job_seconds(job, now)
    return {
        "id": job.id,
        "submitted": job.submitted,
        "state": job.state,
        "command": job.command,
        "user": job.user or None,
        "commit": job.commit or None,
        "started": job.started,
        "ended": job.ended,
        "duration_s": None if seconds is None else round(seconds, 2),
        "exit_status": None if job.active else exit_status(job),
        "message": job.message,
    }
