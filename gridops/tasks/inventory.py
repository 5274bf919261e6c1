"""`inventory.*` and `trust`: the nodes of the grid, and their host keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridops.errors import GridError, InventoryError
from gridops.tasks._task import INVENTORY, SELECTION, Call, format_flag, grid_task
from gridops.tasks._terminal import say, show, show_table, track

if TYPE_CHECKING:
    from gridops.reach.hostkeys import HostKeys


@grid_task(flags=INVENTORY)
def check(call: Call) -> int:
    """Check the inventory file and list every problem. Exit 2 if there is one."""
    from gridops.inventory import find, problems
    from gridops.system import ownership

    if neighbour := ownership.neighbour():
        say(neighbour)
    try:
        grid = call.grid
    except InventoryError as exc:
        file = find(call.inventory)
        once = file is None or not file.is_file()  # a pipe, say
        for problem in [exc] if once else problems(call.inventory):
            show(str(problem))
        return exc.exit_status
    tags = ", ".join(sorted(grid.inventory.tags)) or "none"
    show(f"{call.source}: {len(grid.inventory.nodes)} nodes, tags: {tags}")
    return 0


@grid_task(name="list", flags=(*SELECTION, *format_flag("table", "json", "csv")))
def list_(call: Call) -> None:
    """List the selected nodes without connecting to them."""
    from gridops.render import documents, tables

    rows = [tables.node_row(node) for node in call.nodes]
    if call.format == "json":
        show(documents.to_json(documents.nodes_document(call.source, call.nodes)))
    elif call.format == "csv":
        show(tables.to_csv(tables.NODES_HEADER, rows))
    else:
        show_table(
            lambda: tables.align(tables.NODES_HEADER, rows),
            lambda: tables.table(tables.NODES_HEADER, rows),
        )


@grid_task()
def schema(call: Call) -> None:
    """Print the JSON Schema of inventory files, for editors."""
    del call
    from gridops.inventory import schema as inventory_schema
    from gridops.render import documents

    show(documents.to_json(inventory_schema()))


@grid_task(
    flags=SELECTION,
    help={
        "dry_run": "show the fingerprints; add nothing",
        "replace": "replace a known key by the node's new one",
    },
)
def trust(call: Call, dry_run: bool = False, replace: bool = False) -> int:
    """Show the selected nodes' host keys and add them to known_hosts."""
    grid = call.grid
    scanned = list(track(grid.scan_host_keys(call.nodes), len(call.nodes), "host keys read:"))
    status = 0
    order = [node.name for node in call.nodes]
    for outcome in sorted(scanned, key=lambda o: order.index(o.node.name)):
        if outcome.value is None:
            say(str(outcome.error))
            status = 125
            continue
        status = max(status, _trust(outcome.value, dry_run, replace))
    return status


def _trust(found: HostKeys, dry_run: bool, replace: bool) -> int:
    """Show a node's host keys and add them to known_hosts.

    A dry run only shows them.
    """
    from gridops.reach import hostkeys

    for key in found.keys:
        show(f"{found.node}: {key.type} {key.fingerprint} ({key.host}: {key.state})")
    if dry_run:
        return 0
    try:
        added = hostkeys.add(found, replace=replace)
    except GridError as exc:
        say(str(exc))
        return exc.exit_status
    say(f"{found.node}: {f'added to {found.file}' if added else 'known already'}")
    return 0
