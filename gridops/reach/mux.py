"""A Paramiko Transport over an OpenSSH control master, in mux proxy mode.

The master has connected, checked the host key and logged in; what its socket carries after the
proxy request (`Control.proxy`) is the SSH connection layer alone (PROTOCOL.mux, section 4): uint32
length, one byte of padding length (0), payload. So there is no banner, key exchange, MAC or
authentication here. The master translates channel numbers, so many transports share one login.
"""

from __future__ import annotations

import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from logging import DEBUG
from typing import Any

from paramiko import Channel, ChannelException, Message, SSHClient, SSHException, Transport
from paramiko.common import MSG_CHANNEL_REQUEST
from paramiko.packet import Packetizer

from gridops.errors import SessionRefused
from gridops.reach import masters
from gridops.reach.control import Control
from gridops.reach.endpoint import Endpoint

LONGEST_PACKET = 1024 * 1024  # bytes; OpenSSH's own limit is 256 KiB
MUX_READ_SIZE = 256 * 1024
CHANNEL_TIMEOUT = 15.0  # seconds; a master whose network died has ended itself by then


class Packets(Packetizer):
    """Packets as the master's socket carries them."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._sock = sock
        self._read = bytearray()
        self._received = 0
        self._sending = threading.Lock()

    def send_message(self, data: Message) -> None:
        payload = data.asbytes()
        with self._sending:
            try:
                self._sock.sendall(struct.pack(">IB", len(payload) + 1, 0) + payload)
            except OSError as exc:
                raise EOFError from exc

    def read_message(self) -> tuple[int, Message]:
        (length, padding) = struct.unpack(">IB", self._take(5))
        if not 2 <= length <= LONGEST_PACKET or padding > length - 2:
            raise SSHException(f"the control master sent a packet of {length} bytes")
        body = self._take(length - 1)
        message = Message(body[1 : len(body) - padding])
        message.seqno = self._received
        self._received = (self._received + 1) & 0xFFFFFFFF
        return body[0], message

    def _take(self, count: int) -> bytes:
        while len(self._read) < count:
            try:
                data = self._sock.recv(MUX_READ_SIZE)
            except OSError as exc:
                raise EOFError from exc
            if not data:
                raise EOFError
            self._read += data
        taken = bytes(self._read[:count])
        del self._read[:count]
        return taken

    def close(self) -> None:
        with suppress(OSError):  # wakes the thread that reads
            self._sock.shutdown(socket.SHUT_RDWR)
        super().close()

    # -- what Transport does for a handshake, which is over before we begin ---------------------

    def write_all(self, out: object) -> None:
        """Send no banner: the master does not want it."""

    def start_handshake(self, timeout: float) -> None:
        """Do nothing: there is no handshake to watch."""

    def set_keepalive(self, interval: float, callback: Callable[[], object]) -> None:
        """Do nothing: the master watches its connection itself."""


class MuxTransport(Transport):
    """A Transport that is connected and authenticated from the start.

    `control` is in proxy mode already. `more` gives a transport over the endpoint's next master:
    sessions that sshd refuses here (MaxSessions) are opened there, so whoever asks for a session
    does not notice. `proven`: whether the master's network is known to be alive.
    """

    def __init__(
        self,
        control: Control,
        *,
        username: str = "",
        more: Callable[[], MuxTransport] | None = None,
        proven: bool = True,
    ) -> None:
        super().__init__(control.socket, packetizer_class=Packets)
        control.socket.settimeout(None)  # closing wakes the reader, so it need not look up
        self.channel_timeout = CHANNEL_TIMEOUT
        self.control = control
        self.username = username
        self.proven = proven
        self._channel_handler_table = {
            **self._channel_handler_table,  # type: ignore[has-type]
            MSG_CHANNEL_REQUEST: _handle_request,
        }
        self._used = False
        self._more = more
        self._next: MuxTransport | None = None
        self._widening = threading.Lock()
        self.initial_kex_done = True
        self.clear_to_send.set()
        self.active = True
        self.start()

    # -- the handshake is over -----------------------------------------------------------------

    def _check_banner(self) -> None:
        self.remote_version = "SSH-2.0-OpenSSH_mux"

    def _send_kex_init(self) -> None:
        """Do nothing: keys are the master's business."""

    def _expect_packet(self, *ptypes: int) -> None:
        """Do nothing: no packet is expected in particular."""

    def is_authenticated(self) -> bool:
        return bool(self.active)

    def get_username(self) -> str:
        return self.username

    # -- channels ------------------------------------------------------------------------------

    def open_channel(self, kind: str, *args: Any, **kwargs: Any) -> Channel:
        """Open a channel as Transport does.

        A session that is refused here is opened over the next master.
        """
        end = time.monotonic() + (kwargs.get("timeout") or self.channel_timeout)
        try:
            channel: Channel = super().open_channel(kind, *args, **kwargs)
            self._used = True
            return channel
        except SSHException as exc:
            # Of two threads that are refused at once only one is told so (saved_exception).
            in_time = self.active and time.monotonic() < end
            refused = isinstance(exc, ChannelException) or in_time
            if kind != "session" or not refused or self._more is None:
                raise
            if self.proven and not self._used:  # a new master's first: another would not help
                raise masters.no_sessions("") from exc
            following = self._following(self._more)
        return following.open_channel(kind, *args, **kwargs)

    def _following(self, more: Callable[[], MuxTransport]) -> MuxTransport:
        with self._widening:
            if self._next is None or not self._next.is_active():
                self._next = more()
            return self._next

    def close(self) -> None:
        super().close()
        if self._next is not None:
            self._next.close()

    # -- what the master does not pass on ------------------------------------------------------

    def global_request(self, kind: str, data: Any = None, wait: bool = True) -> Message | None:
        """Refuse the request.

        The master drops most of them and never hands back the answer, so that one would wait for
        ever. `Connection.forward_remote` asks the master itself.
        """
        raise SSHException(f"a shared connection takes no {kind!r} request")

    def cancel_port_forward(self, address: str, port: int) -> None:
        """Do nothing: nothing was forwarded."""

    def _log(self, level: int, msg: Any, *args: Any) -> None:
        super()._log(DEBUG, msg, *args)  # type: ignore[misc]  # what matters is raised to whoever asked for it


