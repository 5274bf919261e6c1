"""`history`: the runs from here, with node, time and outcome."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gridops.errors import UnknownNameError, UsageError
from gridops.tasks import _parse
from gridops.tasks._task import SELECTION, Call, format_flag, grid_task
from gridops.tasks._terminal import drawing_width, say, show, show_lines, show_table, speaks_unicode

if TYPE_CHECKING:
    from gridops.observe.rows import RunRow
    from gridops.observe.store import Store
    from gridops.render.history import Line

MAX_SEARCHED = 100_000  # runs that are looked through for those of some nodes


@grid_task(
    flags=(*SELECTION, *format_flag("table", "json", "csv")),
    optional=["plot"],
    help={
        "limit": "show the newest N runs (default: 20)",
        "since": "only what began within this time: 12h, 7d (a plot of nodes: 6h)",
        "plot": "plot the runs' duration (default), or the nodes' load, cpu, memory or gpu",
    },
)
def history(
    call: Call, limit: str = "20", since: str | None = None, plot: str | None = None
) -> None:
    """List or plot the runs from this machine, or plot nodes' load."""
    from gridops.observe.store import Store
    from gridops.render import documents
    from gridops.render import history as render
    from gridops.render.tables import align, table, to_csv

    age, count, drawn = _parse.seconds(since, "since"), _count(limit), _plot(plot)
    if drawn and call.format != "table":
        raise UsageError(f"--plot does not go with --format {call.format}")
    store, now = Store(), time.time()
    if drawn and drawn != "durations":
        _show_drawing(_loads(call, store, drawn, now, age or 6 * 3600.0))
        return
    runs = _runs(call, store, count, 0.0 if age is None else now - age)
    if call.format == "json":
        show(documents.to_json(render.history_document(runs)))
    elif call.format == "csv":
        show(to_csv(render.HISTORY_CSV, map(render.csv_row, runs)))
    elif not runs:
        say("no runs are recorded; start one by `inv run --cmd …`")
    elif drawn:
        ascii = not speaks_unicode(sys.stdout)
        _show_drawing(render.durations(runs, now, drawing_width(), ascii=ascii))
    else:
        rows = [render.row(run, now) for run in runs]
        show_table(
            lambda: align(render.HISTORY_HEADER, rows), lambda: table(render.HISTORY_HEADER, rows)
        )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise UsageError(f"--limit {text!r} is not a number of runs", hint="such as 20")
    return int(text)


def _plot(text: str | bool | None) -> str | None:
    from gridops.render.history import PLOTS

    if text is None or text is False:
        return None
    name = "durations" if text is True else str(text)
    if name not in PLOTS:
        raise UnknownNameError("plot", name, PLOTS)
    return name


def _runs(call: Call, store: Store, count: int, begin: float) -> Sequence[RunRow]:
    if not call.narrowed:
        return store.runs(count, begin)
    names = {node.name for node in call.nodes}
    return [run for run in store.runs(MAX_SEARCHED, begin) if run.node in names][:count]


def _loads(call: Call, store: Store, what: str, now: float, age: float) -> Sequence[Line]:
    from gridops.render.history import loads

    found = store.samples(now - age)
    if call.narrowed:
        found = {node.name: found[node.name] for node in call.nodes if node.name in found}
    if not found:
        return ()
    ascii = not speaks_unicode(sys.stdout)
    return loads(found, what, now - age, now, drawing_width(), ascii=ascii)


def _show_drawing(lines: Sequence[Line]) -> None:
    if not lines:
        say("nothing is recorded of these nodes in that time; `inv health` records them")
        return
    show_lines([line.pieces for line in lines])
