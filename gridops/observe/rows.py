"""Records of runs and nodes in the store, as values. Times are seconds since the epoch.

They are named tuples, here and in the modules around: every task imports them at its end, and to
make a dataclass takes ten times as long.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

COMMAND_LIMIT = 200  # characters of a command that are kept
MAX_WAITING_SAMPLES = 20_000  # that wait to be written at most, when the store cannot be

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
    command: str  # its first COMMAND_LIMIT characters
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


Series = tuple[str, str, str]  # family, labels (a JSON list of their values), part of a histogram


def labels(*values: str) -> str:
    return json.dumps([plain(value) for value in values], ensure_ascii=False)


def plain(text: str) -> str:
    """The text as any encoder takes it: bytes of a command line that are no UTF-8 are spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


class Ending(NamedTuple):
    """The end of a run that another process may have started."""

    state: RunState
    status: int | None
    seconds: float | None
    error: str = ""


class Batch:
    """Sums and newest states; `absorb` puts one after another."""

    def __init__(self) -> None:
        self.totals: dict[Series, float] = {}  # to be added
        self.stamps: dict[tuple[str, str], float] = {}  # the newest counts
        self.nodes: dict[str, NodeRecord] = {}
        self.samples: dict[tuple[int, str], Sample] = {}  # by minute and node
        self.runs: dict[str, RunRow] = {}
        self.endings: dict[str, Ending] = {}
        # Tasks under way in this process, by who counts them there: all of them, each time.
        self.active: dict[int, Mapping[str, int]] = {}

    def __bool__(self) -> bool:
        return bool(
            self.totals or self.stamps or self.nodes or self.runs or self.endings or self.active
        )

    def count(self, family: str, *of: str, part: str = "", by: float = 1.0) -> None:
        key = (family, labels(*of), part)
        self.totals[key] = self.totals.get(key, 0.0) + by

    def stamp(self, family: str, *of: str, at: float) -> None:
        key = (family, labels(*of))
        self.stamps[key] = max(at, self.stamps.get(key, 0.0))

    def absorb(self, later: Batch) -> None:
        """Add the batch that came after this one."""
        for series, value in later.totals.items():
            self.totals[series] = self.totals.get(series, 0.0) + value
        for stamp, at in later.stamps.items():
            self.stamps[stamp] = max(at, self.stamps.get(stamp, 0.0))
        self.nodes.update(later.nodes)
        self.samples.update(later.samples)
        for key in list(self.samples)[: max(0, len(self.samples) - MAX_WAITING_SAMPLES)]:
            del self.samples[key]
        self.runs.update(later.runs)
        self.endings.update(later.endings)
        self.active.update(later.active)
