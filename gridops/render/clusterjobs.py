"""Jobs of a Ray cluster as rows and JSON records (docs/json.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from gridops.ray.jobsapi import RayJob
from gridops.ray.outcome import exit_status
from gridops.render.documents import SCHEMA
from gridops.render.jobs import SHOWN, moment
from gridops.render.units import duration
from gridops.system.text import plain

if TYPE_CHECKING:
    from gridops.render.tables import Row

HEADER = ("ID", "STATE", "STARTED", "TOOK", "STATUS", "USER", "COMMAND")


def row(job: RayJob, now: float) -> Row:
    return (
        plain(job.id),
        job.state,
        moment(job.started),
        duration(took(job, now)),
        "-" if job.exit_code is None else str(exit_status(job)),
        plain(job.user) or "-",
        plain(" ".join(job.command.split())[:SHOWN]),
    )


def took(job: RayJob, now: float) -> float | None:
    """Seconds of its life so far; `now` by our clock, its start by the head's."""
    if job.started is None or (job.ended is None and not job.active):
        return None
    return max(0.0, (job.ended or now) - job.started)


def jobs_document(inventory: str, head: str, jobs: Iterable[RayJob], now: float) -> dict[str, Any]:
    records = [job_record(job, now) for job in jobs]
    return {"schema": SCHEMA, "inventory": inventory, "head": head, "jobs": records}


def job_record(job: RayJob, now: float) -> dict[str, Any]:
    seconds = took(job, now)
    return {
        "id": job.id,
        "submitted": job.submitted,
        "state": job.state,
        "command": job.command,
        "user": job.user or None,
        "commit": job.commit or None,
        "started": job.started,
        "ended": job.ended,
        "duration_s": None if seconds is None else round(seconds, 2),
        "exit_status": None if job.active else exit_status(job),
        "message": job.message,
    }
