"""Which run is meant: by its id, the beginning of one, or `@last`; asked of many nodes at once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from gridops.errors import GridError, JobUnreachable, NoJob, UsageError
from gridops.jobs import client
from gridops.model import Job, Node, Outcome
from gridops.reach import link_to
from gridops.reach.fanout import fan_out
from gridops.reach.link import Link

if TYPE_CHECKING:
    from gridops.settings import SshSettings

T = TypeVar("T")

LAST = "@last"
ANSWER = 30.0  # seconds that a node may take to tell of its runs
SHOWN = 5  # runs that a message names
WHOLE = re.compile(r"\d{8}-\d{6}-\d{3}[0-9a-f]{5}")  # an id as `new_id` makes it


def ask_all(
    nodes: Sequence[Node],
    ssh: SshSettings,
    question: Callable[[Link], T],
    *,
    limit: float = ANSWER,
) -> Iterator[Outcome[T]]:
    """What each node answers, as it comes; an error for one that takes over `limit` seconds."""
    yield from fan_out(
        nodes,
        lambda node: question(link_to(node, ssh)),
        max_workers=ssh.pool_size,
        timeout=limit,
    )


def merged(outcomes: Iterable[Outcome[tuple[Job, ...]]]) -> tuple[Job, ...]:
    """All runs, oldest first; one that several nodes tell of once.

    It has one id wherever it was tried, so the nodes that refused it know it as well; and nodes may
    share a home.
    """
    found: dict[str, Job] = {}
    for outcome in outcomes:
        for job in outcome.value or ():
            if job.id not in found or _standing(job) > _standing(found[job.id]):
                found[job.id] = job
    return tuple(sorted(found.values(), key=_born))


def _say(job: Job) -> int:
    """How much its node has to say of it: where it went on, where it may, where it was refused."""
    return 2 if job.began or job.state == "finished" else int(job.active)


def _standing(job: Job) -> tuple[int, bool]:
    """The same, and whether it was placed there: of nodes that share a home, that one is meant."""
    return _say(job), job.node == job.placed


def find(nodes: Sequence[Node], ssh: SshSettings, text: str, *, certain: bool = False) -> Job:
    """The run that `text` names.

    Raises NoJob when none of the nodes knows one, UsageError when several are meant, JobUnreachable
    when a node that may know it cannot be asked; with `certain` also when that node may know a
    second one. An id in full is never in doubt.
    """
    if WHOLE.fullmatch(text):
        return _find_whole(nodes, ssh, text)
    outcomes = tuple(ask_all(nodes, ssh, client.list_jobs))
    jobs, errors = merged(outcomes), [o.error for o in outcomes if o.error]
    job = meant(jobs, text, errors)
    if errors and not _say(job):
        raise _unknown(jobs, text, errors)
    if certain and errors and job.id != text:
        raise JobUnreachable(
            f"{text} may name a run there as well: {errors[0].message}",
            node=errors[0].node,
            hint=f"for the one on {job.node}, give its id in full: {job.id}",
        )
    return job


def _find_whole(nodes: Sequence[Node], ssh: SshSettings, job_id: str) -> Job:
    """Where it ran has the last word: the other nodes, dead ones too, are not waited for then."""
    errors: list[GridError] = []
    best: Job | None = None
    for outcome in ask_all(nodes, ssh, lambda link: client.status(link, [job_id]).get(job_id)):
        job = outcome.value
        if job and _say(job) == 2:
            return job
        best = job if job and (best is None or _say(job) > _say(best)) else best
        errors += [outcome.error] if outcome.error else []
    if best is None or (errors and not _say(best)):
        raise _unknown((), job_id, errors)
    return best


def meant(jobs: Sequence[Job], text: str, errors: Sequence[GridError] = ()) -> Job:
    """Which of `jobs`, oldest first, is meant; `errors` are of nodes that could not tell theirs."""
    if text == LAST:
        found = list(jobs[-1:])
    else:
        exact = [job for job in jobs if job.id == text]
        found = exact or [job for job in jobs if job.id.startswith(text)]
    if not found:
        raise _unknown(jobs, text, errors)
    if len(found) > 1:
        raise UsageError(f"{text!r} begins {len(found)} ids", hint=f"valid: {_named(found)}")
    return found[0]


def _unknown(jobs: Sequence[Job], text: str, errors: Sequence[GridError]) -> GridError:
    if errors:
        silent = ", ".join(sorted(str(error.node) for error in errors))
        return JobUnreachable(
            f"the nodes that answer know no run {text!r}, and {silent} cannot be asked",
            hint=str(errors[0]),
        )
    return NoJob(
        f"none of the selected nodes knows a run {text!r}",
        hint=f"the newest: {_named(jobs)}" if jobs else "`inv jobs` lists them",
    )


def _named(jobs: Sequence[Job]) -> str:
    """The newest first."""
    shown = ", ".join(f"{job.id} on {job.node}" for job in jobs[: -SHOWN - 1 : -1])
    return shown + (", …" if len(jobs) > SHOWN else "")


def _born(job: Job) -> tuple[str, str]:
    """When it was made: an id of ours says so, by its client's clock; else its node's clock does.

    One person's runs are in order even where the nodes' clocks disagree.
    """
    if WHOLE.fullmatch(job.id):
        return job.id[:19], job.id
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(job.submitted or 0)), job.id
