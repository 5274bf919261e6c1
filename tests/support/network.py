"""Servers and networks that misbehave: `from network import …`."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gridops.inventory.settings import SshSettings
from gridops.sandbox import Sandbox


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that nobody listens on, and nobody else gets meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def listener(greeting: bytes = b"") -> Iterator[int]:
    """A server that takes connections, says `greeting` and then nothing."""
    held: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                held.append(server.accept()[0])
                held[-1].sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        for one in held:
            one.close()


class Way:
    """A TCP connection's way to a port; while it is silent nothing gets through, and no one is
    told. `forget` makes it so for the connections there are, for ever."""

    def __init__(self, server: socket.socket, port: int) -> None:
        self.silent = False
        self.port = server.getsockname()[1]
        self._to = port
        self._open: list[socket.socket] = []
        self._forgotten: set[socket.socket] = set()
        threading.Thread(target=self._serve, args=(server,), daemon=True).start()

    def settings(self, sandbox: Sandbox, directory: Path, **changed: object) -> SshSettings:
        """Those by which `far` is node1, reached on this way."""
        config = directory / "config"
        name = f"[127.0.0.1]:{self._to}"
        config.write_text(
            f"Host far\n  HostName 127.0.0.1\n  Port {self.port}\n  HostKeyAlias {name}\n"
            f"Match all\n  Include {sandbox.ssh_config}\n"
        )
        return SshSettings.model_validate({"config_file": config, **changed})

    def forget(self) -> None:
        self._forgotten |= set(self._open)

    def close(self) -> None:
        self.forget()
        self.silent = False
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _serve(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                while self.silent:
                    time.sleep(0.02)
                if source not in self._forgotten:
                    target.sendall(data)


@contextmanager
def silenceable(port: int) -> Iterator[Way]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        way = Way(server, port)
        yield way
        server.shutdown(socket.SHUT_RDWR)
        way.close()
