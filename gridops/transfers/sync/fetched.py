"""Leave fetched results out of a tree: they are no source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from gridops.transfers.record import STATE_DIR, Record, read_above, read_record, still_there
from gridops.transfers.sync.walk import Files, parent


def exclude_fetched(found: Files, tracked: Callable[[], set[bytes]]) -> int:
    """Leave out the results of fetches; return their number.

    They are the files that are as a fetch brought them and that git does not track; the records of
    that below the root are left out too. Outside git a directory with nothing else in it stays, as
    an empty one, unless a fetch made it.
    """
    below = {path: read_record(found.root + b"/" + path) for path in found.state_holders() if path}
    holders = [path for path, record in below.items() if record]
    results = _results(found.root.rstrip(b"/"), below)
    gone = results.keys() & set(found.names) if results else set()
    if gone:
        gone -= tracked()
    own = tuple(path + b"/" + STATE_DIR + b"/" for path in holders)
    if not gone and not own:
        return 0
    for paths in (found.names, found.symlinks, found.special, found.empty):
        paths[:] = [path for path in paths if path not in gone and not path.startswith(own)]
    if found.untracked is None:
        found.empty += _find_emptied(found, {*map(parent, gone), *holders}, results)
    return len(gone)


def _results(top: bytes, below: dict[bytes, Record]) -> Record:
    """Unchanged results, relative to `top`, the root; `below` are records of directories in it."""
    before = top + b"/"
    above = read_above(top).items()
    record = {name[len(before) :]: stamp for name, stamp in above if name.startswith(before)}
    for directory, entries in below.items():
        record.update({directory + b"/" + name: stamp for name, stamp in entries.items()})
    return still_there(top, record) if record else {}


def _find_emptied(found: Files, directories: set[bytes], results: Record) -> Iterable[bytes]:
    """Emptied directories that are not to vanish with the results.

    They are of `directories`, or of those that these lie in.
    """
    kept = {b""}
    for path in (*found.names, *found.special, *(path + b"/" for path in found.empty)):
        kept.update(_above(path))
    emptied = set()
    for path in directories:
        while path not in kept and path + b"/" in results:
            path = parent(path)
        if path not in kept:
            emptied.add(path)
    return [path for path in emptied if not any(other.startswith(path + b"/") for other in emptied)]


def _above(path: bytes) -> Iterator[bytes]:
    while path:
        path = parent(path)
        yield path
