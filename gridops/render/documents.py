"""Values to JSON documents.

They are described in docs/json.md; adding a key is compatible, changing one is not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gridops.model import Gpu, Node, NodeHealth, Outcome, Reply, Space, SyncReport
from gridops.render.units import round_or_none
from gridops.system.text import escape_json

if TYPE_CHECKING:
    from gridops.probe.score import Ranked
    from gridops.reach.pool import Master
    from gridops.sandbox import SandboxNode

SCHEMA = 1


def to_json(document: Mapping[str, Any]) -> str:
    """The document as JSON. It may be shown on a terminal whatever its texts hold."""
    return escape_json(json.dumps(document, ensure_ascii=False, indent=2))


def health_document(
    inventory: str, elapsed: float, healths: Iterable[NodeHealth]
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "inventory": inventory,
        "elapsed_s": round(elapsed, 3),
        "nodes": [health_record(h) for h in healths],
    }


def health_record(health: NodeHealth) -> dict[str, Any]:
    cpu, jobs = health.cpu, health.jobs
    return {
        "name": health.node.name,
        "host": health.node.host,
        "state": health.state,
        "score": round_or_none(health.score),
        "reasons": list(health.reasons),
        "latency_ms": round_or_none(health.latency_ms),
        "error": health.error,
        "cpu": cpu
        and {
            "cores": cpu.cores,
            "load1": cpu.load1,
            "load5": cpu.load5,
            "load15": cpu.load15,
            "percent": round_or_none(cpu.percent),
        },
        "memory": health.memory and _space_record(health.memory),
        "disk": health.disk and {"path": health.disk.path, **_space_record(health.disk)},
        "gpus": [_gpu_record(gpu) for gpu in health.gpus],
        "gpu_error": health.gpu_error,
        "jobs": jobs and {"running": jobs.running, "slots": jobs.slots, "queued": jobs.queued},
        "uptime_s": round_or_none(health.uptime_s),
        "users": list(health.users),
        "ray": health.ray,
    }


def _space_record(space: Space) -> dict[str, Any]:
    return {
        "total_bytes": space.total_bytes,
        "available_bytes": space.available_bytes,
        "percent": round_or_none(space.percent),
    }


def _gpu_record(gpu: Gpu) -> dict[str, Any]:
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "memory_total_mib": gpu.memory_total_mib,
        "memory_used_mib": gpu.memory_used_mib,
        "utilization_percent": gpu.utilization_percent,
        "temperature_c": gpu.temperature_c,
        "processes": gpu.processes,
        "other_processes": gpu.other_processes,
        "vendor": gpu.vendor,
        "lease": gpu.lease,
    }


def ranking_document(ranking: Sequence[Ranked]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "best": next((r.health.node.name for r in ranking[:1] if r.serves), None),
        "ranking": [
            {
                "place": ranked.place,
                "name": ranked.health.node.name,
                "state": ranked.health.state,
                "score": round_or_none(ranked.health.score),
                "fits": ranked.fits,
                "reason": ranked.reason,
            }
            for ranked in ranking
        ],
    }


def exec_document(command: str, outcomes: Iterable[Outcome[Reply]]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "command": command,
        "nodes": [
            {
                "name": outcome.node.name,
                "status": exec_status(outcome),
                "error": None if outcome.error is None else str(outcome.error),
                "stdout": _decode(outcome.value.stdout) if outcome.value else None,
                "stderr": _decode(outcome.value.stderr) if outcome.value else None,
                "seconds": round(outcome.seconds, 3),
            }
            for outcome in outcomes
        ],
    }


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def exec_status(outcome: Outcome[Reply]) -> int:
    """The command's exit status, else that of the error that prevented one."""
    if outcome.value is not None:
        return outcome.value.status
    return outcome.error.exit_status if outcome.error else 125


def sync_document(outcomes: Iterable[Outcome[SyncReport]]) -> dict[str, Any]:
    return {"schema": SCHEMA, "nodes": [_sync_record(outcome) for outcome in outcomes]}


def _sync_record(outcome: Outcome[SyncReport]) -> dict[str, Any]:
    report = outcome.value
    if report is None:
        return {"name": outcome.node.name, "ok": False, "error": str(outcome.error)}
    return {
        "name": outcome.node.name,
        "ok": True,
        "error": None,
        "source": report.source,
        "target": report.target,
        "dry_run": report.dry_run,
        "files": report.files,
        "bytes": report.bytes,
        "seconds": round(report.seconds, 3),
        "total_files": report.total_files,
        "added": list(report.added),
        "changed": list(report.changed),
        "deleted": list(report.deleted),
    }


def nodes_document(inventory: str, nodes: Iterable[Node]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "inventory": inventory,
        "nodes": [
            {
                "name": node.name,
                "host": node.host,
                "user": node.user,
                "port": node.port,
                "connection": node.connection,
                "tags": list(node.tags),
                "slots": node.slots,
                "remote_root": node.remote_root,
            }
            for node in nodes
        ],
    }


def pool_document(masters: Iterable[Master]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "connections": [
            {
                "node": master.node,
                "target": master.target,
                "pid": master.pid,
                "opened": master.opened,
                "socket": str(master.socket),
                "sessions": master.sessions,
                "answers": master.answers,
            }
            for master in masters
        ],
    }


def sandbox_document(inventory: str, nodes: Iterable[SandboxNode]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "inventory": inventory,
        "nodes": [
            {
                "name": node.name,
                "host": node.host,
                "port": node.port,
                "home": str(node.home),
                "pid": node.pid,
                "running": node.running,
            }
            for node in nodes
        ],
    }
