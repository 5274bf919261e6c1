"""Choice of the runs that a list shows: those that have not ended and the newest of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from gridops.errors import UnknownNameError
from gridops.jobs.lookup import is_attempt
from gridops.model import Job, JobState

ENDED = 20  # how many that have ended, unless the user says otherwise


def states(text: str | None) -> tuple[str, ...]:
    """The states that `text` names, separated by commas; none: all. Raises UnknownNameError."""
    valid = get_args(JobState)
    named = tuple(word.strip() for word in text.split(",")) if text is not None else ()
    for name in named:
        if name not in valid:
            raise UnknownNameError("state", name, valid)
    return named


def filter_jobs(
    jobs: Sequence[Job], of: Sequence[str] = (), ended: int | None = None
) -> tuple[tuple[Job, ...], int]:
    """Runs of `jobs` to show, and how many are left out.

    `jobs` are oldest first; shown are those in a state `of` these. At most `ended` that have ended
    (None: all, with the attempts that another node or the line took over, which are no runs; else
    those are there only if `of` names their state).
    """
    wanted = [
        job
        for job in jobs
        if (not of or job.state in of) and (ended is None or of or not is_attempt(job))
    ]
    over = [job for job in wanted if not job.active and job.state != "unreadable"]
    left_out = 0 if ended is None else max(0, len(over) - ended)
    hidden = {job.id for job in over[:left_out]}
    return tuple(job for job in wanted if job.id not in hidden), left_out
