"""Interface of a reached node: through OpenSSH, or this machine itself.

A `Link` starts processes on a node. What it is given runs under the node's login shell, so keep it
to plain words that sh, fish and csh read alike; shell code goes through `script`, which hands it to
a POSIX sh on standard input and so never meets the login shell's grammar.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from gridops.errors import GridError
from gridops.model import Node, Reply

LOOPBACK = ("127.0.0.1", "::1")  # some servers that listen on localhost take only the second
REPLY_LIMIT = 4 * 1024 * 1024  # bytes of one stream that a `script` reply may hold


class Process(Protocol):
    """A process on a node; its streams are file descriptors of this process.

    `stdin` is writable, `stdout` and `stderr` are readable. Closing `stdin` (or losing the
    connection) is how the other side learns that nobody listens any more.
    """

    stdin: int
    stdout: int
    stderr: int

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. Raises NodeTimeout after `timeout` seconds, ConnectionLost when the
        connection ended without one."""

    def close_stdin(self) -> None:
        """Say that no more input comes. Twice is harmless."""

    def close(self) -> None:
        """Give up every descriptor and the channel. Twice is harmless."""


class Stream(Protocol):
    """Interface of sockets, connections to a node's port and Paramiko's Channel."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def shutdown(self, how: int, /) -> None: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def close(self) -> None: ...


class Link(Protocol):
    """A node that can be asked things. Cheap to make; connects on first use."""

    node: Node

    def start(self, command: str, *, timeout: float) -> Process:
        """Start `command` under the login shell; `timeout` bounds the start, not the command.

        Raises a ReachError that says why the node cannot be reached.
        """

    def script(self, text: str, *args: str, timeout: float, stdin: bytes = b"") -> Reply:
        """Run POSIX sh `text` with positional `args`, and `stdin` on its input.

        One round trip. Whatever a chatty login shell prints before the script is dropped.
        Raises NodeTimeout when it takes longer than `timeout` seconds (connecting included),
        or a ReachError.
        """

    def dial(self, port: int, *, timeout: float, host: str | None = None) -> Stream:
        """A connection to the node's own `port` (on its loopback); with `host` to that address,
        as the node sees it.

        Raises PortClosed when nothing listens there (or the node's sshd allows no forwarding, which
        cannot be told apart), NodeError when the port keeps silent for `timeout` seconds, or a
        ReachError.
        """

    def rsync_shell(self) -> str | None:
        """The `rsync -e` argument to come through this link (the shared connection); None: local.

        Raises a ReachError when the node cannot be reached.
        """

    def rsync_target(self, path: str) -> str:
        """`path` on the node as rsync's source or destination argument."""


@contextmanager
def on_node(name: str) -> Iterator[None]:
    """Put the node's name on errors raised inside that carry none yet."""
    try:
        yield
    except GridError as exc:
        exc.node = exc.node or name
        raise
