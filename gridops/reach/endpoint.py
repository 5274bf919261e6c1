"""Endpoint of an OpenSSH connection, and the ssh command lines for it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.errors import ReachError
from gridops.model import Node

if TYPE_CHECKING:
    from gridops.inventory.settings import SshSettings

KEEPALIVE_INTERVAL = 5  # seconds; three unanswered ones end a master whose network died

PROXIES = ("proxyjump", "proxycommand")
DEEPEST = 16  # Includes within Includes, as in OpenSSH

# What a host's entry in ~/.ssh/config may ask of an interactive login, and a connection of ours
# does not want.
PLAIN_OPTIONS = (
    ("ClearAllForwardings", "yes"),
    ("RemoteCommand", "none"),
    ("RequestTTY", "no"),
    ("PermitLocalCommand", "no"),
)


@dataclass(frozen=True)
class Endpoint:
    """Everything that decides where, as whom and how OpenSSH connects.

    `options` are further ones of ssh_config(5); the first value of a name counts, except for those
    that add up (IdentityFile). `name` is how the user calls it and no part of its identity.
    """

    host: str
    user: str | None = None
    port: int | None = None
    config_file: str | None = None
    host_keys: str = "strict"
    connect_timeout: float = 5.0  # seconds
    persist: float = 600.0  # seconds
    options: tuple[tuple[str, str], ...] = ()
    name: str = ""

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
            options=tuple(ssh.options.items()),
            name=node.name,
        )

    @cached_property
    def key(self) -> str:
        """16 hex digits: the same for two destinations exactly when they may share a master.

        A changed ssh configuration file may lead elsewhere, so its time and size are part of it.
        """
        identity = [self.host, self.user, self.port, self.config_file, self.host_keys]
        text = json.dumps([identity, self.options, _stamps(self.config_file)])
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    @property
    def login_timeout(self) -> float:
        """Seconds that a whole login may take: ConnectTimeout bounds only its beginning."""
        return max(20.0, 4 * self.connect_timeout)

    @property
    def target(self) -> str:
        """The destination as people read it: [user@]host[:port]."""
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"{user}{self.host}{port}"

    def destination(self) -> list[str]:
        """The words that every ssh command for this endpoint has: file, options, user, port."""
        words = ["-F", self.config_file] if self.config_file else []
        words += as_options([("BatchMode", "yes"), *self.options])
        checking = "accept-new" if self.host_keys == "accept-new" else "yes"
        limit = str(max(1, round(self.connect_timeout)))
        words += as_options([("StrictHostKeyChecking", checking), ("ConnectTimeout", limit)])
        words += ["-l", self.user] if self.user else []
        words += ["-p", str(self.port)] if self.port else []
        return words

    def shell(self, socket: str) -> list[str]:
        """An ssh command line (without the host) through the master at `socket`."""
        mine = as_options([("ControlMaster", "no"), ("LogLevel", "ERROR"), *PLAIN_OPTIONS])
        return ["ssh", "-S", socket.replace("%", "%%"), "-x", *mine, *self.destination()]

    def master(self, socket: str) -> list[str]:
        """The command that opens a master at `socket`; it returns when that is authenticated."""
        mine = [
            ("ControlMaster", "yes"),
            ("ControlPath", socket.replace("%", "%%")),
            ("ControlPersist", str(max(1, round(self.persist)))),
            ("ServerAliveInterval", str(KEEPALIVE_INTERVAL)),
            ("ServerAliveCountMax", "3"),
            ("LogLevel", "INFO"),  # ERROR would hide why the other side hung up
            *PLAIN_OPTIONS,
        ]
        return ["ssh", "-Nfnx", *as_options(mine), *self.destination(), "--", self.host]

    def probe_login(self, *more: tuple[str, str]) -> list[str]:
        """A command that connects as far as a login that is refused; no master involved."""
        mine = [
            ("ControlMaster", "no"),
            ("ControlPath", "none"),
            ("PreferredAuthentications", "none"),
            *more,
            *PLAIN_OPTIONS,
        ]
        return ["ssh", "-nxT", *as_options(mine), *self.destination(), "--", self.host, "exit"]

    def resolve(self) -> dict[str, list[str]]:
        """OpenSSH's settings for it (`ssh -G`): each one, in lower case, with its values."""
        from gridops.reach.command import run_tool

        done = run_tool(["ssh", "-G", *self.destination(), "--", self.host], name=self.name)
        if done.status:
            raise ReachError(
                f"ssh cannot read its configuration: {done.err.strip()}", node=self.name
            )
        settings: dict[str, list[str]] = {}
        for line in done.out.splitlines():
            name, _, value = line.partition(" ")
            settings.setdefault(name.lower(), []).append(value)
        return settings


def as_options(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [word for name, value in pairs for word in ("-o", f"{name}={value}")]


def _stamps(config_file: str | None) -> list[tuple[int, int]]:
    """Time and size of the configuration files that ssh will read."""
    stamps = []
    for file in configuration(config_file):
        try:
            found = Path(file).stat()
        except OSError:
            continue
        stamps.append((found.st_mtime_ns, found.st_size))
    return stamps


def configuration(config_file: str | None) -> list[str]:
    """The configuration files that ssh begins with, there or not."""
    return [config_file] if config_file else [_users_config(), "/etc/ssh/ssh_config"]


def _users_config() -> str:
    """The user's ssh_config as ssh finds it: by the password database, whatever HOME says."""
    import pwd

    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        home = os.environ.get("HOME", "/")
    return f"{home}/.ssh/config"


# -- the way to it ---------------------------------------------------------------------------------


def proxy_of(endpoint: Endpoint) -> str | None:
    """The way that many endpoints share: the first jump host, or ProxyCommand; None: nothing.

    Only OpenSSH knows which way it takes (`ssh -G`). That costs a process for every login, so it is
    asked only where the configuration has the word for it at all. Raises a ReachError for a
    configuration that ssh cannot read.
    """
    given = {name.lower(): value for name, value in endpoint.options}
    if not any(name in given for name in PROXIES) and not _mentioned(endpoint.config_file):
        return None
    found = endpoint.resolve()
    for name in PROXIES:
        value = found.get(name, ["none"])[0]
        if value.lower() != "none":
            return value.partition(",")[0] if name == "proxyjump" else value
    return None


@lru_cache(maxsize=64)
def _mentioned(config_file: str | None) -> bool:
    """True if ssh's configuration has a word of PROXIES, about any host."""
    return any(_says(Path(file), DEEPEST) for file in configuration(config_file))


def _says(file: Path, deeper: int) -> bool:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return False
    for line in lines:
        word, *rest = line.replace("=", " ", 1).split() or [""]
        if word.lower() in PROXIES:
            return True
        if word.lower() == "include" and any(_included(name, file, deeper) for name in rest):
            return True
    return False


def _included(name: str, by: Path, deeper: int) -> bool:
    """True if the files of an Include say it; what we cannot spell out may."""
    if deeper == 0 or any(char in name for char in '"%$'):
        return True
    base = (
        Path("/etc/ssh") if by.is_relative_to("/etc/ssh") else Path(configuration(None)[0]).parent
    )
    import glob

    found = glob.glob(str(base / Path(name).expanduser()))
    return any(_says(Path(one), deeper - 1) for one in found)
