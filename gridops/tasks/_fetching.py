"""What `run`, `jobs.wait` and `jobs.fetch` share about bringing results home."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gridops.errors import GridError
from gridops.observe import events
from gridops.tasks._terminal import say

if TYPE_CHECKING:
    from gridops.fetch import FetchReport

FETCH = "bring this file, directory or wildcard home at the end; several times if need be"
OVERWRITE = "replace files here that are newer, too"
TOLD = (events.FETCH_PROGRESS, events.FETCH_FINISHED, events.WARNING, events.RETRY)
NOT_HOME = 125


def status_after(status: int, bring: Callable[[], FetchReport]) -> int:
    """Bring the results of a run that ended with `status` home; the exit status for both.

    It is the run's own; but a success whose results did not come home is none (125), be it that
    they could not be had or that there were not any.
    """
    try:
        home = bring().found
    except KeyboardInterrupt:
        say("left before all results were home (`inv jobs.fetch ID PATTERN` brings them)")
        return 130
    except GridError as exc:
        say(str(exc))
        home = False
    if home or status:
        return status
    say("the run succeeded, but its results did not come home (`inv jobs.fetch ID PATTERN`)")
    return NOT_HOME
