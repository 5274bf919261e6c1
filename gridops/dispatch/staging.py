"""Staging: bring a run's tree to its node without changing another run's tree.

A node that holds a slot for the run gets the tree in the project's directory there, unless another
run uses that and the tree would change it. Then, and where the run waits in the node's line, the
tree goes to a directory of the run's own, where it stays as it was when the run was asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from gridops.errors import GridError, NotStarted
from gridops.jobs import client
from gridops.jobs.paths import JobPaths
from gridops.jobs.spec import Acknowledgement
from gridops.model import Node, SyncReport
from gridops.observe import events
from gridops.reach.link import Link
from gridops.transfers.sync import sync_tree

if TYPE_CHECKING:
    from gridops.inventory.settings import Settings
    from gridops.transfers.sync import Tree

HOLD_LEASE = 30.0  # seconds that a node keeps our place, or a slot, without a word of us
CANCEL_TIMEOUT = 5.0  # seconds that a run which has not begun may take to be cancelled


def deliver(
    link: Link,
    reply: Acknowledgement,
    tree: Tree,
    settings: Settings,
    *,
    apart: bool = False,
    verify: Callable[[Tree], None] = lambda tree: None,
) -> SyncReport:
    """Bring `tree` to a node that holds a run for us.

    The node has acknowledged the run with a hold, which is kept up meanwhile. `apart`: to a
    directory of the run's own, whoever uses the project's. `verify` is called with the tree when it
    is there, and raises what keeps the run from beginning.

    What goes wrong, an interrupt too, cancels the run there: nothing of it is left. Raises what
    `sync_tree` raises, and NotStarted for a run that has ended by now.
    """
    try:
        with renewing(link, reply.id):
            reply = _as_it_is(link, reply)
            if apart or reply.state == "queued":
                report = _bring_apart(link, reply.id, tree, settings)
            else:
                report = _bring_run(link, reply, tree, settings)
            verify(tree)
            return report
    except BaseException:
        cancel_run(link, reply.id)
        raise


def cancel_run(link: Link, job_id: str) -> None:
    """End a run that waits for our word to begin; one out of reach gives up by itself."""
    with suppress(GridError):
        client.kill(link, job_id, grace=0, wait=CANCEL_TIMEOUT)


def _bring_run(link: Link, reply: Acknowledgement, tree: Tree, settings: Settings) -> SyncReport:
    if not reply.users:
        return sync_tree(link, tree, settings)
    plan = sync_tree(link, tree, settings, dry_run=True, exact=True)
    if not (plan.added or plan.changed or plan.deleted):
        return replace(plan, dry_run=False)
    report = _bring_apart(link, reply.id, tree, settings)
    events.emit(events.WARNING, message=_apart(link.node, reply, plan.target))
    return report


def _as_it_is(link: Link, reply: Acknowledgement) -> Acknowledgement:
    """Ask for the run's state where `reply` does not tell it.

    An acknowledgement got lost then, and the next one only said that the run is there. Raises
    NotStarted for a run that has ended.
    """
    if reply.state != "exists":
        return reply
    job = client.status(link, [reply.id]).get(reply.id)
    if job is None or job.state not in ("queued", "held"):
        raise NotStarted("the run was ended before it began", node=link.node.name)
    if job.state == "queued":
        return replace(reply, state="queued")
    return replace(reply, state="held", users=client.tree_users(link, reply.id))


def _bring_apart(link: Link, job_id: str, tree: Tree, settings: Settings) -> SyncReport:
    client.seed_tree(link, job_id)
    return sync_tree(link, tree, settings, own=JobPaths(job_id).tree)


def _apart(node: Node, reply: Acknowledgement, target: str) -> str:
    return (
        f"{node.name}: {_uses(reply.users)} {target}, which this tree would change: the run"
        f" {reply.id} has a directory of its own, {JobPaths(reply.id).tree}"
    )


@contextmanager
def renewing(link: Link, job_id: str) -> Iterator[None]:
    """Renew the node's hold on our place or slot during the block. It may be long."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(HOLD_LEASE / 3):
            with suppress(GridError):
                client.renew(link, job_id)

    threading.Thread(target=renew, daemon=True, name="renew").start()
    try:
        yield
    finally:
        done.set()


def bring(link: Link, tree: Tree, settings: Settings, *, dry_run: bool = False) -> SyncReport:
    """Sync `tree` to the node by request, not for a run.

    A warning names the runs that use a tree which this has changed. Raises what `sync_tree` raises.
    """
    report = sync_tree(link, tree, settings, dry_run=dry_run)
    if not dry_run and (report.files or report.deleted):
        with suppress(GridError):  # it is synced all the same; trouble there will show soon enough
            if users := client.directory_users(link, report.target):
                events.emit(events.WARNING, message=_changed_in_use_message(link.node, users))
    return report


def _changed_in_use_message(node: Node, users: Sequence[str]) -> str:
    return f"{node.name}: {_uses(users)} the tree that this sync has changed"


def _uses(ids: Sequence[str]) -> str:
    named = ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
    return f"the runs {named} use" if len(ids) > 1 else f"the run {named} uses"
