"""Event listener that keeps metrics and history.

It only collects events; what they come to, and SQLite, are loaded when there is something to
store: at a task's end, and every other second of a long one.
"""

from __future__ import annotations

import threading
from contextlib import suppress

from gridops.observe import events
from gridops.observe.paths import store_path

RECORDED = frozenset(
    {
        *(events.TASK_STARTED, events.TASK_FINISHED, events.NODE_PROBED, events.NODES_RANKED),
        *(events.RUN_QUEUED, events.RUN_STARTED, events.RUN_LEFT, events.RUN_RESTARTED),
        events.RUN_FINISHED,
        *(events.JOB_ENDED, events.SYNC_FINISHED, events.RETRY),
    }
)
STORE_DELAY = 1.0  # seconds from an event until it is stored, if the task has not ended before


Heard = tuple[events.Event, int]  # and its thread: a task's own events come in one


class Recorder:
    """Event listener, from `events.listening(recorder)` until `close`."""

    def __init__(self, delay: float = STORE_DELAY) -> None:
        self._delay = delay
        self._heard: list[Heard] = []
        self._trouble = ""
        self._lock = threading.Lock()
        self._storing = threading.Lock()  # so that `close` waits for what is being stored
        self._closed = threading.Event()
        self._worker: threading.Thread | None = None

    def __call__(self, event: events.Event) -> None:
        if event.name not in RECORDED:
            return
        with self._lock:
            self._heard.append((event, threading.get_ident()))
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, daemon=True, name="recorder")
                self._worker.start()

    def _work(self) -> None:
        """Load the storing modules while the task waits for its nodes; store during a long one."""
        _load()
        while not self._closed.wait(self._delay):
            self.flush()

    def flush(self) -> None:
        """Store the events heard until now. Never raises."""
        with self._storing:
            with self._lock:
                heard, self._heard = self._heard, []
            if heard:
                self._trouble = _enter(heard) or self._trouble

    def trouble(self) -> str:
        """The reason that something could not be stored; told once."""
        told, self._trouble = self._trouble, ""
        return told

    def close(self) -> str:
        """Store the rest. Returns what the user should know, mostly ""."""
        self._closed.set()
        self.flush()
        return self.trouble()


def _load() -> None:
    with suppress(ImportError):  # who stores will say so
        import gridops.observe.ledger
        import gridops.observe.store  # noqa: F401

        store_path()


def _enter(heard: list[Heard]) -> str:
    try:
        from gridops.observe.ledger import enter

        return enter(heard)
    except Exception as exc:  # noqa: BLE001 - a record is never worth the work that it tells about
        return f"metrics and history cannot be kept: {type(exc).__name__}: {exc}"
