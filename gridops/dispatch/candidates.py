"""Candidates for a run, tried one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from gridops.errors import GridError, NoNode, NotStarted
from gridops.jobs.spec import JobSpec, new_id
from gridops.jobs.start import ELSEWHERE
from gridops.model import Node, SyncReport
from gridops.observe import events
from gridops.reach.link import Link

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that may take the run, with its rank's reason."""

    node: Node
    reason: str
    score: float | None = None
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class Assignment:
    """A run as one node gets it."""

    link: Link
    job: JobSpec
    report: SyncReport | None = None


class NoneAble(NoNode):
    """None of several nodes could take a run; `refusals` are their reasons."""

    def __init__(self, refusals: Sequence[GridError]) -> None:
        super().__init__(
            f"none of the {len(refusals)} nodes that were tried could take the run",
            hint="; ".join(f"{exc.node}: {exc.message}" for exc in refusals[:5]),
        )
        self.refusals = tuple(refusals)


def first_able(choice: Sequence[Candidate], start: Callable[[Candidate], T]) -> T:
    """Call `start` on each of `choice` until one takes the run.

    Returns its result. Raises the node's own error when there is only one, NoneAble when none of
    several can; what no other node could mend, and what leaves in doubt whether it began, at once.
    """
    refusals: list[GridError] = []
    for candidate in choice:
        _announce(candidate)
        try:
            return start(candidate)
        except GridError as exc:
            if not exc.try_next_node:
                raise
            refusals.append(exc)
            if candidate is not choice[-1]:
                events.emit(events.NODE_SKIPPED, node=candidate.node.name, reason=str(exc))
    raise refusals[0] if len(refusals) == 1 else NoneAble(refusals)


def _announce(candidate: Candidate) -> None:
    events.emit(
        events.NODE_SELECTED,
        node=candidate.node.name,
        score=candidate.score,
        reason=candidate.reason,
        degraded=candidate.degraded,
    )


def retry_with_new_id(assignment: Assignment, begin: Callable[[Assignment], T]) -> T:
    """Call `begin` on the assignment, with a new run id if needed.

    Returns its result. A new id is needed where another node with the same home has its id (and
    refused it, or may give it a slot).
    """
    try:
        return begin(assignment)
    except NotStarted as exc:
        if exc.reason != ELSEWHERE:
            raise
    return begin(replace(assignment, job=replace(assignment.job, id=new_id())))
