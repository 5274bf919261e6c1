"""What a run has made, brought home once it has ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gridops.errors import GridError
from gridops.model import Job, RunSpec
from gridops.observe import events
from gridops.reach.link import Link

if TYPE_CHECKING:
    from gridops.fetch import FetchReport
    from gridops.settings import Settings

NOT_HOME = 125  # the exit status of a run that succeeded and whose results did not come home


def fetch(
    link: Link,
    job: Job,
    patterns: tuple[str, ...],
    into: Path,
    settings: Settings,
    *,
    overwrite: bool = False,
) -> FetchReport:
    """Bring what the patterns name in the run's directory to the same places in `into`.

    Raises what `gridops.fetch.bring_home` raises.
    """
    from gridops.fetch import bring_home

    return bring_home(
        link,
        job.cwd or "~",
        patterns,
        into,
        settings,
        home_instead=not job.isolated,
        overwrite=overwrite,
    )


def brought_home(link: Link, job: Job, spec: RunSpec, settings: Settings) -> bool:
    """Whether anything that `spec` wants came home; what went wrong is said."""
    again = f"`inv jobs.fetch {job.id} PATTERN`"
    into = Path(spec.src or ".")
    try:
        report = fetch(link, job, spec.fetch, into, settings, overwrite=spec.overwrite)
    except KeyboardInterrupt:
        events.emit(events.WARNING, message=f"left before all results were home ({again})")
        raise
    except GridError as exc:
        events.emit(events.WARNING, message=f"{exc}; {again} tries again")
        return False
    if not report.found:
        events.emit(events.WARNING, message=f"{link.node.name}: no result came home ({again})")
    return report.found
