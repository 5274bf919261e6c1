"""Plain functions for tests: `from support.nodes import …`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from gridops.inventory.settings import SshSettings
from gridops.model import Node
from gridops.sandbox import Sandbox


def find_program(name: str) -> str:
    """The path of a program that tests use; `.ci/setup test` has installed them all."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        pytest.fail(f"there is no {name} here: `make test` installs what the tests need")
    return found


def settings_of(sandbox: Sandbox, **changed: object) -> SshSettings:
    """How the nodes of a sandbox are reached."""
    return SshSettings.model_validate({"config_file": sandbox.ssh_config, **changed})


def node_of(sandbox: Sandbox, name: str = "node1") -> Node:
    """The inventory's view of a sandbox node."""
    return Node(sandbox.node(name).name, host=name)


def nodes_of(sandbox: Sandbox) -> tuple[Node, ...]:
    return tuple(Node(node.name, host=node.name) for node in sandbox.nodes)


def run_ssh(sandbox: Sandbox, name: str, command: str) -> subprocess.CompletedProcess[str]:
    """Plain ssh, beside gridops: to look at what gridops did."""
    words = ["ssh", "-F", str(sandbox.ssh_config), "-o", "BatchMode=yes", name, command]
    return subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
    )


def ssh_shim(base: Path) -> Path:
    """A directory for PATH whose `ssh` never reads the developer's ~/.ssh/config or known_hosts
    (OpenSSH finds those through /etc/passwd, whatever HOME says). A later -F wins over this one."""
    config = base / "no_ssh_config"
    config.write_text(
        f"Host *\n  UserKnownHostsFile {base}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
        "  IdentityFile none\n  IdentityAgent none\n"
    )
    real = shutil.which("ssh")
    if real is None:
        raise RuntimeError("the tests need openssh-client")
    shim = base / "bin" / "ssh"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {real} -F {config} "$@"\n')
    shim.chmod(0o755)
    return shim.parent


def close_masters(runtime_dir: Path) -> None:
    """End every control master that listens in `runtime_dir`."""
    for path in runtime_dir.iterdir():
        if path.is_socket():
            command = ["ssh", "-o", f"ControlPath={path}", "-O", "exit", "anyone"]
            subprocess.run(command, capture_output=True, timeout=20, check=False)


def processes_of(base: Path, patience: float) -> dict[int, str]:
    """What still runs, after `patience` seconds at most, with `base` in its command line,
    environment, working directory or open files: pid → command line."""
    end_of_patience = time.monotonic() + patience
    while True:
        mine = _ancestors()
        found = {pid: what for pid, what in _all() if pid not in mine and _knows(pid, base)}
        if not found or time.monotonic() > end_of_patience:
            return found
        time.sleep(0.05)


def sshd_sessions(listener: int | None) -> list[int]:
    """The sshd processes that serve the connections of the listening one, two each in part."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if (entry / "comm").read_text().startswith("sshd"):
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(stat[1])
    first = [pid for pid, parent in parents.items() if parent == listener]
    return first + [pid for pid, parent in parents.items() if parent in first]


def end(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def wait_until(what: object, seconds: float = 10.0) -> None:
    """Wait until the callable `what` is true; fails the test after `seconds`."""
    limit = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        if time.monotonic() > limit:
            raise AssertionError(f"not within {seconds} s")
        time.sleep(0.01)


def _ancestors() -> set[int]:
    found, pid = set(), os.getpid()
    while pid > 1:
        found.add(pid)
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            break
        pid = int(text.rpartition(")")[2].split()[1])
    return found


def _all() -> Iterable[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                if words.strip():  # else a kernel thread or a zombie
                    yield int(entry.name), words.decode(errors="replace").strip()


def _knows(pid: int, base: Path) -> bool:
    proc, text = Path(f"/proc/{pid}"), os.fsencode(base)
    for name in ("cmdline", "environ"):
        with suppress(OSError):
            if text in (proc / name).read_bytes():
                return True
    with suppress(OSError):
        links = [proc / "cwd", *(proc / "fd").iterdir()]
        return any(str(link.readlink()).startswith(str(base)) for link in links)
    return False
