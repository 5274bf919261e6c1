"""A node's health as plain figures, for events, metrics and history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gridops.model import Gpu, NodeHealth
from gridops.observe.rows import NodeRecord, Sample


def figures(health: NodeHealth) -> dict[str, Any]:
    """What is known of the node; what is not known is left out."""
    found: dict[str, Any] = {"latency_ms": health.latency_ms}
    if health.cpu:
        for name in ("cores", "load1", "load5", "load15"):
            found[name] = getattr(health.cpu, name)
        found["cpu_percent"] = health.cpu.percent
    for name, space in (("memory", health.memory), ("disk", health.disk)):
        if space:
            found[f"{name}_total_bytes"] = space.total_bytes
            found[f"{name}_available_bytes"] = space.available_bytes
            found[f"{name}_percent"] = space.percent
    if health.jobs:
        for name in ("running", "queued", "slots"):
            found[name] = getattr(health.jobs, name)
    if health.gpus:
        found["gpus"] = [_gpu(gpu) for gpu in health.gpus]
    return {name: value for name, value in found.items() if value is not None}


def _gpu(gpu: Gpu) -> dict[str, Any]:
    names = ("index", "uuid", "name", "vendor", "memory_total_mib", "memory_used_mib")
    more = ("utilization_percent", "temperature_c")
    found = {name: getattr(gpu, name) for name in (*names, *more)}
    return {name: value for name, value in found.items() if value is not None}


def record_of(health: NodeHealth, at: float) -> NodeRecord:
    return NodeRecord(health.node.name, at, health.state, health.score, figures(health))


def sample_of(record: NodeRecord) -> Sample:
    """The record without what history does not keep."""
    known = record.figures
    gpus: Sequence[Mapping[str, Any]] = known.get("gpus", ())
    plain = (
        *("cpu_percent", "load1", "cores", "memory_percent", "disk_percent"),
        *("running", "slots", "latency_ms"),
    )
    return Sample(
        record.node,
        record.at,
        record.state,
        record.score,
        **{name: known.get(name) for name in plain},
        gpu_memory_percent=_memory(gpus),
        gpu_percent=_mean(_each(gpus, "utilization_percent")),
        gpu_temperature_c=max(_each(gpus, "temperature_c"), default=None),
    )


def _each(gpus: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [gpu[name] for gpu in gpus if name in gpu]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _memory(gpus: Sequence[Mapping[str, Any]]) -> float | None:
    told = [gpu for gpu in gpus if gpu.get("memory_total_mib") and "memory_used_mib" in gpu]
    total = sum(gpu["memory_total_mib"] for gpu in told)
    return 100 * sum(gpu["memory_used_mib"] for gpu in told) / total if total else None
