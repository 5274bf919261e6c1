"""`run --port`: ports of this machine that lead to ports of the node that a run is on.

The listeners are ours alone, not the shared master's: they stay while the connection is lost and
come back to life with it (every connection takes the master that is there then), and they end with
this process, however it ends.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from types import TracebackType

from gridops.errors import GridError, PortClosed, UsageError
from gridops.model import PortForward
from gridops.observe import events
from gridops.reach.link import Link, Stream
from gridops.reach.ports import (
    PORTS_TIMEOUT,
    Ports,
    any_port,
    query_ports,
    refusal_reason,
    this_port,
)
from gridops.reach.tunnel import MAX_FORWARDED, PortListener
from gridops.system.rundir import make_room

FORWARD_TIMEOUT = 30.0  # seconds for one connection; a master whose network died has ended by then
FILES_PER_CONNECTION = 5  # descriptors of one connection


class Forwards:
    """The ports of one run: taken by `reserve`, of use from `lead` on, free after `close`."""

    def __init__(self, forwards: Sequence[_Forward] = ()) -> None:
        self._forwards = forwards
        self._link: Link | None = None  # to the node that is prepared and not led to yet

    @classmethod
    def reserve(cls, ports: Sequence[PortForward]) -> Forwards:
        """Take the local ports. Whoever connects waits until `lead`.

        Raises UsageError for a port that cannot be had, and then none is taken.
        """
        if ports:
            make_room(FILES_PER_CONNECTION * MAX_FORWARDED)
        made: list[_Forward] = []
        wanted = frozenset(port.remote for port in ports)
        try:
            for port in ports:
                made.append(_Forward(port, wanted))
        except BaseException:
            cls(made).close()
            raise
        return cls(made)

    def __enter__(self) -> Forwards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def prepare(self, link: Link) -> None:
        """Ask this node about its ports: to be called before the command starts there.

        Nothing leads to an earlier node any more. A node that shares this machine's network has
        the same ports, so where both numbers are the same we let go of ours, for the command to
        have it. Raises a ReachError or NodeError when the node cannot be reached or its sshd
        allows no forwarding, UsageError for ports that would lead in a circle.
        """
        if not self._forwards:
            return
        self._link = None
        for one in self._forwards:
            one.link = None
        found = query_ports(link, [one.remote for one in self._forwards])
        ours = {one.local for one in self._forwards if one.listens} if found.shared else set()
        for one in self._forwards:
            one.settle(link, shared=found.shared)
        if found.shared:
            _no_circle(self._forwards)
        for one in self._forwards:
            if one.listens and _busy(link, one.remote, found, ours):
                events.emit(events.PORT_BUSY, node=link.node.name, remote=one.remote)
        self._link = link

    def lead(self) -> None:
        """Lead the ports to the node that was prepared, from now on.

        Waits for nothing; twice is harmless.
        """
        link, self._link = self._link, None
        if link:
            for one in self._forwards:
                one.lead(link)

    def close(self) -> None:
        """Free the ports and end what runs over them. Twice is harmless."""
        self._link = None
        for one in self._forwards:
            one.close()


class _Forward:
    def __init__(self, port: PortForward, avoid: frozenset[int]) -> None:
        """Take the local port; a free one is none of `avoid`: this machine may want those."""
        self.remote = port.remote
        self.local = 0
        self._wanted = port.local
        self._avoid = avoid
        self._listener: socket.socket | None = None
        self._switchboard: PortListener | None = None
        self.link: Link | None = None  # where it leads; None: nowhere at the moment
        self._failing = False  # and it has been said
        self._listen()

    @property
    def listens(self) -> bool:
        return self._listener is not None

    def settle(self, link: Link, *, shared: bool) -> None:
        """Listen, unless the node's port is the very same one."""
        given = self.remote if link.node.connection == "local" else None
        if shared and self.remote == (self._wanted or given):
            self.close()
            self.local = self.remote
        elif not self.listens:
            self._listen()

    def lead(self, link: Link) -> None:
        self.link = link
        self._failing = False
        if self._listener and not self._switchboard:
            self._switchboard = PortListener(self._listener, self._dial)
        events.emit(
            events.PORT_FORWARDED, node=link.node.name, local=self.local, remote=self.remote
        )

    def close(self) -> None:
        self.link = None
        if self._switchboard:
            self._switchboard.close()
        elif self._listener:
            self._listener.close()
        self._switchboard = self._listener = None

    def _listen(self) -> None:
        self._listener = any_port(self._avoid) if self._wanted is None else this_port(self._wanted)
        self.local = int(self._listener.getsockname()[1])

    def _dial(self, peer: tuple[str, int]) -> Stream:
        link = self.link
        if link is None:
            raise PortClosed("the forward is not connected to a node now")
        try:
            stream = link.dial(self.remote, timeout=FORWARD_TIMEOUT)
        except GridError as exc:
            if self.link is link and not self._failing:
                self._failing = True
                self._tell(link, exc)
            raise
        self._failing = False
        return stream

    def _tell(self, link: Link, exc: GridError) -> None:
        why = refusal_reason(link, self.remote) if isinstance(exc, PortClosed) else exc
        error = f"{why.message} ({why.hint})" if why.hint else why.message
        events.emit(events.PORT_FAILED, node=link.node.name, remote=self.remote, error=error)


def _no_circle(forwards: Sequence[_Forward]) -> None:
    ours = {one.local for one in forwards if one.listens}
    for one in forwards:
        if one.remote in ours:
            raise UsageError(
                f"--port: {one.remote} cannot be both LOCAL and REMOTE on this node",
                hint="it shares its ports with this machine; choose another LOCAL port",
            )


def _busy(link: Link, remote: int, found: Ports, ours: set[int]) -> bool:
    """True if something listens there already. Raises ForwardingForbidden."""
    if remote in ours or (found.known and remote not in found.busy):
        return False
    try:
        link.dial(remote, timeout=PORTS_TIMEOUT).close()
    except PortClosed:
        if found.known:
            raise refusal_reason(link, remote) from None
        return False
    return True
