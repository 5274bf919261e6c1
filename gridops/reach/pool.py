"""The shared connections (control masters): see them, open them ahead, close them.

Only what gridops made is ever touched: its names in its own directory (`runtime_dir`).
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridops.errors import ConnectionLost, ConnectTimeout, GridError
from gridops.model import Node, Outcome
from gridops.reach import masters as openssh
from gridops.reach.control import Control
from gridops.reach.endpoint import Endpoint
from gridops.reach.fanout import fan_out, race
from gridops.reach.link import runtime_dir
from gridops.system.files import UNFINISHED

if TYPE_CHECKING:
    from gridops.inventory.settings import SshSettings

MASTER = re.compile(r"([0-9a-f]{16})\.\d+")
ABANDONED = re.compile(rf"[0-9a-f]{{16}}(\.\w{{16}})?|{UNFINISHED}")  # of who was killed half-way
LEFTOVER_AGE = 3600.0  # seconds after which a leftover is nobody's any more
ALIVE_TIMEOUT = 1.0  # seconds for a master to say that it is there


@dataclass(frozen=True, slots=True)
class Master:
    """One open connection, shared by everything that reaches the same endpoint."""

    node: str  # as its first user called it
    target: str  # [user@]host[:port], as given
    pid: int | None  # None: unknown
    opened: float  # seconds since the epoch
    socket: Path
    sessions: int | None = None  # what uses it now; None: unknown
    answers: bool = True  # False: it hangs, and the next one who wants it will replace it


def open(nodes: Sequence[Node], ssh: SshSettings) -> Iterator[Outcome[Master]]:
    """Connect to every node behind SSH, at most `ssh.pool_size` at a time."""

    def work(node: Node) -> Master:
        endpoint = Endpoint.of(node, ssh)
        openssh.with_master(endpoint, 0, openssh.ensure_master)
        master = _look(Path(openssh.socket_path(endpoint)), {})
        if master is None:
            raise ConnectionLost("the connection was closed again at once")
        return master

    reached = [node for node in nodes if node.connection == "ssh"]
    return fan_out(reached, work, max_workers=ssh.pool_size)


def status() -> tuple[Master, ...]:
    """The masters that are there, opened for any inventory; clears away the dead."""
    directory = runtime_dir()
    _sweep(directory)
    paths = [path for path in directory.iterdir() if MASTER.fullmatch(path.name)]
    users = _users()
    found = (done.value for done in race(paths, lambda path: _look(path, users), max_workers=16))
    return tuple(sorted((m for m in found if m), key=lambda master: (master.node, master.socket)))


def close(nodes: Sequence[Node] | None = None, ssh: SshSettings | None = None) -> int:
    """End the masters of these nodes (None: all) and all that runs over them; returns how many."""
    masters = status()
    if nodes is not None and ssh is not None:
        endpoints = [Endpoint.of(node, ssh) for node in nodes if node.connection == "ssh"]
        keys = {endpoint.key for endpoint in endpoints}
        called = {(endpoint.name, endpoint.target) for endpoint in endpoints}
        masters = tuple(
            master
            for master in masters
            # also those opened before the ssh configuration changed
            if master.socket.name.partition(".")[0] in keys
            or (master.node, master.target) in called
        )
    return sum(bool(done.value) for done in race(masters, _close, max_workers=16))


def _look(path: Path, users: Mapping[str, int]) -> Master | None:
    """The master at `path`; None when it is dead, and then its files are gone too."""
    note = _note(path)
    master = Master(
        node=str(note.get("node", "?")),
        target=str(note.get("target", "?")),
        pid=note.get("pid"),
        opened=float(note.get("opened", 0.0)),
        socket=path,
        sessions=users.get(str(note.get("bound"))),
    )
    try:
        with closing(Control(str(path))) as control:
            control.alive(ALIVE_TIMEOUT)
    except (FileNotFoundError, ConnectionRefusedError, ConnectionLost):
        _forget(path)
        return None
    except (OSError, GridError):
        return replace(master, answers=False)
    return master


def _close(master: Master) -> bool:
    try:
        with closing(Control(str(master.socket))) as control:
            if master.answers:
                control.terminate()
            else:
                _kill(master)
    except (OSError, GridError):
        pass  # it went away meanwhile, which is what was wanted
    _forget(master.socket, force=True)
    return True


def _kill(master: Master) -> None:
    """Kill a hung master, if its pid is certainly still its own."""
    bound = str(_note(master.socket).get("bound", ""))
    with suppress(OSError):
        words = Path(f"/proc/{master.pid}/cmdline").read_bytes()
        if master.pid and bound and bound in os.fsdecode(words):
            os.kill(master.pid, signal.SIGKILL)


def _forget(path: Path, *, force: bool = False) -> None:
    """Remove a dead master's files, unless somebody is just opening its successor."""
    with suppress(ConnectTimeout), openssh.lock_socket(path, path.name, time.monotonic()):
        if not force and _listens(path):
            return
        for name in (f"{path}", f"{path}.json", f"{path}.lock"):
            Path(name).unlink(missing_ok=True)


def _listens(path: Path) -> bool:
    try:
        Control(str(path)).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:
        return True
    return True


def _sweep(directory: Path) -> None:
    """Clear away leftovers: notes and locks without a socket, and those of killed openings."""
    for path in tuple(directory.iterdir()):
        stem = path.with_suffix("") if path.suffix in (".json", ".lock") else path
        if stem != path and MASTER.fullmatch(stem.name) and not stem.exists():
            _forget(stem)
        elif ABANDONED.fullmatch(path.name):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > LEFTOVER_AGE and not _listens(path):
                    path.unlink()


def _note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(Path(f"{path}.json").read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _users() -> Mapping[str, int]:
    """Clients of each socket, counted by the name it was bound as.

    From the kernel's own list, read once for all. Empty where there is none.
    """
    try:
        lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    bound = (line.rpartition("/")[2].partition(".")[0] for line in lines if "/" in line)
    return {name: max(0, ends - 1) for name, ends in Counter(bound).items()}
