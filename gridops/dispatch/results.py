"""Fetch of a run's results, once it has ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.errors import GridError
from gridops.model import Job, RunSpec
from gridops.observe import events
from gridops.reach.link import Link

if TYPE_CHECKING:
    from gridops.inventory.settings import Settings
    from gridops.transfers.fetch import FetchReport

NOT_HOME = 125  # the exit status of a run that succeeded and whose results did not come home


def collect(
    link: Link,
    job: Job,
    patterns: tuple[str, ...],
    into: Path,
    settings: Settings,
    *,
    overwrite: bool = False,
) -> FetchReport:
    """Bring the run's files that match the patterns to `into`.

    Only what the run wrote comes, each file to the same place. Raises what
    `gridops.transfers.fetch.fetch_results` raises.
    """
    from gridops.transfers.fetch import fetch_results

    return fetch_results(
        link,
        job.cwd or "~",
        patterns,
        into,
        settings,
        home_instead=not job.isolated,
        overwrite=overwrite,
        run=job.id,
    )


def exit_status_after_run(
    status: int, link: Link, job: Job, spec: RunSpec, settings: Settings
) -> int:
    """Fetch the results that `spec` names, of an ended run.

    It ended with `status`. Returns the exit status for both.
    """
    into = Path(spec.src or ".")

    def bring() -> FetchReport:
        return collect(link, job, spec.fetch, into, settings, overwrite=spec.overwrite)

    return exit_status_with_results(status, job, bring)


def exit_status_with_results(status: int, job: Job, bring: Callable[[], FetchReport]) -> int:
    """Bring a run's results, and return the exit status for both.

    `bring` brings them. The exit status is the run's own, `status`; but a success whose results did
    not come home is none (125), be it that they could not be had or that there were not any. What
    went wrong is said.
    """
    again = f"`inv jobs.fetch {job.id} PATTERN`"
    try:
        home = bring().found
    except KeyboardInterrupt:
        _say(f"left before all results were fetched ({again})")
        raise
    except GridError as exc:
        _say(str(exc))
        home = False
    if not home:
        succeeded = "" if status else "the run succeeded, but "
        _say(f"{job.node}: {succeeded}its results were not fetched ({again})")
    return status or (0 if home else NOT_HOME)


def _say(message: str) -> None:
    events.emit(events.WARNING, message=message)
