"""Rows of the page's table of nodes: those with trouble first, else in the inventory's order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter

from gridops.model import Gpu, NodeHealth
from gridops.render.overview import Overview
from gridops.render.page.summary import STATE_SIGNS
from gridops.render.page.svg import TrendLine, trend_line
from gridops.render.trends import Trend, span
from gridops.render.units import duration, percent
from gridops.system.text import number_of

POINTS = 48  # of a line; half as many where there are many nodes
MANY_NODES = 100
GRAVEST_FIRST = tuple(reversed(STATE_SIGNS))


class NodeRow:
    """A node's health, and what the page makes of it."""

    def __init__(self, health: NodeHealth, trend: Trend) -> None:
        self.health = health
        self.sign = STATE_SIGNS[health.state]
        self.facts = list(_facts(health))
        node = health.node
        address = node.host if node.host != node.name else ""
        self.below = " · ".join(filter(None, (address, *node.tags)))
        self.gpu_loads = [gpu_load(gpu) for gpu in health.gpus]
        self._trend = trend
        self._outages = trend.outages()

    def line(self, figure: str) -> TrendLine | None:
        """The past of a figure of `Sample`; None where there is no past."""
        if not self._trend:
            return None
        return trend_line(self._trend.means(attrgetter(figure)), self._outages)

    @property
    def gpu_mean(self) -> float | None:
        known = [load for load in self.gpu_loads if load is not None]
        return sum(known) / len(known) if known else None

    @property
    def gpu_detail(self) -> str:
        """Number of GPUs, and the temperature of the hottest."""
        heats = [gpu.temperature_c for gpu in self.health.gpus if gpu.temperature_c is not None]
        warmth = f" · {max(heats):.0f} °C" if heats else ""
        return f"of {number_of(len(self.gpu_loads), 'GPU')}{warmth}"


@dataclass(frozen=True, slots=True)
class NodeTable:
    rows: list[NodeRow]
    period: str  # of the lines, in words


def node_table(overview: Overview) -> NodeTable:
    points = POINTS if len(overview.nodes) <= MANY_NODES else POINTS // 2
    over = span(overview.history, overview.at, points)
    ordered = sorted(overview.nodes, key=lambda health: GRAVEST_FIRST.index(health.state))
    rows = [
        NodeRow(health, Trend(overview.history.get(health.node.name, ()), over))
        for health in ordered
    ]
    return NodeTable(rows, _period(over.end - over.start))


def _period(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 100 else f"{round(minutes / 60)} hours"


def _facts(health: NodeHealth) -> Iterator[tuple[str, str]]:
    """Facts that do not fit into the row, each with its name."""
    if health.cpu:
        loads = (health.cpu.load1, health.cpu.load5, health.cpu.load15)
        yield "load", " ".join(f"{load:.2f}" for load in loads)
    if health.latency_ms is not None:
        yield "latency", f"{health.latency_ms:.0f} ms"
    if health.uptime_s is not None:
        yield "up for", duration(health.uptime_s)
    if health.users:
        yield "logged in", ", ".join(health.users)
    for gpu in health.gpus:
        yield f"GPU {gpu.index}", _gpu_words(gpu)


def _gpu_words(gpu: Gpu) -> str:
    parts = [gpu.name, f"{percent(gpu_load(gpu))} of its memory"]
    if gpu.utilization_percent is not None:
        parts.append(f"{gpu.utilization_percent:.0f}% busy")
    if gpu.temperature_c is not None:
        parts.append(f"{gpu.temperature_c:.0f} °C")
    if gpu.processes:
        others = f", {gpu.other_processes} of others" if gpu.other_processes else ""
        parts.append(f"{gpu.processes} processes{others}")
    return ", ".join(parts)


def gpu_load(gpu: Gpu) -> float | None:
    """Share of a GPU's memory in use, in percent."""
    if not gpu.memory_total_mib or gpu.memory_used_mib is None:
        return None
    return min(100.0, 100 * gpu.memory_used_mib / gpu.memory_total_mib)
