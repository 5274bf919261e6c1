"""Ports of this machine and of a node: which can be had, and which are in use."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gridops.errors import (
    ForwardingForbidden,
    GridError,
    NodeError,
    PortClosed,
    ReachError,
    UsageError,
)
from gridops.reach.link import Link
from gridops.reach.tunnel import listen
from gridops.system import scripts
from gridops.system.processes import boot_id

HOST = "127.0.0.1"
PORTS_TIMEOUT = 10.0  # seconds for what a node says about its ports


def any_port(avoid: frozenset[int]) -> socket.socket:
    """A listener on a port that is free, and not in `avoid`."""
    passed: list[socket.socket] = []
    try:
        for _ in range(1 + len(avoid)):
            made = listen(HOST, 0)
            if made.getsockname()[1] not in avoid:
                return made
            passed.append(made)
    except OSError as exc:
        raise ReachError(f"cannot open a port on this machine: {exc.strerror}") from exc
    finally:
        for one in passed:
            one.close()
    raise ReachError("this machine has no free port")


def this_port(port: int) -> socket.socket:
    """A listener on this port. Raises UsageError."""
    try:
        return listen(HOST, port)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            why = f"is taken{_holder(port)}"
        elif exc.errno in (errno.EACCES, errno.EPERM):
            why = "is for root alone"
        else:
            why = f"cannot be opened: {exc.strerror}"
    raise UsageError(
        f"--port: port {port} of this machine {why}",
        hint="give another LOCAL port, or none to get a free one",
    )


def _holder(port: int) -> str:
    """Holder of a port: ` by NAME (pid N)` as far as Linux tells us, else empty."""
    with suppress(OSError, ValueError):
        sockets = {
            f"socket:[{words[9]}]"
            for table in ("tcp", "tcp6")
            for words in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
            if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port
        }
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if any(os.readlink(fd) in sockets for fd in (process / "fd").iterdir()):  # noqa: PTH115
                    return f" by {(process / 'comm').read_text().strip()} (pid {process.name})"
    return ""


@dataclass(frozen=True, slots=True)
class Ports:
    """A node's answer about some of its ports."""

    known: bool  # whether it can tell; only Linux can
    shared: bool  # whether its network is this machine's
    busy: frozenset[int]  # those that something listens on


def query_ports(link: Link, remotes: Iterable[int]) -> Ports:
    """Ask the node about its ports. Raises a ReachError, or NodeTimeout."""
    ports = map(str, sorted(set(remotes)))
    reply = link.script(scripts.script("reach/ports.sh"), *ports, timeout=PORTS_TIMEOUT)
    here = re.search(rb"^here (\S+) (\S+)$", reply.stdout, re.MULTILINE)
    ours = _network()
    return Ports(
        known=bool(here),
        shared=link.node.connection == "local" or bool(here and ours and here.groups() == ours),
        busy=frozenset(map(int, re.findall(rb"^busy (\d{1,5})$", reply.stdout, re.MULTILINE))),
    )


def _network() -> tuple[bytes, bytes] | None:
    """Boot id and network namespace of this machine, as `ports.sh` says them."""
    try:
        network = os.readlink(b"/proc/self/ns/net")  # noqa: PTH115 - not a path
        return boot_id().encode(), network
    except OSError:
        return None


def refusal_reason(link: Link, remote: int) -> NodeError:
    """The reason for a failed connection to the node's port (see PortClosed)."""
    node = link.node.name
    try:
        found = query_ports(link, [remote])
    except GridError:
        found = Ports(known=False, shared=False, busy=frozenset())
    if remote in found.busy:
        return ForwardingForbidden(
            f"its sshd refuses to connect to port {remote}, though something listens there",
            node=node,
            hint="check AllowTcpForwarding, PermitOpen and DisableForwarding in its sshd_config",
        )
    maybe = "" if found.known else ", or its sshd forbids forwarding"
    return PortClosed(f"nothing listens on port {remote} there{maybe}", node=node)
