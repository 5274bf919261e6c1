"""Calls to a node about its durable runs: look, let begin, end, forget.

Every call is one short session of the link, and may be repeated.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from urllib.parse import quote

from gridops.errors import (
    JobUnreachable,
    NodeError,
    NodeTimeout,
    NoJob,
    ReachError,
    SyncError,
    UnreadableAnswer,
    UsageError,
)
from gridops.jobs.frames import Chunk
from gridops.jobs.outcome import readable
from gridops.jobs.paths import ID, check_id
from gridops.jobs.protocol import (
    ANSWER_TIMEOUT,
    RETRY_DELAYS,
    SILENCE_TIMEOUT,
    ScriptSession,
    Sleep,
    call,
    complete,
    retry_cut_session,
)
from gridops.jobs.records import Records, jobs_from
from gridops.jobs.spec import whoami
from gridops.model import Job
from gridops.reach.answers import Limit
from gridops.reach.link import Link

WHOLE_TIMEOUT = SILENCE_TIMEOUT + ANSWER_TIMEOUT  # seconds that a long answer may take
LISTING_LIMIT = Limit(lines=500_000, bytes=32 * 1024 * 1024)
TEXT_LIMIT = 16 * 1024 * 1024  # bytes of a text that a run was started with
SEED_TIMEOUT = 600.0  # seconds that linking a large directory may take
KILL_TIMEOUT = 7.0  # seconds beyond the grace in which a killed run has ended


def status(link: Link, ids: Sequence[str]) -> dict[str, Job]:
    """Look up these runs on the node, by id; those it does not know are missing."""
    lines = call(link, "status", *(check_id(job_id) for job_id in ids))
    return jobs_from(lines, link.node.name)


def list_jobs(link: Link) -> tuple[Job, ...]:
    """All runs of the node that were not pruned, oldest first."""

    def attempt() -> dict[str, Job]:
        records = Records(link.node.name)
        with ScriptSession(link, "list", timeout=WHOLE_TIMEOUT, limit=LISTING_LIMIT) as session:
            for line in session.lines():
                records.hear(line)
        complete([records.last], link)
        return records.jobs()

    jobs = retry_cut_session(attempt)
    return tuple(job for _, job in sorted(jobs.items()) if job.placed or job.state == "unreadable")


def show(link: Link, job_id: str) -> Job:
    """A run, with its whole command. Raises NoJob, UnreadableRecord."""
    job = status(link, [job_id]).get(job_id)
    if job is None:
        raise NoJob(f"has no run {job_id}", node=link.node.name, hint="`inv jobs` lists them")
    text = _read_text(link, readable(job).id, "command")
    return replace(job, command=os.fsdecode(text)) if text else job


def diff(link: Link, job_id: str) -> bytes:
    """The uncommitted changes that are kept with a run; b"" when there are none."""
    return _read_text(link, job_id, "diff")


def _read_text(link: Link, job_id: str, name: str) -> bytes:
    """A text that the run was started with; the run file has added a line end (spec.py)."""

    def attempt() -> bytes:
        text, last = bytearray(), ""
        with ScriptSession(link, "read", check_id(job_id), name, timeout=WHOLE_TIMEOUT) as session:
            for message in session:
                if isinstance(message, Chunk):
                    if len(text) + len(message.data) > TEXT_LIMIT:
                        raise UnreadableAnswer(
                            f"the {name} of the run is longer than {TEXT_LIMIT} bytes"
                        )
                    text += message.data
                else:
                    last = message or last
        complete([last], link)
        return bytes(text[:-1])

    return retry_cut_session(attempt)


def confirm(link: Link, job_id: str, *, queued: bool = False) -> bool:
    """Give a run that was started with `hold` the word to begin.

    False: it has no slot yet (with `queued` it may wait for one, and then begins by itself), or
    does not begin any more. May be repeated. Raises a ReachError; then it is not known whether it
    begins.
    """
    return "go yes" in call(link, "go", check_id(job_id), *(["queued"] if queued else []))


def tree_users(link: Link, job_id: str) -> tuple[str, ...]:
    """Other runs in the directory of a run that holds a slot. Raises a ReachError."""
    return _users(call(link, "users", check_id(job_id)), link)


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
    if "seed yes" not in call(link, "seed", check_id(job_id), silence=SEED_TIMEOUT):
        raise SyncError(
            "could not make a directory for the run",
            node=link.node.name,
            hint="check for free space under ~/.gridops there",
        )


def renew(link: Link, job_id: str) -> Job | None:
    """Tell that the client of a run with `hold` is still there; how the run is.

    A node that hears nothing for so long gives up the run's place. Raises a ReachError.
    """
    lines = call(link, "stay", check_id(job_id))
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
        check_id(job_id),
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
            pause = RETRY_DELAYS.delay(tries)
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
