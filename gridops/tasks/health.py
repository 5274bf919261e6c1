"""`health` and `best`: which nodes are there, and which is the one to use."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from gridops.errors import UsageError
from gridops.tasks import _values
from gridops.tasks._crowd import EACH, folds, say_folded
from gridops.tasks._task import SELECTION, Call, format_flag, grid_task
from gridops.tasks._terminal import (
    console,
    counted,
    is_terminal,
    say,
    show,
    show_rows,
    show_table,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gridops.model import NodeHealth
    from gridops.probe.score import Ranked


@grid_task(
    flags=(*SELECTION, *format_flag("table", "json", "csv")),
    help={
        "watch": "probe again every so many seconds until Ctrl-C",
        "each": EACH,
        "lenient": "exit 1 only if no node at all is healthy",
    },
)
def health(call: Call, watch: str | None = None, lenient: bool = False, each: bool = False) -> int:
    """Probe all selected nodes in parallel. Exit 1 if any is not healthy."""
    every = _values.seconds(watch, "watch")
    if every is not None:
        if call.format != "table":
            raise UsageError(f"--watch does not go with --format {call.format}")
        return _watch(call, every, each)
    began = time.monotonic()
    healths = _probe(call, progress=True)
    _print(call, healths, time.monotonic() - began, each)
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


def _print(call: Call, healths: Sequence[NodeHealth], elapsed: float, each: bool) -> None:
    from gridops.render import documents, tables

    if call.format == "json":
        document = documents.health_document(call.source, elapsed, healths)
        show(documents.to_json(document))
    elif call.format == "csv":
        show(tables.to_csv(tables.HEALTH_CSV, map(tables.health_csv_row, healths)))
    elif folds(len(healths), each):
        from gridops.render import crowd

        show_rows(crowd.HEALTH_HEADER, crowd.health_rows(healths))
        say_folded(len(healths))
    else:
        show_table(
            lambda: tables.aligned(tables.HEALTH_HEADER, map(tables.health_row, healths)),
            lambda: tables.health_table(healths, console(sys.stdout).width),
        )


def _watch(call: Call, every: float, each: bool) -> int:
    """The table again and again: in place on a terminal, one after the other elsewhere."""
    if not is_terminal(sys.stdout):
        while True:
            began = time.monotonic()
            healths = _probe(call, progress=False)
            show(f"-- {datetime.now().astimezone().isoformat(timespec='seconds')}")
            _print(call, healths, time.monotonic() - began, each)
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
                shown = _live(healths, live.console.width, each)
                live.update(Group(shown, Text(said, style="dim")), refresh=True)
                time.sleep(max(0.0, began + every - time.monotonic()))
    except KeyboardInterrupt:
        return 0


def _live(healths: Sequence[NodeHealth], width: int, each: bool) -> RenderableType:
    from gridops.render import crowd, tables

    if folds(len(healths), each):
        return tables.table(crowd.HEALTH_HEADER, crowd.health_rows(healths))
    return tables.health_table(healths, width)


@grid_task(
    flags=(*SELECTION, *format_flag("table", "json")),
    help={
        "explain": "rank all nodes, with the reason of each place",
        "gpus": "the best for a run that needs so many free GPUs",
    },
)
def best(call: Call, explain: bool = False, gpus: str | None = None) -> int:
    """Print the best node's name alone on stdout. Exit 1 if none can take a run."""
    from gridops.render import documents, tables

    needed = _values.count(gpus, "gpus")
    ranking = call.grid.rank(call.nodes, needed)
    first = ranking[0]
    if call.format == "json":
        show(documents.to_json(documents.ranking_document(ranking)))
    elif explain:
        show_table(
            lambda: tables.aligned(tables.RANKING_HEADER, map(tables.ranking_row, ranking)),
            lambda: tables.table(tables.RANKING_HEADER, map(tables.ranking_row, ranking)),
        )
    elif first.serves:
        show(first.health.node.name)
    for doubt in _doubts(ranking, needed):
        say(doubt)
    return 0 if first.serves else 1


def _doubts(ranking: Sequence[Ranked], gpus: int) -> Iterator[str]:
    """What keeps the best node from being a good one."""
    from gridops.probe.capacity import explained

    first, health = ranking[0], ranking[0].health
    if health.state == "unreachable":
        yield "no selected node can be reached (`inv health` says why)"
    elif not first.serves:
        many = f"{gpus} GPU{'s' * (gpus > 1)}"
        yield f"no node that can be reached has {many} (`inv health` shows them)"
    elif health.state == "degraded":
        others = any(ranked.health.state == "healthy" for ranked in ranking)
        why = "no healthy node has room" if others else "no node is healthy"
        reasons = "; ".join(health.reasons)
        yield f"warning: {why}; {health.node.name} is the least loaded ({reasons})"
    if first.fits == "later" and first.serves:
        why = "; ".join(explained(health, gpus)) or "its GPUs could not be read"
        yield f"warning: a run would have to wait on {health.node.name}: {why}"
