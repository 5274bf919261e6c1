"""What the store keeps of runs and nodes, as values. Times are seconds since the epoch.

They are named tuples, here and in the modules around: every task imports them at its end, and to
make a dataclass takes ten times as long.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """The last that was seen of a node; `figures` as `gridops.observe.figures` makes them."""

    node: str
    at: float
    state: str
    score: float | None
    figures: Mapping[str, Any] = {}


COMMAND = 200  # characters of a command that are kept
