"""Adapters between Fabric and OpenSSH.

Fabric's words for a login become options of ssh, OpenSSH's configuration takes the place of
Fabric's reading of it, and our errors become ones that Fabric's users catch.
"""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import fabric
from paramiko import AuthenticationException, SSHException
from paramiko.config import SSHConfig

from gridops.errors import (
    AuthenticationFailed,
    ConnectRefused,
    ConnectTimeout,
    GridError,
    HostKeyChanged,
    HostKeyUnknown,
    HostUnknown,
    UsageError,
)
from gridops.reach import masters
from gridops.reach.endpoint import Endpoint

Options = tuple[tuple[str, str], ...]

TAKEN = frozenset({"key_filename", "look_for_keys", "allow_agent", "compress", "timeout"})
# Limits on steps that OpenSSH does not tell apart; the login as a whole has a limit of its own.
NEEDLESS = frozenset({"banner_timeout", "auth_timeout", "channel_timeout"})
_parsed = Lock()
OTHERWISE = {
    "password": "use a key (ssh-copy-id), or put a gateway's ControlMaster in ~/.ssh/config",
    "passphrase": "load the key into the agent (ssh-add)",
    "pkey": "name its file as key_filename, or load it into the agent",
}


def login_options(connect_kwargs: Mapping[str, Any]) -> Options:
    """The ssh options for Fabric's `connect_kwargs`.

    Raises UsageError for what OpenSSH cannot be told, ValueError (as Fabric) for what belongs into
    an argument of its own.
    """
    for name in ("hostname", "port", "username"):
        if name in connect_kwargs:
            raise ValueError(f"give {name!r} as Connection's own argument, not in connect_kwargs")
    for name, value in connect_kwargs.items():
        if value and name not in TAKEN | NEEDLESS:
            hint = OTHERWISE.get(name, "set it in ~/.ssh/config, or as an option of `ssh`")
            raise UsageError(f"connect_kwargs[{name!r}]: OpenSSH does the login", hint=hint)
    keys = connect_kwargs.get("key_filename") or ()
    options = [("IdentityFile", _file(key)) for key in ([keys] if isinstance(keys, str) else keys)]
    if keys and connect_kwargs.get("look_for_keys") is False:
        options.append(("IdentitiesOnly", "yes"))
    if connect_kwargs.get("allow_agent") is False:
        options.append(("IdentityAgent", "none"))
    if connect_kwargs.get("compress"):
        options.append(("Compression", "yes"))
    return tuple(options)


def _file(path: str) -> str:
    return '"' + str(Path(path).expanduser()).replace("%", "%%") + '"'


def through_gateway(gateway: Endpoint) -> str:
    """The ProxyCommand that comes through the gateway's master, for OpenSSH to expand."""
    words = [*gateway.shell(masters.socket_path(gateway)), "-W"]
    literal = [word.replace("%", "%%") for word in words]
    return shlex.join([*literal, "[%h]:%p", "--", gateway.host])


class Config(fabric.Config):  # type: ignore[misc]
    """A Fabric configuration that leaves ~/.ssh/config to OpenSSH: it can read all of it."""

    def _load_ssh_files(self) -> None:
        pass


@contextmanager
def without_ssh_config(config: fabric.Config) -> Iterator[None]:
    """Keep Fabric from looking hosts up in its parsed files: OpenSSH does, and does all of it."""
    with _parsed:
        parsed = config.base_ssh_config
        config._set(base_ssh_config=SSHConfig())
        try:
            yield
        finally:
            config._set(base_ssh_config=parsed)


class FabricHostUnknown(HostUnknown, socket.gaierror):
    pass


class FabricTimeout(ConnectTimeout, TimeoutError):
    pass


class FabricRefused(ConnectRefused, OSError):
    pass


class FabricAuthenticationFailed(AuthenticationFailed, AuthenticationException):
    pass


class FabricHostKeyChanged(HostKeyChanged, SSHException):
    pass


class FabricHostKeyUnknown(HostKeyUnknown, SSHException):
    pass


KINDS: tuple[type[GridError], ...] = (
    FabricHostUnknown,
    FabricTimeout,
    FabricRefused,
    FabricAuthenticationFailed,
    FabricHostKeyChanged,
    FabricHostKeyUnknown,
)


def as_fabric(error: GridError) -> GridError:
    """`error` as one that code written for Fabric catches too (socket.gaierror, SSHException)."""
    for kind in KINDS:
        if type(error) is kind.__mro__[1]:
            return kind(error.message, node=error.node, hint=error.hint)
    return error
