"""A node behind SSH: sessions of its control master, in passenger mode.

The master does the SSH; we hand it the three descriptors of a new session and read plain pipes.
"""

from __future__ import annotations

import os
import shlex
import time
from typing import TYPE_CHECKING

from gridops.errors import (
    ConnectionLost,
    GridError,
    NodeError,
    NodeTimeout,
    ReachError,
    SessionRefused,
)
from gridops.model import Node, Reply
from gridops.reach import openssh
from gridops.reach.control import Control
from gridops.reach.openssh import Endpoint
from gridops.reach.streams import run_script

if TYPE_CHECKING:
    from gridops.settings import SshSettings

MASTERS = 32  # how many masters one destination may have when sshd refuses further sessions


class SshProcess:
    """A process on the node; its streams are pipes whose other ends the master holds."""

    def __init__(self, control: Control, command: str, timeout: float) -> None:
        self._control = control
        self._status: int | None = None
        theirs_in, self.stdin = os.pipe()
        self.stdout, theirs_out = os.pipe()
        self.stderr, theirs_err = os.pipe()
        self._open = {self.stdin, self.stdout, self.stderr}
        theirs = (theirs_in, theirs_out, theirs_err)
        try:
            control.new_session(command, theirs, timeout)
        except BaseException:
            self.close()
            raise
        finally:
            for fd in theirs:
                os.close(fd)

    def wait(self, timeout: float | None = None) -> int:
        if self._status is None:
            try:
                self._status = self._control.exit_status(timeout)
            except ConnectionLost:
                if not self._master_lives():
                    raise
                raise NodeError("the process was killed on the node") from None
        return self._status

    def _master_lives(self) -> bool:
        """A session that ends without a status was killed, if the connection is still there."""
        try:
            control = Control(self._control.path)
        except OSError:
            return False
        try:
            return control.alive() > 0
        except GridError:
            return False
        finally:
            control.close()

    def close_stdin(self) -> None:
        self._close_fd(self.stdin)

    def close(self) -> None:
        for fd in (self.stdin, self.stdout, self.stderr):
            self._close_fd(fd)
        self._control.close()

    def _close_fd(self, fd: int) -> None:
        if fd in self._open:
            self._open.discard(fd)
            os.close(fd)


class SshLink:
    """A Link through the node's control masters."""

    def __init__(self, node: Node, ssh: SshSettings) -> None:
        self.node = node
        self.endpoint = Endpoint.of(node, ssh)
        self._index = 0  # the master that took our last session

    def start(self, command: str, *, timeout: float) -> SshProcess:
        end = time.monotonic() + timeout
        for index in range(self._index, MASTERS):
            try:
                process = self._session(index, command, end)
            except SessionRefused:
                continue
            except GridError as exc:
                exc.node = exc.node or self.node.name
                raise
            self._index = index
            return process
        raise SessionRefused(
            "sshd refuses further sessions",
            node=self.node.name,
            hint="raise MaxSessions there, or run less at once",
        )

    def _session(self, index: int, command: str, end: float) -> SshProcess:
        """A session of master `index`; one that is stale is replaced, once."""
        control, new = openssh.connect(self.endpoint, index=index, timeout=_left(end))
        patience = _left(end) if new else min(_left(end), self.endpoint.connect_timeout)
        try:
            return SshProcess(control, command, patience)
        except (NodeTimeout, ConnectionLost) as exc:
            if new:
                raise
            openssh.retire(self.endpoint, index, exc.message)
        control, _ = openssh.connect(self.endpoint, index=index, timeout=_left(end))
        return SshProcess(control, command, _left(end))

    def script(self, text: str, *args: str, timeout: float, stdin: bytes = b"") -> Reply:
        end = time.monotonic() + timeout
        try:
            return run_script(
                lambda command: self.start(command, timeout=_left(end)), text, args, end, stdin
            )
        except NodeTimeout as exc:
            raise NodeTimeout(f"no answer within {timeout:g} s", node=self.node.name) from exc
        except GridError as exc:
            exc.node = exc.node or self.node.name
            raise

    def rsync_shell(self) -> str | None:
        timeout = self.endpoint.connect_timeout * 2
        try:
            control, _ = openssh.connect(self.endpoint, index=self._index, timeout=timeout)
        except ReachError as exc:
            exc.node = exc.node or self.node.name
            raise
        control.close()
        return shlex.join(self.endpoint.shell(openssh.socket_path(self.endpoint, self._index)))

    def rsync_target(self, path: str) -> str:
        host = f"[{self.node.host}]" if ":" in self.node.host else self.node.host
        return f"{host}:{path}"


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise NodeTimeout("no answer in time")
    return left
