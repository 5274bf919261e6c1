"""A local port that leads to an address beyond a connection.

Unlike Fabric's own: that the port is taken is said at once, one connection that fails harms no
other, an end of input travels alone, and the port is free again when the block ends, however.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context

from gridops.reach.control import Address, Control
from gridops.reach.link import Stream, too_many_files_error

BUFFER_SIZE = 64 * 1024  # bytes; what a slow reader makes us hold of each direction
MAX_FORWARDED = 200  # connections at once, five descriptors each; further ones wait
THREAD_TIMEOUT = 5.0  # seconds for threads to end once what they wait on is closed

Dial = Callable[[tuple[str, int]], Stream]  # from the peer's address to the far side


@contextmanager
def tunnel(host: str, port: int, dial: Dial) -> Iterator[int]:
    """Listen on `host`:`port` while the block runs.

    Whoever comes is connected to what `dial` opens. Yields the port (a free one for 0). Raises
    OSError when it cannot be had.
    """
    listener = listen(host, port)
    switchboard = PortListener(listener, dial)
    try:
        yield int(listener.getsockname()[1])
    finally:
        switchboard.close()


def listen(host: str, port: int) -> socket.socket:
    """Listen on `host`:`port`. Raises OSError when the port cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)


class PortListener:
    """Connector of a listener's clients with the streams that `dial` opens.

    It owns `listener` from now on. Whoever comes while `dial` raises sees the connection end.
    """

    def __init__(self, listener: socket.socket, dial: Dial) -> None:
        listener.settimeout(0.5)  # where closing it does not wake the acceptor
        self._listener = listener
        self._dial = dial
        self._open: set[Stream] = set()
        self._closed = False
        self._lock = threading.Lock()
        self._free = threading.Semaphore(MAX_FORWARDED)
        self._acceptor = _thread(self._accept)

    def close(self) -> None:
        """End it all; the port is free at once. Twice is harmless."""
        with self._lock:
            self._closed = True
            streams = tuple(self._open)
        with suppress(OSError):  # wakes the acceptor
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for stream in streams:
            _end(stream)
        self._acceptor.join(THREAD_TIMEOUT)

    def _accept(self) -> None:
        while not self._closed:
            if not self._free.acquire(timeout=0.5):
                continue
            try:
                near, peer = self._listener.accept()
            except OSError as exc:
                self._free.release()
                if not isinstance(exc, TimeoutError):  # out of descriptors for a moment, say
                    time.sleep(0.05)
                continue
            _thread(self._serve, near, peer[:2])

    def _serve(self, near: socket.socket, peer: tuple[str, int]) -> None:
        try:
            with suppress(OSError):
                near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._keep(near):
                self._connect(near, peer)
        finally:
            self._drop(near)
            self._free.release()

    def _connect(self, near: socket.socket, peer: tuple[str, int]) -> None:
        try:
            far = self._dial(peer)
        except Exception:  # noqa: BLE001 - whoever connected sees it end; the others go on
            return
        try:
            if self._keep(far):
                back = _thread(_copy, far, near)
                _copy(near, far)
                back.join()
        finally:
            self._drop(far)

    def _keep(self, stream: Stream) -> bool:
        """True if it is not too late; then `close` will end `stream` as well."""
        with self._lock:
            self._open.add(stream)
            return not self._closed

    def _drop(self, stream: Stream) -> None:
        _end(stream)
        with self._lock:
            self._open.discard(stream)


def _thread(work: Callable[..., None], *args: object) -> threading.Thread:
    """A running thread; its events are of the same task and run as ours."""
    made = threading.Thread(target=copy_context().run, args=(work, *args), daemon=True)
    made.start()
    return made


def _copy(source: Stream, target: Stream) -> None:
    with suppress(OSError, EOFError):
        while data := source.recv(BUFFER_SIZE):
            target.sendall(data)
    with suppress(OSError, EOFError):
        target.shutdown(socket.SHUT_WR)


def _end(stream: Stream) -> None:
    with suppress(OSError, EOFError):
        stream.shutdown(socket.SHUT_RDWR)
    with suppress(OSError, EOFError):
        stream.close()


class ForwardedStream:
    """A stream to and from an address that the node sees.

    Our end of input travels alone; the other side's ends both directions, as with `ssh -W`
    (OpenSSH: channel_connect_stdio_fwd, force_drain).
    """

    def __init__(self, control: Control, to: Address, timeout: float) -> None:
        """Take `control` over. Raises what `Control.stdio_forward` does."""
        self._control = control
        self._out, theirs_in, self._in, theirs_out = _two_pairs()
        try:
            with theirs_in, theirs_out:
                control.stdio_forward(to, (theirs_in.fileno(), theirs_out.fileno()), timeout)
        except BaseException:
            self.close()
            raise

    def recv(self, size: int, /) -> bytes:
        return self._in.recv(size)

    def sendall(self, data: bytes, /) -> None:
        self._out.sendall(data)

    def settimeout(self, seconds: float | None, /) -> None:
        for one in (self._out, self._in):
            one.settimeout(seconds)

    def shutdown(self, how: int, /) -> None:
        """Shut down as a socket does; what the node still says after SHUT_WR goes on coming."""
        with suppress(OSError):
            self._out.shutdown(socket.SHUT_RDWR)
        if how != socket.SHUT_WR:
            with suppress(OSError):
                self._in.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for one in (self._out, self._in):
            one.close()
        self._control.close()


def _two_pairs() -> tuple[socket.socket, socket.socket, socket.socket, socket.socket]:
    """A socket pair for each direction: the master ends a direction by closing its descriptor."""
    made: list[socket.socket] = []
    try:
        for _ in range(2):
            made += socket.socketpair()
    except OSError as exc:
        for one in made:
            one.close()
        raise too_many_files_error() from exc
    return made[0], made[1], made[2], made[3]
