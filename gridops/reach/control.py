"""The client side of OpenSSH's control socket.

Source: PROTOCOL.mux in OpenSSH. Every message is a uint32 length, a uint32 type and a body; strings
are a uint32 length and bytes. Both sides open with HELLO. Ours travels together with the first
request, which saves a wait.
"""

from __future__ import annotations

import array
import os
import select
import socket
import struct
import time
from pathlib import Path

from gridops.errors import (
    ConnectionLost,
    NodeError,
    NodeTimeout,
    PortClosed,
    ReachError,
    SessionRefused,
)

HELLO = 0x00000001
NEW_SESSION = 0x10000002
ALIVE_CHECK = 0x10000004
TERMINATE = 0x10000005
OPEN_FORWARD = 0x10000006
CLOSE_FORWARD = 0x10000007
STDIO_FORWARD = 0x10000008
STOP_LISTENING = 0x10000009
PROXY = 0x1000000F
OK = 0x80000001
PERMISSION_DENIED = 0x80000002
FAILURE = 0x80000003
EXIT_MESSAGE = 0x80000004
ALIVE = 0x80000005
SESSION_OPENED = 0x80000006
REMOTE_PORT = 0x80000007
PROXY_OPENED = 0x8000000F

MUX_VERSION = 4
REQUEST = 1  # we make one request a connection, so any id serves
LOCAL_TIMEOUT = 5.0  # seconds for what the master answers by itself, without its network
MAX_MUX_MESSAGE = 256 * 1024  # bytes of a message, as OpenSSH itself has it
CHECK_INTERVAL = 1.0  # seconds between two looks whether the master is still the one to use
NO_ESCAPE = 0xFFFFFFFF
FORWARD_REMOTE = 2

Address = tuple[str, int]  # host, port


class Control:
    """One connection to a master's control socket."""

    def __init__(self, path: str) -> None:
        """Connect to the socket at `path`.

        Raises OSError when no master listens there; a TimeoutError when one does that takes no
        connection.
        """
        self.path = path
        self._buffer = bytearray()
        self._greeting = _frame(struct.pack(">II", HELLO, MUX_VERSION))
        self._identity = _identity(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(LOCAL_TIMEOUT)
        try:
            _connect(self.socket, path)
        except BaseException:
            self.socket.close()
            raise

    def is_current(self) -> bool:
        """Check that `path` is still the socket that we came through."""
        try:
            return _identity(self.path) == self._identity
        except OSError:
            return False

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
            version = _number(body, 0)
            if version != MUX_VERSION:
                raise ConnectionLost(
                    f"the control master speaks version {version}, not {MUX_VERSION}"
                )

    def _message(self, end: float | None, timeout: float | None) -> tuple[int, bytes]:
        while True:
            if len(self._buffer) >= 8:
                length, kind = struct.unpack_from(">II", self._buffer)
                if not 4 <= length <= MAX_MUX_MESSAGE:
                    raise ConnectionLost(f"the control master sent a message of {length} bytes")
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

    def alive(self, timeout: float = LOCAL_TIMEOUT) -> int:
        """The master's pid."""
        self.request(ALIVE_CHECK)
        kind, body = self.reply(timeout)
        if kind != ALIVE:
            raise ConnectionLost(f"the control master answered {kind:#x} to an alive check")
        return _number(body, 1)

    def terminate(self) -> None:
        """End the master and everything that runs over it."""
        self.request(TERMINATE)
        self.reply(LOCAL_TIMEOUT)

    def stop_listening(self, timeout: float) -> None:
        """Have the master take nobody else; it ends with the last session that runs over it."""
        self.request(STOP_LISTENING)
        self.reply(timeout)

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
                return _number(body, 1)

    def stdio_forward(self, to: Address, fds: tuple[int, int], timeout: float) -> None:
        """Connect the descriptors `fds` with `to`, as seen from the node.

        One of them is read, one is written. Raises PortClosed when sshd makes no such connection,
        NodeError when that takes longer than `timeout` seconds (a port may keep silent, so that
        says nothing about the master), and ConnectionLost when the master went away, or another
        has taken its place.
        """
        self.request(STDIO_FORWARD, _text(b"") + _address(to), fds)
        end = time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            try:
                kind, body = self.reply(max(0.0, min(CHECK_INTERVAL, left)))
                break
            except NodeTimeout:
                if left <= CHECK_INTERVAL:
                    raise NodeError(f"its port {to[1]} does not answer") from None
                if not self.is_current():
                    raise ConnectionLost("the control master was replaced") from None
        if kind == FAILURE:
            raise PortClosed(f"no connection to its port {to[1]}: {_reason(body)}")
        if kind != SESSION_OPENED:
            raise ConnectionLost(f"the control master refused a forwarding: {_reason(body)}")

    def forward_remote(self, listen: Address, to: Address, timeout: float) -> int:
        """Open a remote forwarding: the node listens, and its clients are led to `to` from here.

        Returns the port, which the node chooses when `listen` names 0. The master connects, so it
        works on when we end: `cancel_remote` ends it. Raises NodeError when sshd refuses.
        """
        self.request(OPEN_FORWARD, _forwarding(listen, to))
        kind, body = self.reply(timeout)
        if kind == REMOTE_PORT:
            return _number(body, 1)
        if kind != OK:
            raise NodeError(f"its sshd does not listen on port {listen[1]} for us: {_reason(body)}")
        return listen[1]

    def cancel_remote(self, listen: Address, to: Address) -> None:
        """Undo `forward_remote`; `listen` names the same port as there, 0 too."""
        self.request(CLOSE_FORWARD, _forwarding(listen, to))
        self.reply(LOCAL_TIMEOUT)

    def proxy(self, timeout: float = LOCAL_TIMEOUT) -> socket.socket:
        """Switch to proxy mode; from here on the socket carries SSH connection-layer packets."""
        self.request(PROXY)
        kind, _ = self.reply(timeout)
        if kind != PROXY_OPENED or self._buffer:
            raise ReachError("this OpenSSH has no mux proxy mode", hint="update it to 7.4 or later")
        return self.socket


def _connect(sock: socket.socket, path: str) -> None:
    end = time.monotonic() + LOCAL_TIMEOUT
    while True:
        try:
            return sock.connect(path)
        except BlockingIOError:  # its queue is full, and the kernel does not wait for that
            if time.monotonic() >= end:
                raise TimeoutError from None
            time.sleep(0.01)


def _identity(path: str) -> tuple[int, int]:
    """Inode and time of change of a socket.

    Renaming the socket does not change them; a successor's differ even if it got the inode.
    """
    found = Path(path).stat()
    return found.st_ino, found.st_mtime_ns


def _frame(message: bytes) -> bytes:
    return struct.pack(">I", len(message)) + message


def _text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _forwarding(listen: Address, to: Address) -> bytes:
    return struct.pack(">I", FORWARD_REMOTE) + _address(listen) + _address(to)


def _address(address: Address) -> bytes:
    return _text(os.fsencode(address[0])) + struct.pack(">I", address[1])


def _number(body: bytes, place: int) -> int:
    """The number at that place of a message's body."""
    try:
        return int(struct.unpack_from(">I", body, 4 * place)[0])
    except struct.error:
        raise ConnectionLost("the control master sent a message that is cut short") from None


def _reason(body: bytes) -> str:
    try:
        (length,) = struct.unpack_from(">I", body, 4)
    except struct.error:
        return "no reason given"
    return body[8 : 8 + length].decode(errors="replace")
