"""A Fabric Connection that OpenSSH connects.

It takes what `fabric.Connection` takes and does what that does, over a control master that other
Connections, Links, rsync and the next process share.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import fabric
from fabric.connection import derive_shorthand
from fabric.util import get_local_user
from paramiko import Channel, ChannelException, SFTPClient, SSHException
from paramiko.agent import AgentRequestHandler

from gridops.errors import ConnectionLost, GridError, NodeError, SessionRefused, UsageError
from gridops.inventory.settings import SshSettings
from gridops.reach import masters
from gridops.reach.control import Address, Control
from gridops.reach.endpoint import Endpoint
from gridops.reach.fabric_compat import (
    Config,
    as_fabric,
    login_options,
    through_gateway,
    without_ssh_config,
)
from gridops.reach.link import on_node
from gridops.reach.mux import CHANNEL_TIMEOUT, Client, open_transport
from gridops.reach.tunnel import ForwardedStream, tunnel

if TYPE_CHECKING:
    from gridops.model import Node


class Remote(fabric.runners.Remote):  # type: ignore[misc]
    """Fabric's runner; a connection that ended under a command is an error of its own."""

    def returncode(self) -> int:
        status = int(super().returncode())
        if status == -1 and not self.channel.transport.is_active():
            raise ConnectionLost("the connection ended while a command ran", node=self.context.name)
        return status


