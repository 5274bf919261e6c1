"""The ssh command by which rsync reaches a Fabric Connection's host."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any


def remote_shell(c: Any, *, strict_host_keys: bool, ssh_opts: Sequence[str]) -> str:
    """The text for `rsync -e`: everything about `c` but the host's name.

    `c` is a fabric.Connection, or anything that says itself how rsync shares its connection
    (`rsync_shell()`, as gridops' own Connection does).
    """
    own = getattr(c, "rsync_shell", None)
    words = shlex.split(own()) if own else _words(c, strict_host_keys)
    return shlex.join([*words, *_lax(strict_host_keys, ssh_opts), *ssh_opts])


def host_of(c: Any) -> str:
    """The host as rsync's `HOST:PATH` takes it."""
    host = str(getattr(c, "original_host", None) or c.host)
    return f"[{host}]" if ":" in host else host


def _lax(strict_host_keys: bool, ssh_opts: Sequence[str]) -> list[str]:
    said = any("stricthostkeychecking" in word.lower() for word in ssh_opts)
    return [] if strict_host_keys or said else ["-o", "StrictHostKeyChecking=no"]


def _words(c: Any, strict_host_keys: bool) -> list[str]:
    """ssh with the Connection's own port, user, keys, gateway and configuration file.

    ssh gets the name that the user gave, so that what ~/.ssh/config says about it holds, and beside
    it the address that Fabric resolved it to.
    """
    words = ["ssh", "-o", "BatchMode=yes", "-p", str(c.port), "-l", str(c.user)]
    config = getattr(c.config, "ssh_config_path", None)
    words += ["-F", str(config)] if config else []
    words += ["-o", f"ConnectTimeout={c.connect_timeout}"] if c.connect_timeout else []
    if c.host != c.original_host:
        words += ["-o", f"HostName={c.host}"]
    for key in _keys(c):
        words += ["-i", key]
    return [*words, *_through(c.gateway, strict_host_keys)]


def _keys(c: Any) -> list[str]:
    keys = c.connect_kwargs.get("key_filename") or []
    return [keys] if isinstance(keys, str) else list(dict.fromkeys(str(key) for key in keys))


def _through(gateway: Any, strict_host_keys: bool) -> list[str]:
    """The options for a Connection's gateway: another Connection, a ProxyCommand, or False."""
    if gateway is None:
        return []
    if gateway is False:
        return ["-o", "ProxyJump=none"]
    if isinstance(gateway, str):
        return ["-o", f"ProxyCommand={gateway}"]
    jump = remote_shell(gateway, strict_host_keys=strict_host_keys, ssh_opts=())
    host = shlex.quote(host_of(gateway).strip("[]"))
    fixed = jump.replace("%", "%%")  # ssh expands %h and %p, and %% to %
    return ["-o", f"ProxyCommand={fixed} -W '[%h]:%p' -- {host}"]
