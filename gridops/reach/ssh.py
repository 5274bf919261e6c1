"""A node behind SSH: sessions of its control master, in passenger mode.

The master does the SSH; we hand it the three descriptors of a new session and read plain pipes.
"""

from __future__ import annotations

import os
import shlex
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from gridops.errors import (
    ConnectionLost,
    GridError,
    NodeTimeout,
    PortClosed,
    ProcessKilled,
    SessionRefused,
)
from gridops.model import Node, Reply
from gridops.reach import masters
from gridops.reach.control import Control
from gridops.reach.endpoint import Endpoint
from gridops.reach.link import LOOPBACK, Stream, on_node, run_script, too_many_files_error
from gridops.reach.masters import ensure_master, time_left

if TYPE_CHECKING:
    from gridops.inventory.settings import SshSettings


class SshProcess:
    """A process on the node; its streams are pipes whose other ends the master holds."""

    def __init__(self, control: Control, command: str, timeout: float) -> None:
        """Take `control` over."""
        self._control = control
        self._status: int | None = None
        self._open: set[int] = set()
        theirs: list[int] = []
        try:
            theirs_in, self.stdin = self._pipe(theirs, 0)
            self.stdout, theirs_out = self._pipe(theirs, 1)
            self.stderr, theirs_err = self._pipe(theirs, 1)
            control.new_session(command, (theirs_in, theirs_out, theirs_err), timeout)
        except OSError as exc:
            self.close()
            raise too_many_files_error() from exc
        except BaseException:
            self.close()
            raise
        finally:
            for fd in theirs:
                os.close(fd)

    def _pipe(self, theirs: list[int], end: int) -> tuple[int, int]:
        """A pipe shared with the master: it gets `end` (0 reads, 1 writes), we keep the other."""
        pipe = os.pipe()
        theirs.append(pipe[end])
        self._open.add(pipe[1 - end])
        return pipe

    def wait(self, timeout: float | None = None) -> int:
        if self._status is None:
            try:
                self._status = self._control.exit_status(timeout)
            except ConnectionLost:
                if not self._master_lives():
                    raise
                raise ProcessKilled("the process was killed on the node") from None
        return self._status

    def _master_lives(self) -> bool:
        """True if the connection is still there: a session without a status was killed then."""
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
        for fd in tuple(self._open):
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
        def ask(control: Control, seconds: float) -> SshProcess:
            return SshProcess(control, command, seconds)

        end = time.monotonic() + timeout
        for index in (self._index, *range(masters.MASTERS)):
            try:
                with on_node(self.node.name):
                    process, _ = masters.with_master(self.endpoint, index, ask, end)
            except SessionRefused:
                continue
            self._index = index
            return process
        raise SessionRefused(
            "sshd refuses further sessions",
            node=self.node.name,
            hint="raise MaxSessions in its sshd_config, or run less at once",
        )

    def script(self, text: str, *args: str, timeout: float, stdin: bytes = b"") -> Reply:
        end = time.monotonic() + timeout
        try:
            with on_node(self.node.name):
                return run_script(
                    lambda command: self.start(command, timeout=time_left(end)),
                    text,
                    args,
                    end,
                    stdin,
                )
        except NodeTimeout as exc:
            raise NodeTimeout(f"no answer within {timeout:g} s", node=self.node.name) from exc

    def dial(self, port: int, *, timeout: float, host: str | None = None) -> Stream:
        from gridops.reach.tunnel import ForwardedStream  # not part of every run

        end = time.monotonic() + timeout

        def through(address: str) -> Stream:
            def ask(control: Control, _: float) -> Stream:
                return ForwardedStream(control, (address, port), time_left(end))

            # Always the first master: these do not count among the sessions that sshd grants.
            return masters.with_master(self.endpoint, 0, ask, end)[0]

        with on_node(self.node.name):
            for address in (host,) if host else LOOPBACK:
                with suppress(PortClosed):
                    return through(address)
            raise PortClosed(f"no connection to port {port} there")

    def rsync_shell(self) -> str | None:
        with on_node(self.node.name):
            masters.with_master(self.endpoint, self._index, ensure_master)
        return shlex.join(self.endpoint.shell(masters.socket_path(self.endpoint, self._index)))

    def rsync_target(self, path: str) -> str:
        host = f"[{self.node.host}]" if ":" in self.node.host else self.node.host
        return f"{host}:{path}"
