"""Thresholds for a node's figures: healthy, or degraded with reasons."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gridops.model import Jobs, Node, NodeHealth
from gridops.probe.parse import Figures
from gridops.probe.score import cpu_load, score

if TYPE_CHECKING:
    from gridops.inventory.settings import HealthSettings


def judge(
    node: Node, figures: Figures, settings: HealthSettings, *, latency_ms: float | None = None
) -> NodeHealth:
    """The node's health: degraded with reasons where a threshold is passed, else healthy."""
    reasons = tuple(_reasons(node, figures, settings))
    return NodeHealth(
        node=node,
        state="degraded" if reasons else "healthy",
        score=score(figures.cpu, figures.gpus, settings),
        reasons=reasons,
        latency_ms=latency_ms,
        cpu=figures.cpu,
        memory=figures.memory,
        disk=figures.disk,
        gpus=figures.gpus,
        gpu_error=figures.gpu_error,
        setup_error=figures.setup_error,
        jobs=Jobs(figures.running, node.slots, figures.queued),
        uptime_s=figures.uptime_s,
        users=figures.users,
        ray=figures.ray,
    )


def _reasons(node: Node, figures: Figures, settings: HealthSettings) -> Iterator[str]:
    """The reasons, one for each threshold that is passed.

    For the CPUs it is the load of score.py, not the busy share of a moment: a short burst (our own
    login is one) does not make a node degraded.
    """
    if figures.setup_error:
        yield figures.setup_error
    yield from _over("CPU load", cpu_load(figures.cpu), settings.max_cpu_percent, " %")
    cores = figures.cpu.cores
    if figures.cpu.load1 > settings.max_load_per_core * cores:
        yield (
            f"load {figures.cpu.load1:.0f} on {cores} core{'s' * (cores != 1)}"
            f" (limit {settings.max_load_per_core:g} per core)"
        )
    yield from _over("memory", figures.memory.percent, settings.max_memory_percent, " % used")
    if figures.disk is None:
        yield f"the disk of {node.remote_root} could not be read"
    else:
        name = f"disk of {node.remote_root}"
        yield from _over(name, figures.disk.percent, settings.max_disk_percent, " % full")
    if figures.unwritable:
        yield f"{node.remote_root} cannot be written ({figures.unwritable} is read-only for us)"
    for gpu in figures.gpus:
        heat, limit = gpu.temperature_c, settings.max_gpu_temperature_c
        if heat is not None and heat > limit:
            yield f"GPU {gpu.index} at {heat:.0f} °C (limit {limit:g} °C)"
    if figures.gpu_error:
        yield figures.gpu_error


def _over(name: str, percent: float, limit: float, unit: str) -> Iterator[str]:
    if percent > limit:
        yield f"{name} {math.ceil(percent)}{unit} (limit {limit:g} %)"
