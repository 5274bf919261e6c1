"""The inventory: a file becomes nodes and settings; node sets and tags select among the nodes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gridops.errors import InventoryError, UnknownNameError, UsageError
from gridops.fieldtypes import check_name
from gridops.invalid import validate
from gridops.model import Node
from gridops.nodesets import expand, fold, matching, unknown_node
from gridops.settings import NodeDefaults, NodeSettings, Settings
from gridops.variables import Variables
from gridops.yamlfile import Document, KeyPath, read

VARIABLE = "GRIDOPS_INVENTORY"
PLACES = (Path("inventories/default.yaml"), Path("inventories/local.yaml"))


@dataclass(frozen=True)
class Inventory:
    """Nodes in the order of the file, and the settings; `path` is None where no file was found."""

    nodes: tuple[Node, ...]
    settings: Settings = field(default_factory=Settings)
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
            chosen &= matching(_given("nodes", nodes), self.by_name, self.tags)
        if tags is not None:
            chosen &= self._tagged(_given("tags", tags))
        if not chosen:
            flags = {"--nodes": nodes, "--tags": tags}
            said = " ".join(f"{flag} {text}" for flag, text in flags.items() if text is not None)
            raise UsageError(
                f"no node is left by {said}", hint=f"the nodes are {fold(self.by_name)}"
            )
        return tuple(node for node in self.nodes if node.name in chosen)

    def _tagged(self, text: str) -> set[str]:
        found: set[str] = set()
        for tag in (part.strip() for part in text.split(",")):
            if tag not in self.tags:
                raise UnknownNameError("tag", tag, sorted(self.tags))
            found.update(self.tags[tag])
        return found


def _given(flag: str, text: str) -> str:
    if not text.strip():
        raise UsageError(f"--{flag} is empty", hint="leave it out to select all nodes")
    return text.strip()


def find(path: str | Path | None = None) -> Path | None:
    """The file to use: `path`, else $GRIDOPS_INVENTORY, else the first of PLACES that is there."""
    if path is not None and not str(path):
        raise UsageError("--inventory is empty", hint="leave it out for the usual places")
    given = path or os.environ.get(VARIABLE)
    if given:
        return Path(given).expanduser()
    return next((place for place in PLACES if os.path.lexists(place)), None)


def _origin(path: str | Path | None) -> str:
    return f"{VARIABLE} names it" if not path and os.environ.get(VARIABLE) else ""


def load(path: str | Path | None = None) -> Inventory:
    """The inventory of the file that `find` names; without one, this machine alone.

    Raises InventoryError, the first of what `problems` would list.
    """
    file = find(path)
    if file is None:
        return Inventory((Node("localhost", "localhost", connection="local"),))
    inventory, found = _load(file, _origin(path))
    if inventory is None:
        first, more = found[0], len(found) - 1
        if more:
            also = f"{more} more: inv inventory.check lists them"
            first.hint = f"{first.hint}; {also}" if first.hint else also
        raise first
    return inventory


def problems(path: str | Path | None = None) -> list[InventoryError]:
    """Everything that is wrong with the file, in the order of its lines."""
    file = find(path)
    if file is None:
        return []
    try:
        return _load(file, _origin(path))[1]
    except InventoryError as exc:
        return [exc]


def schema() -> dict[str, Any]:
    """The JSON Schema of an inventory file, for editors."""
    from gridops.schema import schema as build

    return build()


def _load(file: Path, origin: str) -> tuple[Inventory | None, list[InventoryError]]:
    directories = dict.fromkeys((file.parent, Path()))
    document = read(file, Variables(list(directories)).substitute, origin=origin)
    data = document.data
    if data is None:
        raise document.error((), "the file is empty", hint="nodes: [alpha, beta] is enough")
    if not isinstance(data, dict):
        raise document.error((), "should be a mapping of keys and values", hint="nodes: [alpha]")
    rest = {key: value for key, value in data.items() if key != "nodes" and value is not None}
    settings, found = validate(Settings, rest, document, (), also=["nodes"])
    builder = _Nodes(document, settings or Settings())
    builder.add_all(data.get("nodes"))
    found = sorted(found + builder.problems, key=lambda problem: problem.line)
    if settings is None or found:
        return None, found
    head = settings.ray.head
    if head and head not in builder.nodes:
        hint = f"valid: {fold(builder.nodes)}"
        return None, [document.error(("ray", "head"), f"{head!r} is not among the nodes", hint)]
    return Inventory(tuple(builder.nodes.values()), _placed(settings, file), file), []


def _placed(settings: Settings, file: Path) -> Settings:
    """ssh.config_file, when relative, starts at the inventory's directory."""
    config = settings.ssh.config_file
    if config is None or config.is_absolute():
        return settings
    ssh = settings.ssh.model_copy(update={"config_file": file.parent.resolve() / config})
    return settings.model_copy(update={"ssh": ssh})


