"""`pool.*`: the shared SSH connections (control masters)."""

from __future__ import annotations

import time

from gridops.tasks._task import SELECTION, Call, format_flag, grid_task
from gridops.tasks._terminal import say, show, show_table, track


@grid_task(name="open", flags=SELECTION)
def open_(call: Call) -> int:
    """Open the connections to the selected nodes ahead of the next task."""
    from gridops.render.folding import failures

    nodes = [node for node in call.nodes if node.connection == "ssh"]
    outcomes = list(track(call.grid.open_pool(nodes), len(nodes), "connections open:"))
    for line in failures(outcomes):
        say(line)
    good = sum(outcome.ok for outcome in outcomes)
    say(f"{good} of {len(nodes)} connections are open")
    return 0 if good == len(nodes) else 125


@grid_task(flags=SELECTION, help={"all": "close the connections of every inventory"})
def close(call: Call, all: bool = False) -> None:
    """Close the selected nodes' connections."""
    from gridops.reach import pool

    say(f"closed {pool.close() if all else call.grid.close_pool(call.nodes)} connections")


@grid_task(flags=format_flag("table", "json"))
def status(call: Call) -> None:
    """List the connections that are open now."""
    from gridops.reach import pool
    from gridops.render import documents, tables
    from gridops.render.units import duration
    from gridops.system.text import plain

    masters = pool.status()
    if call.format == "json":
        show(documents.to_json(documents.pool_document(masters)))
        return
    header = ("NODE", "TARGET", "STATE", "PID", "IN USE", "OPEN FOR")
    now = time.time()
    rows = [
        (
            plain(m.node),
            plain(m.target),
            "open" if m.answers else "hangs",
            str(m.pid or "-"),
            "-" if m.sessions is None else str(m.sessions),
            duration(now - m.opened),
        )
        for m in masters
    ]
    show_table(lambda: tables.align(header, rows), lambda: tables.table(header, rows))
