"""Fetch of a run's results: of the files that patterns name on its node, the changed ones.

A fetch asks the node what the patterns name, has rsync bring to a stage beside their places what
is not here already, and moves each file into its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.errors import UsageError
from gridops.model import FetchReport
from gridops.reach.link import Link
from gridops.retry import RetryConfig
from gridops.transfers.fetch.patterns import check_patterns, parse
from gridops.transfers.fetch.session import FetchSession

if TYPE_CHECKING:
    from gridops.inventory.settings import Settings

__all__ = ["FetchReport", "check_patterns", "fetch_results"]


def fetch_results(
    link: Link,
    directory: str,
    patterns: Sequence[str],
    into: str | Path,
    settings: Settings,
    *,
    home_instead: bool = False,
    overwrite: bool = False,
    run: str = "",
) -> FetchReport:
    """Fetch the files that `patterns` name in the node's `directory` into `into`.

    They land in the same relative places. What a pattern that begins with / or ~/ names lands by
    its own name, what its wildcards match by where that is below the last directory without one. A
    file here that is newer and differs is kept, unless `overwrite`. Each file takes its place whole
    and in one step, none outside `into`. A symlink that a pattern names outright comes as what it
    leads to; any other stays one, and one that leads out of the directory stays there.
    `home_instead`: a `directory` that is not there stands for the node's home directory. `run`: of
    all that, only what the run of this id wrote or changed, and nobody has changed since its end
    (written.py).

    The connection is tried again as `settings.retry` says. Everything there is to say is said by
    events. What has come by then is in its place when this raises UsageError, PartialTransfer
    (naming the files), DiskFull, NotWritable, NoRsync, TransferLost, NodeError, or a ReachError.
    """
    wanted = [parse(text) for text in check_patterns(patterns)]
    if not wanted:
        raise UsageError("no pattern names what to fetch")
    return FetchSession(
        link, wanted, _place(into), RetryConfig.of(settings.retry), overwrite, run
    ).report(directory, home_instead)


def _place(into: str | Path) -> Path:
    try:
        path = Path(into).expanduser().resolve()
    except (OSError, RuntimeError) as exc:
        raise UsageError(f"cannot fetch into {into}: {exc}") from exc
    if path.exists() and not path.is_dir():
        raise UsageError(f"cannot fetch into {path}: it is not a directory")
    return path
