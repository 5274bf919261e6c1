"""Sync of a project tree to a node: listing its files, and bringing them there.

`list_tree` says what travels; `sync_tree` makes a node's `<remote_root>/<project>` the same, over
the connection that is open already. Protocol: one `prepare` on the node; when the list of names is
not the one of the last time, one `stage`, which deletes what is gone; then rsync.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridops.errors import UsageError
from gridops.model import Node, SyncReport
from gridops.reach.link import Link

if TYPE_CHECKING:
    from gridops.inventory.settings import Settings
    from gridops.transfers.sync.listing import list_tree
    from gridops.transfers.sync.tree import Tree

__all__ = ["Tree", "list_tree", "previous_target", "sync_tree", "target_of"]


def __getattr__(name: str) -> Any:
    """Load the listing of trees when it is asked for: a run without a sync needs none of it."""
    if name not in ("Tree", "list_tree"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gridops.transfers.sync import listing

    return getattr(listing, name)


def target_of(node: Node, src: str | Path, project: str | None = None) -> str:
    """Target of `src` on the node, as the inventory spells it: `~/gridops/NAME`.

    Raises UsageError when the project has no usable name.
    """
    name = _project(project or Path(src).expanduser().resolve().name)
    return f"{node.remote_root.rstrip('/')}/{name}"


def previous_target(node: Node, src: str | None) -> str:
    """Target of an earlier sync of `src`; "" for none, and for /, which has no name."""
    path = None if src is None else Path(src).expanduser().resolve()
    return target_of(node, path) if path and path.name else ""


def sync_tree(
    link: Link,
    src: str | Path | Tree,
    settings: Settings,
    *,
    dry_run: bool = False,
    project: str | None = None,
    own: str | None = None,
    exact: bool = False,
) -> SyncReport:
    """Make the node's directory of the project the same as the tree.

    The report says what that took. `src` may be a Tree from `list_tree`, which saves listing
    it for every node. Files of the tree replace the node's, one at a time and each whole. What an
    earlier sync brought and the tree has no more is deleted there; anything else there stays. The
    connection is tried again as `settings.retry` says; all of it takes `settings.sync.timeout`
    seconds at most. A dry run changes nothing anywhere.

    `own` names a directory that is one run's own, and may hold what links to the files of others:
    then each file of the tree is written anew there. `exact` compares the bytes of every file.

    Raises UsageError for a `src` that is no directory or lies where it would go, UnmarkedTarget,
    PartialTransfer (naming the files), DiskFull, NotWritable, NoRsync, TransferLost, NodeTimeout or
    a ReachError.
    """
    from gridops.transfers.sync.listing import list_tree
    from gridops.transfers.sync.record import lock_target
    from gridops.transfers.sync.session import SyncSession
    from gridops.transfers.sync.tree import Tree

    end = time.monotonic() + settings.sync.timeout
    name = _project(project or (src.project if isinstance(src, Tree) else _name(src)))
    with lock_target(link.node, name, end) as turn:
        tree = src if isinstance(src, Tree) else list_tree(src, settings.sync)
        _refuse_overlap(link, tree.origin, name)
        return SyncSession(link, tree, name, settings, dry_run, end, turn, own, exact).report()


def _name(src: str | Path) -> str:
    return Path(src).expanduser().resolve().name


def _project(name: str) -> str:
    from gridops.transfers.record import STATE_NAME

    if name in ("", ".", "..", STATE_NAME) or "/" in name or "\0" in name:
        raise UsageError(f"{name!r} cannot be a project's name", hint="rename the tree's directory")
    return name


def _refuse_overlap(link: Link, root: Path, project: str) -> None:
    if link.node.connection != "local":
        return
    target = (Path.home() / Path(link.node.remote_root).expanduser() / project).resolve()
    if target == root or root in target.parents or target in root.parents:
        raise UsageError(
            f"the tree {root} and its target {target} are inside one another",
            node=link.node.name,
            hint="give this node another remote_root",
        )
