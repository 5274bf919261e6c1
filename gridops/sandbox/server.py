"""One sshd of a sandbox: its directory, its start and its end."""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gridops.errors import SandboxError
from gridops.sandbox import files, processes
from gridops.system.processes import ProcessIdentity, find_process, is_alive

PORTS = range(20000, 32000)  # below the range from which the kernel serves outgoing connections
SSHD_TIMEOUT = 15.0  # seconds until an sshd must listen


@dataclass(frozen=True, slots=True)
class Setup:
    """Special settings of a node.

    `shell` runs its commands and may have an argument (`busybox sh`); default bash, else sh.
    `env_path` is the PATH of its sessions (default: its maker's), `env` more of their environment,
    `options` are sshd's. With `bare`, for benchmarks, none of this plays a part but the options:
    sessions are the account's login shell as sshd starts it, with nothing in between, and all nodes
    of a shared sandbox have one HOME.
    """

    shell: str | None = None
    env_path: str | None = None
    env: Mapping[str, str] | None = None
    options: Mapping[str, str] | None = None
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """An sshd that has been set up; `process` is None when it was never started."""

    directory: Path
    port: int
    listen: str = "127.0.0.1"
    process: ProcessIdentity | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and is_alive(self.process)

    def public_key(self) -> str:
        return (self.directory / "host_key.pub").read_text().strip()


def keygen(path: Path, comment: str) -> None:
    """Make a fresh ed25519 key without a passphrase, unless there is one."""
    if path.exists():
        return
    command = [files.tool("ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", ""]
    done = subprocess.run(
        [*command, "-C", comment, "-f", str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SandboxError(f"ssh-keygen failed: {(done.stderr or done.stdout).strip()}")


def prepare(directory: Path, *, listen: str, setup: Setup, options: Mapping[str, str]) -> Server:
    """Write everything an sshd in `directory` needs; its port is free now."""
    directory.mkdir(mode=0o700, exist_ok=True)
    keygen(directory / "host_key", directory.name)
    port = free_port(listen)
    config = files.sshd_config(
        directory,
        listen=listen,
        port=port,
        keys=directory.parent / "authorized_keys",
        options={**options, **(setup.options or {})},
        bare=setup.bare,
    )
    (directory / "sshd_config").write_text(config)
    path = files.own_path() if setup.env_path is None else setup.env_path
    (directory / "env").write_text(files.session_env(setup.shell, path, setup.env or {}))
    return Server(directory, port, listen)


def start(server: Server) -> Server:
    """Start its sshd, or leave the running one; returns as soon as it listens.

    Raises SandboxError with sshd's own words; `PortTaken` when another has the port.
    """
    if server.running:
        return server
    end = time.monotonic() + SSHD_TIMEOUT
    made_a_directory = False
    while True:
        said = _launch(server)
        process = _wait(server, end) if not said else None
        if process:
            return Server(server.directory, server.port, server.listen, process)
        said = said or last_words(server.directory / "log")
        missing = re.search(r"Missing privilege separation directory: (/\S+)", said)
        if missing and os.getuid() == 0 and not made_a_directory:
            made_a_directory = True
            Path(missing[1]).mkdir(mode=0o755, parents=True, exist_ok=True)
        elif "Address already in use" in said:
            raise PortTaken(f"port {server.port} is taken by another program")
        else:
            raise SandboxError(f"sshd did not start: {said or 'it said nothing'}")


class PortTaken(SandboxError):
    """Error that another program listens on the port."""


def move(server: Server) -> Server:
    """The same server on another port."""
    port = free_port(server.listen)
    config = server.directory / "sshd_config"
    text = config.read_text()
    config.write_text(re.sub(rf"^Port {server.port}$", f"Port {port}", text, flags=re.MULTILINE))
    return Server(server.directory, port, server.listen)


def stop(servers: Iterable[Server]) -> None:
    """End these sshds and everything that runs in their sessions.

    Raises SandboxError when something would not end.
    """
    known = list(servers)
    directories = [server.directory for server in known]
    listeners = [server.process for server in known if server.process]
    left = processes.end(lambda: processes.belonging(directories, listeners))
    for server in known:
        (server.directory / "pid").unlink(missing_ok=True)
    if left:
        pids = ", ".join(str(process.pid) for process in left)
        raise SandboxError(f"these processes of the sandbox would not end: {pids}")


def free_port(listen: str) -> int:
    """A port that nothing listens on at this moment."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((listen, port))
            return port
    raise SandboxError("no free port found", hint=f"tried 200 of {PORTS.start}-{PORTS.stop}")


def _launch(server: Server) -> str:
    """Run sshd until it has gone to the background; returns its message when it would not."""
    (server.directory / "pid").unlink(missing_ok=True)
    log = server.directory / "log"
    log.write_text("")
    config = str(server.directory / "sshd_config")
    done = subprocess.run(
        [files.tool("sshd", "openssh-server"), "-f", config, *files.log_option(log)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        check=False,
    )
    return (done.stderr.strip() or last_words(log)) if done.returncode else ""


def _wait(server: Server, end: float) -> ProcessIdentity | None:
    """The sshd, once it listens (then it writes its pid file); None when it gave up."""
    pid_file = server.directory / "pid"
    while time.monotonic() < end:
        with suppress(OSError, ValueError):
            return find_process(int(pid_file.read_text()))
        if re.search("Cannot bind|fatal", last_words(server.directory / "log")):
            return None
        time.sleep(0.002)
    return None


def last_words(log: Path) -> str:
    """The end of an sshd's log, on one line."""
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return " ".join(line.strip() for line in lines if line.strip())[-500:]
