"""State of a sandbox, kept in its directory: any process can take it over."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gridops.errors import SandboxError, UnknownNameError, UsageError
from gridops.sandbox import files
from gridops.sandbox import server as sshd
from gridops.sandbox.server import PortTaken, Server, Setup
from gridops.system.files import write_atomic
from gridops.system.locks import acquire_lock
from gridops.system.processes import ProcessIdentity
from gridops.system.scripts import source

STATE_FILE = "state.json"
SHARED = "shared"  # the directory of the one sshd of a shared sandbox
EMPTY = "empty"
NODE_FILES = (
    *("enter.sh", "client_key", "client_key.pub", "authorized_keys", "known_hosts"),
    *("ssh_config", "inventory.yaml", ".gitignore", STATE_FILE),
)
RESERVED = (*NODE_FILES, EMPTY, SHARED)  # no node can be called that
FIRST_ADDRESS = ipaddress.IPv4Address("127.0.0.2")  # of a shared sandbox's nodes


@dataclass(frozen=True, slots=True)
class SandboxNode:
    name: str
    host: str
    port: int
    home: Path
    pid: int | None  # of its sshd; None while that is not running

    @property
    def running(self) -> bool:
        return self.pid is not None


@dataclass
class State:
    root: Path
    shared: bool
    servers: dict[str, Server] = field(default_factory=dict)  # by the name of their directory
    hosts: dict[str, str] = field(default_factory=dict)  # by the name of the node

    @classmethod
    def read(cls, root: Path) -> State | None:
        """The state of the sandbox in `root`; None when there is none."""
        try:
            found = json.loads((root / STATE_FILE).read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            raise SandboxError(f"cannot read {root / STATE_FILE}: {exc}") from exc
        servers = {
            name: Server(
                directory=root / name,
                port=known["port"],
                listen=known["listen"],
                process=ProcessIdentity(**known["process"]) if known["process"] else None,
            )
            for name, known in found["servers"].items()
        }
        return cls(root, found["shared"], servers, found["hosts"])

    @classmethod
    def fresh(cls, root: Path, *, shared: bool) -> State:
        """Begin a sandbox in an empty directory: keys and the sessions' enter.sh."""
        files.tool("sshd", "openssh-server")
        if any(root.iterdir()):
            raise SandboxError(
                f"{root} is not empty and holds no sandbox", hint="choose another directory"
            )
        state = cls(root, shared)
        state.write()  # from here on `down` knows it
        (root / ".gitignore").write_text("*\n")
        (root / EMPTY).mkdir()
        (root / "enter.sh").write_text(source("sandbox/enter.sh"))
        sshd.keygen(root / "client_key", "gridops sandbox")
        (root / "authorized_keys").write_text((root / "client_key.pub").read_text())
        return state

    def write(self) -> None:
        """Write the state, and the files that follow from it."""
        servers = {
            server.directory.name: {
                "port": server.port,
                "listen": server.listen,
                "process": server.process and server.process._asdict(),
            }
            for server in self.servers.values()
        }
        found = {"version": 1, "shared": self.shared, "servers": servers, "hosts": self.hosts}
        write_atomic(self.root / STATE_FILE, json.dumps(found, indent=1).encode(), mode=0o644)
        (self.root / "known_hosts").write_text(self._host_key_lines())
        nodes = [(node.name, node.host, node.port) for node in self.nodes(check=False)]
        (self.root / "ssh_config").write_text(files.ssh_config(self.root, nodes))
        (self.root / "inventory.yaml").write_text(files.inventory(self.root, self.hosts))

    def nodes(self, check: bool = True) -> tuple[SandboxNode, ...]:
        """All nodes; with `check` each with the pid of its sshd, if that runs."""
        pids: dict[str, int] = {}
        for name, server in self.servers.items():
            if check and server.process and server.running:
                pids[name] = server.process.pid
        return tuple(
            SandboxNode(
                name=name,
                host=host,
                port=self.server_of(name).port,
                home=self._home(name, host),
                pid=pids.get(SHARED if self.shared else name),
            )
            for name, host in self.hosts.items()
        )

    def single(self, name: str) -> Server:
        """The node's own sshd. Raises UsageError when it shares one with others."""
        if self.shared:
            raise UsageError("the nodes of a shared sandbox stop and start only together")
        if name not in self.servers:
            raise UnknownNameError("sandbox node", name, self.hosts)
        return self.servers[name]

    def add(
        self, names: Iterable[str], options: Mapping[str, str], setup: Mapping[str, Setup]
    ) -> None:
        """Set up the nodes that are not there yet; nothing is started."""
        if self.shared and not self.servers:
            listen = "0.0.0.0"
            one = setup.get(SHARED, Setup())
            self._prepare(SHARED, listen, one, options)
        for name in names:
            if name in self.hosts:
                continue
            if self.shared:
                self.hosts[name] = str(FIRST_ADDRESS + len(self.hosts))
            else:
                self._prepare(name, "127.0.0.1", setup.get(name, Setup()), options)
                self.hosts[name] = "127.0.0.1"
            self._home(name, self.hosts[name]).mkdir(mode=0o700, parents=True, exist_ok=True)

    def start_all(self) -> None:
        """Start the servers that do not run; one whose port was taken meanwhile gets another."""
        for name, server in self.servers.items():
            for _ in range(10):
                try:
                    self.servers[name] = sshd.start(server)
                    break
                except PortTaken:
                    server = sshd.move(server)
            else:
                raise SandboxError("no port stays free here", node=name)

    def remove(self) -> None:
        """Remove all files of the sandbox; its directory too, unless others put files there."""
        for directory in (
            *(server.directory for server in self.servers.values()),
            self.root / EMPTY,
        ):
            shutil.rmtree(directory, ignore_errors=True)
        unfinished = self.root.glob(f".{STATE_FILE}.*")  # of a process that was killed
        for path in (*(self.root / name for name in NODE_FILES), *unfinished):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.root.rmdir()

    def _prepare(self, name: str, listen: str, setup: Setup, options: Mapping[str, str]) -> None:
        self.servers[name] = sshd.prepare(
            self.root / name, listen=listen, setup=setup, options=options
        )

    def server_of(self, node: str) -> Server:
        return self.servers[SHARED if self.shared else node]

    def _home(self, name: str, host: str) -> Path:
        if self.shared:
            return self.root / SHARED / "homes" / host
        return self.root / name / "home"

    def _host_key_lines(self) -> str:
        """Text of known_hosts: one line a server; of a shared one for all loopback addresses."""
        host = "127.*" if self.shared else "127.0.0.1"
        lines = [f"[{host}]:{one.port} {one.public_key()}\n" for one in self.servers.values()]
        return "".join(lines)


@contextmanager
def lock_root(root: Path, *, create: bool, patience: float) -> Iterator[None]:
    """Keep other processes from changing the sandbox in `root`; the lock is on the directory.

    Raises SandboxError when there is no such directory (made first when `create`), or another
    process holds it for longer than `patience` seconds.
    """
    lock = _lock(root, time.monotonic() + patience, create=create)
    try:
        yield
    finally:
        os.close(lock)


def _lock(root: Path, end: float, *, create: bool) -> int:
    while True:
        try:
            if create:
                root.mkdir(mode=0o700, parents=True, exist_ok=True)
            # One that is taken down while we wait for the lock is made again.
            with suppress(FileNotFoundError) if create else nullcontext():
                return acquire_lock(root, end, flags=os.O_RDONLY | os.O_DIRECTORY)
        except TimeoutError as exc:
            message = f"another process is still busy with the sandbox in {root}"
            raise SandboxError(message) from exc
        except OSError as exc:
            raise SandboxError(f"no sandbox can be in {root}: {exc.strerror}") from exc
