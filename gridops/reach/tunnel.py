"""A local port that leads to an address on the far side of a connection.

Unlike Fabric's own: that the port is taken is said at once, one connection that fails harms no
other, an end of input travels alone, and the port is free again when the block ends, however.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

CHUNK = 64 * 1024
PATIENCE = 5.0  # seconds for threads to end once what they wait on is closed


class Stream(Protocol):
    """What a socket and Paramiko's Channel have in common."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


Dial = Callable[[tuple[str, int]], Stream]  # from the peer's address to the far side


@contextmanager
def tunnel(host: str, port: int, dial: Dial) -> Iterator[int]:
    """Listen on `host`:`port` while the block runs and connect whoever comes to what `dial` opens.

    Yields the port (a free one for 0). Raises OSError when it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=64)
    switchboard = _Switchboard(listener, dial)
    try:
        yield int(listener.getsockname()[1])
    finally:
        switchboard.close()


class _Switchboard:
    def __init__(self, listener: socket.socket, dial: Dial) -> None:
        listener.settimeout(0.5)  # where closing it does not wake the acceptor
        self._listener = listener
        self._dial = dial
        self._open: set[Stream] = set()
        self._closed = False
        self._lock = threading.Lock()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            streams = tuple(self._open)
        with suppress(OSError):  # wakes the acceptor
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for stream in streams:
            _end(stream)
        self._acceptor.join(PATIENCE)

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, peer = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=self._connect, args=(near, peer[:2]), daemon=True).start()

    def _connect(self, near: socket.socket, peer: tuple[str, int]) -> None:
        with suppress(OSError):
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            far = self._dial(peer)
        except Exception:  # noqa: BLE001 - whoever connected sees it end; the others go on
            near.close()
            return
        with self._lock:
            self._open |= {near, far}
            closed = self._closed
        if not closed:
            back = threading.Thread(target=_copy, args=(far, near), daemon=True)
            back.start()
            _copy(near, far)
            back.join()
        for stream in (near, far):
            _end(stream)
        with self._lock:
            self._open -= {near, far}


def _copy(source: Stream, target: Stream) -> None:
    with suppress(OSError, EOFError):
        while data := source.recv(CHUNK):
            target.sendall(data)
    with suppress(OSError, EOFError):
        target.shutdown(socket.SHUT_WR)


def _end(stream: Stream) -> None:
    with suppress(OSError, EOFError):
        stream.shutdown(socket.SHUT_RDWR)
    with suppress(OSError, EOFError):
        stream.close()
