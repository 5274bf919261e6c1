"""`sandbox.*`: real sshd nodes on this machine, to try gridops and to test with."""

from __future__ import annotations

from pathlib import Path

from gridops.errors import UsageError
from gridops.tasks._task import Call, format_flag, grid_task
from gridops.tasks._terminal import say, show, show_table

DIR = {"dir": "the directory of its files (default: .sandbox here)"}


@grid_task(help={"nodes": "number of nodes", **DIR})
def up(call: Call, nodes: str = "3", dir: str | None = None) -> None:
    """Start real sshd nodes on this machine and print their inventory's path."""
    del call
    from gridops.sandbox import Sandbox

    if not nodes.isdecimal() or not 1 <= int(nodes) <= 200:
        raise UsageError(f"--nodes {nodes!r} is not a number from 1 to 200")
    sandbox = Sandbox.up(dir, int(nodes))
    for node in sandbox.nodes:
        say(f"{node.name}: sshd on {node.host}:{node.port}, home {node.home}")
    say(f"try: inv health --inventory {sandbox.inventory}")
    show(str(sandbox.inventory))


@grid_task(flags=format_flag("table", "json"), help=DIR)
def status(call: Call, dir: str | None = None) -> int:
    """List the sandbox's nodes and their state. Exit 1 if one does not run."""
    from gridops.render import documents, tables
    from gridops.sandbox import Sandbox

    sandbox = Sandbox.load(dir)
    nodes = sandbox.status()
    header = ("NODE", "ADDRESS", "STATE", "HOME")
    if call.format == "json":
        show(documents.to_json(documents.sandbox_document(str(sandbox.inventory), nodes)))
    else:
        rows = [
            (n.name, f"{n.host}:{n.port}", "running" if n.running else "stopped", str(n.home))
            for n in nodes
        ]
        show_table(lambda: tables.align(header, rows), lambda: tables.table(header, rows))
    return 0 if all(node.running for node in nodes) else 1


@grid_task(help=DIR)
def down(call: Call, dir: str | None = None) -> None:
    """Stop the sandbox's nodes and remove its files."""
    del call
    from gridops.sandbox import Sandbox, default_root

    root = Path(dir) if dir else default_root()
    gone = Sandbox(root).down()
    say(f"{root}: {'everything is gone' if gone else 'there was no sandbox'}")
