"""What a node knows of its runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from gridops.errors import NodeError, NoJob
from gridops.jobs.conversation import DONE, ask, converse, uncut
from gridops.jobs.facts import jobs_from
from gridops.jobs.paths import checked
from gridops.model import Job
from gridops.reach.link import Link


def status(link: Link, ids: Sequence[str]) -> dict[str, Job]:
    """What the node knows of these runs, by id; those it does not know are missing."""
    lines = ask(link, "status", *(checked(job_id) for job_id in ids))
    return jobs_from(complete(lines, link), link.node.name)


def list_jobs(link: Link) -> tuple[Job, ...]:
    """All runs of the node that were not pruned, oldest first."""
    jobs = jobs_from(complete(ask(link, "list"), link), link.node.name)
    return tuple(jobs[job_id] for job_id in sorted(jobs) if jobs[job_id].placed)


def show(link: Link, job_id: str) -> Job:
    """A run, with its whole command. Raises NoJob."""
    job = status(link, [job_id]).get(job_id)
    if job is None:
        raise NoJob(
            f"does not know a run {job_id}", node=link.node.name, hint="`inv jobs` lists them"
        )
    text = _kept(link, job_id, "command")
    return replace(job, command=os.fsdecode(text)) if text else job


def diff(link: Link, job_id: str) -> bytes:
    """The uncommitted changes that are kept with a run; b"" when there are none."""
    return _kept(link, job_id, "diff")


def _kept(link: Link, job_id: str, name: str) -> bytes:
    """A text that the run was started with; the run file has added a line end (spec.py)."""

    def attempt() -> bytes:
        lines: list[str] = []
        text = bytearray()
        converse(
            link,
            "read",
            checked(job_id),
            name,
            on_line=lines.append,
            on_piece=lambda stream, offset, data: text.extend(data),
        )
        complete(lines, link)
        return bytes(text[:-1])

    return uncut(attempt)


def using(jobs: Sequence[Job], tree: str) -> tuple[Job, ...]:
    """Those of `jobs` that a sync into `tree`, an absolute path, would disturb."""
    return tuple(
        job for job in jobs if job.active and not job.isolated and _is_same(job.tree, tree)
    )


def _is_same(spelled: str, tree: str) -> bool:
    """A run that synced nothing knows its tree as the inventory spells it: ~/gridops/NAME."""
    return spelled == tree or (spelled.startswith("~/") and tree.endswith(spelled[1:]))


def complete(lines: list[str], link: Link) -> list[str]:
    """`lines`, if the answer came to its end. Raises NodeError."""
    if not lines or lines[-1] != DONE:
        raise NodeError("its answer was cut short", node=link.node.name)
    return lines
