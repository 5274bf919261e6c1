"""Events: working code emits them; logs, metrics, history and progress bars listen.

The names in use, with their fields, are the constants below. A listener that raises is dropped
from that event only: seeing must never break doing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

TASK_STARTED = "task.started"  # task
# What ended it early, if anything did, and the exit status that this means, are with it.
TASK_FINISHED = "task.finished"  # task, status ("success" | "failure"), seconds, error, exit_status
NODE_PROBED = "node.probed"  # node, state, score, seconds, error, figures (probe/figures.py)
NODE_CHANGED = "node.changed"  # node, before, state, reason: since the last look at it
NODES_RANKED = "nodes.ranked"  # seconds, candidates, silent (nodes that had not answered yet)
NODE_SELECTED = "node.selected"  # node, score, reason, degraded
NODE_SKIPPED = "node.skipped"  # node, reason: the next best is tried
SYNC_STARTED = "sync.started"  # node, files (in the tree)
SYNC_PROGRESS = "sync.progress"  # node, percent, bytes
SYNC_FINISHED = "sync.finished"  # node, status, files, deleted, fetched (left out), bytes, seconds
FETCH_PROGRESS = "fetch.progress"  # node, percent, bytes
FETCH_FINISHED = "fetch.finished"  # node, status, files, replaced (of them), bytes, seconds
RUN_QUEUED = "run.queued"  # nodes (their names), id, seconds (at most), gpus, command
RUN_STARTED = "run.started"  # node, cwd, id, command
RUN_STOPPING = "run.stopping"  # node, reason (a signal's name): the node is asked to end it
# It is there without us: "running", "queued" (or it has begun meanwhile), "stopping".
RUN_LEFT = "run.left"  # node, id, reason (a signal's name), state
TREE_KEPT = "tree.kept"  # bytes, path: of a copy, until a run that waits has its tree
RUN_RESTARTED = "run.restarted"  # node, id, error: it is lost, and begins again
# What could not be ended of it is `left`: pid, user and name of each process.
RUN_FINISHED = "run.finished"  # node, id, status (exit status), signal (number), seconds, left
JOB_STATE = "job.state"  # node, id, state ("queued" | "running"): a followed run
JOB_ENDED = "job.ended"  # node, id, state, status, seconds, error: seen to have ended
RETRY = "retry"  # what, attempt (from 1), delay (seconds until the next), error, reason (its kind)
PACKAGE_READY = "package.ready"  # node, files, bytes, seconds, uploaded (else it was there)
CLUSTER_JOB_SUBMITTED = "cluster.job.submitted"  # node (the head), id
CLUSTER_JOB_WAITS = "cluster.job.waits"  # node, id, reason: it has not begun yet
CLUSTER_JOB_ENDED = "cluster.job.ended"  # node, id, state, status (exit status), seconds
# A part of the Ray cluster's start or end, with what belongs to it: "installing" (version,
# python), "bringing" (wheelhouse), "started" (role, address), "stopped" (role, processes).
CLUSTER_STEP = "cluster.step"  # node, step
CLUSTER_PROGRESS = "cluster.progress"  # node, what: often, while Ray is installed
RETRY_ENDED = "retry.ended"  # what, attempts, ok, error: after at least one failed attempt
CONNECTION_OPENED = "connection.opened"  # node, seconds
CONNECTION_LOST = "connection.lost"  # node, error: a run goes on, we come back to it
CONNECTION_REGAINED = "connection.regained"  # node, seconds (without it)
CONNECTION_REPLACED = "connection.replaced"  # node, reason
PORT_FORWARDED = "port.forwarded"  # node, local, remote
PORT_BUSY = "port.busy"  # node, remote: something listens there before the run has begun
PORT_FAILED = "port.failed"  # node, remote, error: a connection to it; said once until one succeeds
INVENTORY_CHANGED = "inventory.changed"  # inventory, nodes (how many): the file was read again
WARNING = "warning"  # message


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `context` is what was bound when it did (task, run_id)."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0  # seconds since the epoch


Listener = Callable[[Event], None]

_listeners: list[Listener] = []
_lock = threading.Lock()
_context: ContextVar[Mapping[str, Any]] = ContextVar(
    "gridops_context", default=MappingProxyType({})
)


def emit(name: str, **fields: Any) -> None:
    """Tell every listener; never raises."""
    event = Event(name, fields, _context.get(), time.time())
    for listener in tuple(_listeners):
        try:
            listener(event)
        except Exception:  # noqa: BLE001 - a sink's fault must not reach the work
            continue


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` with every event until the block ends."""
    subscribe(listener)
    try:
        yield
    finally:
        with _lock:
            _listeners.remove(listener)


def subscribe(listener: Listener) -> None:
    """Call `listener` with every event for the rest of the process."""
    with _lock:
        _listeners.append(listener)


def context() -> Mapping[str, Any]:
    """The context that is bound here and now."""
    return _context.get()


@contextmanager
def bound(**context: Any) -> Iterator[None]:
    """Add `context` (task, run_id) to every event emitted inside the block."""
    token = _context.set({**_context.get(), **context})
    try:
        yield
    finally:
        _context.reset(token)
