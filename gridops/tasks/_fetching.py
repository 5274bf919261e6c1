"""Flags and events of fetching results, for `run`, `jobs.wait` and `jobs.fetch`."""

from __future__ import annotations

from gridops.observe import events

FETCH = "bring this file, directory or wildcard home at the end; several times if need be"
OVERWRITE = "replace files here that are newer, too"
TOLD = (events.FETCH_PROGRESS, events.FETCH_FINISHED, events.WARNING, events.RETRY)
