"""The next best node, when the best one cannot take a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gridops.errors import (
    GridError,
    NodeError,
    NoNode,
    NotStarted,
    ReachError,
    SourceUnreadable,
    SyncError,
)
from gridops.model import Node
from gridops.observe import events

T = TypeVar("T")

# What lets the next node be tried: nothing has begun on this one.
CANNOT_SERVE = (ReachError, NodeError, SyncError, NotStarted)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that may take the run, and why it stands where it stands."""

    node: Node
    reason: str
    score: float | None = None
    degraded: bool = False


def first_able(choice: Sequence[Candidate], start: Callable[[Candidate], T]) -> tuple[Candidate, T]:
    """The first of `choice` that can take the run, and what `start` made of it there.

    Raises the node's own error when there is only one, NoNode when none of several can; what no
    other node could mend, and what leaves in doubt whether it began, at once.
    """
    refusals: list[GridError] = []
    for candidate in choice:
        _announce(candidate)
        try:
            return candidate, start(candidate)
        except SourceUnreadable:
            raise
        except CANNOT_SERVE as exc:
            refusals.append(exc)
            if candidate is not choice[-1]:
                events.emit(events.NODE_SKIPPED, node=candidate.node.name, reason=str(exc))
    raise _nobody(refusals)


def _announce(candidate: Candidate) -> None:
    events.emit(
        events.NODE_SELECTED,
        node=candidate.node.name,
        score=candidate.score,
        reason=candidate.reason,
        degraded=candidate.degraded,
    )


def _nobody(refusals: Sequence[GridError]) -> GridError:
    if len(refusals) == 1:
        return refusals[0]
    return NoNode(
        f"none of the {len(refusals)} nodes that were tried could take the run",
        hint="; ".join(f"{exc.node}: {exc.message}" for exc in refusals[:5]),
    )
