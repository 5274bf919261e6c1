"""OpenSSH control masters: opened on demand, shared by every process, replaced when stale.

One destination has masters numbered from 0; a further one is opened only when sshd refuses one more
session on those before it (MaxSessions). Sockets live in `runtime_dir()`; a lock file beside them
makes two processes that want the same master agree on who opens it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.errors import ConnectDropped, ConnectTimeout, GridError, ReachError
from gridops.model import Node
from gridops.observe import events
from gridops.reach.control import Control
from gridops.reach.diagnosis import diagnose
from gridops.reach.runtime import runtime_dir

if TYPE_CHECKING:
    from gridops.settings import SshSettings

KEEPALIVE = 5  # seconds; three unanswered ones end a master whose network died
HANDSHAKE_TRIES = 4  # a node that drops us unheard is asked again (sshd's MaxStartups)


@dataclass(frozen=True)
class Endpoint:
    """Everything that decides where, as whom and how OpenSSH connects."""

    host: str
    user: str | None = None
    port: int | None = None
    config_file: str | None = None
    host_keys: str = "strict"
    connect_timeout: float = 5.0
    persist: float = 600.0
    options: Mapping[str, str] = field(default_factory=dict)
    name: str = ""  # how the user calls it; not part of its identity

    @classmethod
    def of(cls, node: Node, ssh: SshSettings) -> Endpoint:
        return cls(
            host=node.host,
            user=node.user,
            port=node.port,
            config_file=str(ssh.config_file) if ssh.config_file else None,
            host_keys=ssh.host_keys,
            connect_timeout=ssh.connect_timeout,
            persist=ssh.persist,
            options=dict(ssh.options),
            name=node.name,
        )

    @property
    def key(self) -> str:
        """16 hex digits: the same for two destinations exactly when they may share a master."""
        identity = [self.host, self.user, self.port, self.config_file, self.host_keys]
        text = json.dumps([identity, sorted(self.options.items())])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def destination(self) -> list[str]:
        """The words that every ssh command for this endpoint has: file, options, user, port."""
        words = ["-F", self.config_file] if self.config_file else []
        words += ["-o", "BatchMode=yes"]
        for name, value in self.options.items():
            words += ["-o", f"{name}={value}"]
        checking = "accept-new" if self.host_keys == "accept-new" else "yes"
        words += ["-o", f"StrictHostKeyChecking={checking}"]
        words += ["-o", f"ConnectTimeout={max(1, round(self.connect_timeout))}"]
        words += ["-l", self.user] if self.user else []
        words += ["-p", str(self.port)] if self.port else []
        return words

    def shell(self, socket: str) -> list[str]:
        """An ssh command line (without the host) that goes through the master at `socket`."""
        return [
            "ssh",
            "-S",
            socket,
            "-o",
            "ControlMaster=no",
            "-o",
            "LogLevel=ERROR",
            *self.destination(),
        ]

    def master(self, socket: str) -> list[str]:
        """The command that opens a master at `socket` and returns when it is authenticated."""
        fixed = {
            "ControlMaster": "yes",
            "ControlPath": socket.replace("%", "%%"),
            "ControlPersist": str(max(1, round(self.persist))),
            "ServerAliveInterval": str(KEEPALIVE),
            "ServerAliveCountMax": "3",
            "ClearAllForwardings": "yes",
            "RemoteCommand": "none",
            "RequestTTY": "no",
            "PermitLocalCommand": "no",
            "LogLevel": "ERROR",
        }
        options = [word for name, value in fixed.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", "-N", "-f", "-n", "-x", *options, *self.destination(), "--", self.host]


def connect(endpoint: Endpoint, *, index: int = 0, timeout: float) -> tuple[Control, bool]:
    """A connection to the endpoint's master number `index`, opened first where there is none.

    Returns it and whether the master is new. `timeout` is seconds for all of it.
    Raises a ReachError that says why the node cannot be reached.
    """
    path = _socket(endpoint, index)
    with suppress(OSError):
        return Control(str(path)), False
    end = time.monotonic() + timeout
    with _locked(path, endpoint, end):
        with suppress(OSError):  # another process was quicker
            return Control(str(path)), False
        _open(endpoint, path, end)
        try:
            return Control(str(path)), True
        except OSError as exc:
            raise ReachError(
                f"the control master ended at once: {exc}", node=endpoint.name
            ) from exc


def retire(endpoint: Endpoint, index: int, reason: str) -> None:
    """Take a master that does not answer out of use; what still runs over it may finish."""
    path = _socket(endpoint, index)
    events.emit(events.CONNECTION_REPLACED, node=endpoint.name, reason=reason)
    try:
        control = Control(str(path))
    except OSError:
        path.unlink(missing_ok=True)
        return
    try:
        with suppress(GridError):  # a hung master: all that counts is that it is out of the way
            control.retire()
    finally:
        control.close()
        path.unlink(missing_ok=True)


def socket_path(endpoint: Endpoint, index: int = 0) -> str:
    return str(_socket(endpoint, index))


def _socket(endpoint: Endpoint, index: int) -> Path:
    return runtime_dir() / f"{endpoint.key}.{index}"


def _open(endpoint: Endpoint, path: Path, end: float) -> None:
    """Run ssh until it has authenticated and gone to the background."""
    from gridops.retry import RetryConfig, retry  # the warm path does not need it

    began = time.monotonic()
    path.unlink(missing_ok=True)  # nobody listens there: `connect` has just seen that
    patience = RetryConfig(HANDSHAKE_TRIES - 1, 0.2, 2.0, max_elapsed=max(0.0, end - began))
    retry(patience, (ConnectDropped,))(_spawn)(endpoint, path, end)
    _describe(endpoint, path)
    events.emit(events.CONNECTION_OPENED, node=endpoint.name, seconds=time.monotonic() - began)


def _spawn(endpoint: Endpoint, path: Path, end: float) -> None:
    left = max(0.1, end - time.monotonic())
    # A file, not a pipe: a ProxyJump's inner ssh may keep our stderr open for as long as it lives.
    with tempfile.TemporaryFile() as said:
        try:
            child = subprocess.Popen(
                endpoint.master(str(path)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,  # no terminal: nothing down the line can prompt
                env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},
            )
        except FileNotFoundError:
            raise ReachError(
                "there is no `ssh` on this machine",
                node=endpoint.name,
                hint="install openssh-client",
            ) from None
        try:
            ended = wait_for(child, left)
        except BaseException:
            _end(child)
            raise
        if not ended:
            _end(child)
            raise ConnectTimeout(
                f"did not finish the SSH login within {left:.3g} s",
                node=endpoint.name,
                hint="it accepts connections but is stuck",
            )
        if child.returncode:
            said.seek(0)
            raise diagnose(said.read().decode(errors="replace"), endpoint.name, endpoint.host)


def wait_for(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether `child` ended within `seconds`; reaps it. No polling where the kernel has pidfds."""
    try:
        fd = os.pidfd_open(child.pid)
    except (AttributeError, OSError):
        with suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
        return child.returncode is not None
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return False
    finally:
        os.close(fd)
    child.wait()
    return True


def _end(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


@contextmanager
def _locked(path: Path, endpoint: Endpoint, end: float) -> Iterator[None]:
    """Hold the master's lock file; another process that opens the same master makes us wait."""
    lock = os.open(path.with_suffix(f"{path.suffix}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise ConnectTimeout(
                        "another process is still connecting to it", node=endpoint.name
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(lock)


def _describe(endpoint: Endpoint, path: Path) -> None:
    """Leave a note beside the socket for `pool.status`."""
    user = f"{endpoint.user}@" if endpoint.user else ""
    port = f":{endpoint.port}" if endpoint.port else ""
    note = {"node": endpoint.name, "target": f"{user}{endpoint.host}{port}", "opened": time.time()}
    temporary = path.with_suffix(f"{path.suffix}.{os.getpid()}")
    temporary.write_text(json.dumps(note))
    temporary.replace(path.with_suffix(f"{path.suffix}.json"))
