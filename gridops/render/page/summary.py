"""The page's head: the grid's state in one sentence, and its totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gridops.model import NodeHealth
from gridops.render.overview import Overview
from gridops.render.units import percent
from gridops.system.text import size

STATE_SIGNS = {"healthy": "good", "degraded": "warn", "unreachable": "bad"}  # each with its sign


@dataclass(frozen=True, slots=True)
class StateShare:
    """A state, and its part of all nodes."""

    name: str
    sign: str
    nodes: int
    start: float  # percent
    percent: float


@dataclass(frozen=True, slots=True)
class Total:
    """A figure of the whole grid; `share` is its bar, 0 to 100, which warns unless `calm`."""

    name: str
    value: str
    detail: str
    share: float | None
    calm: bool = False


def headline(overview: Overview) -> str:
    """State of the grid in one sentence: `3 of 3 nodes healthy`."""
    count = len(overview.nodes)
    good = sum(health.state == "healthy" for health in overview.nodes)
    if not count:
        return "no node has been asked yet" if not overview.at else "no nodes"
    return f"{good} of {count} node{'s' * (count != 1)} healthy"


def worst(nodes: Sequence[NodeHealth]) -> str:
    """The sign of the gravest state that a node has: good, warn or bad; none without nodes."""
    states = {health.state for health in nodes}
    return next((sign for state, sign in reversed(STATE_SIGNS.items()) if state in states), "none")


def states(nodes: Sequence[NodeHealth]) -> Iterator[StateShare]:
    """Shares of the states in one bar, the best state first."""
    counts = Counter[str](health.state for health in nodes)
    before = 0
    for state, sign in STATE_SIGNS.items():
        count = counts[state]
        yield StateShare(state, sign, count, 100 * before / len(nodes), 100 * count / len(nodes))
        before += count


def totals(nodes: Sequence[NodeHealth]) -> Iterator[Total]:
    """Totals of what any node tells of."""
    cpus = [health.cpu for health in nodes if health.cpu]
    if cpus:
        cores = sum(cpu.cores for cpu in cpus)
        busy = sum(cpu.percent * cpu.cores for cpu in cpus) / cores if cores else None
        yield Total("CPU", percent(busy), f"of {cores} cores", busy)
    spaces = [health.memory for health in nodes if health.memory]
    if spaces:
        total = sum(space.total_bytes for space in spaces)
        used = 100 * (1 - sum(space.available_bytes for space in spaces) / total) if total else None
        yield Total("Memory", percent(used), f"of {size(total)}", used)
    gpus = [gpu for health in nodes for gpu in health.gpus]
    if gpus:
        taken, count = sum(gpu.processes > 0 for gpu in gpus), len(gpus)
        yield Total("GPUs in use", str(taken), f"of {count}", 100 * taken / count, calm=True)
    jobs = [health.jobs for health in nodes if health.jobs]
    if jobs:
        running, slots = sum(one.running for one in jobs), sum(one.slots for one in jobs)
        share = 100 * running / slots if slots else None
        yield Total("Jobs", str(running), f"of {slots} slots", share, calm=True)