class _Nodes:
    """Collects the nodes of a file, and what is wrong with them."""

    def __init__(self, document: Document, settings: Settings) -> None:
        self.document = document
        self.settings = settings
        self.nodes: dict[str, Node] = {}
        self.problems: list[InventoryError] = []
        self._lines: dict[str, int] = {}

    def add_all(self, entries: Any) -> None:
        path: KeyPath = ("nodes",)
        if isinstance(entries, str):
            self._add(path, entries, None)
        elif isinstance(entries, dict):
            for name, entry in entries.items():
                self._add((*path, name), name, entry)
        elif isinstance(entries, list):
            for at, name in enumerate(entries):
                if isinstance(name, str):
                    self._add((*path, at), name, None)
                else:
                    self._wrong(
                        (*path, at),
                        "a list holds names of nodes only",
                        "give settings as nodes: {name: {host: …}}",
                    )
        if not self.nodes and not self.problems:
            self._wrong(path, "there are no nodes", "nodes: [alpha, beta]")

    def _wrong(self, path: KeyPath, message: str, hint: str = "") -> None:
        self.problems.append(self.document.error(path, message, hint))

    def _add(self, path: KeyPath, text: str, entry: Any) -> None:
        spec, wrong = validate(NodeSettings, entry, self.document, path)
        self.problems += wrong
        try:
            names = expand(text)
            hosts = _hosts(spec, names)
        except ValueError as exc:
            self._wrong(path, str(exc))
            return
        again: dict[int, list[str]] = {}
        for name, host in zip(names, hosts, strict=True):
            if name in self._lines:
                again.setdefault(self._lines[name], []).append(name)
            else:
                self._add_one(path, name, host, spec or NodeSettings())
        for line, twice in again.items():
            self._wrong(path, f"duplicate node {fold(twice)}; the first is in line {line}")

    def _add_one(self, path: KeyPath, name: str, host: str, spec: NodeSettings) -> None:
        try:
            self.nodes[name] = _node(name, host, spec, self.settings)
        except ValueError as exc:
            self._wrong(path, f"the name {name!r} {exc}")
        self._lines[name] = self.document.line(path)


def _hosts(spec: NodeSettings | None, names: list[str]) -> list[str]:
    """One host a name: the names themselves, one for all, or a node set of as many."""
    if spec is None or spec.host is None:
        return names
    hosts = expand(spec.host)
    if len(hosts) == 1:
        return hosts * len(names)
    if len(hosts) != len(names):
        raise ValueError(f"host names {len(hosts)} hosts for {len(names)} nodes")
    return hosts


def _node(name: str, host: str, spec: NodeSettings, settings: Settings) -> Node:
    def value(key: str) -> Any:
        given: NodeDefaults = spec if key in spec.model_fields_set else settings.defaults
        return getattr(given, key)

    return Node(
        name=check_name(name),
        host=host,
        user=value("user"),
        port=value("port"),
        connection=value("connection"),
        tags=value("tags"),
        slots=value("slots"),
        env_setup=value("env_setup"),
        remote_root=value("remote_root") or settings.remote_root,
        ray=value("ray").model_dump(exclude_unset=True),
    )
