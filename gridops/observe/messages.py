"""Events in words: the level and the text of each one's log line."""

from __future__ import annotations

from logging import DEBUG, INFO, WARNING

from gridops.observe import events

# Fields come in as text, figures with three digits. An event without a line is not logged.
LINES: dict[str, tuple[int, str]] = {
    events.TASK_STARTED: (DEBUG, "{task} started"),
    events.TASK_FINISHED: (INFO, "{task} finished: {status} after {seconds} s"),
    events.NODE_PROBED: (DEBUG, "{node}: {state}"),
    events.NODE_CHANGED: (WARNING, "{node}: {before} -> {state} {reason}"),
    events.NODES_RANKED: (DEBUG, "{candidates} nodes ranked after {seconds} s"),
    events.NODE_SELECTED: (INFO, "{node}: chosen: {reason}"),
    events.NODE_SKIPPED: (WARNING, "{node}: skipped: {reason}; trying the next best"),
    events.SYNC_STARTED: (DEBUG, "{node}: sync started"),
    events.SYNC_FINISHED: (
        INFO,
        "{node}: sync {status}: {files} files, {deleted} deleted in {seconds} s",
    ),
    events.FETCH_FINISHED: (INFO, "{node}: fetch {status}: {files} files in {seconds} s"),
    events.RUN_QUEUED: (INFO, "standing in line on {nodes} for {seconds} s at most"),
    events.RUN_STARTED: (INFO, "{node}: command started"),
    events.RUN_STOPPING: (WARNING, "{node}: {reason}: asking it to stop the command"),
    events.RUN_LEFT: (WARNING, "{node}: {reason}: left; the run {id} {fate}"),
    events.TREE_KEPT: (INFO, "{path} keeps the tree ({bytes} bytes) meanwhile"),
    events.RUN_RESTARTED: (WARNING, "{node}: {error}; running it again"),
    events.RUN_FINISHED: (INFO, "{node}: command ended with status {status} after {seconds} s"),
    events.JOB_STATE: (DEBUG, "{node}: the run {id} is {state}"),
    events.JOB_ENDED: (DEBUG, "{node}: the run {id} is over: {state}"),
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
    events.PORT_FORWARDED: (INFO, "{node}: http://127.0.0.1:{local} leads to port {remote} there"),
    events.PORT_BUSY: (
        WARNING,
        "{node}: something listens on port {remote} there already, so that is where --port leads",
    ),
    events.PORT_FAILED: (WARNING, "{node}: --port {remote}: {error}"),
    events.INVENTORY_CHANGED: (INFO, "{inventory} has changed: {nodes} nodes now"),
    events.WARNING: (WARNING, "{message}"),
}
SILENT = frozenset(  # many a second
    {events.SYNC_PROGRESS, events.FETCH_PROGRESS, events.CLUSTER_PROGRESS}
)


def sentence(event: events.Event) -> tuple[int, str] | None:
    """Level and text of the event's log line; None for an event that has none."""
    if event.name in SILENT:
        return None
    fields = _Fields(
        {
            name: f"{value:.3g}" if isinstance(value, float) else str(value)
            for name, value in event.fields.items()
        }
    )
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
