"""Debian machines in this one: systemd as the first process, logind, PAM and sshd. Needs root.

Each is a container with a disk, a process table and a network of its own, kept by debian.sh. Its
users are alice and bob, who log in with the key of `Debians.directory`; nobody there may sudo.

By hand, until its input ends: `PYTHONPATH=tests python -m support.debian DIRECTORY SUITE...`.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.debianroots import find_archive, find_root

from gridops.sandbox.server import keygen

KEEPER = Path(__file__).with_suffix(".sh")
BOOT_TIMEOUT = 90.0  # seconds: a busy machine boots three at once
POLL_INTERVAL = 0.1
UNITS = ("ssh", "systemd-logind", "systemd-user-sessions")  # without the last, pam_nologin refuses
# A process that comes from outside is in none of the machine's cgroups; logind asks in which it is.
JOIN = 'echo $$ >/sys/fs/cgroup/init.scope/cgroup.procs; exec "$@"'
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def unsupported_reason() -> str:
    """The reason why there can be no such machines here; empty when there can."""
    if os.getuid() != 0:
        return "that needs root"
    tops = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")]
    if not any((top / "cgroup.controllers").exists() and os.access(top, os.W_OK) for top in tops):
        return "there is no cgroup2 hierarchy that can be written to"
    done = _run("unshare", "--mount", "--net", "--pid", "--fork", "true")
    if done.returncode:
        return f"no namespaces can be made: {done.stderr.strip()}"
    try:
        find_archive()
    except RuntimeError as exc:
        return str(exc)
    return ""


def _run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        **{"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": 60, **options},
        text=True,
        check=False,
    )


def _must(*words: str) -> str:
    done = _run(*words)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


@dataclass
class Debian:
    """One machine. `first` is the number that its first process has here, 0 while it is off."""

    name: str
    address: str
    directory: Path
    root: Path
    first: int = 0
    boots: int = 0
    _keeper: subprocess.Popen[str] = field(init=False, repr=False)
    _words: queue.Queue[str] = field(default_factory=queue.Queue, repr=False)

    def connect(self, key: Path, host_address: str, device: str) -> None:
        """Start its keeper and join its network to ours."""
        self.directory.mkdir()
        disk = self.directory / "disk"
        disk.mkdir()
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", str(KEEPER),
             str(self.root), str(disk), self.name, str(key)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=(self.directory / "keeper").open("w"), start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._hear, daemon=True).start()
        self._expect("ready")
        inside = str(self._keeper.pid)
        _must("ip", "link", "add", device, "type", "veth", "peer", "name", "host0", "netns", inside)
        _must("ip", "addr", "add", host_address, "peer", self.address, "dev", device)
        _must("ip", "link", "set", device, "up")
        enter = ("nsenter", "-t", inside, "-n", "ip")
        _must(*enter, "addr", "add", self.address, "peer", host_address, "dev", "host0")
        _must(*enter, "link", "set", "host0", "up")

    def _hear(self) -> None:
        for line in self._keeper.stdout or ():
            self._words.put(line.strip())

    def _expect(self, word: str) -> str:
        """The rest of the keeper's next line, which must begin with `word`."""
        try:
            said, _, rest = self._words.get(timeout=BOOT_TIMEOUT).partition(" ")
        except queue.Empty:
            said, rest = "nothing", ""
        if said != word:
            raise RuntimeError(f"{self.name} is not {word} but {said}: {self.console[-1000:]}")
        return rest

    @property
    def console(self) -> str:
        """What its keeper and its first process have said."""
        keeper = (self.directory / "keeper").read_text()
        with suppress(OSError):
            console = Path(f"/proc/{self._keeper.pid}/root/{self.directory}/disk/console")
            return keeper + console.read_text(errors="replace")
        return keeper

    # -- power -----------------------------------------------------------------------------------

    def power_on(self) -> None:
        self._say("on")
        self.await_boot()

    def await_boot(self) -> None:
        """Wait until it has booted once more and lets users in."""
        self.first = int(self._expect("on"))
        self.boots += 1
        self.await_units(*UNITS)

    def await_units(self, *units: str) -> None:
        end = time.monotonic() + BOOT_TIMEOUT
        while (done := self.run("systemctl", "is-active", *units)).returncode:
            if time.monotonic() > end:
                raise RuntimeError(f"{self.name} does not come up: {done.stdout} {self.console}")
            time.sleep(POLL_INTERVAL)

    def cut_power(self) -> None:
        """Everything stops at once; what was written stays."""
        self._say("cut")
        self.await_off()

    def await_off(self) -> None:
        self._expect("off")
        self.first = 0

    def reboot(self) -> None:
        """An orderly one: every process is told to end, and given time for it."""
        self.run("systemctl", "reboot", "--no-block")
        self.await_boot()

    def _say(self, word: str) -> None:
        if self._keeper.stdin is None:
            raise RuntimeError("the keeper was not started")
        self._keeper.stdin.write(f"{word}\n")
        self._keeper.stdin.flush()

    def remove(self) -> None:
        if not hasattr(self, "_keeper"):
            return
        if self._keeper.stdin:
            self._keeper.stdin.close()
        self._keeper.wait(BOOT_TIMEOUT)

    # -- inside ----------------------------------------------------------------------------------

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """A command in it, as root and without a login: logind knows nothing of it."""
        enter = ["nsenter", "-t", str(self.first), "--all", "--wd=/"]
        clean = ["env", "-i", f"PATH={PATH}", "LANG=C.UTF-8", "sh", "-c", JOIN, "sh"]
        return _run(*enter, *clean, *words, **options)

    def must(self, *words: str) -> str:
        """Its output; raises RuntimeError when it fails."""
        done = self.run(*words)
        if done.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    @property
    def files(self) -> Path:
        """Its file system, seen from here while it is on."""
        return Path(f"/proc/{self.first}/root")

    def home(self, user: str = "alice") -> Path:
        return self.files / "home" / user

    def record(self, job_id: str, user: str = "alice") -> Path:
        """The directory of a run, without asking gridops (which would be a login)."""
        return self.home(user) / ".gridops/jobs" / job_id

    def write(self, path: str, text: str) -> None:
        target = self.files / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


