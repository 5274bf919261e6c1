"""`gridops.reach.connection.Connection` is a fabric.Connection, over a shared control master."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import fabric
import invoke
import paramiko
import pytest
from support.network import silenceable
from support.nodes import node_of, run_ssh, settings_of, wait_until

from gridops.errors import (
    AuthenticationFailed,
    ConnectionLost,
    ConnectRefused,
    ConnectTimeout,
    HostKeyUnknown,
    HostUnknown,
    NodeError,
    NodeTimeout,
    UsageError,
)
from gridops.inventory.settings import SshSettings
from gridops.observe import events
from gridops.reach import endpoint, pool
from gridops.reach.connection import Connection
from gridops.reach.link import Link
from gridops.sandbox import Sandbox, Setup

QUIET: dict[str, Any] = {"hide": True, "in_stream": False}


@pytest.fixture
def c(sandbox: Sandbox) -> Iterator[Connection]:
    with Connection("node1", ssh=settings_of(sandbox)) as connection:
        yield connection


@pytest.fixture
def remote_home(sandbox: Sandbox) -> Path:
    return sandbox.node("node1").home


class TestRun:
    def test_it_is_a_fabric_connection_whose_results_are_fabrics(self, c: Connection) -> None:
        result = c.run("echo out; echo err >&2; exit 0", **QUIET)
        assert isinstance(c, fabric.Connection)
        assert isinstance(result, fabric.Result)
        assert (result.stdout, result.stderr, result.exited) == ("out\n", "err\n", 0)
        assert result.connection is c

    def test_a_failing_command_raises_as_in_fabric(self, c: Connection) -> None:
        with pytest.raises(invoke.UnexpectedExit) as caught:
            c.run("exit 7", **QUIET)
        assert caught.value.result.exited == 7

    def test_a_command_that_a_signal_ends_has_its_number(self, c: Connection) -> None:
        assert c.run("kill -TERM $$", warn=True, **QUIET).exited == 128 + signal.SIGTERM

    def test_a_pty_is_one(self, c: Connection) -> None:
        result = c.run("stty size; tty", pty=True, **QUIET)
        assert "\r\n" in result.stdout
        assert "/dev/" in result.stdout

    def test_environment_goes_along(self, c: Connection) -> None:
        assert c.run("echo $WORD", env={"WORD": "said"}, **QUIET).stdout == "said\n"

    def test_input_goes_along(self, c: Connection) -> None:
        assert c.run("head -n 1", hide=True, in_stream=io.StringIO("typed\n")).stdout == "typed\n"

    def test_a_timeout_ends_the_waiting(self, c: Connection) -> None:
        began = time.monotonic()
        # Fabric's timer closes the channel before it counts as expired: either may be raised.
        with pytest.raises((invoke.CommandTimedOut, invoke.UnexpectedExit)):
            c.run("sleep 20", timeout=1, **QUIET)
        assert time.monotonic() - began < 5

    def test_megabytes_come_back_whole(self, c: Connection) -> None:
        out = io.StringIO()
        c.run("yes 0123456789abcde | head -c 5000000", out_stream=out, in_stream=False)
        assert len(out.getvalue()) == 5_000_000

    def test_sudo_types_the_password(self, make_sandbox: Any, tmp_path: Path) -> None:
        (tmp_path / "sudo").write_text(SUDO)
        (tmp_path / "sudo").chmod(0o755)
        path = Setup(env_path=f"{tmp_path}:/usr/bin:/bin")
        sandbox = make_sandbox(1, setup={"node1": path})
        config = fabric.Config({"sudo": {"password": "secret"}})
        with Connection("node1", ssh=settings_of(sandbox), config=config) as c:
            assert c.config is config
            assert c.sudo("echo done", **QUIET).stdout.strip() == "done"
            with pytest.raises(invoke.exceptions.AuthFailure):
                c.sudo("echo done", password="wrong", **QUIET)

    def test_local_commands_stay_here_and_connect_nowhere(self, c: Connection) -> None:
        assert c.local("echo here", **QUIET).stdout == "here\n"
        assert not c.is_connected

    def test_shell_is_an_interactive_login(self, c: Connection) -> None:
        result = c.shell(in_stream=io.StringIO("echo $((6 * 7))\nexit 0\n"))
        assert "42" in result.stdout
        assert result.exited == 0

    def test_many_commands_run_at_once(self, c: Connection) -> None:
        c.open()
        results: list[str] = []

        def work(number: int) -> None:
            results.append(c.run(f"sleep 0.2; echo {number}", **QUIET).stdout.strip())

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(results) == [str(number) for number in range(8)]
        assert time.monotonic() - began < 5


class TestFiles:
    def test_put_and_get_carry_bytes_both_ways(
        self, c: Connection, remote_home: Path, tmp_path: Path
    ) -> None:
        data = os.urandom(3_000_000)
        (tmp_path / "here").write_bytes(data)
        result = c.put(str(tmp_path / "here"), "there")
        assert result.remote == str(remote_home / "there")
        assert (remote_home / "there").read_bytes() == data
        c.get("there", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == data

    def test_file_objects_and_modes(self, c: Connection, remote_home: Path) -> None:
        c.put(io.BytesIO(b"x"), "made")
        (remote_home / "made").chmod(0o641)
        into = io.BytesIO()
        c.get("made", into)
        assert into.getvalue() == b"x"

    def test_sftp_is_one_client_until_the_connection_is_another(self, c: Connection) -> None:
        first = c.sftp()
        assert c.sftp() is first
        c.transport.close()  # as when the connection is lost
        assert c.sftp() is not first
        assert c.sftp().listdir(".") is not None

    def test_a_node_without_sftp_says_so(self, make_sandbox: Any) -> None:
        sandbox = make_sandbox(1, setup={"node1": Setup(shell="/bin/false")})
        c = Connection.for_node(node_of(sandbox), settings_of(sandbox))
        with c, pytest.raises(NodeError, match="SFTP"):
            c.put(io.BytesIO(b"x"), "file")


class TestForwarding:
    def test_a_local_port_leads_to_the_node(self, c: Connection) -> None:
        with echo_server() as port, c.forward_local(0, port) as local:
            assert ask(local, b"hello") == b"hello"

    def test_an_end_of_input_travels_through_the_tunnel(self, c: Connection) -> None:
        with (
            echo_server(until_end=True) as port,
            c.forward_local(0, port) as local,
            socket.create_connection(("127.0.0.1", local), 10) as near,
        ):
            near.sendall(b"all of it")
            near.shutdown(socket.SHUT_WR)
            assert near.makefile("rb").read() == b"all of it"

    def test_one_refused_connection_harms_no_other(self, c: Connection) -> None:
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            port = reserved.getsockname()[1]
            with c.forward_local(0, port) as local:
                assert ask(local, b"nobody") == b""
                reserved.listen()
                threading.Thread(target=_answer, args=(reserved, False), daemon=True).start()
                assert ask(local, b"somebody") == b"somebody"

    def test_nor_anything_else_on_the_shared_connection(
        self, sandbox: Sandbox, link1: Link, fresh_runtime_dir: Path
    ) -> None:
        """OpenSSH's master ends when a client goes that had a channel refused in proxy mode."""
        with closing(link1.start("cat", timeout=20)) as other:
            with (
                Connection.for_node(node_of(sandbox), settings_of(sandbox)) as c,
                c.forward_local(0, 1) as local,
            ):
                assert ask(local, b"nobody") == b""
            with pytest.raises(NodeTimeout):
                other.wait(0.3)

    def test_a_taken_port_is_said_at_once(self, c: Connection) -> None:
        with echo_server() as port, pytest.raises(OSError, match="in use"):
            c.forward_local(port, 1).__enter__()

    def test_the_port_is_free_again_after_an_error(self, c: Connection) -> None:
        with pytest.raises(RuntimeError), c.forward_local(0, 1) as local:
            raise RuntimeError
        socket.create_server(("127.0.0.1", local)).close()

    def test_a_port_of_the_node_leads_here_while_the_block_runs(
        self, c: Connection, sandbox: Sandbox
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with echo_server() as here, c.forward_remote(port, here):
            assert ask(port, b"back home") == b"back home"
        wait_until(lambda: refused(port))

    def test_a_port_that_the_node_cannot_have_is_said(self, c: Connection) -> None:
        with echo_server() as taken, pytest.raises(NodeError, match=f"node1: .*{taken}"):
            c.forward_remote(taken, 1).__enter__()


class TestMaster:
    def test_closing_a_connection_leaves_the_master_to_others(
        self, c: Connection, sandbox: Sandbox
    ) -> None:
        seen: list[str] = []
        c.open()
        c.close()
        assert not c.is_connected
        assert c.client.get_transport() is None
        with events.listening(lambda event: seen.append(event.name)):
            Connection("node1", ssh=settings_of(sandbox)).run("true", **QUIET)
        assert seen == []

    def test_a_closed_connection_opens_again(self, c: Connection) -> None:
        c.run("true", **QUIET)
        c.close()
        assert c.run("echo again", **QUIET).stdout == "again\n"

    @pytest.mark.usefixtures("fresh_runtime_dir")
    def test_sessions_that_sshd_refuses_go_over_further_masters(self, make_sandbox: Any) -> None:
        sandbox = make_sandbox(1, options={"MaxSessions": "2"})
        with Connection("node1", ssh=settings_of(sandbox)) as c:
            promises = [c.run("cat; echo end", asynchronous=True) for _ in range(5)]
            c.put(io.BytesIO(b"x"), "file")
            assert len(pool.status()) == 3
            c.close()
            for promise in promises:
                with pytest.raises((ConnectionLost, invoke.UnexpectedExit)):
                    promise.join()

    @pytest.mark.usefixtures("fresh_runtime_dir")
    def test_a_node_that_grants_no_session_at_all_is_not_asked_again_and_again(
        self, make_sandbox: Any
    ) -> None:
        sandbox = make_sandbox(1, options={"MaxSessions": "0"})
        with Connection("node1", ssh=settings_of(sandbox)) as c:
            with pytest.raises(NodeError, match=r"node1: .*refuses a session"):
                c.run("true", **QUIET)
            assert len(pool.status()) == 1

    @pytest.mark.usefixtures("fresh_runtime_dir")
    def test_an_agent_is_forwarded(self, sandbox: Sandbox, tmp_path: Path) -> None:
        path = str(tmp_path / "agent")
        with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as agent:
            wait_until(Path(path).exists)
            os.environ["SSH_AUTH_SOCK"] = path
            try:
                key = str(sandbox.root / "client_key")
                subprocess.run(["ssh-add", "-q", key], check=True, capture_output=True)
                ssh = settings_of(sandbox, options={"IdentityAgent": "SSH_AUTH_SOCK"})
                with Connection("node1", ssh=ssh, forward_agent=True) as c:
                    assert "ED25519" in c.run("ssh-add -l", **QUIET).stdout
                with Connection("node1", ssh=ssh) as c:
                    assert not c.run("ssh-add -l", warn=True, **QUIET).ok
            finally:
                del os.environ["SSH_AUTH_SOCK"]
                agent.terminate()

    @pytest.mark.usefixtures("fresh_runtime_dir")
    def test_a_hung_master_is_replaced(self, sandbox: Sandbox) -> None:
        ssh = settings_of(sandbox, connect_timeout=1)
        Connection("node1", ssh=ssh).run("true", **QUIET)
        (hung,) = pool.status()
        assert hung.pid
        os.kill(hung.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with Connection("node1", ssh=ssh) as c:
                assert c.run("echo hi", **QUIET).stdout == "hi\n"
            assert time.monotonic() - began < 5
        finally:
            os.kill(hung.pid, signal.SIGKILL)

    @pytest.mark.usefixtures("fresh_runtime_dir")
    def test_a_connection_that_ends_under_a_command_is_lost(self, sandbox: Sandbox) -> None:
        with Connection("node1", ssh=settings_of(sandbox)) as c:
            c.open()
            (master,) = pool.status()
            assert master.pid
            threading.Timer(0.5, os.kill, (master.pid, signal.SIGKILL)).start()
            with pytest.raises(ConnectionLost) as caught:
                c.run("sleep 20", **QUIET)
            assert caught.value.node == "node1"
            assert c.run("echo back", **QUIET).stdout == "back\n"

    @pytest.mark.usefixtures("fresh_runtime_dir")
    def test_a_network_that_goes_silent_hangs_nobody(
        self, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(endpoint, "KEEPALIVE_INTERVAL", 1)
        with silenceable(sandbox.node("node1").port) as way:
            c = Connection("far", ssh=way.settings(sandbox, tmp_path, connect_timeout=1))
            c.run("true", **QUIET)
            threading.Timer(0.3, setattr, (way, "silent", True)).start()
            began = time.monotonic()
            with pytest.raises(ConnectionLost):
                c.run("sleep 60", **QUIET)
            with pytest.raises(ConnectTimeout):
                c.run("true", **QUIET)
            assert time.monotonic() - began < 15
            way.silent = False
            assert c.run("echo back", **QUIET).stdout == "back\n"
            c.close()

    @pytest.mark.usefixtures("fresh_runtime_dir")
    def test_a_master_whose_network_died_unnoticed_is_replaced(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        """Its sessions do not open; those of a new one do."""
        with silenceable(sandbox.node("node1").port) as way:
            ssh = way.settings(sandbox, tmp_path, connect_timeout=1)
            Connection("far", ssh=ssh).run("true", **QUIET)
            way.forget()
            began = time.monotonic()
            with Connection("far", ssh=ssh) as c:
                assert c.run("echo hi", **QUIET).stdout == "hi\n"
            assert time.monotonic() - began < 5

    def test_what_runs_ends_when_its_connection_is_closed(
        self, c: Connection, sandbox: Sandbox, remote_home: Path
    ) -> None:
        c.run("cat; touch ended", asynchronous=True)
        c.close()
        wait_until((remote_home / "ended").exists)


class TestArguments:
    def test_shorthand_and_arguments_lead_to_the_same(self, sandbox: Sandbox) -> None:
        ssh, here = settings_of(sandbox), sandbox.node("node1")
        user = run_ssh(sandbox, "node1", "id -un").stdout.strip()
        short = Connection(f"{user}@{here.host}:{here.port}", ssh=ssh)
        long = Connection(here.host, user=user, port=here.port, ssh=ssh)
        assert (short.host, short.user, short.port) == (here.host, user, here.port)
        assert short.endpoint.key == long.endpoint.key
        with pytest.raises(ValueError, match="both"):
            Connection("a@host", user="b", ssh=ssh)

    def test_what_nobody_said_is_openssh_to_resolve(self, sandbox: Sandbox) -> None:
        c = Connection("node1", ssh=settings_of(sandbox))
        assert (c.endpoint.user, c.endpoint.port) == (None, None)
        assert c.endpoint.resolve()["port"] == [str(sandbox.node("node1").port)]
        c.user = "somebody"
        assert c.endpoint.user == "somebody"

    def test_fabric_does_not_read_ssh_config(
        self, home: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (home / ".ssh").mkdir()
        (home / ".ssh/config").write_text("Host node1\n  HostName elsewhere\n  User other\n")
        for config in (None, fabric.Config(), invoke.Config()):
            c = Connection("node1", ssh=settings_of(sandbox), config=config)
            assert c.host == "node1"
            assert c.user != "other"
            assert c.run("echo hi", **QUIET).ok
            c.close()

    def test_key_files_and_their_friends_become_options(self, sandbox: Sandbox) -> None:
        c = Connection(
            "node1",
            ssh=settings_of(sandbox),
            forward_agent=True,
            connect_kwargs={
                "key_filename": ["/k/one", "/k/two%"],
                "look_for_keys": False,
                "allow_agent": False,
                "compress": True,
                "timeout": 3,
                "password": None,
            },
        )
        assert c.endpoint.options == (
            ("IdentityFile", '"/k/one"'),
            ("IdentityFile", '"/k/two%%"'),
            ("IdentitiesOnly", "yes"),
            ("IdentityAgent", "none"),
            ("Compression", "yes"),
            ("ForwardAgent", "yes"),
        )
        assert c.endpoint.connect_timeout == 3

    def test_a_key_file_logs_in(self, sandbox: Sandbox, tmp_path: Path) -> None:
        key = tmp_path / "a key"
        key.write_bytes((sandbox.root / "client_key").read_bytes())
        key.chmod(0o600)
        here = sandbox.node("node1")
        config = tmp_path / "config"
        config.write_text(f"Host *\n  UserKnownHostsFile {sandbox.root}/known_hosts\n")
        ssh = SshSettings(config_file=config)
        with pytest.raises(AuthenticationFailed):
            Connection(here.host, port=here.port, ssh=ssh).open()
        with Connection(
            here.host, port=here.port, ssh=ssh, connect_kwargs={"key_filename": str(key)}
        ) as c:
            assert c.run("echo in", **QUIET).stdout == "in\n"

    @pytest.mark.parametrize("name", ["password", "passphrase", "pkey", "sock", "gss_auth"])
    def test_what_openssh_cannot_be_told_is_refused(self, sandbox: Sandbox, name: str) -> None:
        c = Connection("node1", ssh=settings_of(sandbox), connect_kwargs={name: "x"})
        with pytest.raises(UsageError, match=name):
            c.open()

    @pytest.mark.parametrize("name", ["hostname", "port", "username"])
    def test_ambiguities_are_refused_as_fabric_does(self, sandbox: Sandbox, name: str) -> None:
        c = Connection("node1", ssh=settings_of(sandbox), connect_kwargs={name: "x"})
        with pytest.raises(ValueError, match=name):
            c.open()

    def test_a_gateway_is_gone_through(self, sandbox: Sandbox) -> None:
        ssh, near, far = settings_of(sandbox), sandbox.node("node1"), sandbox.node("node2")
        ours = Connection("node1", ssh=ssh)
        fabrics = fabric.Connection(near.host, port=near.port)
        for gateway in (ours, fabrics, Connection("node3", ssh=ssh, gateway=ours)):
            with Connection("node2", ssh=ssh, gateway=gateway) as c:
                assert c.run("pwd", **QUIET).stdout.strip() == str(far.home)
        assert ours.endpoint.host in Connection("x", ssh=ssh, gateway=ours).endpoint.options[0][1]

    def test_a_proxy_command_is_openssh_to_expand(self, sandbox: Sandbox, tmp_path: Path) -> None:
        log = tmp_path / "log"
        proxy = f"echo %h %p >> {log}; exec ssh -F {sandbox.ssh_config} -W '[%h]:%p' node3"
        here = sandbox.node("node2")
        with Connection("node2", ssh=settings_of(sandbox), gateway=f"sh -c {proxy!r}") as c:
            assert c.run("echo hi", **QUIET).ok
        assert log.read_text() == f"{here.host} {here.port}\n"

    def test_no_gateway_is_none_even_where_the_configuration_has_one(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        config = tmp_path / "config"
        config.write_text(
            f"Host node1\n  ProxyJump nowhere.invalid\nMatch all\n  Include {sandbox.ssh_config}\n"
        )
        ssh = SshSettings(config_file=config)
        with Connection("node1", ssh=ssh, gateway=False) as c:
            assert c.run("echo hi", **QUIET).ok
        with pytest.raises(HostUnknown):
            Connection("node1", ssh=ssh).open()


class TestErrors:
    """Ours by class, and Fabric's and Paramiko's where those would have been raised."""

    def test_an_unknown_name(self, sandbox: Sandbox) -> None:
        with pytest.raises(HostUnknown) as caught:
            Connection("nowhere.invalid", ssh=settings_of(sandbox)).run("true")
        assert isinstance(caught.value, socket.gaierror)
        assert str(caught.value).startswith("nowhere.invalid: ")

    def test_a_closed_port(self, sandbox: Sandbox) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            c = Connection("127.0.0.1", port=taken.getsockname()[1], ssh=settings_of(sandbox))
            with pytest.raises(ConnectRefused) as caught:
                c.open()
        assert isinstance(caught.value, OSError)

    def test_a_server_that_never_speaks(self, sandbox: Sandbox) -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            port = mute.getsockname()[1]
            c = Connection("127.0.0.1", port=port, connect_timeout=1, ssh=settings_of(sandbox))
            with pytest.raises(ConnectTimeout) as caught:
                c.open()
        assert isinstance(caught.value, TimeoutError)

    def test_a_refused_login(self, sandbox: Sandbox) -> None:
        ssh = settings_of(sandbox, options={"PubkeyAuthentication": "no"})
        with pytest.raises(AuthenticationFailed) as caught:
            Connection("node1", ssh=ssh).open()
        assert isinstance(caught.value, paramiko.AuthenticationException)

    def test_an_unknown_host_key(self, sandbox: Sandbox, tmp_path: Path) -> None:
        ssh = settings_of(sandbox, options={"UserKnownHostsFile": str(tmp_path / "none")})
        with pytest.raises(HostKeyUnknown) as caught:
            Connection("node1", ssh=ssh).open()
        assert isinstance(caught.value, paramiko.SSHException)

    def test_requests_that_would_wait_for_ever_are_refused(self, c: Connection) -> None:
        c.open()
        with pytest.raises(paramiko.SSHException, match="tcpip-forward"):
            c.transport.request_port_forward("127.0.0.1", 0)


SUDO = """#!/bin/sh
# what Fabric asks of sudo: -S -p PROMPT COMMAND
prompt=$3
shift 3
printf '%s' "$prompt" >&2
IFS= read -r said
[ "$said" = secret ] || { echo "Sorry, try again." >&2; printf '%s' "$prompt" >&2; exit 1; }
exec "$@"
"""


def ask(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as near:
        near.sendall(data)
        try:
            return near.recv(100)
        except ConnectionResetError:
            return b""


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


@contextmanager
def echo_server(until_end: bool = False) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_answer, args=(server, until_end), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def _answer(server: socket.socket, until_end: bool) -> None:
    while True:
        try:
            near, _ = server.accept()
        except OSError:
            return
        with near:
            data = near.makefile("rb").read() if until_end else near.recv(100)
            near.sendall(data)
