"""Host keys: what a node shows, whether it is trusted, and putting it into known_hosts.

A key is read by connecting the way ssh itself would (Include, Match, ProxyJump, HostKeyAlias and
Port count), with an empty known_hosts of our own for the node alone: jump hosts on the way are
checked as always.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gridops.errors import GridError, HostKeyChanged, ReachError
from gridops.model import Node
from gridops.reach.command import run_tool
from gridops.reach.diagnosis import diagnose
from gridops.reach.endpoint import Endpoint
from gridops.reach.link import runtime_dir
from gridops.reach.masters import lock_socket
from gridops.system.files import write_atomic

if TYPE_CHECKING:
    from gridops.inventory.settings import SshSettings

# Newer than the oldest OpenSSH we work with, which is to pass them over.
NEWER = "KnownHostsCommand,UpdateHostKeys"
KNOWN_HOSTS_TIMEOUT = 10.0  # seconds for another process that changes the same file
KeyState = Literal["known", "new", "changed", "revoked"]


@dataclass(frozen=True, slots=True)
class HostKey:
    """One key as a node shows it now."""

    host: str  # as known_hosts names it: HOST, [HOST]:PORT or its HostKeyAlias
    type: str  # e.g. ssh-ed25519
    data: str  # base64
    state: KeyState

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(base64.b64decode(self.data)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    @property
    def line(self) -> str:
        return f"{self.host} {self.type} {self.data}"


@dataclass(frozen=True, slots=True)
class HostKeys:
    """Keys that a node shows, and the files searched for them."""

    node: str
    keys: tuple[HostKey, ...]
    file: Path  # where `add` puts them: the first UserKnownHostsFile
    others: tuple[Path, ...]  # where ssh looks as well
    hashed: bool  # HashKnownHosts

    @property
    def state(self) -> KeyState:
        """The most worrying state of the keys."""
        states = {key.state for key in self.keys}
        order: tuple[KeyState, ...] = ("revoked", "changed", "new")
        return next((state for state in order if state in states), "known")


def scan(node: Node, ssh: SshSettings, *, timeout: float = 20.0) -> HostKeys:
    """The keys that `node` shows now; nothing is trusted yet.

    Raises a ReachError that says why they cannot be had. `timeout` is seconds for all of it.
    """
    endpoint = Endpoint.of(node, ssh)
    settings = endpoint.resolve()
    mine = _files(settings, "userknownhostsfile")
    if not mine:
        raise ReachError(
            "its ssh configuration keeps no known_hosts file",
            node=node.name,
            hint="set UserKnownHostsFile in ~/.ssh/config",
        )
    others = (*mine[1:], *_files(settings, "globalknownhostsfile"))
    keys = tuple(
        HostKey(host, kind, data, _state(host, kind, data, (mine[0], *others), node.name))
        for host, kind, data in _scan(endpoint, timeout)
    )
    hashed = settings.get("hashknownhosts") == ["yes"]
    return HostKeys(node.name, keys, mine[0], others, hashed)


def add(found: HostKeys, *, replace: bool = False) -> int:
    """Trust the keys that were found; returns how many were not trusted before.

    The file is made 0600, and is replaced as a whole. Raises HostKeyChanged for a node that was
    known by another key, unless `replace`: then that one is taken out (ssh-keygen
    leaves a copy of the file, named .old).
    """
    files = (found.file, *found.others)
    try:
        found.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        end = time.monotonic() + KNOWN_HOSTS_TIMEOUT
        with lock_socket(runtime_dir() / "known_hosts", found.node, end):
            added = 0
            for key in found.keys:
                state = _state(key.host, key.type, key.data, files, found.node)
                if state == "known":
                    continue
                if state != "new":
                    _refuse_or_remove(found, key, state, replace)
                _append(found.file, _hash_host(key) if found.hashed else key.line)
                added += 1
            return added
    except OSError as exc:
        raise GridError(f"cannot write {found.file}: {exc.strerror}", node=found.node) from exc


def _refuse_or_remove(found: HostKeys, key: HostKey, state: KeyState, replace: bool) -> None:
    if state == "revoked":
        raise HostKeyChanged("its host key is marked @revoked in known_hosts", node=found.node)
    if not replace:
        raise HostKeyChanged(
            f"known_hosts has another {key.type} key for {key.host}",
            node=found.node,
            hint="use --replace only if that machine was reinstalled",
        )
    if found.file.exists():
        command = ["ssh-keygen", "-R", key.host, "-f", str(found.file)]
        done = run_tool(command, name=found.node, late="ssh-keygen did not end")
        if done.status:
            raise GridError(f"ssh-keygen -R failed: {done.err.strip()}", node=found.node)


# -- what the node shows ---------------------------------------------------------------------------


def _scan(endpoint: Endpoint, timeout: float) -> list[tuple[str, str, str]]:
    """Keys that the node shows.

    Host, type and key of each line that ssh writes into an empty known_hosts.
    """
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "known_hosts"
        command = endpoint.probe_login(
            ("IgnoreUnknown", NEWER),
            ("KnownHostsCommand", "none"),
            ("UpdateHostKeys", "no"),
            ("UserKnownHostsFile", '"' + str(file).replace("%", "%%") + '"'),
            ("GlobalKnownHostsFile", "/dev/null"),
            ("StrictHostKeyChecking", "accept-new"),
            ("HashKnownHosts", "no"),
            ("CheckHostIP", "no"),
            ("VerifyHostKeyDNS", "no"),
        )
        done = run_tool(
            command, name=endpoint.name, timeout=timeout, late="it did not show its host key"
        )
        lines = file.read_text().splitlines() if file.exists() else []
    found = [line.split()[:3] for line in lines if line.strip()]
    if not found:
        raise diagnose(done.err, endpoint.name, endpoint.host)
    return [(host, kind, data) for host, kind, data in found]


# -- known_hosts -----------------------------------------------------------------------------------


def _files(settings: dict[str, list[str]], name: str) -> list[Path]:
    """The files that a setting of `ssh -G` names. It does not quote: a blank in a name is lost."""
    words = " ".join(settings.get(name, [])).split()
    return [Path(word).expanduser() for word in words if word not in ("none", "/dev/null")]


def _state(host: str, kind: str, data: str, files: tuple[Path, ...], node: str) -> KeyState:
    state: KeyState = "new"
    for marker, other_kind, other_data in _find_known(host, files, node):
        if marker == "@cert-authority":
            continue
        if (other_kind, other_data) == (kind, data):
            if marker == "@revoked":
                return "revoked"
            state = "known"
        elif other_kind == kind and not marker and state == "new":
            state = "changed"
    return state


def _find_known(host: str, files: tuple[Path, ...], node: str) -> Iterator[tuple[str, str, str]]:
    """Known keys of `host`: marker, type and key in all the files, hashed lines included."""
    for file in files:
        if not file.exists():
            continue
        command = ["ssh-keygen", "-F", host, "-f", str(file)]
        done = run_tool(command, name=node, late="ssh-keygen did not end")
        for line in done.out.splitlines():
            words = line.split()
            marker = words.pop(0) if line.startswith("@") else ""
            if len(words) >= 3 and not line.startswith("#"):
                yield marker, words[1], words[2]


def _hash_host(key: HostKey) -> str:
    """The line with its host hidden, as HashKnownHosts asks (`hash_host` in OpenSSH)."""
    salt = os.urandom(20)
    digest = hmac.new(salt, key.host.encode(), hashlib.sha1).digest()
    coded = [base64.b64encode(part).decode() for part in (salt, digest)]
    return f"|1|{coded[0]}|{coded[1]} {key.type} {key.data}"


def _append(file: Path, line: str) -> None:
    target = file.resolve()  # a link stays one
    before = target.read_bytes() if target.exists() else b""
    if before and not before.endswith(b"\n"):
        before += b"\n"
    write_atomic(target, before + line.encode() + b"\n")
