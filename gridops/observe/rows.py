"""Records of runs and nodes in the store, as values. Times are seconds since the epoch.

They are named tuples, here and in the modules around: every task imports them at its end, and to
make a dataclass takes ten times as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

RunState = Literal[
    "running",
    "detached",  # left to its node; its end has not been seen from here
    "finished",  # the command ended, `status` says how
    "failed",  # gridops could not start it, or not follow it to its end
    "unknown",  # its client died
]


class RunRow(NamedTuple):
    """A run that was started from here."""

    id: str  # as in events, log lines and jobs; "" when no node took it
    task: str
    node: str | None  # None: no node took it
    started: float
    seconds: float | None  # None: not known, or not yet
    state: RunState
    status: int | None  # the command's exit status, or gridops' own when it failed
    command: str  # its first COMMAND characters
    error: str = ""


class Sample(NamedTuple):
    """A node at a moment. None is what was not known; percent are 0 to 100."""

    node: str
    at: float
    state: str
    score: float | None = None
    cpu_percent: float | None = None
    load1: float | None = None
    cores: int | None = None
    memory_percent: float | None = None
    disk_percent: float | None = None
    gpu_memory_percent: float | None = None  # of all its GPUs together
    gpu_percent: float | None = None  # the mean of their utilisation
    gpu_temperature_c: float | None = None  # the hottest
    running: int | None = None
    slots: int | None = None
    latency_ms: float | None = None


class NodeRecord(NamedTuple):
    """The last that was seen of a node; `figures` as `gridops.probe.figures` makes them."""

    node: str
    at: float
    state: str
    score: float | None
    figures: Mapping[str, Any] = {}


COMMAND = 200  # characters of a command that are kept


def sample_of(record: NodeRecord) -> Sample:
    """Sample of a record, with the figures that history keeps."""
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
