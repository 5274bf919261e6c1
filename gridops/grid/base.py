"""Base of the Grid, and its events: tasks that begin and end, runs that have ended."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gridops.errors import GridError
from gridops.inventory import Inventory
from gridops.model import Job, Node
from gridops.observe import events


class TaskOutcome:
    """Success of a task; a body that fails without raising sets `ok` to False."""

    ok = True


@contextmanager
def task_scope(task: str) -> Iterator[TaskOutcome]:
    """Say that a task begins and how it ended."""
    outcome = TaskOutcome()
    cause: BaseException | None = None
    began = time.monotonic()
    with events.bound(task=task):
        events.emit(events.TASK_STARTED, task=task)
        try:
            yield outcome
        except BaseException as exc:
            cause = exc
            raise
        finally:
            events.emit(
                events.TASK_FINISHED,
                task=task,
                status="success" if outcome.ok and cause is None else "failure",
                seconds=time.monotonic() - began,
                error=_describe_cause(cause),
                exit_status=_status(cause),
            )


def _describe_cause(cause: BaseException | None) -> str | None:
    if cause is None:
        return None
    if isinstance(cause, KeyboardInterrupt | SystemExit | GeneratorExit):
        return "interrupted"
    return str(cause) if isinstance(cause, GridError) else type(cause).__name__


def _status(cause: BaseException | None) -> int | None:
    """The exit status that the cause will come to; None without one, or when it is not known."""
    if isinstance(cause, GridError):
        return cause.exit_status
    if isinstance(cause, KeyboardInterrupt):
        return 130
    return cause.code if isinstance(cause, SystemExit) and isinstance(cause.code, int) else None


def report_end(job: Job) -> Job:
    """Say how a durable run ended, if it has; returns it."""
    if job.began and not job.active and job.state != "unknown":
        from gridops.jobs.outcome import describe_outcome, exit_status

        events.emit(
            events.JOB_ENDED,
            node=job.node,
            id=job.id,
            state=job.state,
            status=exit_status(job),
            seconds=job.seconds,
            error=describe_outcome(job),
        )
    return job


class GridBase:
    """An inventory's nodes and settings."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.settings = inventory.settings

    def _all(self, nodes: Sequence[Node] | None) -> Sequence[Node]:
        return self.inventory.nodes if nodes is None else nodes
