"""Kill runs, let held ones begin, and prune those that ended."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from itertools import count
from urllib.parse import quote

from gridops.errors import (
    JobUnreachable,
    NodeError,
    NodeTimeout,
    NoJob,
    ReachError,
    SyncError,
    UsageError,
)
from gridops.jobs.paths import ID, checked
from gridops.jobs.protocol import PAUSES, Sleep, call
from gridops.jobs.records import jobs_from
from gridops.jobs.spec import whoami
from gridops.model import Job
from gridops.reach.link import Link

SEED_TIMEOUT = 600.0  # seconds that linking a large directory may take
KILL_TIMEOUT = 7.0  # seconds beyond the grace in which a killed run has ended


def confirm(link: Link, job_id: str, *, queued: bool = False) -> bool:
    """Give a run that was started with `hold` the word to begin.

    False: it has no slot yet (with `queued` it may wait for one, and then begins by itself), or
    does not begin any more. May be repeated. Raises a ReachError; then it is not known whether it
    begins.
    """
    return "go yes" in call(link, "go", checked(job_id), *(["queued"] if queued else []))


def tree_users(link: Link, job_id: str) -> tuple[str, ...]:
    """Other runs in the directory of a run that holds a slot. Raises a ReachError."""
    return _users(call(link, "users", checked(job_id)), link)


def directory_users(link: Link, directory: str) -> tuple[str, ...]:
    """The runs that use a directory, an absolute path. Raises a ReachError."""
    return _users(call(link, "using", stdin=os.fsencode(directory) + b"\n"), link)


def _users(lines: Sequence[str], link: Link) -> tuple[str, ...]:
    for line in lines:
        if line.startswith("users"):
            return tuple(word for word in line.split()[1:] if ID.fullmatch(word))
    raise NodeError("its answer was cut short", node=link.node.name)


def seed_tree(link: Link, job_id: str) -> None:
    """Give a run its own directory, seeded from the shared one.

    The files of the shared one are taken over where that is cheap. Raises SyncError when the node
    cannot make it, or a ReachError.
    """
    if "seed yes" not in call(link, "seed", checked(job_id), silence=SEED_TIMEOUT):
        raise SyncError(
            "could not make a directory for the run",
            node=link.node.name,
            hint="check for free space under ~/.gridops there",
        )


def stay(link: Link, job_id: str) -> Job | None:
    """Tell that the client of a run with `hold` is still there; how the run is.

    A node that hears nothing for so long gives up the run's place. Raises a ReachError.
    """
    lines = call(link, "stay", checked(job_id))
    return jobs_from(lines, link.node.name).get(job_id)


def kill(
    link: Link, job_id: str, *, by: str | None = None, grace: int = 10, wait: float | None = None
) -> Job:
    """End a run's whole process tree and wait until it has ended.

    The wait is `wait` seconds at most. TERM, then KILL after `grace` whole seconds. From the node's
    answer on this goes on by itself, whatever becomes of the connection. An id that was never
    started never will be. A run that has ended already stays as it is. Raises a ReachError.
    """
    patience = grace + KILL_TIMEOUT if wait is None else wait
    lines = call(
        link,
        "kill",
        checked(job_id),
        str(grace),
        quote(by or whoami(), safe="@")[:200],
        str(round(patience)),
        silence=patience + 30,
    )
    job = jobs_from(lines, link.node.name).get(job_id)
    if job is None:  # its home is another node's, too, and that one has the run
        raise NoJob(f"has no run {job_id}", node=link.node.name)
    return job


def kill_with_retry(
    link: Link,
    job_id: str,
    *,
    by: str | None = None,
    grace: int = 10,
    give_up_after: float | None = None,
    sleep: Sleep = time.sleep,
) -> Job:
    """Repeat `kill` until the node has taken it; for a thread beside a follower.

    Raises JobUnreachable after `give_up_after` seconds, or when only a person can mend it.
    """
    end = None if give_up_after is None else time.monotonic() + give_up_after
    for tries in count():
        try:
            return kill(link, job_id, by=by, grace=grace)
        except (ReachError, NodeTimeout) as exc:
            pause = PAUSES.delay(tries)
            if exc.needs_a_person or (end is not None and time.monotonic() + pause > end):
                raise JobUnreachable(
                    f"could not be told to end the run {job_id}: {exc.message}",
                    node=link.node.name,
                    hint=f"the run goes on there; end it by `inv jobs.kill {job_id}`",
                ) from exc
            sleep(pause)
    raise AssertionError  # pragma: no cover


def prune(link: Link, older_than: float) -> tuple[str, ...]:
    """Forget runs that ended over `older_than` seconds ago; the ids that went. Never a running one.

    The ids themselves, and how it ended, are remembered for 30 days: a start that arrives late must
    not run anything.
    """
    if older_than < 0:
        raise UsageError("an age cannot be negative")
    lines = call(link, "prune", str(round(older_than)), silence=600)
    gone = (line[7:] for line in lines if line.startswith("pruned "))
    return tuple(sorted(job_id for job_id in gone if ID.fullmatch(job_id)))
