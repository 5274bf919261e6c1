"""Durable runs as rows, as lines and as JSON records (docs/json.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from gridops.jobs.outcome import describe_outcome, exit_status
from gridops.jobs.paths import JobPaths
from gridops.model import Job, Outcome
from gridops.render.documents import SCHEMA
from gridops.render.units import duration, moment
from gridops.system.text import plain, size

if TYPE_CHECKING:
    from gridops.render.tables import Row

JOBS_HEADER = ("ID", "NODE", "STATE", "STARTED", "TOOK", "STATUS", "GPUS", "USER", "COMMAND")
COMMAND_WIDTH = 200  # characters of a command in a table


def row(job: Job, now: float) -> Row:
    return (
        plain(job.id),
        job.node,
        job.state,
        moment(job.started),
        duration(took(job, now)),
        "-" if job.status is None else str(job.status),
        plain(",".join(job.gpus)) or "-",
        plain(job.user) or "-",
        plain(_command(job)),
    )


def _command(job: Job) -> str:
    """The command on one line; for a run that cannot be told of, the reason."""
    if job.state == "unreadable":
        return f"unreadable record: {job.error}"
    return " ".join(job.command.split())[:COMMAND_WIDTH]


def took(job: Job, now: float) -> float | None:
    """Seconds of the command's life so far; `now` by our clock, its start by the node's."""
    if job.seconds is not None or job.started is None or not job.active:
        return job.seconds
    return max(0.0, now - job.started)


def lines(job: Job, now: float) -> str:
    """All that is known of one run, a line each; several for a command that has them."""
    found = [(name, text) for name, text in _facts(job, now) if text not in ("", "-")]
    width = max(len(name) for name, _ in found)
    told: list[str] = []
    for name, text in found:
        first, *more = text.split("\n") if name == "command" else [text]
        told.append(f"{name:<{width}}  {plain(first)}".rstrip())
        told += [f"{'':<{width}}  {plain(line)}".rstrip() for line in more]
    return "\n".join(told)


def _facts(job: Job, now: float) -> Iterator[tuple[str, str]]:
    paths = JobPaths(job.id)
    yield "id", job.id
    yield "node", job.node
    yield "why there", job.why
    yield "state", job.state
    yield "note", describe_outcome(job)
    yield "status", "" if job.status is None else str(job.status)
    yield "command", job.command.rstrip("\n")
    yield "variables", ", ".join(job.env)
    yield "directory", job.cwd or "~"
    yield "tree", job.tree if job.isolated or job.tree != job.cwd else ""
    yield "commit", job.commit
    yield "changes", f"{size(job.diff_bytes)}: `inv jobs.show {job.id} --diff`" if job.diff else ""
    yield "user", job.user
    yield "submitted", moment(job.submitted)
    yield "started", moment(job.started)
    yield "ended", moment(job.ended)
    yield "took", duration(took(job, now))
    yield "timeout", duration(job.timeout)
    yield "GPUs", ", ".join(job.gpus) or (f"{job.gpus_wanted} wanted" if job.gpus_wanted else "")
    yield "stdout", f"{job.node}:{paths.stdout} ({size(job.out_bytes)})"
    yield "stderr", f"{job.node}:{paths.stderr} ({size(job.err_bytes)})"
    yield (
        "cut",
        {
            "full": "output is missing: the disk was full",
            "cap": "output is missing: the log cap",
        }.get(job.cut, ""),
    )


def jobs_document(
    inventory: str, jobs: Iterable[Job], outcomes: Iterable[Outcome[Any]], now: float
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "inventory": inventory,
        "jobs": [job_record(job, now) for job in jobs],
        "unreachable": [
            {"name": outcome.node.name, "error": str(outcome.error)}
            for outcome in outcomes
            if outcome.error
        ],
    }


def job_document(job: Job, now: float) -> dict[str, Any]:
    return {"schema": SCHEMA, "job": job_record(job, now)}


def job_record(job: Job, now: float) -> dict[str, Any]:
    seconds, paths = took(job, now), JobPaths(job.id)
    return {
        "id": job.id,
        "node": job.node,
        "state": job.state,
        "command": job.command,
        "env": list(job.env),
        "user": job.user,
        "submitted": job.submitted,
        "started": job.started,
        "ended": job.ended,
        "duration_s": None if seconds is None else round(seconds, 2),
        "status": job.status,
        "signal": job.signal,
        "exit_status": exit_status(job) if _has_ended(job) else None,
        "reason": job.reason or None,
        "by": job.by or None,
        "timeout_s": job.timeout,
        "gpus": list(job.gpus),
        "gpus_wanted": job.gpus_wanted,
        "directory": job.cwd or "~",
        "tree": job.tree or None,
        "isolated": job.isolated,
        "commit": job.commit or None,
        "diff": job.diff or None,
        "diff_bytes": job.diff_bytes,
        "why": job.why or None,
        "stdout": paths.stdout,
        "stderr": paths.stderr,
        "stdout_bytes": job.out_bytes,
        "stderr_bytes": job.err_bytes,
        "cut": job.cut or None,
        "orphan": job.orphan,
        "left": [{"pid": one.pid, "user": one.user, "name": one.name} for one in job.left],
        "error": job.error or None,
    }


def _has_ended(job: Job) -> bool:
    return not job.active and job.state not in ("unknown", "unreadable")
