"""A node's health as plain figures, for events, metrics and history."""

from __future__ import annotations

from typing import Any

from gridops.model import Gpu, NodeHealth
from gridops.observe.rows import NodeRecord


def figures(health: NodeHealth) -> dict[str, Any]:
    """The node's known figures by name; unknown ones are left out."""
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
