"""Resolve a run id, a part of one, or `@last` across nodes.

The part is the beginning or the end.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from gridops.errors import (
    GridError,
    JobUnreachable,
    NoJob,
    RunTimeout,
    UnreadableAnswer,
    UsageError,
)
from gridops.jobs import client
from gridops.jobs.paths import ID
from gridops.jobs.protocol import RETRY_DELAYS, Sleep
from gridops.model import Job, Node, Outcome
from gridops.observe import events
from gridops.reach import link_to
from gridops.reach.fanout import fan_out
from gridops.reach.link import Link

if TYPE_CHECKING:
    from gridops.inventory.settings import SshSettings

T = TypeVar("T")

LAST = "@last"
ASK_TIMEOUT = 30.0  # seconds that a node may take to tell of its runs
MAX_IDS = 5  # runs that a message names
MIN_TAIL = 4  # characters that the end of an id needs to name a run
MIN_HEAD = 8  # and its beginning, to end one
WHOLE = re.compile(r"\d{8}-\d{6}-\d{3}[0-9a-f]{5}")  # an id as `new_id` makes it


def ask_all(
    nodes: Sequence[Node],
    ssh: SshSettings,
    question: Callable[[Link], T],
    *,
    limit: float = ASK_TIMEOUT,
) -> Iterator[Outcome[T]]:
    """Ask each node and yield the answers as they come.

    A node that takes over `limit` seconds gives an error.
    """
    yield from fan_out(
        nodes,
        lambda node: question(link_to(node, ssh)),
        max_workers=ssh.pool_size,
        timeout=limit,
    )


def merge_jobs(outcomes: Iterable[Outcome[tuple[Job, ...]]]) -> tuple[Job, ...]:
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
    """Weight of a node's word on a run: 2 where it went on, 1 where it may, 0 where refused."""
    if job.began or job.state == "finished":
        return 2
    return int(job.active or job.state == "unreadable")


def _standing(job: Job) -> tuple[int, bool]:
    """Sort key of a node's word on a run: `_say`, then placement.

    Of nodes that share a home, the one where the run was placed is meant.
    """
    return _say(job), job.node == job.placed


def find(nodes: Sequence[Node], ssh: SshSettings, text: str, *, certain: bool = False) -> Job:
    """The run that `text` names.

    Raises NoJob when none of the nodes knows one, UsageError when `text` cannot name one or names
    several, JobUnreachable when a node that may know it cannot be asked. While a node cannot be
    asked, nobody knows the newest run, and a part of an id may name one there too: that is a
    WARNING, with `certain` JobUnreachable. `certain` takes no part of an id that names a run by
    chance. An id in full is never in doubt.
    """
    check(text)
    if WHOLE.fullmatch(text):
        return _whole(*_ask_for(nodes, ssh, text), text)
    outcomes = tuple(ask_all(nodes, ssh, client.list_jobs))
    jobs, errors = merge_jobs(outcomes), [o.error for o in outcomes if o.error]
    if errors and text == LAST:
        raise _perhaps_newer(jobs, errors[0])
    job = resolve_id(jobs, text, errors)
    if errors and not _say(job):
        raise _unknown(jobs, text, errors)
    if certain and text != LAST and not _is_plain(job, text):
        raise UsageError(
            f"{text!r} is too short to name the run to end",
            hint=f"give {job.id}, its first {MIN_HEAD} characters, or its last {MIN_TAIL}",
        )
    if errors and job.id != text:
        _doubt(job, text, errors[0], certain)
    return job


def find_with_retry(
    nodes: Sequence[Node],
    ssh: SshSettings,
    job_id: str,
    *,
    timeout: float | None = None,
    sleep: Sleep = time.sleep,
) -> Job:
    """Repeat `find` while only nodes out of reach may know the id.

    Only an id in full is asked for again, with growing pauses, for as long as it takes; a WARNING
    says so once. Raises RunTimeout after `timeout` seconds, JobUnreachable when only a person can
    mend the connections.
    """
    if not WHOLE.fullmatch(job_id):
        return find(nodes, ssh, job_id)
    began, tries, limit = time.monotonic(), 0, ASK_TIMEOUT
    while True:
        best, errors = _ask_for(nodes, ssh, job_id, limit)
        if (best and _say(best)) or all(map(_is_final, errors)):
            return _whole(best, errors, job_id)
        if not tries:
            silent = "; ".join(f"{one.node} cannot be reached: {one.message}" for one in errors)
            events.emit(events.WARNING, message=f"{silent}; trying again")
        pause = RETRY_DELAYS.delay(tries)
        if timeout is not None:
            left = timeout - (time.monotonic() - began)
            if left <= 0:
                raise RunTimeout(
                    f"no node that has the run {job_id} could be reached within {timeout:g} s",
                    hint="the run goes on; try again when its node can be reached",
                )
            pause, limit = min(pause, left), max(1.0, min(ASK_TIMEOUT, left))
        sleep(pause)
        tries += 1


