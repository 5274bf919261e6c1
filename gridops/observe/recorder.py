"""A listener that keeps metrics and history of what happens.

It only collects events; what they come to, and SQLite, are loaded when there is something to
store: at a task's end, and every other second of a long one.
"""

from __future__ import annotations

import threading

from gridops.observe import events

KEPT = frozenset(
    {
        *(events.TASK_STARTED, events.TASK_FINISHED, events.NODE_PROBED, events.NODES_RANKED),
        *(events.RUN_STARTED, events.RUN_LEFT, events.RUN_RESTARTED, events.RUN_FINISHED),
        *(events.JOB_ENDED, events.SYNC_FINISHED, events.RETRY),
    }
)
DELAY = 1.0  # seconds from an event until it is stored, if the task has not ended before


Heard = tuple[events.Event, int]  # and its thread: a task's own events come in one


class Recorder:
    """Listens, from `events.listening(recorder)` until `close`."""

    def __init__(self, delay: float = DELAY) -> None:
        self._delay = delay
        self._heard: list[Heard] = []
        self._timer: threading.Timer | None = None
        self._trouble = ""
        self._lock = threading.Lock()

    def __call__(self, event: events.Event) -> None:
        if event.name not in KEPT:
            return
        with self._lock:
            self._heard.append((event, threading.get_ident()))
            if self._timer is None:
                self._timer = threading.Timer(self._delay, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Store what was heard until now. Never raises."""
        with self._lock:
            heard, self._heard = self._heard, []
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        if heard:
            self._trouble = _enter(heard) or self._trouble

    def trouble(self) -> str:
        """Why something could not be stored; told once."""
        told, self._trouble = self._trouble, ""
        return told

    def close(self) -> str:
        """Store the rest; returns what the user should know, mostly ""."""
        self.flush()
        return self.trouble()


def _enter(heard: list[Heard]) -> str:
    try:
        from gridops.observe.ledger import enter

        return enter(heard)
    except Exception as exc:  # noqa: BLE001 - a record is never worth the work that it tells about
        return f"metrics and history cannot be kept: {type(exc).__name__}: {exc}"
