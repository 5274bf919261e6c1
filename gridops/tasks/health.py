"""`health` and `best`: which nodes are there, and which is the one to use."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from gridops.errors import UsageError
from gridops.tasks import _values
from gridops.tasks._task import SELECTION, Call, format_flag, grid_task
from gridops.tasks._terminal import console, counted, is_terminal, say, show, show_table

if TYPE_CHECKING:
    from gridops.model import NodeHealth


@grid_task(
    flags=(*SELECTION, *format_flag("table", "json", "csv")),
    help={
        "watch": "probe again every so many seconds until Ctrl-C",
        "lenient": "exit 1 only if no node at all is healthy",
    },
)
def health(call: Call, watch: str | None = None, lenient: bool = False) -> int:
    """Probe all selected nodes in parallel. Exit 1 if any is not healthy."""
    every = _values.seconds(watch, "watch")
    if every is not None:
        if call.format != "table":
            raise UsageError(f"--watch does not go with --format {call.format}")
        return _watch(call, every)
    began = time.monotonic()
    healths = _probe(call, progress=True)
    _print(call, healths, time.monotonic() - began)
    good = sum(h.state == "healthy" for h in healths)
    return 0 if good == len(healths) or (lenient and good) else 1


def _probe(call: Call, *, progress: bool) -> Sequence[NodeHealth]:
    """Every node's health, in the inventory's order."""
    nodes = call.nodes
    arriving = call.grid.health(nodes)
    if progress:
        arriving = counted(arriving, len(nodes), "nodes that have answered:")
    found = {h.node.name: h for h in arriving}
    return [found[node.name] for node in nodes]


def _print(call: Call, healths: Sequence[NodeHealth], elapsed: float) -> None:
    from gridops.render import documents, tables

    if call.format == "json":
        document = documents.health_document(call.source, elapsed, healths)
        show(documents.to_json(document))
    elif call.format == "csv":
        show(tables.to_csv(tables.HEALTH_CSV, map(tables.health_csv_row, healths)))
    else:
        show_table(
            lambda: tables.aligned(*tables.health_columns(healths)),
            lambda: tables.health_table(healths, console(sys.stdout).width),
        )


def _watch(call: Call, every: float) -> int:
    """The table again and again: in place on a terminal, one after the other elsewhere."""
    from gridops.render import tables

    if not is_terminal(sys.stdout):
        while True:
            began = time.monotonic()
            healths = _probe(call, progress=False)
            show(f"-- {datetime.now().astimezone().isoformat(timespec='seconds')}")
            _print(call, healths, time.monotonic() - began)
            time.sleep(max(0.0, began + every - time.monotonic()))
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    try:
        with Live(console=console(sys.stdout), auto_refresh=False) as live:
            while True:
                began = time.monotonic()
                healths = _probe(call, progress=False)
                said = f"{datetime.now():%H:%M:%S}  every {every:g} s, Ctrl-C ends"
                live.update(
                    Group(
                        tables.health_table(healths, live.console.width), Text(said, style="dim")
                    ),
                    refresh=True,
                )
                time.sleep(max(0.0, began + every - time.monotonic()))
    except KeyboardInterrupt:
        return 0


@grid_task(
    flags=(*SELECTION, *format_flag("table", "json")),
    help={"explain": "rank all nodes, with the reason of each place"},
)
def best(call: Call, explain: bool = False) -> int:
    """Print the best node's name alone on stdout. Exit 1 if none can be reached."""
    from gridops.render import documents, tables

    ranking = call.grid.rank(call.nodes)
    first = ranking[0].health
    if call.format == "json":
        show(documents.to_json(documents.ranking_document(ranking)))
    elif explain:
        show_table(
            lambda: tables.aligned(tables.RANKING_HEADER, map(tables.ranking_row, ranking)),
            lambda: tables.table(tables.RANKING_HEADER, map(tables.ranking_row, ranking)),
        )
    elif first.state != "unreachable":
        show(first.node.name)
    if first.state == "unreachable":
        say("no selected node can be reached (`inv health` says why)")
        return 1
    if first.state == "degraded":
        why = "; ".join(first.reasons)
        say(f"warning: no node is healthy; {first.node.name} is the least loaded ({why})")
    return 0
