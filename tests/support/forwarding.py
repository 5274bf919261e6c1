"""Servers to lead ports to, and clients of those ports: `from forwarding import …`."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from support.network import closed_port

from gridops.model import PortForward
from gridops.observe import events
from gridops.reach.link import Link
from gridops.reach.port_forward import Forwards


@contextmanager
def server(serve: Callable[[socket.socket], None], port: int = 0) -> Iterator[int]:
    """Calls `serve` with each connection, in a thread of its own."""

    def one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            serve(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", port), backlog=128) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def reverse(connection: socket.socket) -> None:
    """Answers only when all of it has come."""
    whole = b"".join(iter(lambda: connection.recv(65536), b""))
    connection.sendall(whole[::-1])


@contextmanager
def forwarded(link: Link, remote: int) -> Iterator[int]:
    """A free local port that leads to `remote`, for certain through the link."""
    local = free_port()
    with Forwards.reserve([PortForward(remote, local)]) as forwards:
        forwards.prepare(link)
        forwards.lead()
        yield local


def free_port() -> int:
    with closed_port() as port:
        return port


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 20)


def said(connection: socket.socket) -> bytes:
    """All that comes until its end; nothing when it ends by a reset."""
    try:
        return b"".join(iter(lambda: connection.recv(65536), b""))
    except ConnectionError:
        return b""


def ask(port: int, data: bytes) -> bytes:
    """What it answers; nothing where nobody does."""
    with suppress(OSError), connect(port) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return said(connection)
    return b""


def of(heard: list[events.Event], name: str) -> list[dict[str, object]]:
    return [dict(event.fields) for event in heard if event.name == name]
