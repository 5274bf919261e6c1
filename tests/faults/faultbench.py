"""Nodes whose connections can be made to fail."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gridops.errors import SandboxError
from gridops.model import Node
from gridops.reach import link_to
from gridops.reach.link import Link
from gridops.sandbox import Sandbox
from gridops.settings import SshSettings

SLOTS = 8  # of a node


class Proxy:
    """Passes bytes between 127.0.0.1:`port` and a target, unless it stalls.

    A thread a direction: a connection that nobody reads must not hold the others up.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port: int = self._listener.getsockname()[1]
        self._stalled_until = 0.0
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self, seconds: float) -> None:
        self._stalled_until = max(self._stalled_until, time.monotonic() + seconds)

    def close(self) -> None:
        for one in self._open:
            _shut(one)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target), 2)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._open += [near, far]
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                while (left := self._stalled_until - time.monotonic()) > 0:
                    time.sleep(left)
                target.sendall(data)
        _shut(source)
        _shut(target)


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@dataclass
class Bench:
    """A node that is reached through a proxy of its own."""

    name: str
    sandbox: Sandbox
    proxy: Proxy
    settings: SshSettings
    inventory: Path
    restarting: threading.Lock = field(default_factory=threading.Lock)
    troubles: list[str] = field(default_factory=list)  # what the bench itself met

    @property
    def home(self) -> Path:
        return self.sandbox.node(self.name).home

    @property
    def listener(self) -> int | None:
        return self.sandbox.node(self.name).pid

    def link(self) -> Link:
        return link_to(Node(self.name, self.name), self.settings)

    # -- what can go wrong -----------------------------------------------------------------------

    def kill_sessions(self) -> None:
        """Every sshd process that serves a connection dies."""
        for pid in children_of(self.listener, "sshd"):
            kill_one(pid)

    def restart(self) -> None:
        """sshd and all its connections die, and it comes back."""
        with self.restarting:
            listener = self.listener
            sessions = children_of(listener, "sshd") if listener else []
            for pid in [listener, *sessions]:
                kill_one(pid)
            end = time.monotonic() + 20
            while not self._back(listener) and time.monotonic() < end:
                time.sleep(0.1)

    def _back(self, before: int | None) -> bool:
        """Have another sshd than `before`; one that is only just dying still looks alive."""
        try:
            after = self.sandbox.start(self.name).pid
        except SandboxError as exc:  # the port is still held by a dying child
            self.troubles.append(str(exc))
            return False
        return after is not None and after != before

    def kill_supervisor(self, job_id: str) -> None:
        record = self.home / ".gridops" / "jobs" / job_id / "sup"
        with suppress(OSError, ValueError):
            kill_one(int(record.readlink().name.split(".")[0]))


@contextmanager
def benches(sandbox: Sandbox, directory: Path) -> Iterator[list[Bench]]:
    """All nodes of the sandbox; in `directory` go their ssh_config and inventory."""
    # A copy: the sandbox writes its own anew whenever a node starts.
    known = directory / "known_hosts"
    known.write_bytes((sandbox.root / "known_hosts").read_bytes())
    text = sandbox.ssh_config.read_text().replace(str(sandbox.root / "known_hosts"), str(known))
    config, inventory = directory / "proxied_config", directory / "nodes.yaml"
    settings = SshSettings(config_file=config, connect_timeout=4)
    made = []
    try:
        for node in sandbox.nodes:
            proxy = Proxy(node.port)
            made.append(Bench(node.name, sandbox, proxy, settings, inventory))
            alias = f"HostKeyAlias [127.0.0.1]:{node.port}"
            text = text.replace(f"Port {node.port}\n", f"Port {proxy.port}\n    {alias}\n")
        config.write_text(text)
        nodes = {one.name: {"slots": SLOTS} for one in made}
        ssh = {"config_file": str(config), "connect_timeout": 4}
        inventory.write_text(json.dumps({"nodes": nodes, "ssh": ssh}))
        yield made
    finally:
        for one in made:
            one.proxy.close()


def kill_one(pid: int | None) -> None:
    """SIGKILL for one process of ours. 0 and below mean groups, or every process there is."""
    if pid is not None and pid > 1:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def children_of(parent: int | None, name: str) -> list[int]:
    if parent is None:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                comm, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(") ")
                if comm.startswith(name) and int(rest.split()[1]) == parent:
                    found.append(int(entry.name))
    return found
