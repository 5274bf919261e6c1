"""Events in words: how serious each is, and what its log line says."""

from __future__ import annotations

from logging import DEBUG, INFO, WARNING
from typing import Any

from gridops.observe import events

# Fields come in as text, figures with three digits. An event without a line is not logged.
LINES: dict[str, tuple[int, str]] = {
    events.TASK_STARTED: (DEBUG, "{task} started"),
    events.TASK_FINISHED: (INFO, "{task} finished: {status} after {seconds} s"),
    events.NODE_PROBED: (DEBUG, "{node}: {state}"),
    events.NODES_RANKED: (DEBUG, "{candidates} nodes ranked after {seconds} s"),
    events.NODE_SELECTED: (INFO, "{node}: chosen: {reason}"),
    events.NODE_SKIPPED: (WARNING, "{node}: skipped: {reason}; trying the next best"),
    events.SYNC_STARTED: (DEBUG, "{node}: sync started"),
    events.SYNC_FINISHED: (INFO, "{node}: sync {status}: {files} files in {seconds} s"),
    events.RUN_STARTED: (INFO, "{node}: command started"),
    events.RUN_STOPPING: (WARNING, "{node}: {reason}: asking it to stop the command"),
    events.RUN_FINISHED: (INFO, "{node}: command ended with status {status} after {seconds} s"),
    events.JOB_STATE: (DEBUG, "{node}: the run {id} is {state}"),
    events.PACKAGE_READY: (DEBUG, "{node}: package of {files} files ready after {seconds} s"),
    events.CLUSTER_JOB_SUBMITTED: (INFO, "{node}: the cluster has the job {id}"),
    events.CLUSTER_JOB_WAITS: (INFO, "{node}: the job {id} waits: {reason}"),
    events.CLUSTER_JOB_ENDED: (INFO, "{node}: the job {id} {state} after {seconds} s"),
    events.CLUSTER_STEP: (INFO, "{node}: {what}"),
    events.RETRY: (WARNING, "{what} failed at attempt {attempt}: {error}; again in {delay} s"),
    events.CONNECTION_OPENED: (DEBUG, "{node}: connected in {seconds} s"),
    events.CONNECTION_LOST: (WARNING, "{node}: connection lost: {error}; the run goes on"),
    events.CONNECTION_REGAINED: (INFO, "{node}: connected again after {seconds} s"),
    events.CONNECTION_REPLACED: (INFO, "{node}: connection replaced: {reason}"),
    events.WARNING: (WARNING, "{message}"),
}
SILENT = frozenset({events.SYNC_PROGRESS, events.CLUSTER_PROGRESS})  # many a second


def sentence(event: events.Event) -> tuple[int, str] | None:
    """Level and text of its line; None for an event that has none."""
    if event.name in SILENT:
        return None
    fields = _Fields({name: _text(value) for name, value in event.fields.items()})
    if event.name == events.RETRY_ENDED:
        return _end_of_retries(event, fields)
    if event.name not in LINES:
        return DEBUG, event.name
    level, template = LINES[event.name]
    return level, template.format_map(fields)


class _Fields(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "?"


def _end_of_retries(event: events.Event, fields: _Fields) -> tuple[int, str]:
    if event.fields.get("ok"):
        return INFO, "{what} succeeded at attempt {attempts}".format_map(fields)
    return WARNING, "{what} given up after {attempts} attempts: {error}".format_map(fields)


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
