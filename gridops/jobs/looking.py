"""Query a node's records of its runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from gridops.errors import NoJob, UnreadableAnswer, UnreadableRecord
from gridops.jobs.paths import JobPaths, checked
from gridops.jobs.protocol import (
    ANSWER_TIMEOUT,
    SILENCE_TIMEOUT,
    call,
    complete,
    request,
    retry_cut_session,
)
from gridops.jobs.records import Records, jobs_from
from gridops.model import Job
from gridops.reach.answers import Limit
from gridops.reach.link import Link

LISTING_LIMIT = Limit(lines=500_000, bytes=32 * 1024 * 1024)
TEXT_LIMIT = 16 * 1024 * 1024  # bytes of a text that a run was started with


def status(link: Link, ids: Sequence[str]) -> dict[str, Job]:
    """Look up these runs on the node, by id; those it does not know are missing."""
    lines = call(link, "status", *(checked(job_id) for job_id in ids))
    return jobs_from(lines, link.node.name)


def list_jobs(link: Link) -> tuple[Job, ...]:
    """All runs of the node that were not pruned, oldest first."""

    def attempt() -> dict[str, Job]:
        records = Records(link.node.name)
        request(
            link,
            "list",
            on_line=records.hear,
            timeout=lambda: SILENCE_TIMEOUT + ANSWER_TIMEOUT,
            limit=LISTING_LIMIT,
        )
        complete([records.last], link)
        return records.jobs()

    jobs = retry_cut_session(attempt)
    return tuple(job for _, job in sorted(jobs.items()) if job.placed or job.state == "unreadable")


def show(link: Link, job_id: str) -> Job:
    """A run, with its whole command. Raises NoJob, UnreadableRecord."""
    job = status(link, [job_id]).get(job_id)
    if job is None:
        raise NoJob(f"has no run {job_id}", node=link.node.name, hint="`inv jobs` lists them")
    text = _kept(link, readable(job).id, "command")
    return replace(job, command=os.fsdecode(text)) if text else job


def diff(link: Link, job_id: str) -> bytes:
    """The uncommitted changes that are kept with a run; b"" when there are none."""
    return _kept(link, job_id, "diff")


def _kept(link: Link, job_id: str, name: str) -> bytes:
    """A text that the run was started with; the run file has added a line end (spec.py)."""

    def attempt() -> bytes:
        lines: list[str] = []
        text = bytearray()

        def take(stream: str, offset: int, data: bytes) -> None:
            if len(text) + len(data) > TEXT_LIMIT:
                raise UnreadableAnswer(f"the {name} of the run is longer than {TEXT_LIMIT} bytes")
            text.extend(data)

        request(
            link,
            "read",
            checked(job_id),
            name,
            on_line=lines.append,
            on_piece=take,
            timeout=lambda: SILENCE_TIMEOUT + ANSWER_TIMEOUT,
        )
        complete(lines, link)
        return bytes(text[:-1])

    return retry_cut_session(attempt)


def readable(job: Job) -> Job:
    """`job`, if its record makes sense. Raises UnreadableRecord."""
    if job.state == "unreadable":
        raise UnreadableRecord(
            f"the record of the run {job.id} cannot be read: {job.error}",
            node=job.node,
            hint=f"see {JobPaths(job.id).directory} there",
        )
    return job
