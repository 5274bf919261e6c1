"""`pool.*`: the shared SSH connections (control masters)."""

from __future__ import annotations

import time

from gridops.tasks._task import SELECTION, Call, format_flag, grid_task
from gridops.tasks._terminal import counted, say, show, show_table


@grid_task(name="open", flags=SELECTION)
def open_(call: Call) -> int:
    """Open the connections to the selected nodes ahead, so that the next task finds them."""
    from gridops.render.folding import failures

    nodes = [node for node in call.nodes if node.connection == "ssh"]
    outcomes = list(counted(call.grid.open_pool(nodes), len(nodes), "connections open:"))
    for line in failures(outcomes):
        say(line)
    good = sum(outcome.ok for outcome in outcomes)
    say(f"{good} of {len(nodes)} connections are open")
    return 0 if good == len(nodes) else 125


@grid_task(flags=SELECTION, help={"all": "of every inventory, not just of the selected nodes"})
def close(call: Call, all: bool = False) -> None:
    """Close the selected nodes' connections."""
    closed = call.grid.close_pool(None if all else call.nodes)
    say(f"closed {closed} connections")


@grid_task(flags=format_flag("table", "json"))
def status(call: Call) -> None:
    """List the connections that are open now."""
    from gridops.grid import pool
    from gridops.render import documents, tables
    from gridops.render.words import duration

    masters = pool()
    if call.format == "json":
        show(documents.to_json(documents.pool_document(masters)))
        return
    header = ("NODE", "TARGET", "PID", "OPEN FOR", "SOCKET")
    now = time.time()
    rows = [
        (m.node, m.target, str(m.pid), duration(now - m.opened), str(m.socket)) for m in masters
    ]
    show_table(lambda: tables.aligned(header, rows), lambda: tables.table(header, rows))