class Debians:
    """Several, each with an address that is reached from here alone."""

    def __init__(self, directory: Path, suites: Sequence[str]) -> None:
        self.directory = directory
        self.ssh_config = directory / "ssh_config"
        # 198.18.0.0/15 is for benchmarks of networks (RFC 2544): nobody's own.
        self.net = f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}"
        self.tag = secrets.token_hex(2)
        self.machines = {
            suite: Debian(suite, f"{self.net}.{11 + at}", directory / suite, find_root(suite))
            for at, suite in enumerate(suites)
        }

    def __getitem__(self, name: str) -> Debian:
        return self.machines[name]

    def up(self) -> None:
        self.directory.mkdir(parents=True)
        keygen(self.directory / "key", "tests")
        for at, one in enumerate(self.machines.values()):
            one.connect(self.directory / "key.pub", f"{self.net}.1", f"gd{self.tag}{at}")
        self._write_ssh_files()
        for one in self.machines.values():
            one._say("on")
        for one in self.machines.values():
            one.await_boot()

    def _write_ssh_files(self) -> None:
        """Names for ssh: `trixie` is alice's, `bob.trixie` is bob's."""
        blocks, keys = [], []
        for one in self.machines.values():
            key = (one.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
            keys.append(" ".join((one.address, *key)))
            blocks += [
                f"Host {alias}\n    HostName {one.address}\n    User {user}"
                for alias, user in ((one.name, "alice"), (f"bob.{one.name}", "bob"))
            ]
        common = {
            "IdentityFile": self.directory / "key",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": self.directory / "known_hosts",
            "GlobalKnownHostsFile": "/dev/null",
        }
        blocks.append("\n    ".join(["Host *", *(f"{k} {v}" for k, v in common.items())]))
        self.ssh_config.write_text("\n".join(blocks) + "\n")
        (self.directory / "known_hosts").write_text("\n".join(keys) + "\n")

    def inventory(self, path: Path, **sections: Any) -> Path:
        """An inventory of them all."""
        found = {
            "nodes": {name: {} for name in self.machines},
            "ssh": {"config_file": str(self.ssh_config)},
            "health_check": {"max_load_per_core": 1000, "max_memory_percent": 100},
            "retry": {"max_retries": 0},
            **sections,
        }
        path.write_text(json.dumps(found))
        return path

    def down(self) -> None:
        for one in self.machines.values():
            one.remove()


@contextmanager
def debians(directory: Path, suites: Sequence[str]) -> Iterator[Debians]:
    made = Debians(directory, suites)
    try:
        made.up()
        yield made
    finally:
        made.down()


if __name__ == "__main__":
    with debians(Path(sys.argv[1]), sys.argv[2:]) as here:
        for name, one in here.machines.items():
            print(f"ssh -F {here.ssh_config} {name}   # first process {one.first}", flush=True)
        print(here.inventory(here.directory / "nodes.yaml"), flush=True)
        sys.stdin.read()
