"""The inventory: a file becomes nodes and settings; node sets and tags select among the nodes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridops.errors import InventoryError, UnknownNameError, UsageError
from gridops.inventory.nodeset import fold, matching, unknown_node
from gridops.model import Node

if TYPE_CHECKING:
    from gridops.inventory.settings import Settings

VARIABLE = "GRIDOPS_INVENTORY"
PLACES = (Path("inventories/default.yaml"), Path("inventories/local.yaml"))


def _defaults() -> Settings:
    from gridops.inventory.settings import Settings

    return Settings()


@dataclass(frozen=True)
class Inventory:
    """Nodes in the order of the file, and the settings; `path` is None where no file was found."""

    nodes: tuple[Node, ...]
    settings: Settings = field(default_factory=_defaults)
    path: Path | None = None

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def tags(self) -> Mapping[str, tuple[str, ...]]:
        """The names of each tag's nodes."""
        found: dict[str, list[str]] = {}
        for node in self.nodes:
            for tag in node.tags:
                found.setdefault(tag, []).append(node.name)
        return {tag: tuple(names) for tag, names in found.items()}

    def node(self, name: str) -> Node:
        """The node called `name`; raises UnknownNameError."""
        if name not in self.by_name:
            raise unknown_node([name], self.by_name)
        return self.by_name[name]

    def select(self, nodes: str | None = None, tags: str | None = None) -> tuple[Node, ...]:
        """Nodes in the set `nodes` that have any of `tags` ("a,b"); None: no condition.

        Raises UnknownNameError for a node or tag that is not there, UsageError for text that is
        not a node set and when nothing is left.
        """
        chosen = set(self.by_name)
        if nodes is not None:
            chosen &= matching(_name_source("nodes", nodes), self.by_name, self.tags)
        if tags is not None:
            chosen &= self._tags_in(_name_source("tags", tags))
        if not chosen:
            flags = {"--nodes": nodes, "--tags": tags}
            said = " ".join(f"{flag} {text}" for flag, text in flags.items() if text is not None)
            raise UsageError(f"{said} selects no node", hint=f"the nodes are {fold(self.by_name)}")
        return tuple(node for node in self.nodes if node.name in chosen)

    def _tags_in(self, text: str) -> set[str]:
        found: set[str] = set()
        for tag in (part.strip() for part in text.split(",")):
            if tag not in self.tags:
                raise UnknownNameError("tag", tag, sorted(self.tags))
            found.update(self.tags[tag])
        return found


def _name_source(flag: str, text: str) -> str:
    if not text.strip():
        raise UsageError(f"--{flag} is empty", hint="leave it out to select all nodes")
    return text.strip()


def find(path: str | Path | None = None) -> Path | None:
    """The file to use: `path`, else $GRIDOPS_INVENTORY, else the first of PLACES that is there."""
    if path is not None and not str(path):
        raise UsageError("--inventory is empty", hint="leave it out to use the default file")
    given = path or os.environ.get(VARIABLE)
    if given:
        return Path(given).expanduser()
    return next((place for place in PLACES if os.path.lexists(place)), None)


def _origin(path: str | Path | None) -> str:
    return f"it is named by {VARIABLE}" if not path and os.environ.get(VARIABLE) else ""


def load(path: str | Path | None = None) -> Inventory:
    """The inventory of the file that `find` names; without one, this machine alone.

    A file that was read before and has not changed is recalled (see `gridops.inventory.cache`).
    Raises InventoryError, the first of what `problems` would list.
    """
    from gridops.inventory import cache

    file = find(path)
    if file is None:
        return Inventory((Node("localhost", "localhost", connection="local"),))
    of = cache.fingerprint(file)
    kept = cache.recall(file, of)
    if kept is not None:
        return Inventory(*kept, file)
    from gridops.inventory.loader import read_inventory

    read, found = read_inventory(file, _origin(path))
    if read is None:
        first, more = found[0], len(found) - 1
        if more:
            also = f"{more} more: see `inv inventory.check`"
            first.hint = f"{first.hint}; {also}" if first.hint else also
        raise first
    cache.keep(file, of, *read)
    return Inventory(*read, file)


def problems(path: str | Path | None = None) -> list[InventoryError]:
    """All errors in the file, in the order of its lines."""
    file = find(path)
    if file is None:
        return []
    from gridops.inventory.loader import read_inventory

    try:
        return read_inventory(file, _origin(path))[1]
    except InventoryError as exc:
        return [exc]


def schema() -> dict[str, Any]:
    """The JSON Schema of an inventory file, for editors."""
    from gridops.inventory.schema import schema as build

    return build()
