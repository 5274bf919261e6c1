"""Progress of a task on stderr, a line an event."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from gridops.observe import events, messages
from gridops.tasks._terminal import is_terminal, say, tell_progress

# Drawn in a line that stays the last of a terminal, and nowhere else.
LIVE = (events.SYNC_PROGRESS, events.FETCH_PROGRESS, events.CLUSTER_PROGRESS)


class Narrator:
    """Listener of observe.events: tells of a run or a sync, a line an event.

    `only` names the events to tell of; empty: all that have words for a terminal. What is at least
    as grave as `logged` (a level of logging) has a line in the log, and is not told again.
    """

    def __init__(self, only: Sequence[str] = (), logged: int = logging.ERROR) -> None:
        self._only = only
        self._logged = logged
        self._live = is_terminal(sys.stderr)
        self._heard: set[str] = set()

    def __call__(self, event: events.Event) -> None:
        message = messages.find(event)
        if message is None or message.terminal is None:
            return
        if self._only and event.name not in self._only:
            return
        if (message.log and message.level >= self._logged) or not self._is_news(event):
            return
        line = messages.fill(message.terminal.replace("{line}", message.log or ""), event)
        if event.name in LIVE:
            if self._live:
                tell_progress(f"gridops: {line}")
            return
        if self._live:
            tell_progress("")
        say(line)

    def _is_news(self, event: events.Event) -> bool:
        """False for what a person who watches need not be told: the usual course of a run."""
        self._heard.add(event.name)
        if event.name == events.JOB_STATE:  # it waited, and does no longer
            return events.RUN_QUEUED in self._heard and event.fields.get("state") == "running"
        if event.name == events.RUN_FINISHED:  # as was asked for
            return events.RUN_STOPPING in self._heard
        return event.name != events.FETCH_FINISHED or bool(event.fields.get("bytes"))
