"""Three machines in one: network namespaces on a bridge, each with its own address, process table,
host name, /tmp, /dev/shm, home and sshd. Needs root.

By hand: `PYTHONPATH=tests python -m support.namespaces DIRECTORY` has them until its input ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gridops.sandbox
from gridops.sandbox import files
from gridops.sandbox.server import keygen

PORT = 22
LIMIT = 15.0  # seconds until an sshd must listen
# $1 the node's directory, $2 its name, $3 what must be seen at the same path, though it is in /tmp.
ENTRY = """
set -e
hostname "$2"
mount -t tmpfs -o size=1g tmpfs /dev/shm
mkdir -p "$1/tmp/${3#/tmp/}"
mount --bind "$3" "$1/tmp/${3#/tmp/}"
mount --rbind "$1/tmp" /tmp
chmod 1777 /tmp
mkdir -p /run/sshd
exec "$(command -v sshd)" -D -f "$1/sshd_config" -E "$1/log"
"""


def why_not() -> str:
    """Why there can be no such nodes here; empty when there can."""
    if os.getuid() != 0:
        return "network namespaces need root"
    trial = f"gt{secrets.token_hex(3)}"
    done = _run("ip", "netns", "add", trial)
    if done.returncode:
        return f"no network namespace can be made here: {done.stderr.strip()}"
    _run("ip", "netns", "del", trial)
    return ""


def _run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options
    )


def _must(*words: str) -> None:
    done = _run(*words)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Machine:
    """One node. `pid` is the first process of its process table, as seen from here."""

    name: str
    address: str
    directory: Path
    namespace: str
    pid: int

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def tmp(self) -> Path:
        """Its /tmp."""
        return self.directory / "tmp"

    def inside(self, *words: str, env: dict[str, str] | None = None) -> list[str]:
        """The words that run a command in it, beside its sshd."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-u"]
        own = {"HOME": str(self.home), "PATH": os.environ["PATH"], **(env or {})}
        return [*enter, "env", "-i", *(f"{k}={v}" for k, v in own.items()), *words]

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        env = options.pop("env", None)
        return _run(*self.inside(*words, env=env), **{"timeout": 60, **options})

    def processes(self, what: str = "") -> dict[int, str]:
        """Those with `what` in their command line; pids as its own process table has them."""
        told = self.run("ps", "-eo", "pid=,stat=,args=").stdout.splitlines()
        found = {}
        for line in told:
            pid, stat, args = line.split(None, 2)
            if what in args and not stat.startswith("Z") and not args.startswith("ps -eo"):
                found[int(pid)] = args
        return found


class Machines:
    """All of them, and the bridge between."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root = root
        self.tag = secrets.token_hex(2)
        # 198.18.0.0/15 is for benchmarks of networks (RFC 2544): nobody's own.
        self.net = f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}"
        self.bridge = f"gb{self.tag}"
        self.ssh_config = root / "ssh_config"
        self.nodes: dict[str, Machine] = {}
        self._children: list[subprocess.Popen[bytes]] = []
        self._names = names

    def __getitem__(self, name: str) -> Machine:
        return self.nodes[name]

    def up(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        keygen(self.root / "client_key", "tests")
        key = (self.root / "client_key.pub").read_text()
        (self.root / "authorized_keys").write_text(key)
        _must("ip", "link", "add", self.bridge, "type", "bridge")
        _must("ip", "addr", "add", f"{self.net}.1/24", "dev", self.bridge)
        _must("ip", "link", "set", self.bridge, "up")
        for at, name in enumerate(self._names):
            self.nodes[name] = self._boot(at, name)
        self.ssh_config.write_text(
            files.ssh_config(
                self.root, [(one.name, one.address, PORT) for one in self.nodes.values()]
            )
        )
        known = (
            f"{one.address} {(one.directory / 'host_key.pub').read_text().strip()}\n"
            for one in self.nodes.values()
        )
        (self.root / "known_hosts").write_text("".join(known))
        for one in self.nodes.values():
            self._wait(one)

    def _boot(self, at: int, name: str) -> Machine:
        directory, namespace = self.root / name, f"gn{self.tag}-{name}"
        for made in (directory, directory / "home", directory / "tmp"):
            made.mkdir()
        keygen(directory / "host_key", name)
        address, outside = f"{self.net}.{11 + at}", f"gv{self.tag}{at}"
        _must("ip", "netns", "add", namespace)
        _must("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0",
              "netns", namespace)  # fmt: skip
        _must("ip", "link", "set", outside, "master", self.bridge, "up")
        _must("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in "lo", "eth0":
            _must("ip", "-n", namespace, "link", "set", device, "up")
        config = files.sshd_config(
            directory, listen=address, port=PORT, keys=self.root / "authorized_keys", options={}
        )
        (directory / "sshd_config").write_text(config)
        (directory / "env").write_text(files.session_env(None, os.environ["PATH"], {}))
        package = Path(gridops.sandbox.__file__).parent
        shutil.copy(package / "enter.sh", self.root / "enter.sh")
        (self.root / "empty").mkdir(exist_ok=True)
        top = Path("/tmp") / self.root.relative_to("/tmp").parts[0]
        child = subprocess.Popen(
            ["ip", "netns", "exec", namespace, "unshare", "--pid", "--fork", "--kill-child",
             "--mount-proc", "--uts", "sh", "-c", ENTRY, "sh", str(directory), name, str(top)],
            stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_end_with_parent,
        )  # fmt: skip
        self._children.append(child)
        return Machine(name, address, directory, namespace, _first_child(child.pid))

    def _wait(self, node: Machine) -> None:
        end = time.monotonic() + LIMIT
        while not (node.directory / "pid").exists():
            if time.monotonic() > end:
                said = (node.directory / "log").read_text() if node.directory.exists() else ""
                raise RuntimeError(f"the sshd of {node.name} does not start: {said}")
            time.sleep(0.02)

    def down(self) -> None:
        for child in self._children:
            with suppress(OSError):
                child.kill()  # unshare; --kill-child takes the whole process table with it
            child.wait(10)
        for node in self.nodes.values():
            _run("ip", "netns", "del", node.namespace)
        _run("ip", "link", "del", self.bridge)

    def inventory(self, path: Path, ray: dict[str, Any], **nodes: dict[str, Any]) -> Path:
        """An inventory of them all; `nodes` adds to a node's entry."""
        entries = {name: {"ray": {"num_cpus": 1}, **nodes.get(name, {})} for name in self.nodes}
        found = {
            "nodes": entries,
            "ssh": {"config_file": str(self.ssh_config)},
            "health_check": {"max_load_per_core": 1000, "max_memory_percent": 100},
            "retry": {"max_retries": 0},
            "ray": ray,
        }
        path.write_text(json.dumps(found))
        return path


def _end_with_parent() -> None:
    """What we start ends when we are killed (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _first_child(pid: int) -> int:
    """What unshare has forked: pid 1 of the new process table."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        with suppress(OSError, IndexError):
            return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        time.sleep(0.005)
    raise RuntimeError("unshare did not start")


@contextmanager
def machines(root: Path, names: Sequence[str] = ("n1", "n2", "n3")) -> Iterator[Machines]:
    made = Machines(root, names)
    try:
        made.up()
        yield made
    finally:
        made.down()


if __name__ == "__main__":
    with machines(Path(sys.argv[1])) as here:
        made = here.inventory(here.root / "nodes.yaml", {"version": "2.60.0"})
        print(made, {name: one.pid for name, one in here.nodes.items()}, flush=True)
        sys.stdin.read()
