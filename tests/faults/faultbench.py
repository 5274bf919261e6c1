"""A node whose connection can be made to fail, and runs that go through it."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gridops.errors import JobUnreachable, NodeTimeout, NotStarted, ReachError, SandboxError
from gridops.jobs import client, follow
from gridops.jobs.follow import JobEnd
from gridops.jobs.spec import JobSpec
from gridops.model import Job, Node
from gridops.reach import link_to
from gridops.reach.link import Link
from gridops.sandbox import Sandbox
from gridops.settings import SshSettings

SILENCE = 4.0  # seconds: shorter than in earnest, so that long stalls are noticed within a test


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
    """One node, reached through the proxy."""

    sandbox: Sandbox
    proxy: Proxy
    settings: SshSettings
    home: Path
    restarting: threading.Lock = field(default_factory=threading.Lock)
    troubles: list[str] = field(default_factory=list)  # what the bench itself met

    def link(self) -> Link:
        return link_to(Node("node1", "node1"), self.settings)

    def job(self, job_id: str) -> Path:
        return self.home / ".gridops" / "jobs" / job_id

    # -- what can go wrong -----------------------------------------------------------------------

    def kill_sessions(self) -> None:
        """Every sshd process that serves a connection dies."""
        for pid in children_of(self.listener(), "sshd"):
            kill_one(pid)

    def restart(self) -> None:
        """sshd and all its connections die, and it comes back."""
        with self.restarting:
            listener = self.listener()
            sessions = children_of(listener, "sshd") if listener else []
            for pid in [listener, *sessions]:
                kill_one(pid)
            end = time.monotonic() + 20
            while not self._back(listener) and time.monotonic() < end:
                time.sleep(0.1)

    def _back(self, before: int | None) -> bool:
        """Have another sshd than `before`; one that is only just dying still looks alive."""
        try:
            after = self.sandbox.start("node1").pid
        except SandboxError as exc:  # the port is still held by a dying child
            self.troubles.append(str(exc))
            return False
        return after is not None and after != before

    def listener(self) -> int | None:
        return self.sandbox.node("node1").pid

    def kill_supervisor(self, job_id: str) -> None:
        with suppress(OSError, ValueError):
            kill_one(int((self.job(job_id) / "sup").readlink().name.split(".")[0]))


@contextmanager
def bench(sandbox: Sandbox, directory: Path) -> Iterator[Bench]:
    node = sandbox.node("node1")
    proxy = Proxy(node.port)
    text = sandbox.ssh_config.read_text()
    # A copy: the sandbox writes its own anew whenever a node starts.
    known = directory / "known_hosts"
    known.write_bytes((sandbox.root / "known_hosts").read_bytes())
    text = text.replace(str(sandbox.root / "known_hosts"), str(known))
    alias = f"HostKeyAlias [127.0.0.1]:{node.port}"
    config = directory / "proxied_config"
    config.write_text(text.replace(f"Port {node.port}\n", f"Port {proxy.port}\n    {alias}\n"))
    settings = SshSettings(config_file=config, connect_timeout=4)
    try:
        yield Bench(sandbox, proxy, settings, node.home)
    finally:
        proxy.close()


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


@dataclass
class Run:
    """A run whose output is known beforehand, with what shall go wrong."""

    number: int
    fault: str
    rng: random.Random
    marks: Path
    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.code = self.rng.choice((0, 0, 1, 7, 143))
        self.lines = self.rng.randint(3, 25)
        self.width = self.rng.choice((1, 80, 5000))
        mark = self.marks / str(self.number)
        self.spec = JobSpec(
            command=(
                f"echo ran >>{mark}; w=$(printf '%0{self.width}d' {self.number}); i=0\n"
                f"while [ $i -lt {self.lines} ]; do echo out $i $w; echo err $i >&2; "
                f"sleep 0.0{self.rng.randint(1, 6)}; i=$((i+1)); done; printf end; exit {self.code}"
            ),
            slots=8,
            wait=300.0,
            grace=1,
        )

    @property
    def expected(self) -> tuple[bytes, bytes]:
        word = str(self.number).rjust(self.width, "0")
        out = "".join(f"out {i} {word}\n" for i in range(self.lines)) + "end"
        return out.encode(), "".join(f"err {i}\n" for i in range(self.lines)).encode()

    @property
    def times_run(self) -> int:
        mark = self.marks / str(self.number)
        return len(mark.read_text().split()) if mark.exists() else 0


def carry_out(bench: Bench, run: Run) -> Job:
    """Start the run, let it go wrong, and follow it to its end like a patient user."""
    timer = threading.Timer(run.rng.uniform(0.0, 1.0), _go_wrong, (bench, run))
    timer.start()
    try:
        if run.fault == "client":
            _killed_client(bench, run)
        return _patiently(bench, run).job
    except NotStarted as exc:
        if exc.reason != "supervisor":
            raise
        return _status(bench, run)
    finally:
        timer.join()


def _status(bench: Bench, run: Run) -> Job:
    for _ in range(100):  # the others' faults hit this call as well
        with suppress(ReachError, NodeTimeout):
            return client.status(bench.link(), [run.spec.id])[run.spec.id]
        time.sleep(0.3)
    raise TimeoutError(run.spec.id)


def _patiently(bench: Bench, run: Run) -> JobEnd:
    end = time.monotonic() + 100
    while True:
        try:
            return follow.run(
                bench.link(),
                run.spec,
                on_stdout=run.out.extend,
                on_stderr=run.err.extend,
                give_up_after=90,
                silence=SILENCE,
            )
        except (ReachError, JobUnreachable) as exc:
            if time.monotonic() > end or isinstance(exc, JobUnreachable):
                raise
            time.sleep(0.3)  # certainly not started: the same again


def _go_wrong(bench: Bench, run: Run) -> None:
    match run.fault:
        case "session":
            bench.kill_sessions()
        case "sshd":
            bench.restart()
        case "stall":
            bench.proxy.stall(run.rng.choice((1.0, 1.5, 2.0, 3.0, 8.0)))
        case "long stall":
            bench.proxy.stall(run.rng.uniform(8.0, 20.0))
        case "supervisor":
            bench.kill_supervisor(run.spec.id)


CLIENT = """
import json, sys
from pathlib import Path
from gridops.jobs import follow
from gridops.jobs.spec import JobSpec
from gridops.model import Node
from gridops.reach import link_to
from gridops.settings import SshSettings

config, spec = sys.argv[1], JobSpec(**json.loads(sys.argv[2]))
link = link_to(Node("node1", "node1"), SshSettings(config_file=Path(config), connect_timeout=4))
follow.run(link, spec, on_stdout=lambda data: None, on_stderr=lambda data: None)
"""


def _killed_client(bench: Bench, run: Run) -> None:
    """Another process starts the run, and is killed at some moment."""
    import json

    spec = {"command": run.spec.command, "id": run.spec.id, "slots": 8, "wait": 300.0, "grace": 1}
    config = str(bench.settings.config_file)
    child = subprocess.Popen(
        [sys.executable, "-c", CLIENT, config, json.dumps(spec)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with suppress(subprocess.TimeoutExpired):
        child.wait(run.rng.uniform(0.2, 1.5))
    child.kill()
    child.wait(10)
