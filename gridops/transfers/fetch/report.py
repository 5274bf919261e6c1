"""Report of a fetch."""

from __future__ import annotations

from dataclasses import dataclass

from gridops.model import Node


@dataclass(frozen=True, slots=True)
class FetchReport:
    """Outcome of a fetch. Names are printable, and relative to `into`."""

    node: Node
    into: str
    matched: int = 0  # names that the patterns matched and that may come; a directory is one
    new: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()  # not replaced: newer here, and different
    skipped: tuple[str, ...] = ()  # neither file, directory nor symlink, or a symlink leading out
    missing: tuple[str, ...] = ()  # patterns that match nothing
    unwritten: tuple[str, ...] = ()  # patterns that match nothing that the run wrote
    older: int = 0  # files that match and that the run did not write
    later: tuple[str, ...] = ()  # files that changed after the run's end; names as on the node
    bytes: int = 0  # on the wire, both ways
    seconds: float = 0.0

    @property
    def files(self) -> int:
        """Number of files that came home."""
        return len(self.new) + len(self.replaced)

    @property
    def found(self) -> bool:
        """True if there was anything to bring."""
        return self.matched > 0
