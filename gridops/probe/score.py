"""Load scores of nodes, and the ranking of nodes for a run.

A score goes from 0 (idle) to 100 (full); lower is better:

    score    = (cpu_weight * CPU load + gpu_weight * GPU load) / (cpu_weight + gpu_weight)
    CPU load = mean of the busy share now and of load1 / cores, each at most 100 %
    GPU load = mean over the GPUs of memory used / memory

The busy share alone is a glance of a fraction of a second, load1 alone lags by a minute: a node
whose job has just ended (0 % busy, load1 still high) and one whose job has just begun (100 % busy,
load1 still low) both belong between an idle and a full one, which is what the mean makes of them.
Where a node has no GPU, or none that tells its memory, the CPU load is the score.

Whether a node has room for a run is no part of its score, but comes first in a ranking: one that
has a free slot, and the GPUs that are asked for, stands before one where the run would wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gridops.model import Cpu, Gpu, NodeHealth
from gridops.probe import capacity
from gridops.probe.capacity import Fits

DIGITS = 1  # of a score; two nodes whose scores read alike are equally loaded
STATES = ("healthy", "degraded", "unreachable")


class Weights(Protocol):
    """Weights of a score's parts; `HealthSettings` is one."""

    @property
    def cpu_weight(self) -> float: ...

    @property
    def gpu_weight(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Ranked:
    """A node in a ranking: its place (from 1, the best), and in words why it stands there."""

    health: NodeHealth
    place: int
    reason: str
    fits: Fits = "now"  # whether it has room for the run

    @property
    def serves(self) -> bool:
        """True if a run can go there, now or later."""
        return self.health.state != "unreachable" and self.fits != "never"


def cpu_load(cpu: Cpu) -> float:
    """CPU load in percent, 0 to 100; see above."""
    return (cpu.percent + min(100.0, 100 * cpu.load1 / cpu.cores)) / 2


def gpu_load(gpus: Sequence[Gpu]) -> float | None:
    """Percent of GPU memory in use, 0 to 100; None where no GPU tells its memory."""
    shares = [
        min(1.0, gpu.memory_used_mib / gpu.memory_total_mib)
        for gpu in gpus
        if gpu.memory_total_mib and gpu.memory_used_mib is not None
    ]
    return 100 * sum(shares) / len(shares) if shares else None


def score(cpu: Cpu, gpus: Sequence[Gpu], weights: Weights) -> float:
    """The score: 0 idle to 100 full, to one digit after the point; see above."""
    on_gpus = gpu_load(gpus)
    if on_gpus is None:
        return round(cpu_load(cpu), DIGITS)
    total = weights.cpu_weight + weights.gpu_weight
    parts = weights.cpu_weight * cpu_load(cpu) + weights.gpu_weight * on_gpus
    return round(parts / total, DIGITS) if total > 0 else 0.0


def rank(healths: Iterable[NodeHealth], gpus: int = 0) -> tuple[Ranked, ...]:
    """All nodes, best first for a run that needs so many GPUs.

    Those that can be reached before the others; those where a command can begin before those whose
    env_setup fails; those that have room for it now before those where
    it would wait, and these before those where it never fits; the healthy before the degraded; then
    by score. Equal scores: more cores first, then more memory available, then as they came.
    """
    ordered = sorted(healths, key=lambda health: _key(health, gpus))
    before: list[NodeHealth | None] = [None, *ordered]
    return tuple(
        Ranked(health, place, _reason(health, previous, gpus), capacity.fit(health, gpus))
        for place, (previous, health) in enumerate(zip(before, ordered, strict=False), 1)
    )


def _key(health: NodeHealth, gpus: int) -> tuple[float, ...]:
    score = 100.0 if health.score is None else round(health.score, DIGITS)
    cores = health.cpu.cores if health.cpu else 0
    available = health.memory.available_bytes if health.memory else 0
    room = capacity.ORDER.index(capacity.fit(health, gpus))
    state = STATES.index(health.state)
    broken = health.setup_error is not None
    return (health.state == "unreachable", broken, room, state, score, -cores, -available)


def _reason(health: NodeHealth, previous: NodeHealth | None, gpus: int) -> str:
    if health.state == "unreachable":
        return f"unreachable: {health.error or 'no answer'}"
    parts = [f"degraded: {', '.join(health.reasons)}"] if health.state == "degraded" else []
    load, room = f"{_score_text(health)}: {_loads(health)}", capacity.explain(health, gpus)
    decisive = capacity.fit(health, gpus) != "now"
    parts += [*room, load] if decisive else [load, *room]
    parts += _others(health.gpus)
    parts += _tie(health, previous, gpus)
    return "; ".join(parts)


def _score_text(health: NodeHealth) -> str:
    return "no score" if health.score is None else f"score {health.score:.{DIGITS}f}"


def _loads(health: NodeHealth) -> str:
    words = []
    if health.cpu:
        cpu = health.cpu
        words.append(
            f"CPU load {cpu_load(cpu):.0f} % ({cpu.percent:.0f} % busy now, "
            f"load {cpu.load1:.2f} on {cpu.cores} core{'s' * (cpu.cores != 1)})"
        )
    on_gpus = gpu_load(health.gpus)
    if on_gpus is not None:
        many = f"its {len(health.gpus)} GPUs" if len(health.gpus) > 1 else "its GPU"
        words.append(f"{on_gpus:.0f} % of the memory of {many} in use")
    return ", ".join(words) or "no figures"


def _others(gpus: Sequence[Gpu]) -> list[str]:
    """A note of the GPUs with processes of other users. Their memory in use plays no part."""
    busy = [gpu for gpu in gpus if gpu.other_processes]
    if not busy:
        return []
    which = ", ".join(str(gpu.index) for gpu in busy)
    return [f"processes of other users on GPU{'s' * (len(busy) > 1)} {which}"]


def _tie(health: NodeHealth, previous: NodeHealth | None, gpus: int) -> list[str]:
    """The reason this node comes after one that is no less loaded."""
    if previous is None or _key(previous, gpus)[:-2] != _key(health, gpus)[:-2]:
        return []
    pairs = zip(_key(health, gpus), _key(previous, gpus), strict=True)
    *_, cores, available = (mine - theirs for mine, theirs in pairs)
    why = "has more cores" if cores else "has more memory free" if available else "comes first"
    return [f"as loaded as {previous.node.name}, which {why}"]
