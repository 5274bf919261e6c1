"""Interface of a reached node: through OpenSSH, or this machine itself.

A `Link` starts processes on a node. What it is given runs under the node's login shell, so keep it
to plain words that sh, fish and csh read alike; shell code goes through `script`, which hands it to
a POSIX sh on standard input and so never meets the login shell's grammar.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from gridops.errors import GridError, ReachError
from gridops.model import Node, Reply
from gridops.reach.preamble import command_for, error_mark, no_shell, script_input, shield
from gridops.reach.pump import REPLY_LIMIT, Collected, Prelude, Process, Sink, marker, pump
from gridops.system import rundir

LOOPBACK = ("127.0.0.1", "::1")  # some servers that listen on localhost take only the second


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


def run_script(
    start: Callable[[str], Process],
    text: str,
    args: tuple[str, ...],
    end: float,
    stdin: bytes,
    *,
    limit: int = REPLY_LIMIT,
    on_stdout: Sink | None = None,
) -> Reply:
    """`Link.script` over any transport that can start a process; `end` is on time.monotonic().

    `limit`: how many bytes of each stream the reply may hold. With `on_stdout` its standard output
    goes there as it comes.
    """
    mark, has_input = marker(), bool(stdin)
    script = script_input(f"{shield()}shield\n{text}", args, mark, has_input=has_input)
    process = start(command_for(script, mark, has_input=has_input))
    opened = time.monotonic()
    out, err = Collected(limit), Collected(limit)
    try:
        stdout = Prelude(mark.encode(), on_stdout or out)
        stderr = Prelude(error_mark(mark).encode(), err)
        status = pump(
            process,
            stdin=script + stdin,
            on_stdout=stdout,
            on_stderr=stderr,
            timeout=max(0.0, end - time.monotonic()),
        )
    finally:
        process.close()
    if stdout.passed_at is None:
        raise no_shell(status, stdout.held, stderr.held)
    return Reply(status, bytes(out.data), bytes(err.data), latency=stdout.passed_at - opened)


def runtime_dir() -> Path:
    """The private directory of control sockets, locks and notes. Raises ReachError."""
    try:
        return rundir.private_dir()
    except rundir.NoPrivateDirectory as exc:
        raise ReachError(str(exc), hint=exc.remedy) from exc


def too_many_files_error() -> ReachError:
    """The error for a descriptor that the kernel refused (EMFILE, ENFILE)."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ReachError(
        "this process has too many files open",
        hint=f"raise `ulimit -n` (now {limit}), or reach fewer nodes at once",
    )
