"""What the store keeps of runs and nodes, as values. Times are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

RunState = Literal[
    "running",
    "detached",  # left to its node; its end has not been seen from here
    "finished",  # the command ended, `status` says how
    "failed",  # gridops could not start it, or not follow it to its end
    "unknown",  # its client died
]


@dataclass(frozen=True, slots=True)
class RunRow:
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


@dataclass(frozen=True, slots=True)
class Sample:
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


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """The last that was seen of a node; `figures` as `gridops.observe.figures` makes them."""

    node: str
    at: float
    state: str
    score: float | None
    figures: Mapping[str, Any] = field(default_factory=dict)


COMMAND = 200  # characters of a command that are kept