def check(text: str) -> None:
    """Check that `text` can name a run, before any node is asked. Raises UsageError."""
    if text.startswith("-"):
        raise UsageError(
            f"{text!r} is not the id of a run",
            hint="for the flags: `inv --help jobs.logs`",
        )
    if text != LAST and not ID.fullmatch(text):
        raise UsageError(
            f"{text!r} is not the id of a run",
            hint=f"give an id, its beginning, or {LAST}; `inv jobs` lists them",
        )


def is_attempt(job: Job) -> bool:
    """True if it never was more than an attempt: the node had no slot, or another one took it."""
    return job.state == "refused" and not job.began and job.reason in ("busy", "unconfirmed")


def _is_final(error: GridError) -> bool:
    """True if asking that node again would not change its answer."""
    return error.needs_a_person or isinstance(error, UnreadableAnswer)


def _ask_for(
    nodes: Sequence[Node], ssh: SshSettings, job_id: str, limit: float = ASK_TIMEOUT
) -> tuple[Job | None, list[GridError]]:
    """Look up one run on all nodes.

    Also returns the errors of those that could not be asked. Where it ran has the last word: the
    other nodes, dead ones too, are not waited for then.
    """
    errors: list[GridError] = []
    best: Job | None = None
    names = {node.name for node in nodes}
    for outcome in ask_all(
        nodes, ssh, lambda link: client.status(link, [job_id]).get(job_id), limit=limit
    ):
        job = outcome.value
        if job and _say(job) == 2 and (job.node == job.placed or job.placed not in names):
            return job, errors
        best = job if job and (best is None or _standing(job) > _standing(best)) else best
        errors += [outcome.error] if outcome.error else []
    return best, errors


def _whole(best: Job | None, errors: Sequence[GridError], job_id: str) -> Job:
    if best is None or (errors and not _say(best)):
        raise _unknown((), job_id, errors)
    return best


def resolve_id(jobs: Sequence[Job], text: str, errors: Sequence[GridError] = ()) -> Job:
    """Pick the run of `jobs`, oldest first, that `text` means.

    `errors` are of nodes that could not tell theirs. What never was more than an attempt is meant
    only when nothing else is, and never by `@last`.
    """
    real = [job for job in jobs if not is_attempt(job)]
    if text == LAST:
        found = real[-1:]
    else:
        found = [job for job in jobs if job.id == text]
        found = found or [job for job in real if _names(text, job.id)]
        found = found or [job for job in jobs if _names(text, job.id)]
    if not found:
        raise _unknown(real, text, errors)
    if len(found) > 1:
        raise UsageError(f"{text!r} matches {len(found)} runs", hint=f"valid: {_list_ids(found)}")
    return found[0]


def _names(text: str, job_id: str) -> bool:
    return job_id.startswith(text) or (len(text) >= MIN_TAIL and job_id.endswith(text))


def _is_plain(job: Job, text: str) -> bool:
    """True if `text` is long enough to mean the job it names."""
    return job.id == text or len(text) >= (MIN_HEAD if job.id.startswith(text) else MIN_TAIL)


def _perhaps_newer(jobs: Sequence[Job], error: GridError) -> JobUnreachable:
    known = [job for job in jobs if not is_attempt(job)]
    newest = f"the newest known one is {known[-1].id} on {known[-1].node}" if known else ""
    return JobUnreachable(
        f"a newer run may be there: {error.message}",
        node=error.node,
        hint=newest or "the nodes that answer have no runs",
    )


def _doubt(job: Job, text: str, error: GridError, certain: bool) -> None:
    """Warn that a silent node may have another run of that name.

    `text` is a part of the id of `job`. With `certain`, raises JobUnreachable instead.
    """
    doubt = f"{text} may also match a run there: {error.message}"
    if certain:
        hint = f"for the run on {job.node}, give its full id: {job.id}"
        raise JobUnreachable(doubt, node=error.node, hint=hint)
    events.emit(
        events.WARNING, message=f"{error.node}: {doubt}; going on with {job.id} on {job.node}"
    )


def _unknown(jobs: Sequence[Job], text: str, errors: Sequence[GridError]) -> GridError:
    if errors:
        silent = ", ".join(sorted(str(error.node) for error in errors))
        return JobUnreachable(
            f"the nodes that answer have no run {text!r}, and {silent} cannot be reached",
            hint=str(errors[0]),
        )
    return NoJob(
        f"none of the selected nodes has a run {text!r}",
        hint=f"the newest: {_list_ids(jobs)}" if jobs else "`inv jobs` lists them",
    )


def _list_ids(jobs: Sequence[Job]) -> str:
    """Ids and nodes of runs, the newest first."""
    shown = ", ".join(f"{job.id} on {job.node}" for job in jobs[: -MAX_IDS - 1 : -1])
    return shown + (", …" if len(jobs) > MAX_IDS else "")


def _born(job: Job) -> tuple[str, str]:
    """Creation time of a run, as a sort key.

    An id of ours tells it, by its client's clock; else its node's clock does.

    One person's runs are in order even where the nodes' clocks disagree.
    """
    if WHOLE.fullmatch(job.id):
        return job.id[:19], job.id
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(job.submitted or 0)), job.id
