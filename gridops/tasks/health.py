"""`health` and `best`: the state of the nodes, and the one to use."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from gridops.errors import UnknownNameError, UsageError
from gridops.tasks import _parse
from gridops.tasks._task import SELECTION, Call, format_flag, grid_task
from gridops.tasks._terminal import (
    EACH,
    is_terminal,
    make_console,
    say,
    say_folded,
    should_fold,
    show,
    show_rows,
    show_table,
    track,
)

if TYPE_CHECKING:
    from gridops.model import NodeHealth
    from gridops.probe.score import Ranked

WATCH_INTERVAL = 5.0  # seconds between two rounds of --watch
SORTS = ("inventory", "score", "name")


@grid_task(
    flags=(*SELECTION, *format_flag("table", "json", "csv")),
    optional=["watch"],
    help={
        "watch": "probe again every N seconds (default: 5) until Ctrl-C",
        "sort": "inventory | score | name (default: inventory, with --watch score)",
        "each": EACH,
        "lenient": "exit 1 only if no node is healthy",
    },
)
def health(
    call: Call,
    watch: str | None = None,
    sort: str | None = None,
    lenient: bool = False,
    each: bool = False,
) -> int:
    """Probe all selected nodes in parallel. Exit 1 if any is not healthy."""
    every = WATCH_INTERVAL if _bare(watch) else _parse.seconds(watch, "watch")
    order = sort or ("inventory" if every is None else "score")
    if order not in SORTS:
        raise UnknownNameError("order", order, SORTS)
    if every is not None:
        if call.format != "table":
            raise UsageError(f"--watch does not go with --format {call.format}")
        return _again_and_again(call, every, order, each)
    began = time.monotonic()
    healths = _sort(_probe(call, progress=True), order)
    _print(call, healths, time.monotonic() - began, each)
    good = sum(h.state == "healthy" for h in healths)
    return 0 if good == len(healths) or (lenient and good) else 1


def _bare(flag: object) -> bool:
    """True if a flag with an optional value came without one."""
    return flag is True


def _sort(healths: Sequence[NodeHealth], order: str) -> Sequence[NodeHealth]:
    """Sort from the inventory's order to another."""
    if order == "name":
        return sorted(healths, key=lambda health: health.node.name)
    if order == "score":
        from gridops.probe.score import rank

        return [one.health for one in rank(healths)]
    return healths


def _probe(call: Call, *, progress: bool) -> Sequence[NodeHealth]:
    """Every node's health, in the inventory's order."""
    nodes = call.nodes
    arriving = call.grid.health(nodes)
    if progress:
        arriving = track(arriving, len(nodes), "nodes that have answered:")
    found = {h.node.name: h for h in arriving}
    return [found[node.name] for node in nodes]


def _print(call: Call, healths: Sequence[NodeHealth], elapsed: float, each: bool) -> None:
    from gridops.render import documents, tables

    if call.format == "json":
        document = documents.health_document(call.source, elapsed, healths)
        show(documents.to_json(document))
    elif call.format == "csv":
        show(tables.to_csv(tables.HEALTH_CSV, map(tables.health_csv_row, healths)))
    elif should_fold(len(healths), each):
        from gridops.render import folding

        show_rows(folding.HEALTH_GROUP_HEADER, folding.health_rows(healths))
        say_folded(len(healths))
    else:
        show_table(
            lambda: tables.align(*tables.health_columns(healths)),
            lambda: tables.health_table(healths, make_console(sys.stdout).width),
        )


def _again_and_again(call: Call, every: float, sort: str, each: bool) -> int:
    """Probe until Ctrl-C: in place on a terminal, one table after the other elsewhere."""
    if is_terminal(sys.stdout):
        from gridops.tasks._watch import watch

        return watch(call.grid, call.nodes, every, sort)
    while True:
        began = time.monotonic()
        healths = _sort(_probe(call, progress=False), sort)
        show(f"-- {datetime.now().astimezone().isoformat(timespec='seconds')}")
        _print(call, healths, time.monotonic() - began, each)
        time.sleep(max(0.0, began + every - time.monotonic()))


@grid_task(
    flags=(*SELECTION, *format_flag("table", "json")),
    help={
        "explain": "rank all nodes, with the reason for each place",
        "gpus": "the best node for a run that needs N free GPUs",
    },
)
def best(call: Call, explain: bool = False, gpus: str | None = None) -> int:
    """Print the best node's name alone on stdout. Exit 1 if none can take a run."""
    from gridops.render import documents, tables

    needed = _parse.count(gpus, "gpus")
    ranking = call.grid.rank(call.nodes, needed)
    first = ranking[0]
    if call.format == "json":
        show(documents.to_json(documents.ranking_document(ranking)))
    elif explain:
        show_table(
            lambda: tables.align(tables.RANKING_HEADER, map(tables.ranking_row, ranking)),
            lambda: tables.table(tables.RANKING_HEADER, map(tables.ranking_row, ranking)),
        )
    elif first.serves:
        show(first.health.node.name)
    for doubt in _doubts(ranking, needed):
        say(doubt)
    return 0 if first.serves else 1


def _doubts(ranking: Sequence[Ranked], gpus: int) -> Iterator[str]:
    """Warnings about the best node: unreachable, degraded, or without room now."""
    from gridops.probe.capacity import explain

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
        why = "; ".join(explain(health, gpus)) or "its GPUs could not be read"
        yield f"warning: a run would have to wait on {health.node.name}: {why}"