def open_transport(endpoint: Endpoint, index: int = 0) -> MuxTransport:
    """A transport over the endpoint's master `index`, opened where there is none.

    Raises a ReachError that says why the node cannot be reached.
    """

    def ask(control: Control, seconds: float) -> Control:
        control.proxy(seconds)
        return control

    def more() -> MuxTransport:
        if index + 1 >= masters.MASTERS:
            raise SessionRefused("sshd refuses further sessions", node=endpoint.name)
        return open_transport(endpoint, index + 1)

    control, new = masters.with_master(endpoint, index, ask)
    return MuxTransport(control, username=endpoint.user or "", more=more, proven=new)


def _handle_request(channel: Channel, message: Message) -> None:
    """Handle a request as Channel does, and `exit-signal` as well.

    Channel's own drops that one, which says which signal ended the command.
    """
    if message.get_text() == "exit-signal":
        message.get_boolean()  # whether an answer is wanted: never
        channel.exit_status = 128 + _number(message.get_text())
        channel.status_event.set()
        return
    message.rewind()
    message.get_int()  # the channel's number, as Transport has read it before
    Channel._handle_request(channel, message)  # type: ignore[attr-defined]


def _number(name: str) -> int:
    """The signal called `name` on the wire (without SIG); an unknown one counts as KILL."""
    return int(getattr(signal, f"SIG{name}", signal.SIGKILL))


class Client(SSHClient):
    """The SSHClient that Fabric and its users know as `connection.client`."""

    def adopt(self, transport: MuxTransport) -> None:
        self._transport = transport
