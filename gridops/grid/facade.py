"""Base of every part of Grid: an inventory and the selection of its nodes."""

from __future__ import annotations

from collections.abc import Sequence

from gridops.inventory import Inventory
from gridops.model import Node


class GridBase:
    """An inventory's nodes and settings."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.settings = inventory.settings

    def _all(self, nodes: Sequence[Node] | None) -> Sequence[Node]:
        return self.inventory.nodes if nodes is None else nodes
