"""`report`: the grid as a document, for people without this terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.errors import OutputError, StoreError
from gridops.tasks._task import SELECTION, Call, grid_task
from gridops.tasks._terminal import say, show, write_file

if TYPE_CHECKING:
    from gridops.observe.rows import RunRow, Sample
    from gridops.render.overview import Overview, Round

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"


@grid_task(
    flags=SELECTION,
    help={
        "html": "write the status page to this file, whole or not at all",
        "commands": "show commands, too; a command may hold secrets",
    },
)
def report(call: Call, html: str | None = None, commands: bool = False) -> None:
    """Probe the nodes and report on them and the recent runs: as Markdown, or a page.

    The Markdown goes to the step's summary where GITHUB_STEP_SUMMARY is set, else to stdout, unless
    a file was asked for. Unhealthy nodes are no failure here: `inv health` is the check.
    """
    from gridops.render.markdown import report as markdown
    from gridops.render.overview import without_commands
    from gridops.tasks._monitor import Monitor, Selection

    monitor = Monitor(Selection(call.inventory, *call.selected_by), every=0.0)
    overview = _overview(monitor.round())
    if not commands:
        overview = without_commands(overview)
    if html is not None:
        from gridops.render.page import render_page

        write_file(html, render_page(overview, live=False))
        say(f"written: {html}")
    summary = os.environ.get(SUMMARY_VARIABLE)
    if summary:
        _append(Path(summary), markdown(overview))
    elif html is None:
        show(markdown(overview).rstrip("\n"))


def _overview(last: Round) -> Overview:
    """The round and the store's history; a store that cannot be read is a warning."""
    from gridops.observe.store import Store
    from gridops.render.overview import RECENT_RUNS, Overview
    from gridops.render.trends import TREND_MAX_AGE

    history: dict[str, list[Sample]] = {}
    runs: list[RunRow] = []
    warning = last.warning
    try:
        history = Store().samples(time.time() - TREND_MAX_AGE)
        runs = Store().runs(limit=RECENT_RUNS)
    except StoreError as exc:
        warning = warning or str(exc)
    return Overview(
        inventory=last.inventory,
        at=last.at,
        every=0.0,
        elapsed=last.elapsed,
        nodes=last.nodes,
        history=_with_now(history, last),
        runs=tuple(runs),
        jobs=last.jobs,
        warning=warning,
    )


def _with_now(history: Mapping[str, list[Sample]], last: Round) -> dict[str, list[Sample]]:
    """Add this round to the history: the store hears of it when this process ends."""
    from gridops.observe.rows import sample_of
    from gridops.probe.figures import record_of

    return {
        health.node.name: [
            *history.get(health.node.name, ()),
            sample_of(record_of(health, last.at)),
        ]
        for health in last.nodes
    }


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
    except OSError as exc:
        raise OutputError(f"cannot write {path} ({SUMMARY_VARIABLE}): {exc.strerror}") from exc
