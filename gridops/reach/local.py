"""This machine as a node: no SSH, the same Link."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from gridops.errors import NodeError, NodeTimeout, PortClosed, ProcessKilled
from gridops.model import Node, Reply
from gridops.reach.link import LOOPBACK, Stream, on_node, run_script


class LocalProcess:
    """A child of ours in a session of its own: it can be ended whole."""

    def __init__(self, command: str) -> None:
        self._child = subprocess.Popen(
            ["sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=Path.home(),
            start_new_session=True,
        )
        streams = self._child.stdin, self._child.stdout, self._child.stderr
        self.stdin, self.stdout, self.stderr = (s.fileno() if s else -1 for s in streams)

    def wait(self, timeout: float | None = None) -> int:
        try:
            code = self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise NodeTimeout(f"still running after {timeout:g} s") from None
        if code < 0:
            raise ProcessKilled(f"the process was killed by signal {-code}")
        return code

    def close_stdin(self) -> None:
        if self._child.stdin:
            with suppress(OSError):
                self._child.stdin.close()

    def close(self) -> None:
        for stream in (self._child.stdin, self._child.stdout, self._child.stderr):
            if stream:
                with suppress(OSError):
                    stream.close()
        if self._child.poll() is None:  # as sshd would: whoever still runs has lost its streams
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(0.2)
        # Politely first: what is to outlive its client for a moment (jobs/attached.sh) ignores HUP.
        for number, patience in (signal.SIGHUP, 1.0), (signal.SIGKILL, 5.0):
            if self._child.poll() is None:
                with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(self._child.pid, number)
                    self._child.wait(patience)


class LocalLink:
    """A Link to this machine."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def start(self, command: str, *, timeout: float) -> LocalProcess:
        del timeout  # nothing to wait for
        try:
            return LocalProcess(command)
        except OSError as exc:
            raise NodeError(f"cannot start a shell: {exc}", node=self.node.name) from exc

    def script(self, text: str, *args: str, timeout: float, stdin: bytes = b"") -> Reply:
        end = time.monotonic() + timeout
        try:
            with on_node(self.node.name):
                return run_script(
                    lambda command: self.start(command, timeout=timeout), text, args, end, stdin
                )
        except NodeTimeout as exc:
            raise NodeTimeout(f"no answer within {timeout:g} s", node=self.node.name) from exc

    def dial(self, port: int, *, timeout: float, host: str | None = None) -> Stream:
        return _connect((host,) if host else LOOPBACK, port, timeout, self.node.name)

    def rsync_shell(self) -> str | None:
        return None

    def rsync_target(self, path: str) -> str:
        return path


def _connect(hosts: tuple[str, ...], port: int, timeout: float, name: str) -> Stream:
    import socket  # not part of every run

    for host in hosts:
        try:
            made = socket.create_connection((host, port), timeout)
        except TimeoutError:
            raise NodeError(f"its port {port} does not answer", node=name) from None
        except OSError:
            continue
        made.settimeout(None)
        return made
    raise PortClosed(f"no connection to port {port} there", node=name)
