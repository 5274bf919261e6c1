"""Full nodes of a grid, and the runs that hold their slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gridops.dispatch.candidates import Candidate, NoneAble
from gridops.errors import GridError, NotStarted
from gridops.jobs import client
from gridops.model import Job, Node
from gridops.reach import link_to

if TYPE_CHECKING:
    from gridops.inventory.settings import Settings

NAMED = 5  # nodes that a message tells of
COMMAND = 40  # characters of a command that it shows


def full_candidates(
    exc: GridError, choice: Sequence[Candidate], wait: float | None, settings: Settings
) -> Sequence[Candidate]:
    """The nodes of `choice` that are only full, to queue on.

    What they lack, by `exc`, is a free slot (and GPUs). Raises `exc` when there are none, or the
    only node has queued the run itself; NotStarted, with the holders of the slots, when the run may
    not wait (`wait`, in seconds, is None).
    """
    names = {one.node for one in _refusals(exc) if _is_busy(one)}
    full = tuple(one for one in choice if one.node.name in names)
    if not full or (wait is not None and len(choice) == 1):
        raise exc
    if wait is None:
        raise _busy_error(exc, choice, settings) from exc
    return full


def _busy_error(exc: GridError, choice: Sequence[Candidate], settings: Settings) -> NotStarted:
    """The same refusal, with the holders of the slots. Asks the nodes that are full."""
    nodes = {one.node.name: one.node for one in choice}
    refusals = _refusals(exc)
    lines = [_line(one, nodes, settings) for one in refusals[:NAMED]]
    if len(refusals) > NAMED:
        lines.append(f"and {len(refusals) - NAMED} more: `inv jobs`")
    advice = "--wait 30m waits in the queue"
    if len(refusals) == 1:
        return NotStarted(
            exc.message,
            reason="busy",
            node=exc.node,
            hint=f"{_who(exc, nodes, settings)}; {advice}",
        )
    return NotStarted(
        f"none of the {len(refusals)} nodes can take the run now",
        reason="busy",
        hint="; ".join([*lines, advice]),
    )


def _line(exc: GridError, nodes: dict[str, Node], settings: Settings) -> str:
    who = f": {_who(exc, nodes, settings)}" if _is_busy(exc) else ""
    return f"{exc.node}: {exc.message}{who}"


def _refusals(exc: GridError) -> Sequence[GridError]:
    return exc.refusals if isinstance(exc, NoneAble) else (exc,)


def _is_busy(exc: GridError) -> bool:
    return isinstance(exc, NotStarted) and exc.reason == "busy"


def _who(exc: GridError, nodes: dict[str, Node], settings: Settings) -> str:
    """Holders of the slots of the node that refused; ids alone where it tells no more."""
    holders = exc.holders if isinstance(exc, NotStarted) else ()
    try:
        link = link_to(nodes[str(exc.node)], settings.ssh)
        jobs = client.status(link, holders) if holders else {}
    except GridError:
        jobs = {}
    named = (_describe(jobs[one]) if one in jobs else one for one in holders)
    return ", ".join(named) or "by processes that are no run of gridops"


def _describe(job: Job) -> str:
    command = " ".join(job.command.split())
    short = command if len(command) <= COMMAND else command[: COMMAND - 1] + "…"
    gpus = f", GPUs {len(job.gpus)}" if job.gpus else ""
    return f"{job.id} by {job.user}{gpus}: {short}"
