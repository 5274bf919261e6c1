"""A copy of a tree on this machine, for a later run.

That run is asked for now and begins later. Each copy is a directory of its own below the state
directory, locked for as long as its process lives; whoever makes the next one removes those whose
processes have died.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from math import inf
from pathlib import Path

from gridops.errors import SyncError
from gridops.observe import events
from gridops.observe.paths import state_dir
from gridops.system.locks import acquire_lock
from gridops.transfers.sync.tree import Tree

KEEP_LIMIT = 4 << 30  # bytes of a tree that is kept
LOCK = "lock"  # in each copy's directory
FICLONE = 0x40049409  # ioctl(2): share the bytes, where the file system can (XFS, Btrfs)


@contextmanager
def keep_tree(tree: Tree) -> Iterator[Tree]:
    """`tree` as it is now, until the block ends; it is still named after the original.

    Raises SyncError when it is larger than KEEP_LIMIT, or cannot be read or written.
    """
    home = state_dir() / "trees"
    _remove_orphans(home)
    with ExitStack() as stack:
        try:
            _refuse_large(tree)
            directory = stack.enter_context(_directory(home))
            size = _copy(tree, directory / "tree")
        except OSError as exc:
            raise SyncError(
                f"the tree cannot be kept in {home} while the run waits:"
                f" {exc.strerror}: {exc.filename}",
                hint="name one node by --on, which then keeps it; or set GRIDOPS_STATE_DIR",
            ) from exc
        events.emit(events.TREE_KEPT, bytes=size, path=str(directory))
        yield replace(tree, root=directory / "tree", source=tree.origin, seen=None)


def _refuse_large(tree: Tree) -> None:
    size = sum(_at(tree.root, name).lstat().st_size for name in tree.names)
    if size > KEEP_LIMIT:
        raise SyncError(
            f"the tree has {size / 1e9:.1f} GB, but at most {KEEP_LIMIT / 1e9:.1f} GB are kept"
            " here while a run waits",
            hint="name one node by --on, which then keeps it; or set sync.exclude_patterns",
        )


@contextmanager
def _directory(home: Path) -> Iterator[Path]:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        directory = Path(tempfile.mkdtemp(dir=home))
        with suppress(FileNotFoundError):  # one that is not locked yet may be removed
            lock = acquire_lock(directory / LOCK, inf)
            break
    try:
        yield directory
    finally:
        _remove(directory)
        os.close(lock)


def _copy(tree: Tree, root: Path) -> int:
    """Copy all that travels, times and modes too; return their size in bytes."""
    folders: dict[bytes, None] = {b"": None}
    for name in (*tree.names, *(name + b"/" for name in tree.empty)):
        for at in (at for at, byte in enumerate(name) if byte == ord("/")):
            folders[name[:at]] = None
    for folder in folders:
        _at(root, folder).mkdir(mode=0o700)
    size = sum(_copy_entry(_at(tree.root, name), _at(root, name)) for name in tree.names)
    for folder in reversed(folders):
        _at(root, folder).chmod(stat.S_IMODE(_at(tree.root, folder).stat().st_mode))
    return size


def _at(root: Path, name: bytes) -> Path:
    return root / os.fsdecode(name)


def _copy_entry(source: Path, target: Path) -> int:
    if source.is_symlink():
        target.symlink_to(source.readlink())
        shutil.copystat(source, target, follow_symlinks=False)
        return 0
    with source.open("rb") as old, target.open("xb") as new:
        try:
            fcntl.ioctl(new, FICLONE, old.fileno())
        except OSError:
            shutil.copyfileobj(old, new, 1 << 20)
    shutil.copystat(source, target)
    return target.stat().st_size


def _remove_orphans(home: Path) -> None:
    with suppress(OSError):
        for directory in home.iterdir():
            with suppress(OSError):
                _remove_unless_locked(directory)


def _remove_unless_locked(directory: Path) -> None:
    try:
        lock = acquire_lock(directory / LOCK, 0.0, flags=os.O_RDWR)
    except FileNotFoundError:
        directory.rmdir()
        return
    try:
        _remove(directory)
    finally:
        os.close(lock)


def _remove(directory: Path) -> None:
    """Remove it whole; a tree may have directories that cannot be written to."""

    def unlock(retry: Callable[[str], object], path: str, _: object) -> None:
        with suppress(OSError):
            Path(path).parent.chmod(0o700)
            if Path(path).is_dir():
                Path(path).chmod(0o700)
            retry(path)

    shutil.rmtree(directory, onerror=unlock)
    shutil.rmtree(directory, ignore_errors=True)
