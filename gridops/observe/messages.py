"""Table of messages: the words of each event for the log and the terminal.

Events carry facts; their words are here alone. `find` gives an event's message, `fill` puts the
facts in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from logging import DEBUG, INFO, WARNING
from signal import Signals
from typing import Any, NamedTuple

from gridops.observe import events
from gridops.system.text import number_of, size

SAME = "{line}"  # the terminal's line is the log's
WARNED = "warning: {line}"


class Message(NamedTuple):
    """Level and words of an event; a `{field}` is a fact, and `[…]` is left out where it is none.

    `log` is None for what comes many times a second, `terminal` for what is not told there.
    """

    level: int
    log: str | None
    terminal: str | None = SAME


# The facts that choose between several messages of one event.
VARIANTS = {
    events.NODE_SELECTED: "degraded",
    events.SYNC_FINISHED: "status",
    events.FETCH_FINISHED: "status",
    events.RUN_LEFT: "state",
    events.PACKAGE_READY: "uploaded",
    events.CLUSTER_STEP: "step",
    events.RETRY_ENDED: "ok",
}
FETCH_WORDS = "{node}: fetched {files}[ ({replaced} replaced)], {bytes} in {seconds} s"
LEAVE_WORDS = (
    "{node}: {reason}: left; the run %s: `inv jobs.logs {id} --follow`, `inv jobs.kill {id}`"
)
PACKAGE_WORDS = "{node}: {files}, {bytes} packed: %s in {seconds} s"
# By the event's name, or by that and the fact that chooses.
MESSAGES: dict[str | tuple[str, object], Message] = {
    events.TASK_STARTED: Message(DEBUG, "{task} started", None),
    events.TASK_FINISHED: Message(INFO, "{task} finished: {status} after {seconds} s", None),
    events.NODE_PROBED: Message(DEBUG, "{node}: {state}", None),
    events.NODE_CHANGED: Message(WARNING, "{node}: {state}, was {before}[: {reason}]"),
    events.NODES_RANKED: Message(DEBUG, "{candidates} nodes ranked after {seconds} s", None),
    events.NODE_SELECTED: Message(INFO, "{node}: {reason}"),
    (events.NODE_SELECTED, True): Message(
        INFO,
        "no healthy node; taking the least loaded: {node} ({reason})",
        WARNED,
    ),
    events.NODE_SKIPPED: Message(WARNING, "{reason}; trying the next best node"),
    events.SYNC_STARTED: Message(DEBUG, "{node}: sync started", None),
    events.SYNC_PROGRESS: Message(DEBUG, None, "{node}: syncing {percent} %"),
    events.SYNC_FINISHED: Message(
        INFO,
        "{node}: synced {files}[, deleted {deleted}], {bytes} in {seconds} s"
        "[ (without {fetched} fetched)]",
    ),
    (events.SYNC_FINISHED, "failure"): Message(INFO, "{node}: sync failed after {seconds} s", None),
    events.FETCH_PROGRESS: Message(DEBUG, None, "{node}: fetching {percent} %"),
    events.FETCH_FINISHED: Message(INFO, FETCH_WORDS),
    (events.FETCH_FINISHED, "failure"): Message(
        INFO, "{node}: fetch failed after {seconds} s; {files} came", FETCH_WORDS
    ),
    events.RUN_QUEUED: Message(
        INFO,
        "{nodes}: no slot[ with {gpus}] is free: the run {id} is queued for {seconds} s at most",
    ),
    events.RUN_STARTED: Message(INFO, "{node}: the run is {id}"),
    events.RUN_STOPPING: Message(
        WARNING,
        "{node}: {reason}: asking the node to stop the command (KILL follows after 10 s);"
        " Ctrl-C leaves it",
    ),
    events.RUN_LEFT: Message(WARNING, LEAVE_WORDS % "goes on there"),
    (events.RUN_LEFT, "queued"): Message(
        WARNING, LEAVE_WORDS % "waits for its turn there, or has begun"
    ),
    (events.RUN_LEFT, "stopping"): Message(WARNING, LEAVE_WORDS % "is being ended there"),
    events.TREE_KEPT: Message(
        INFO, "the tree as it is now ({bytes}) is kept in {path} until the run begins"
    ),
    events.RUN_RESTARTED: Message(WARNING, "{error}; running it again"),
    events.RUN_FINISHED: Message(
        INFO,
        "{node}: the run has ended with status {status} after {seconds} s[; {left}]",
        "{node}: the run has ended[ by {signal}][; {left}]",
    ),
    events.JOB_STATE: Message(DEBUG, "{node}: the run {id} is {state}", "{node}: the run begins"),
    events.JOB_ENDED: Message(DEBUG, "{node}: the run {id} is over: {state}", None),
    events.PACKAGE_READY: Message(DEBUG, PACKAGE_WORDS % "sent"),
    (events.PACKAGE_READY, False): Message(DEBUG, PACKAGE_WORDS % "there already, checked"),
    events.CLUSTER_JOB_SUBMITTED: Message(INFO, "{node}: the cluster has the job {id}"),
    events.CLUSTER_JOB_WAITS: Message(INFO, "{node}: the job {id} waits: {reason}"),
    events.CLUSTER_JOB_ENDED: Message(INFO, "{node}: the job {id} {state} after {seconds} s", None),
    events.CLUSTER_STEP: Message(INFO, "{node}: {step}[: {role}]"),
    (events.CLUSTER_STEP, "installing"): Message(
        INFO, "{node}: installing Ray {version} with Python {python}"
    ),
    (events.CLUSTER_STEP, "bringing"): Message(INFO, "{node}: bringing {wheelhouse}"),
    (events.CLUSTER_STEP, "started"): Message(INFO, "{node}: {role} started at {address}"),
    (events.CLUSTER_STEP, "stopped"): Message(INFO, "{node}: [{role} ]stopped, {processes}"),
    events.CLUSTER_PROGRESS: Message(DEBUG, None, "{node}: {what}"),
    events.RETRY: Message(WARNING, "{what}: attempt {attempt} failed: {error}; again in {delay} s"),
    events.RETRY_ENDED: Message(
        WARNING, "{what}: given up after {attempts} attempts: {error}", None
    ),
    (events.RETRY_ENDED, True): Message(INFO, "{what}: attempt {attempts} succeeded", None),
    events.CONNECTION_OPENED: Message(DEBUG, "{node}: connected in {seconds} s", None),
    events.CONNECTION_LOST: Message(
        WARNING, "{node}: the connection is lost: {error}; the run goes on, reconnecting"
    ),
    events.CONNECTION_REGAINED: Message(INFO, "{node}: connected again after {seconds} s"),
    events.CONNECTION_REPLACED: Message(INFO, "{node}: connection replaced: {reason}", None),
    events.PORT_FORWARDED: Message(
        INFO, "{node}: http://127.0.0.1:{local} leads to port {remote} there"
    ),
    events.PORT_BUSY: Message(
        WARNING,
        "{node}: something listens on port {remote} there already, and --port leads to that"
        " until it ends",
        WARNED,
    ),
    events.PORT_FAILED: Message(WARNING, "{node}: --port {remote}: {error}"),
    events.INVENTORY_CHANGED: Message(INFO, "{inventory} has changed: {nodes} nodes now"),
    events.WARNING: Message(WARNING, "{message}", WARNED),
}


def find(event: events.Event) -> Message | None:
    """The event's message; None for an event that is not in the table."""
    variant = event.fields.get(VARIANTS.get(event.name, ""))
    return MESSAGES.get((event.name, variant)) or MESSAGES.get(event.name)


