"""Cache of validated inventory files, for the next process.

Checking a file takes pydantic and a YAML parser, whose imports take longer than most of what a task
does. As long as the file says the same, its nodes and settings are recalled from the user's cache
directory instead. A file with `${...}` is never kept: what it comes to depends on more than itself.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from gridops.model import Node
from gridops.system.ownership import PACKAGE_VERSION

if TYPE_CHECKING:
    from gridops.inventory.settings import Settings

MAX_CACHE_FILES = 64  # files in the cache directory
MOST_BYTES = 1 << 20  # of an inventory that is kept
SECTIONS = frozenset({"defaults", "health_check", "ssh", "sync", "jobs", "retry", "ray"})


def recall(file: Path, of: str | None) -> tuple[tuple[Node, ...], Settings] | None:
    """Nodes and settings that `keep` was given for the content `of`.

    `of` is the `fingerprint`. None when there is nothing to rely on.

    The settings have the attributes of `gridops.inventory.settings.Settings`, and are plain values.
    """
    if of is None:
        return None
    try:
        kept = json.loads(_place(file).read_bytes())
        if kept["of"] != of or not kept["settings"].keys() >= SECTIONS:
            return None
        nodes = tuple(Node(**{k: _plain(v) for k, v in node.items()}) for node in kept["nodes"])
        settings = _namespace(kept["settings"])
        if settings.ssh.config_file is not None:
            settings.ssh.config_file = Path(settings.ssh.config_file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return nodes, cast("Settings", settings)


def keep(file: Path, of: str | None, nodes: tuple[Node, ...], settings: Settings) -> None:
    """Store the nodes and settings of `file`. That it cannot be kept is no reason to fail.

    `of` is its fingerprint from before it was read: a file that was changed meanwhile is not kept.
    """
    with suppress(OSError):
        if of is None or fingerprint(file) != of:
            return
        names = [one.name for one in fields(Node)]
        kept = {
            "of": of,
            "nodes": [{name: getattr(node, name) for name in names} for node in nodes],
            "settings": settings.model_dump(mode="json"),
        }
        from gridops.system.files import write_atomic

        place = _place(file)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(place, json.dumps(kept).encode())
        _prune(place.parent)


def _place(file: Path) -> Path:
    import platformdirs

    name = hashlib.sha256(os.fsencode(file.absolute())).hexdigest()[:32]
    return platformdirs.user_cache_path("gridops") / "inventories" / f"{name}.json"


def fingerprint(file: Path) -> str | None:
    """Hash of all that the file's meaning depends on.

    None where that is more than the file and HOME, and for what can be read but once (a pipe).
    """
    try:
        plain = file.is_file() and file.stat().st_size <= MOST_BYTES
        text = file.read_bytes() if plain else b"${"
    except OSError:
        return None
    if b"${" in text:
        return None
    about = f"{PACKAGE_VERSION} {os.environ.get('HOME', '')} {file.parent.resolve()}"
    return hashlib.sha256(about.encode(errors="surrogateescape") + b"\0" + text).hexdigest()


def _namespace(found: dict[str, Any]) -> Any:
    """A section as an object; mappings that are not sections (options, labels) stay mappings."""
    return SimpleNamespace(
        **{
            name: _namespace(value) if name in SECTIONS else _plain(value)
            for name, value in found.items()
        }
    )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _prune(directory: Path) -> None:
    found = sorted(directory.glob("*.json*"), key=lambda path: path.stat().st_mtime)
    for path in found[:-MAX_CACHE_FILES]:
        path.unlink(missing_ok=True)
