"""Clients' connections: heard and answered as fast as each client goes, by one thread.

cheroot gives every connection to one of its threads, which waits for the client: as many slow ones
as there are threads shut all others out, and its limit is for each read, not for the request. So
the threads get only requests that are whole, and give back answers that are whole. What lies
between, TLS handshakes included, is done here without ever waiting for any one client.

A connection is one request. It has REQUEST_TIMEOUT seconds from the moment it is accepted to the
last byte of its answer; when there are MAX_CONNECTIONS, or MAX_UNSENT bytes of answers, the oldest
makes room for a new one.
"""

from __future__ import annotations

import io
import re
import resource
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Queue
from typing import Any

from cheroot.server import HTTPConnection, HTTPRequest
from cheroot.ssl import Adapter

REQUEST_TIMEOUT = 10.0  # seconds for a request and its answer, whatever the client does meanwhile
MAX_CONNECTIONS = 256
MAX_UNSENT = 64 << 20  # bytes of answers that wait for their clients
ACCEPT_BACKLOG = 32  # connections that are accepted ahead of us; the kernel keeps the others
SEND_CHUNK = 1 << 18  # bytes that are sent at once
HEAD_LIMIT = 16_384  # bytes of a request's line and headers
END_OF_HEAD = re.compile(rb"\n\r?\n")
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Outbox(deque[memoryview]):
    """An answer in pieces, as they were written; none is copied."""

    def write(self, data: bytes) -> None:
        if data:
            self.append(memoryview(data))

    def close(self) -> None:
        """Do nothing: it holds no file."""


class OneRequest(HTTPRequest):
    """A request after which the connection is closed."""

    close_connection = True


class ClientConnection(HTTPConnection):
    """One request of one client, who may be slow."""

    RequestHandlerClass = OneRequest

    def __init__(self, server: Any, sock: socket.socket, makefile: object = None) -> None:
        super().__init__(server, sock, lambda *_: Outbox())
        sock.setblocking(False)
        self.began = time.monotonic()
        self.closed = False
        self._head = bytearray()
        self.answered = False

    @property
    def unsent(self) -> int:
        """Bytes of the answer that are not sent yet."""
        return sum(map(len, self.wfile))

    def communicate(self) -> bool:
        """Make the answer; True, for cheroot not to close the connection but to give it back."""
        self.rfile = io.BytesIO(self._head)
        super().communicate()  # type: ignore[no-untyped-call]
        self.answered = True
        return True

    def advance(self) -> int:
        """Read or write without blocking.

        Returns the event to wait for, 0 when no more is to be done. Raises OSError when the client
        has gone or speaks no TLS.
        """
        step, waits_for = (self._send, WRITE) if self.answered else (self._hear, READ)
        try:
            step()
        except ssl.SSLWantReadError:
            return READ
        except ssl.SSLWantWriteError:
            return WRITE
        except BlockingIOError:
            return waits_for
        return 0

    def _hear(self) -> None:
        """Read until the end of the headers; the rest is of no interest."""
        seen = 0
        while not END_OF_HEAD.search(self._head, max(0, seen - 2)) and seen < HEAD_LIMIT:
            seen = len(self._head)
            data = self.socket.recv(HEAD_LIMIT)
            if not data:
                raise ConnectionError("hung up before the request was whole")
            self._head += data

    def _send(self) -> None:
        while self.wfile:
            sent = self.socket.send(self.wfile[0][:SEND_CHUNK])
            self.wfile[0] = self.wfile[0][sent:]
            if not self.wfile[0]:
                self.wfile.popleft()

    def close(self) -> None:
        self.closed = True
        with suppress(OSError):
            super().close()


