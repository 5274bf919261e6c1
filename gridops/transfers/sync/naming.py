"""Names of files, as a sync spells them for people and rsync."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gridops.errors import PartialTransfer, SourceUnreadable
from gridops.system.text import shorten
from gridops.transfers.names import printable
from gridops.transfers.output import Transfer
from gridops.transfers.sync.tree import Tree


def as_new(tree: Tree) -> Transfer:
    """Outcome of a transfer of `tree` to a node that has nothing."""
    folders = tuple(name + b"/" for name in tree.empty)
    files = tuple(name for name in tree.names if name not in tree.symlinks)
    return Transfer(added=(*tree.names, *folders), files=files)


def unreadable_here(paths: Iterable[str], what: str) -> SourceUnreadable:
    names = list(paths)
    hint = "chmod it, or exclude it by sync.exclude_patterns"
    return SourceUnreadable(f"{shorten(names)} {what}", files=names, hint=hint)


def show_names(names: Iterable[bytes], folders: set[bytes]) -> tuple[str, ...]:
    """Names for the report: files, and directories only where they are entries of their own."""
    kept = {name for name in names if not name.endswith(b"/") or name in folders}
    return tuple(sorted(map(printable, kept)))


def plain(name: bytes) -> bytes:
    """A source for rsync: a colon in its first name is not to mean a host."""
    return b"././" + name if b":" in name.partition(b"/")[0] else name


def refuse_blocked(names: Sequence[bytes]) -> None:
    """Refuse names under which something on the node is to stay. Raises PartialTransfer."""
    if names:
        files = [printable(name) for name in names]
        raise PartialTransfer(
            f"{shorten(files)} stays there: the tree has something else of that name, and no sync"
            " brought what is there",
            files=files,
            hint="move it away there, or exclude those files by sync.exclude_patterns",
        )