def fill(words: str, event: events.Event) -> str:
    """Put the event's facts into `words`, a line of its message; `?` stands for one it lacks."""
    if "[" in words:
        words = re.sub(
            r"\[([^{]*\{(\w+)\}[^\]]*)\]",
            lambda part: part[1] if event.fields.get(part[2]) else "",
            words,
        )
    return words.format_map(_Worded(event.fields))


class _Worded(dict[str, Any]):
    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            return "?"
        if name in FACT_WORDS:
            return FACT_WORDS[name](value)
        if isinstance(value, float):
            return f"{value:.1f}" if value < 10 else f"{value:.0f}"
        if isinstance(value, list | tuple):
            return ", ".join(value[:5]) + (", …" if len(value) > 5 else "")
        return str(value)


def describe_leftovers(left: Sequence[Mapping[str, Any]]) -> str:
    """Name the processes that could not be ended, and the remedy.

    Each has pid, user and name.
    """
    named = ", ".join("{pid} ({user}, {name})".format_map(one) for one in left)
    pids = " ".join(str(one["pid"]) for one in left)
    return f"these processes could not be ended: {named}; run `sudo kill -KILL {pids}` there"


def _signal_name(number: int) -> str:
    return Signals(number).name if number in set(Signals) else f"signal {number}"


FACT_WORDS: dict[str, Callable[[Any], str]] = {
    "bytes": size,
    "files": partial(number_of, thing="file"),
    "gpus": partial(number_of, thing="GPU"),
    "processes": partial(number_of, thing="process"),
    "percent": "{:.0f}".format,
    "signal": _signal_name,
    "left": describe_leftovers,
}
