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
from gridops.inventory.settings import SshSettings
from gridops.model import Node
from gridops.reach import link_to
from gridops.reach.link import Link
from gridops.sandbox import Sandbox

SLOTS = 8  # of a node
KILLS = 3  # rounds, for those that one of the run's processes has just started


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
        kill_one(self.supervisor(job_id))

    def supervisor(self, job_id: str) -> int | None:
        """Its number, unless it is gone: another process may have that number by now."""
        record = self.home / ".gridops" / "jobs" / job_id / "sup"
        with suppress(OSError, ValueError):
            pid, tick = record.readlink().name.split(".")[:2]
            if stat_of(int(pid))[1][19] == tick:
                return int(pid)
        return None

    def end_login(self, job_id: str, grace: float) -> None:
        """All processes of a run end as logind ends those of a login, with its connections."""
        self._end_processes(job_id, (signal.SIGTERM, signal.SIGHUP, signal.SIGCONT), grace)

    def shut_down(self, job_id: str, grace: float) -> None:
        """They end as in an orderly shutdown of their node."""
        self._end_processes(job_id, (signal.SIGTERM, signal.SIGCONT), grace)

    def _end_processes(
        self, job_id: str, signals: tuple[signal.Signals, ...], grace: float
    ) -> None:
        """These signals to each of them at once, supervisor and all; KILL for what is left then."""
        for pid in self.processes(job_id):
            for number in signals:
                send(pid, number)
        self.kill_sessions()
        time.sleep(grace)
        for _ in range(KILLS):
            for pid in self.processes(job_id):
                kill_one(pid)
            time.sleep(0.02)

    def processes(self, job_id: str) -> list[int]:
        """The supervisor, its helpers and the command's, and whoever asks after that run alone."""
        base, session = self.home / ".gridops", self.supervisor(job_id)
        found = []
        for pid in pids() if job_id else ():
            with suppress(OSError):
                words, environ = words_of(pid, "cmdline"), words_of(pid, "environ")
                if (
                    int(stat_of(pid)[1][3]) == session
                    or f"GRIDOPS_RUN_ID={job_id}" in environ
                    or (job_id in words and str(base) in words)
                ):
                    found.append(pid)
        return found


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
    send(pid, signal.SIGKILL)


def send(pid: int | None, number: signal.Signals) -> None:
    if pid is not None and pid > 1:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def words_of(pid: int, name: str) -> list[str]:
    """The command line or the environment of a process; of a zombie there is none."""
    return os.fsdecode(Path(f"/proc/{pid}/{name}").read_bytes()).split("\0")


def stat_of(pid: int) -> tuple[str, list[str]]:
    """The name of a process, and what follows it: state, parent, group, session and more."""
    text = Path(f"/proc/{pid}/stat").read_text()
    name, _, rest = text.partition("(")[2].rpartition(") ")
    return name, rest.split()


def children_of(parent: int | None, name: str) -> list[int]:
    if parent is None:
        return []
    found = []
    for pid in pids():
        with suppress(OSError):
            comm, rest = stat_of(pid)
            if comm.startswith(name) and int(rest[1]) == parent:
                found.append(pid)
    return found
