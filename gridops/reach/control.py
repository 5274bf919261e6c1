"""The client side of OpenSSH's control socket.

Source: PROTOCOL.mux in OpenSSH. Every message is a uint32 length, a uint32 type and a body; strings
are a uint32 length and bytes. Both sides open with HELLO. Ours travels together with the first
request, which saves a wait.
"""

from __future__ import annotations

import array
import select
import socket
import struct
import time

from gridops.errors import ConnectionLost, NodeTimeout, SessionRefused

HELLO = 0x00000001
NEW_SESSION = 0x10000002
ALIVE_CHECK = 0x10000004
TERMINATE = 0x10000005
STOP_LISTENING = 0x10000009
PROXY = 0x1000000F
OK = 0x80000001
PERMISSION_DENIED = 0x80000002
FAILURE = 0x80000003
EXIT_MESSAGE = 0x80000004
ALIVE = 0x80000005
SESSION_OPENED = 0x80000006
TTY_ALLOC_FAIL = 0x80000008
PROXY_OPENED = 0x8000000F

VERSION = 4
REQUEST = 1  # we make one request a connection, so any id serves
LOCAL_PATIENCE = 5.0  # seconds for what the master answers by itself, without its network
NO_ESCAPE = 0xFFFFFFFF


class Control:
    """One connection to a master's control socket."""

    def __init__(self, path: str) -> None:
        """Raises OSError when no master listens at `path`."""
        self.path = path
        self._buffer = bytearray()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(LOCAL_PATIENCE)
        try:
            self.socket.connect(path)
        except BaseException:
            self.socket.close()
            raise
        self._greeting = _frame(struct.pack(">II", HELLO, VERSION))
        self._greeted = False

    def close(self) -> None:
        self.socket.close()

    def request(self, kind: int, body: bytes = b"", fds: tuple[int, ...] = ()) -> None:
        """Send one request (and the descriptors that belong to it)."""
        message = self._greeting + _frame(struct.pack(">II", kind, REQUEST) + body)
        self._greeting = b""
        try:
            self.socket.sendall(message)
            for fd in fds:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
                self.socket.sendmsg([b"\0"], [rights])
        except OSError as exc:
            raise ConnectionLost(f"the control master went away: {exc}") from exc

    def reply(self, timeout: float | None) -> tuple[int, bytes]:
        """The next message that is not the greeting: its type and body.

        Raises NodeTimeout after `timeout` seconds, ConnectionLost when the master hung up.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            kind, body = self._message(end, timeout)
            if kind != HELLO:
                return kind, body
            (version,) = struct.unpack_from(">I", body)
            if version != VERSION:
                raise ConnectionLost(f"the control master speaks version {version}, not {VERSION}")

    def _message(self, end: float | None, timeout: float | None) -> tuple[int, bytes]:
        while True:
            if len(self._buffer) >= 8:
                length, kind = struct.unpack_from(">II", self._buffer)
                if len(self._buffer) >= 4 + length:
                    body = bytes(self._buffer[8 : 4 + length])
                    del self._buffer[: 4 + length]
                    return kind, body
            self._fill(end, timeout)

    def _fill(self, end: float | None, timeout: float | None) -> None:
        left = None if end is None else max(0.0, end - time.monotonic())
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        if not poll.poll(None if left is None else left * 1000):
            raise NodeTimeout(f"no answer within {timeout:g} s")
        try:
            data = self.socket.recv(4096)
        except OSError as exc:
            raise ConnectionLost(f"the control master went away: {exc}") from exc
        if not data:
            raise ConnectionLost("the connection ended")
        self._buffer += data

    # -- the requests we make ------------------------------------------------------------------

    def alive(self, timeout: float = LOCAL_PATIENCE) -> int:
        """The master's pid."""
        self.request(ALIVE_CHECK)
        kind, body = self.reply(timeout)
        if kind != ALIVE:
            raise ConnectionLost(f"the control master answered {kind:#x} to an alive check")
        return int(struct.unpack_from(">II", body)[1])

    def terminate(self) -> None:
        """End the master and everything that runs over it."""
        self.request(TERMINATE)
        self.reply(LOCAL_PATIENCE)

    def retire(self) -> None:
        """Let the master finish what runs over it, and take nothing new."""
        self.request(STOP_LISTENING)
        self.reply(LOCAL_PATIENCE)

    def new_session(self, command: str, fds: tuple[int, int, int], timeout: float) -> None:
        """Run `command` with these three descriptors as its streams (passenger mode)."""
        flags = struct.pack(">IIII", 0, 0, 0, 0)  # tty, X11, agent, subsystem: none
        text = command.encode("utf-8", "surrogateescape")
        body = _text(b"") + flags + struct.pack(">I", NO_ESCAPE) + _text(b"") + _text(text)
        self.request(NEW_SESSION, body, fds)
        kind, body = self.reply(timeout)
        if kind == FAILURE:
            raise SessionRefused(_reason(body))
        if kind != SESSION_OPENED:
            raise ConnectionLost(f"the control master refused a session: {_reason(body)}")

    def exit_status(self, timeout: float | None) -> int:
        """Wait for the session that `new_session` opened to end."""
        while True:
            kind, body = self.reply(timeout)
            if kind == EXIT_MESSAGE:
                return int(struct.unpack_from(">II", body)[1])

    def proxy(self) -> socket.socket:
        """Switch to proxy mode; from here on the socket carries SSH connection-layer packets."""
        self.request(PROXY)
        kind, _ = self.reply(LOCAL_PATIENCE)
        if kind != PROXY_OPENED or self._buffer:
            raise ConnectionLost("the control master does not speak proxy mode (OpenSSH >= 7.4)")
        return self.socket


def _frame(message: bytes) -> bytes:
    return struct.pack(">I", len(message)) + message


def _text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _reason(body: bytes) -> str:
    try:
        (length,) = struct.unpack_from(">I", body, 4)
    except struct.error:
        return "no reason given"
    return body[8 : 8 + length].decode(errors="replace")
