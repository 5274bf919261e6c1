"""Doubts about the files on a node: those the last sync may not have left as they are here."""

from __future__ import annotations

from dataclasses import dataclass

from gridops.transfers.sync.record import Record
from gridops.transfers.sync.remote import RemoteState
from gridops.transfers.sync.tree import FileTimes, Tree


@dataclass(frozen=True)
class Doubts:
    """Knowledge of the files on a node, from the last sync."""

    last: Record
    ready: RemoteState
    new: str  # the token to have, unless there is one

    @property
    def token(self) -> str:
        return self.ready.token or self.new

    @property
    def known(self) -> bool:
        """True if nobody else has synced there since."""
        return bool(self.ready.token) and self.ready.token == self.last.token

    @property
    def fresh(self) -> bool:
        """True if there is nothing yet."""
        return self.ready.state != "marked" or self.ready.token == self.new

    @property
    def settled(self) -> bool:
        """True if the node has our token already."""
        return bool(self.ready.token)

    def to_compare(self, tree: Tree, seen: FileTimes) -> set[bytes]:
        """The files to compare by their bytes."""
        if self.known:
            return self.last.to_compare(tree, seen)
        return set() if self.fresh else set(tree.names)
