"""Runs of the page: those under way, and those that have ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gridops.model import Job
from gridops.observe.rows import RunRow
from gridops.render.overview import Overview
from gridops.system.text import number_of

EXCERPT_LENGTH = 120  # characters


class ActiveRun(NamedTuple):
    """A run under way."""

    node: str
    sign: str
    state: str
    seconds: float | None  # since it began
    id: str
    command: str
    below: str  # who started it and what it holds, or its task


def active_runs(overview: Overview) -> Iterator[ActiveRun]:
    """Durable runs as their nodes know them, then those of the history."""
    jobs = [job for job in overview.jobs if job.active]
    ids = {job.id for job in jobs}
    for job in jobs:
        yield _active_job(job, overview.at)
    for run in overview.runs:
        if run.state == "running" and run.id not in ids:
            seconds = max(0.0, overview.at - run.started)
            yield ActiveRun(
                run.node or "–", "busy", "running", seconds, run.id, run.command, run.task
            )


def _active_job(job: Job, now: float) -> ActiveRun:
    began = job.started or job.submitted
    gpus = number_of(len(job.gpus), "GPU") if job.gpus else ""
    return ActiveRun(
        node=job.node,
        sign="busy" if job.state == "running" else "none",
        state="lost, still there" if job.orphan else job.state,
        seconds=None if began is None else max(0.0, now - began),
        id=job.id,
        command=job.command,
        below=" · ".join(filter(None, (job.user, gpus))),
    )


def past_runs(overview: Overview) -> list[RunRow]:
    """Runs of the history that no node calls active; newest first."""
    active = {job.id for job in overview.jobs if job.active}
    return [run for run in overview.runs if run.state != "running" and run.id not in active]


def ending(run: RunRow) -> tuple[str, str]:
    """Sign and words of the end of a run."""
    if run.state == "finished":
        return ("good", "done") if run.status == 0 else ("bad", f"status {run.status}")
    if run.state == "failed":
        return "bad", "failed" if run.status is None else f"failed ({run.status})"
    return "none", {"detached": "left to its node", "unknown": "not known"}.get(
        run.state, run.state
    )


def excerpt(command: str) -> str:
    """The beginning of a command, on one line."""
    words = " ".join(command.split())
    return words[:EXCERPT_LENGTH] + ("…" if len(words) > EXCERPT_LENGTH else "")
