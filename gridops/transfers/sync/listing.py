"""Listing of a project tree: what travels.

In a git work tree these are exactly git's files (tracked and untracked, minus ignored, submodules
included), elsewhere all files and empty directories but `.git`; in both minus exclude patterns.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.errors import SyncError, UsageError
from gridops.observe import events
from gridops.system.text import shorten
from gridops.transfers.names import printable
from gridops.transfers.record import STATE_DIR
from gridops.transfers.sync.exclude import compile_patterns
from gridops.transfers.sync.fetched import exclude_fetched
from gridops.transfers.sync.git import NotGit, git_files, in_work_tree
from gridops.transfers.sync.tree import Tree
from gridops.transfers.sync.walk import Excluded, Files, parent

if TYPE_CHECKING:
    from gridops.inventory.settings import SyncSettings


def list_tree(src: str | Path, settings: SyncSettings) -> Tree:
    """The tree at `src`, as it is now.

    Raises UsageError when there is no such directory and SyncError when git refuses to list it.
    What is left out or will not work on a node is said by warning events.
    """
    root = _directory(src)
    excluded = compile_patterns(settings.exclude_patterns)
    found = _git(root, settings.timeout) if settings.gitignore else None
    if found is not None and excluded:
        found.exclude(excluded)
    elif found is None:
        found = _everything(root, excluded)
    _leave_out_state(found)
    fetched = exclude_fetched(found, lambda: _git_tracked(root, found, settings.timeout))
    _warn(found)
    return Tree(
        root,
        tuple(sorted(found.names)),
        tuple(sorted(found.empty)),
        tuple(sorted(set(found.unreadable))),
        frozenset(found.symlinks),
        fetched,
    )


def _directory(src: str | Path) -> Path:
    try:
        root = Path(src).expanduser().resolve(strict=True)
    except (OSError, RuntimeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise UsageError(f"cannot sync {src}: {reason}", hint="give a directory by --src") from exc
    if not root.is_dir():
        raise UsageError(f"cannot sync {src}: not a directory", hint="give one by --src")
    return root


def _everything(root: Path, excluded: Excluded | None) -> Files:
    found = Files(os.fsencode(root))
    try:
        found.walk(excluded)
    except OSError as exc:
        raise UsageError(f"cannot read {root}: {exc.strerror}") from exc
    return found


def _git(root: Path, timeout: float) -> Files | None:
    if not in_work_tree(root):
        return None
    try:
        return git_files(root, timeout)
    except NotGit as why:
        _say(f"{root}: {why}; every file but .git and sync.exclude_patterns is synced")
        return None


def _git_tracked(root: Path, found: Files, timeout: float) -> set[bytes]:
    """Names that git tracks; also where it was not asked what belongs to the tree."""
    if found.untracked is None:
        try:
            found = git_files(root, timeout) if in_work_tree(root) else Files(b"")
        except (NotGit, SyncError):
            return set()
    return set(found.names) - (found.untracked or set())


def _leave_out_state(found: Files) -> None:
    for paths in (found.names, found.symlinks, found.special, found.empty):
        paths[:] = [p for p in paths if p != STATE_DIR and not p.startswith(STATE_DIR + b"/")]


def _warn(found: Files) -> None:
    if found.special:
        _say(f"not synced, since no regular files: {_few(found.special)}")
    leading_out = [name for name in found.symlinks if _leads_out(found.root, name)]
    if leading_out:
        _say(f"symlinks that lead out of the tree are copied as symlinks: {_few(leading_out)}")


def _leads_out(root: bytes, name: bytes) -> bool:
    try:
        to = os.readlink(root + b"/" + name)  # noqa: PTH115 - a Path holds no bytes
    except OSError:
        return False
    inside = os.path.normpath(b"/".join((parent(name) or b".", to)))
    return to.startswith(b"/") or inside == b".." or inside.startswith(b"../")


def _few(names: list[bytes]) -> str:
    return shorten(map(printable, sorted(names)))


def _say(message: str) -> None:
    events.emit(events.WARNING, message=message)