class Tls(Adapter):
    """TLS with the handshake as a part of hearing the request: nobody waits for it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    def bind(self, sock: socket.socket) -> socket.socket:
        return sock

    def wrap(self, sock: socket.socket) -> tuple[ssl.SSLSocket, dict[str, str]]:
        wrapped = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return wrapped, self.get_environ()

    def get_environ(self) -> dict[str, str]:
        return {"wsgi.url_scheme": "https"}

    def makefile(self, sock: object, mode: str = "r", bufsize: int = -1) -> Outbox:
        return Outbox()


class Connections:
    """The connections that wait for their clients, in one thread's hands.

    `on_request` takes those whose request is whole; they come back by `take` with their answer.
    """

    def __init__(self, on_request: Callable[[ClientConnection], object]) -> None:
        self._on_request = on_request
        self._arriving: Queue[ClientConnection] = Queue(ACCEPT_BACKLOG)
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, READ)
        self._waiting: set[ClientConnection] = set()  # for their clients
        self._open: set[ClientConnection] = set()  # also those that are being answered
        self._files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # that may be open
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="clients")

    def start(self) -> None:
        self._thread.start()

    def take(self, connection: ClientConnection) -> None:
        """Take a connection that is new, or has its answer; from any thread but ours."""
        if self._stopping:
            connection.close()
            return
        self._arriving.put(connection)
        self._rouse()

    def stop(self) -> None:
        """Hang up on all who are still waited for."""
        self._stopping = True
        self._rouse()
        if self._thread.ident is not None:
            self._thread.join()
        self._selector.close()
        self._woken.close()
        self._wake.close()
        for connection in self._open:
            connection.close()
        while not self._arriving.empty():
            self._arriving.get().close()

    def _rouse(self) -> None:
        with suppress(OSError):  # full: it is roused already
            self._wake.send(b"\0")

    def _run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select(self._time_left()):
                if key.fileobj is self._woken:
                    with suppress(BlockingIOError):
                        self._woken.recv(4096)
                else:
                    self._advance(key.data)
            while not self._arriving.empty():
                self._admit(self._arriving.get())
            self._hang_up_on_the_late()

    def _time_left(self) -> float | None:
        """Seconds until the next connection is late."""
        if not self._waiting:
            return None
        first = min(connection.began for connection in self._waiting)
        return max(0.0, first + REQUEST_TIMEOUT - time.monotonic())

    def _admit(self, connection: ClientConnection) -> None:
        self._open.add(connection)
        self._advance(connection)
        while self._is_crowded() and self._waiting:
            self._hang_up(min(self._waiting, key=lambda waiting: waiting.began))
        if self._is_crowded() and not connection.answered:
            self._hang_up(connection)

    def _is_crowded(self) -> bool:
        """True if a client has to go: the one waited for the longest, if any is.

        A client that behaves is among the youngest, and soon done.
        """
        limit = min(MAX_CONNECTIONS, self._files // 4)
        if len(self._open) > limit:  # cheroot closes some by itself
            self._open = {connection for connection in self._open if not connection.closed}
        unsent = sum(connection.unsent for connection in self._waiting)
        return len(self._open) > limit or unsent > MAX_UNSENT

    def _advance(self, connection: ClientConnection) -> None:
        try:
            event = connection.advance()
            self._wait_for(connection, event)
        except Exception:  # noqa: BLE001 - gone, no TLS, whatever: one client's, not the others'
            self._hang_up(connection)
            return
        if event:
            return
        if connection.answered:
            self._hang_up(connection)
        else:
            self._on_request(connection)

    def _wait_for(self, connection: ClientConnection, event: int) -> None:
        """Have the connection advance at that event; 0: no more."""
        known = connection in self._waiting
        if event and known:
            self._selector.modify(connection.socket, event, connection)
        elif event:
            self._selector.register(connection.socket, event, connection)
            self._waiting.add(connection)
        elif known:
            self._selector.unregister(connection.socket)
            self._waiting.discard(connection)

    def _hang_up(self, connection: ClientConnection) -> None:
        with suppress(OSError, ValueError, KeyError):
            self._wait_for(connection, 0)
        self._waiting.discard(connection)
        self._open.discard(connection)
        connection.close()

    def _hang_up_on_the_late(self) -> None:
        oldest = time.monotonic() - REQUEST_TIMEOUT
        for connection in [one for one in self._waiting if one.began <= oldest]:
            self._hang_up(connection)
