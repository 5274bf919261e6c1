"""One question to a node about its files, for a fetch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from gridops.errors import NodeTimeout
from gridops.model import Reply
from gridops.reach.link import Link, on_node, run_script
from gridops.reach.pump import Sink

FIND_FILES_TIMEOUT = 300.0  # seconds that looking through the node's directories may take


@dataclass
class Group:
    """Names to bring from one directory of the node. They are relative to it."""

    base: str  # absolute
    names: list[str] = field(default_factory=list)  # as they are
    copied: list[str] = field(default_factory=list)  # symlinks: the files that they lead to

    @property
    def empty(self) -> bool:
        return not self.names and not self.copied


def ask_script(
    link: Link, text: str, args: tuple[str, ...], limit: int, on_stdout: Sink | None = None
) -> Reply:
    """The reply, of `limit` bytes at most, to a script. Raises NodeError, a ReachError.

    With a sink for its standard output that is no part of the reply.
    """
    end = time.monotonic() + FIND_FILES_TIMEOUT
    try:
        with on_node(link.node.name):
            return run_script(
                lambda command: link.start(command, timeout=max(0.1, end - time.monotonic())),
                text,
                args,
                end,
                b"",
                limit=limit,
                on_stdout=on_stdout,
            )
    except NodeTimeout as exc:
        raise NodeTimeout(
            f"looking for the files took over {FIND_FILES_TIMEOUT:g} s",
            node=link.node.name,
            hint="name a directory rather than **",
        ) from exc


def is_below(name: str) -> bool:
    """True if `name` lies in the directory that it is relative to."""
    parts = name.removesuffix("/").split("/")
    return name == "." or not any(part in ("", ".", "..") for part in parts)
