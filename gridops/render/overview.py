"""All that the status page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gridops.model import Job, NodeHealth
from gridops.observe.rows import RunRow, Sample

RECENT_RUNS = 50  # that it shows


@dataclass(frozen=True)
class Round:
    """Findings of a round of probing."""

    inventory: str = ""  # its path, or "this machine"
    at: float = 0.0  # its end, in seconds since the epoch; 0 before the first
    elapsed: float = 0.0  # seconds
    nodes: tuple[NodeHealth, ...] = ()  # in the inventory's order
    jobs: tuple[Job, ...] = ()  # durable runs that have not ended
    warning: str = ""  # why the inventory's last edit is not in use
    number: int = 0  # how many rounds there were


@dataclass(frozen=True)
class Overview:
    """The grid as it was last seen. Times are seconds since the epoch."""

    inventory: str  # its path, or "this machine"
    at: float  # when the last round of probing ended; 0: there was none yet
    every: float  # seconds between rounds; 0: there was but one (a report)
    elapsed: float  # seconds that the round took
    nodes: tuple[NodeHealth, ...] = ()  # in the inventory's order
    history: Mapping[str, Sequence[Sample]] = field(default_factory=dict)  # oldest first
    runs: tuple[RunRow, ...] = ()  # newest first
    jobs: tuple[Job, ...] = ()  # durable runs, as the nodes tell of them
    warning: str = ""  # what the reader should know: the inventory's last edit is broken, say


def without_commands(overview: Overview) -> Overview:
    """The overview without command lines, which may hold secrets.

    For a page that more people may read than those who ran them.
    """
    return replace(
        overview,
        runs=tuple(run._replace(command="") for run in overview.runs),
        jobs=tuple(replace(job, command="") for job in overview.jobs),
    )