class Connection(fabric.Connection):  # type: ignore[misc]
    """`fabric.Connection` over OpenSSH's control masters.

    `host`, `user` and `port` are as given (or Fabric's defaults): OpenSSH resolves them, and
    `endpoint.resolve()` tells what to. `connect_kwargs` may say what OpenSSH can be told
    (key_filename, allow_agent, look_for_keys, compress, timeout); there are no passwords, logins go
    by key or agent. `close` closes this connection; the master stays for `ssh.persist`.

    What connects raises ReachErrors that say why the node cannot be reached; those are also
    socket.gaierror, TimeoutError, paramiko.SSHException and so on, where Fabric raises these.
    """

    def __init__(
        self,
        host: str,
        user: str | None = None,
        port: int | None = None,
        config: Any = None,
        gateway: Any = None,
        forward_agent: bool | None = None,
        connect_timeout: int | None = None,
        connect_kwargs: Mapping[str, Any] | None = None,
        inline_ssh_env: bool | None = None,
        *,
        ssh: SshSettings | None = None,
        name: str = "",
    ) -> None:
        if not isinstance(config, fabric.Config):
            config = config.clone(into=Config) if config else Config()
        with without_ssh_config(config):
            super().__init__(
                host,
                user,
                port,
                config,
                gateway,
                forward_agent,
                connect_timeout,
                connect_kwargs,
                inline_ssh_env,
            )
        given = derive_shorthand(host)
        self._set(
            name=name or self.host,
            ssh=ssh or SshSettings(),
            client=Client(),
            # what Fabric fills in where nobody said anything, and OpenSSH would decide
            _implied_user=None if user or given["user"] else get_local_user(),
            _implied_port=None if port or given["port"] else 22,
        )

    @classmethod
    def for_node(cls, node: Node, ssh: SshSettings, **kwargs: Any) -> Connection:
        """The Connection to a node of the inventory; `kwargs` as for the class."""
        return cls(node.host, user=node.user, port=node.port, ssh=ssh, name=node.name, **kwargs)

    @property
    def endpoint(self) -> Endpoint:
        """The Endpoint of this connection.

        Raises UsageError for connect_kwargs that OpenSSH cannot be told.
        """
        return Endpoint(
            host=self.host,
            user=None if self.user == self._implied_user else self.user,
            port=None if self.port == self._implied_port else self.port,
            config_file=str(self.ssh.config_file) if self.ssh.config_file else None,
            host_keys=self.ssh.host_keys,
            connect_timeout=self._patience(),
            persist=self.ssh.persist,
            options=(*self._options(), *self.ssh.options.items()),
            name=self.name,
        )

    def _patience(self) -> float:
        other = self.connect_kwargs.get("timeout")
        if other is not None and self.connect_timeout is not None:
            raise ValueError("give connect_timeout or connect_kwargs['timeout'], not both")
        return float(self.connect_timeout or other or self.ssh.connect_timeout)

    def _options(self) -> tuple[tuple[str, str], ...]:
        if self.authentication.strategy_class is not None:
            raise UsageError(
                "authentication.strategy_class: OpenSSH does the login",
                hint="set it in ~/.ssh/config",
            )
        options = login_options(self.connect_kwargs)
        if self.forward_agent:
            options += (("ForwardAgent", "yes"),)
        if isinstance(self.gateway, str):
            options += (("ProxyCommand", self.gateway),)
        elif self.gateway:
            options += (("ProxyCommand", through_gateway(self._gateway().endpoint)),)
        elif self.gateway is False:
            options += (("ProxyJump", "none"),)
        return options

    def _gateway(self) -> Connection:
        way = self.gateway
        if isinstance(way, Connection):
            return way
        return Connection(
            way.host,
            way.user,
            way.port,
            gateway=way.gateway,
            connect_kwargs=way.connect_kwargs,
            ssh=self.ssh,
        )

    def open(self) -> None:
        """Connect, opening the control master where there is none yet. Harmless when connected.

        Raises a ReachError that says why the node cannot be reached.
        """
        if self.is_connected:
            return
        try:
            with on_node(self.name):
                self._open_gateway()
                self.transport = open_transport(self.endpoint)
        except GridError as exc:
            raise as_fabric(exc) from exc
        self._sftp = None
        self.client.adopt(self.transport)

    def _open_gateway(self) -> None:
        """See that the gateway's master is there: our ProxyCommand goes through it."""
        if self.gateway and not isinstance(self.gateway, str):
            gateway = self._gateway()
            gateway._open_gateway()
            masters.with_master(gateway.endpoint, 0, masters.ensure_master)

    def rsync_shell(self) -> str:
        """The `rsync -e` argument to come through this connection's master. Raises a ReachError."""
        try:
            self._open_gateway()
            masters.with_master(self.endpoint, 0, masters.ensure_master)
        except GridError as exc:
            exc.node = exc.node or self.name
            raise
        return shlex.join(self.endpoint.shell(masters.socket_path(self.endpoint)))

    def create_session(self) -> Channel:
        """A new session channel; over a further master where sshd refuses one more on this."""
        channel = self._session()
        if self.forward_agent:
            self._agent_handler = AgentRequestHandler(channel)
        return channel

    def sftp(self) -> SFTPClient:
        self.open()
        client: SFTPClient = self._sftp or self._start_sftp()
        self._set(_sftp=client)
        return client

    def _start_sftp(self) -> SFTPClient:
        channel = self._session()
        try:
            channel.invoke_subsystem("sftp")
            return SFTPClient(channel)
        except (SSHException, EOFError) as exc:
            raise NodeError("it has no SFTP service", node=self.name) from exc

    def _session(self) -> Channel:
        """A session; a master that was there before us and turns out dead is replaced, once."""
        self.open()
        if self.transport.proven:
            return self._try_session(None)
        try:
            channel = self._try_session(self._patience())
        except ConnectionLost as exc:
            masters.retire(self.endpoint, 0, self.transport.control, exc.message)
            self.open()
            channel = self._try_session(None)
        self.transport.proven = True
        return channel

    def _try_session(self, timeout: float | None) -> Channel:
        try:
            with on_node(self.name):  # a further master has errors of its own
                return self.transport.open_session(timeout=timeout)
        except ChannelException as exc:
            raise SessionRefused(f"sshd refuses a session: {exc.text}", node=self.name) from exc
        except (SSHException, EOFError, OSError) as exc:
            self.transport.close()  # whoever else waits on it is to know
            raise ConnectionLost(f"the connection ended: {exc}", node=self.name) from exc

    # -- what differs over a shared master -----------------------------------------------------

    def _remote_runner(self) -> Any:
        chosen = self.config.runners.remote
        runner = Remote if chosen is fabric.runners.Remote else chosen
        return runner(context=self, inline_env=self.inline_ssh_env)

    @contextmanager
    def forward_local(
        self,
        local_port: int,
        remote_port: int | None = None,
        remote_host: str = "localhost",
        local_host: str = "localhost",
    ) -> Iterator[int]:
        """Fabric's local forwarding; yields the local port (a free one for 0).

        Raises OSError if it is taken.
        """
        self.open()
        to = (remote_host, remote_port or local_port)

        def dial(peer: Address) -> ForwardedStream:
            def ask(control: Control, _: float) -> ForwardedStream:
                return ForwardedStream(control, to, CHANNEL_TIMEOUT)

            return masters.with_master(self.endpoint, 0, ask)[0]

        with tunnel(local_host, local_port, dial) as port:
            yield port

    @contextmanager
    def forward_remote(
        self,
        remote_port: int,
        local_port: int | None = None,
        remote_host: str = "127.0.0.1",
        local_host: str = "localhost",
    ) -> Iterator[None]:
        """Fabric's remote forwarding; the master itself makes the connections to `local_host`.

        Raises NodeError when the node cannot listen there.
        """
        self.open()
        listen: Address = (remote_host, remote_port)
        to: Address = (local_host, local_port or remote_port)

        def ask(control: Control, seconds: float) -> Control:
            control.forward_remote(listen, to, seconds)
            return control

        with on_node(self.name):
            control, _ = masters.with_master(self.endpoint, 0, ask)
        with closing(control):
            try:
                yield
            finally:
                with suppress(GridError):  # the master ended, and the forwarding with it
                    control.cancel_remote(listen, to)
