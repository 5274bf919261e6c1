"""Loader of inventory files: nodes and settings, or everything that is wrong with a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gridops.errors import InventoryError
from gridops.inventory.document import Document, KeyPath, read
from gridops.inventory.interpolation import Variables
from gridops.inventory.nodeset import expand, fold
from gridops.inventory.settings import NodeDefaults, NodeSettings, Settings
from gridops.inventory.types import check_name
from gridops.inventory.validation import validate
from gridops.model import Node

Read = tuple[tuple[Node, ...], Settings]


def read_inventory(file: Path, origin: str) -> tuple[Read | None, list[InventoryError]]:
    """Nodes and settings of `file`, or None and its problems.

    The problems are in the order of their lines. `origin` says in messages where the file's name
    came from. Raises InventoryError for a file that cannot be read as YAML at all.
    """
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
    return (tuple(builder.nodes.values()), _resolve_paths(settings, file)), []


def _resolve_paths(settings: Settings, file: Path) -> Settings:
    """Resolve a relative ssh.config_file against the inventory's directory."""
    config = settings.ssh.config_file
    if config is None or config.is_absolute():
        return settings
    ssh = settings.ssh.model_copy(update={"config_file": file.parent.resolve() / config})
    return settings.model_copy(update={"ssh": ssh})


class _Nodes:
    """Collector of a file's nodes, and of the problems with them."""

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
