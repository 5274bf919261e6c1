"""Limit on concurrent logins through one jump host.

sshd drops whoever comes while ten have not logged in yet (MaxStartups 10:30:100), so of all the
nodes behind one jump host only so many are logged in to at once.

Which way OpenSSH takes only OpenSSH knows (`ssh -G`). That costs a process for every login, so it
is asked only where the configuration has the word for it at all.
"""

from __future__ import annotations

import glob
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from gridops.errors import ConnectTimeout
from gridops.reach.endpoint import Endpoint, configuration

MAX_LOGINS = 10  # logins through one jump host, by one process
PROXIES = ("proxyjump", "proxycommand")
DEEPEST = 16  # Includes within Includes, as in OpenSSH

_lock = threading.Lock()
_turns: dict[str, threading.BoundedSemaphore] = {}


@contextmanager
def login_slot(endpoint: Endpoint, end: float) -> Iterator[None]:
    """Our turn to log in on the endpoint's way; waits until `end` (on time.monotonic()) at most.

    Raises ConnectTimeout when it does not come, a ReachError for a configuration ssh cannot read.
    """
    way = proxy_of(endpoint)
    if way is None:
        yield
        return
    with _lock:
        free = _turns.setdefault(way, threading.BoundedSemaphore(MAX_LOGINS))
    if not free.acquire(timeout=max(0.0, end - time.monotonic())):
        raise ConnectTimeout(
            f"too many logins at once through the jump host {way}",
            node=endpoint.name,
            hint=f"{MAX_LOGINS} go at once; give more time, or run `inv pool.open` first",
        )
    try:
        yield
    finally:
        free.release()


def proxy_of(endpoint: Endpoint) -> str | None:
    """The way that many endpoints share: the first jump host, or ProxyCommand; None: nothing."""
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
    found = glob.glob(str(base / Path(name).expanduser()))
    return any(_says(Path(one), deeper - 1) for one in found)
