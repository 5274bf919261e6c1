"""`cluster.install`, `cluster.start`, `cluster.stop`, `cluster.status`: Ray on the nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.errors import ClusterFailures
from gridops.observe import events
from gridops.tasks import _parse
from gridops.tasks._task import SELECTION, Call, format_flag, grid_task
from gridops.tasks._terminal import say, show, show_table

if TYPE_CHECKING:
    from gridops.errors import GridError
    from gridops.model import Outcome
    from gridops.ray.model import Installed

CLUSTER_EVENTS = (events.CLUSTER_STEP, events.CLUSTER_PROGRESS, events.WARNING)


@grid_task(
    flags=SELECTION,
    help={
        "wheelhouse": "a local directory of wheels, for nodes that reach no package index",
        "timeout": "time limit for one node: 90, 10m, 1h30m",
    },
)
def install(call: Call, wheelhouse: str | None = None, timeout: str = "30m") -> int:
    """Install the inventory's Ray on the selected nodes, in its own environment."""
    limit = _parse.seconds(timeout, "timeout") or 0.0
    wheels = Path(wheelhouse).expanduser() if wheelhouse is not None else None
    with call.narrate(only=CLUSTER_EVENTS):
        arriving = call.grid.install_ray(call.nodes, wheelhouse=wheels, timeout=limit)
        outcomes = [_report(outcome) for outcome in arriving]
    return _conclude(outcome.error for outcome in outcomes)


def _report(outcome: Outcome[Installed]) -> Outcome[Installed]:
    done = outcome.value
    if done:
        how = f"installed in {done.seconds:.1f} s" if done.fresh else "there already"
        say(f"{outcome.node.name}: Ray {done.ray}, Python {done.python}: {how}")
    return outcome


@grid_task(
    flags=SELECTION,
    help={
        "timeout": "time limit until the cluster counts every node: 90, 10m, 1h30m",
        "restart": "stop the parts that run first, and the jobs with them",
    },
)
def start(call: Call, timeout: str = "2m", restart: bool = False) -> int:
    """Start the Ray cluster, or its missing parts, on the selected nodes; the head first."""
    limit = _parse.seconds(timeout, "timeout") or 0.0
    try:
        with call.narrate(only=CLUSTER_EVENTS):
            done = call.grid.start_ray(call.nodes, timeout=limit, restart=restart)
    except ClusterFailures as exc:
        return _conclude(exc.failures)
    news = f"{len(done.launched)} started" if done.launched else "all ran already"
    say(f"the cluster at {done.address} has {done.nodes} nodes, {news} in {done.seconds:.1f} s")
    return 0


@grid_task(
    flags=SELECTION,
    help={
        "grace": "time for processes to end by themselves before KILL: 90, 10m, 1h30m",
        "keep_logs": "leave Ray's logs on the nodes",
    },
)
def stop(call: Call, grace: str = "10", keep_logs: bool = False) -> int:
    """Stop Ray on the selected nodes, workers first: only what gridops started."""
    mercy = round(_parse.seconds(grace, "grace") or 0.0)
    with call.narrate(only=CLUSTER_EVENTS):
        outcomes = list(call.grid.stop_ray(call.nodes, grace=mercy, keep_logs=keep_logs))
    for outcome in outcomes:
        if outcome.value and outcome.value.logs:
            say(f"{outcome.node.name}: logs: {outcome.value.logs}")
    if not any(o.error or (o.value and o.value.processes) for o in outcomes):
        say("nothing ran")
    return _conclude(outcome.error for outcome in outcomes)


@grid_task(flags=(*SELECTION, *format_flag("table", "json")))
def status(call: Call) -> int:
    """Compare the Ray cluster with the inventory. Exit 1 when they differ."""
    from gridops.render import cluster, documents, tables

    found = call.grid.ray_status(call.nodes)
    if call.format == "json":
        show(documents.to_json(cluster.document(call.source, found)))
    else:
        rows = [cluster.node_row(node) for node in found.nodes]
        show_table(
            lambda: tables.align(cluster.CLUSTER_HEADER, rows),
            lambda: tables.table(cluster.CLUSTER_HEADER, rows),
        )
        for line in cluster.summary(found):
            say(line)
    return 0 if found.state == "whole" else 1


def _conclude(errors: Iterable[GridError | None]) -> int:
    """Report the errors, those that several nodes share in one line; returns the exit status."""
    from gridops.render.folding import error_lines

    wrong: Sequence[GridError] = [error for error in errors if error]
    for line in error_lines(wrong):
        say(line)
    return max((error.exit_status for error in wrong), default=0)
