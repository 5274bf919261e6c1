"""`run`, `exec` and `sync`: work on the nodes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gridops.errors import GridError, UsageError
from gridops.observe import events
from gridops.tasks import _parse
from gridops.tasks._parse import FETCH, OVERWRITE
from gridops.tasks._task import SELECTION, Call, format_flag, grid_task
from gridops.tasks._terminal import (
    EACH,
    say,
    say_folded,
    should_fold,
    show,
    show_rows,
    track,
    write_bytes,
)

if TYPE_CHECKING:
    from gridops.model import Node, Outcome, Reply, RunSpec, SyncReport

CMD_HELP = "the command, as shell text (or its words after --)"
ENV_HELP = "NAME=VALUE to set for the command; may be repeated"
TIMEOUT_HELP = "end the command after this long: 90, 10m, 1h30m (exit status 124)"
BARE_HELP = "do not run the nodes' env_setup"
SRC_HELP = "the tree to sync (default: this directory)"


@grid_task(
    flags=SELECTION,
    iterable=["env", "port", "fetch"],
    help={
        "cmd": CMD_HELP,
        "on": "run on this node and no other",
        "src": SRC_HELP,
        "sync": "do not sync: run in the tree of an earlier sync",
        "env": ENV_HELP,
        "timeout": TIMEOUT_HELP,
        "gpus": "number of free GPUs to lease for the run (CUDA_VISIBLE_DEVICES)",
        "wait": "wait in the queue this long when no slot is free: 30m (default: exit 125)",
        "isolate": "run in a snapshot of the tree that later syncs do not change",
        "fresh": "run in a new directory that holds nothing but the tree",
        "port": "[LOCAL:]REMOTE: forward a local port to this port of the node; may be repeated",
        "fetch": FETCH,
        "overwrite": OVERWRITE,
        "detach": "start the run, print its id and exit; `jobs.logs ID --follow` follows it",
        "give_up_after": "stop waiting for a node out of reach after this long (default: never)",
        "kill_on_exit": "end the run at SIGTERM or a closed terminal (default: leave it running)",
        "restart_lost": "run again when the node reboots or shuts down, or its supervisor dies",
        "log_cap": "keep at most this much of each stream on the node: 500M, 2G",
        "dry_run": "print the node, the reason and what would be synced; change nothing",
    },
)
def run(
    call: Call,
    cmd: str | None = None,
    on: str | None = None,
    src: str | None = None,
    sync: bool = True,
    env: Sequence[str] | None = None,
    timeout: str | None = None,
    gpus: str | None = None,
    wait: str | None = None,
    isolate: bool = False,
    fresh: bool = False,
    port: Sequence[str] | None = None,
    fetch: Sequence[str] | None = None,
    overwrite: bool = False,
    detach: bool = False,
    give_up_after: str | None = None,
    kill_on_exit: bool = False,
    restart_lost: bool = False,
    log_cap: str | None = None,
    dry_run: bool = False,
) -> int:
    """Run a command on the best node, in the synced tree; exit with its status.

    The run belongs to the node. When the connection breaks it goes on, and we reconnect. Ctrl-C
    ends the run; a second one, a closed terminal or SIGTERM leave it running.
    """
    flags = locals()
    from gridops.reach.pump import Sinks

    spec, nodes = _run_spec(**flags), _targets(call, on)
    with call.narrate():
        if dry_run:
            return _plan(call, spec, nodes)
        if detach:
            _refuse_to_leave(spec)
            show(call.grid.detach(spec, nodes).id)
            return 0
        output = Sinks(write_bytes(1), write_bytes(2))
        return call.grid.run(spec, output, nodes=nodes).status


def _run_spec(
    cmd: str | None,
    src: str | None,
    sync: bool,
    env: Sequence[str] | None,
    port: Sequence[str] | None,
    fetch: Sequence[str] | None,
    **flags: Any,
) -> RunSpec:
    """The run that the flags of `run` ask for. Raises UsageError."""
    from gridops.model import RunSpec

    return RunSpec(
        command=_parse.command(cmd, "run"),
        src=_parse.tree(src, "name it by --src, or give --no-sync") if sync else src or ".",
        sync=sync,
        env=_parse.visible_gpus(_parse.environment(env or ()), flags["gpus"]),
        timeout=_parse.seconds(flags["timeout"], "timeout"),
        gpus=_parse.count(flags["gpus"], "gpus"),
        wait=_parse.seconds(flags["wait"], "wait"),
        isolate=flags["isolate"],
        fresh=_parse.fresh(flags["fresh"], sync),
        ports=_parse.ports(port or ()),
        fetch=_parse.patterns(fetch or ()),
        overwrite=flags["overwrite"],
        log_cap=_parse.size(flags["log_cap"], "log-cap"),
        give_up_after=_parse.seconds(flags["give_up_after"], "give-up-after"),
        kill_on_exit=flags["kill_on_exit"],
        restart_lost=flags["restart_lost"],
    )


def _refuse_to_leave(spec: RunSpec) -> None:
    if spec.ports:
        raise UsageError("--port needs an attached run", hint="leave out --detach")
    for flag in ("kill_on_exit", "give_up_after", "restart_lost"):
        if getattr(spec, flag):
            name = flag.replace("_", "-")
            raise UsageError(f"--{name} needs an attached run", hint="leave out --detach")
    if spec.fetch:
        raise UsageError(
            "--fetch needs an attached run",
            hint="fetch later: `inv jobs.wait ID --fetch PATTERN`, or `inv jobs.fetch ID PATTERN`",
        )


def _targets(call: Call, on: str | None) -> tuple[Node, ...]:
    if on is None:
        return call.nodes
    from gridops.inventory.nodeset import fold

    node = call.grid.inventory.node(on)
    if node not in call.nodes:
        selected = fold(one.name for one in call.nodes)
        raise UsageError(f"--on {on} is not among the selected nodes", hint=f"valid: {selected}")
    return (node,)


def _plan(call: Call, spec: RunSpec, nodes: Sequence[Node]) -> int:
    """Print the plan of a run; nothing on any node changes."""
    choice = call.grid.candidates(nodes, spec.gpus)
    first = choice[0]
    say(f"would run on {first.node.name}: {first.reason}")
    if spec.sync and spec.src:
        for outcome in call.grid.sync(spec.src, [first.node], dry_run=True):
            if outcome.error:
                raise outcome.error
            if outcome.value:
                _print_plan(outcome.value)
    say(f"would run: {spec.command}")
    if len(choice) > 1:
        others = ", ".join(c.node.name for c in choice[1:6])
        say(f"if that node cannot take it: {others}{', …' if len(choice) > 6 else ''}")
    return 0


@grid_task(
    name="exec",
    flags=(*SELECTION, *format_flag("table", "json")),
    iterable=["env"],
    help={"cmd": CMD_HELP, "env": ENV_HELP, "timeout": TIMEOUT_HELP, "bare": BARE_HELP},
)
def exec_(
    call: Call,
    cmd: str | None = None,
    env: Sequence[str] | None = None,
    timeout: str | None = None,
    bare: bool = False,
) -> int:
    """Run a command on every selected node at once; identical output is shown once.

    The exit status is the largest of the nodes'.
    """
    from gridops.model import RunSpec
    from gridops.render import documents

    spec = RunSpec(
        command=_parse.command(cmd, "exec"),
        env=_parse.environment(env or ()),
        timeout=_parse.seconds(timeout, "timeout"),
    )
    nodes, form = call.nodes, call.format
    if bare:
        nodes = tuple(replace(node, env_setup="") for node in nodes)
    outcomes = _gather(call, spec, nodes)
    if form == "json":
        show(documents.to_json(documents.exec_document(spec.command, outcomes)))
    else:
        _print_folded(outcomes)
    return max(documents.exec_status(outcome) for outcome in outcomes)


def _gather(call: Call, spec: RunSpec, nodes: Sequence[Node]) -> Sequence[Outcome[Reply]]:
    """Every node's outcome, in the inventory's order; Ctrl-C ends the commands first."""
    from gridops.system.signals import Cancel, cancel_on_signals

    stop = Cancel()
    with cancel_on_signals(stop, lambda name: say(f"{name}: asking the nodes to stop the command")):
        arriving = call.grid.exec(spec, nodes, stop=stop)
        found = {o.node.name: o for o in track(arriving, len(nodes), "nodes that have ended:")}
    return [found[node.name] for node in nodes]


def _print_folded(outcomes: Sequence[Outcome[Reply]]) -> None:
    from gridops.render.folding import block, failures, fold_replies

    alone = len(outcomes) == 1
    out, err = write_bytes(1), write_bytes(2)
    for names, count, outcome in fold_replies(outcomes):
        reply = outcome.value
        if reply is None:
            continue
        for data, write in ((reply.stdout, out), (reply.stderr, err)):
            if data:
                write(data if alone else block(names, count, reply.status, data))
        if reply.status and not alone and not reply.stdout and not reply.stderr:
            say(f"{names}: exit status {reply.status}")
    for line in failures(outcomes):
        say(line)


@grid_task(
    flags=(*SELECTION, *format_flag("table", "json")),
    help={"src": SRC_HELP, "dry_run": "list what would change; transfer nothing", "each": EACH},
)
def sync(call: Call, src: str | None = None, dry_run: bool = False, each: bool = False) -> int:
    """Sync the tree to the selected nodes: send what changed, delete what is gone."""
    from gridops.render import documents

    path = _parse.tree(src, "name it by --src")
    nodes, form = call.nodes, call.format
    alone = (events.SYNC_PROGRESS,) if len(nodes) == 1 else ()  # else the nodes are counted
    with call.narrate(only=(events.WARNING, events.RETRY, *alone)):
        arriving = track(
            call.grid.sync(path, nodes, dry_run=dry_run), len(nodes), "synced", of="nodes"
        )
        found = {o.node.name: o for o in arriving}
    outcomes = [found[node.name] for node in nodes]
    if form == "json":
        show(documents.to_json(documents.sync_document(outcomes)))
    else:
        _print_reports(outcomes, dry_run, each)
    return max((_status(o.error) for o in outcomes), default=0)


def _status(error: GridError | None) -> int:
    return error.exit_status if error else 0


def _print_reports(outcomes: Sequence[Outcome[SyncReport]], dry_run: bool, each: bool) -> None:
    from gridops.render import folding, tables

    reports = [o.value for o in outcomes if o.value]
    if dry_run:
        for report in reports:
            _print_plan(report)
    elif should_fold(len(reports), each):
        show_rows(folding.SYNC_GROUP_HEADER, folding.sync_rows(reports))
        say_folded(len(reports))
    elif reports:
        show_rows(tables.SYNC_HEADER, [tables.sync_row(report) for report in reports])
    for line in folding.failures(outcomes):
        say(line)


def _print_plan(report: SyncReport) -> None:
    """Print the plan of a sync on stdout: + new, ~ changed, - deleted."""
    from gridops.system.text import plain

    for sign, paths in (("+", report.added), ("~", report.changed), ("-", report.deleted)):
        for path in paths:
            show(f"{report.node.name}: {sign} {plain(path)}")
    changes = len(report.added), len(report.changed), len(report.deleted)
    sys.stdout.flush()
    say(
        f"{report.node.name}: would add {changes[0]}, change {changes[1]}, delete {changes[2]}"
        f" of {report.total_files} files in {report.target}"
    )
