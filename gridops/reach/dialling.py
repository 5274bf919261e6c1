"""Connection to a node's port, made by its control master.

The master gets two descriptors and does the rest (`Control.stdio_forward`). Not by proxy mode:
OpenSSH (9.2 at least) has a master end itself when a client goes that had a channel refused.
"""

from __future__ import annotations

import socket
from contextlib import suppress

from gridops.reach.control import Address, Control
from gridops.system.rundir import no_room


class ForwardedStream:
    """A stream to and from an address that the node sees.

    Our end of input travels alone; the other side's ends both directions, as with `ssh -W`
    (OpenSSH: channel_connect_stdio_fwd, force_drain).
    """

    def __init__(self, control: Control, to: Address, timeout: float) -> None:
        """Take `control` over. Raises what `Control.stdio_forward` does."""
        self._control = control
        self._out, theirs_in, self._in, theirs_out = _two_pairs()
        try:
            with theirs_in, theirs_out:
                control.stdio_forward(to, (theirs_in.fileno(), theirs_out.fileno()), timeout)
        except BaseException:
            self.close()
            raise

    def recv(self, size: int, /) -> bytes:
        return self._in.recv(size)

    def sendall(self, data: bytes, /) -> None:
        self._out.sendall(data)

    def settimeout(self, seconds: float | None, /) -> None:
        for one in (self._out, self._in):
            one.settimeout(seconds)

    def shutdown(self, how: int, /) -> None:
        """Shut down as a socket does; what the node still says after SHUT_WR goes on coming."""
        with suppress(OSError):
            self._out.shutdown(socket.SHUT_RDWR)
        if how != socket.SHUT_WR:
            with suppress(OSError):
                self._in.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for one in (self._out, self._in):
            one.close()
        self._control.close()


def _two_pairs() -> tuple[socket.socket, socket.socket, socket.socket, socket.socket]:
    """A socket pair for each direction: the master ends a direction by closing its descriptor."""
    made: list[socket.socket] = []
    try:
        for _ in range(2):
            made += socket.socketpair()
    except OSError as exc:
        for one in made:
            one.close()
        raise no_room() from exc
    return made[0], made[1], made[2], made[3]
