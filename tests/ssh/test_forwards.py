"""Ports that lead to a node behind SSH, whatever becomes of the connection."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from support.forwarding import ask, connect, echo, forwarded, free_port, of, said, server
from support.network import silenceable
from support.nodes import node_of, settings_of, sshd_sessions, wait_until

from gridops.errors import ForwardingForbidden, NodeError, ReachError, UsageError
from gridops.inventory.settings import SshSettings
from gridops.model import Node, PortForward
from gridops.observe import events
from gridops.reach import link_to, pool
from gridops.reach.link import Link
from gridops.reach.port_forward import Forwards
from gridops.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("fresh_runtime_dir")


@pytest.fixture
def heard() -> Iterator[list[events.Event]]:
    found: list[events.Event] = []
    with events.listening(found.append):
        yield found


def master_pids() -> list[int]:
    return [master.pid for master in pool.status() if master.pid]


def connection_processes(sandbox: Sandbox) -> list[int]:
    """The sshd processes of node1's connections: this test's alone, if it has its own sandbox."""
    pid_file = sandbox.root / "node1" / "pid"
    return sshd_sessions(int(pid_file.read_text()))


class TestHealing:
    def test_it_works_again_after_the_master_was_killed(self, link1: Link) -> None:
        with server(echo) as remote, forwarded(link1, remote) as port, connect(port) as before:
            before.sendall(b"x")
            assert before.recv(1) == b"x"
            (pid,) = master_pids()
            os.kill(pid, signal.SIGKILL)
            assert said(before) == b""
            assert ask(port, b"again") == b"again"

    def test_it_works_again_after_the_sshd_session_was_killed(self, make_sandbox) -> None:
        sandbox = make_sandbox(1)
        link = link_to(node_of(sandbox), settings_of(sandbox))
        with server(echo) as remote, forwarded(link, remote) as port, connect(port) as before:
            before.sendall(b"x")
            assert before.recv(1) == b"x"
            for pid in connection_processes(sandbox):
                os.kill(pid, signal.SIGKILL)
            assert said(before) == b""
            assert ask(port, b"again") == b"again"

    def test_an_outage_is_said_once_and_ends_by_itself(
        self, make_sandbox, heard: list[events.Event]
    ) -> None:
        sandbox = make_sandbox(1)
        link = link_to(node_of(sandbox), settings_of(sandbox, connect_timeout=2))
        with server(echo) as remote, forwarded(link, remote) as port:
            sandbox.stop("node1")
            assert [ask(port, b"?") for _ in range(3)] == [b""] * 3
            (failed,) = of(heard, events.PORT_FAILED)
            assert (failed["node"], failed["remote"]) == ("node1", remote)
            sandbox.start("node1")
            assert ask(port, b"!") == b"!"

    def test_whoever_waits_on_a_silent_connection_goes_over_to_the_next(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        """The network forgets the connection; the run that is followed replaces its master."""
        with silenceable(sandbox.node("node1").port) as way, server(echo) as remote:
            link = link_to(Node("far", "far"), way.settings(sandbox, tmp_path, connect_timeout=1))
            with forwarded(link, remote) as port:
                way.forget()
                with connect(port) as waiting:
                    waiting.sendall(b"x")
                    time.sleep(0.2)
                    began = time.monotonic()
                    link.script("true", timeout=20)
                    assert waiting.recv(1) == b"x"
                    assert time.monotonic() - began < 6

    def test_a_stall_loses_nothing(self, make_sandbox) -> None:
        """sshd stops for a while, as a link does that passes no bytes."""
        sandbox = make_sandbox(1)
        link = link_to(node_of(sandbox), settings_of(sandbox))
        data = os.urandom(5_000_000)
        with server(echo) as remote, forwarded(link, remote) as port, connect(port) as connection:
            sender = threading.Thread(target=connection.sendall, args=(data,))
            sender.start()
            got = connection.recv(1)
            stopped = connection_processes(sandbox)
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(1)
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            while len(got) < len(data):
                got += connection.recv(1 << 20)
            sender.join()
        assert got == data

    def test_a_stall_does_not_hold_up_the_end(self, make_sandbox) -> None:
        sandbox = make_sandbox(1)
        link = link_to(node_of(sandbox), settings_of(sandbox))
        with server(echo) as remote, ExitStack() as stack:
            forwards = stack.enter_context(forwarded(link, remote))
            busy = stack.enter_context(connect(forwards))
            busy.sendall(b"x")
            assert busy.recv(1) == b"x"
            stopped = connection_processes(sandbox)
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            stack.enter_context(connect(forwards))  # is being dialled
            began = time.monotonic()
            stack.close()
            took = time.monotonic() - began
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        assert took < 2


class TestTheMaster:
    def test_forwards_need_no_session(self, make_sandbox, heard: list[events.Event]) -> None:
        """Nor another master when sshd grants just one."""
        sandbox = make_sandbox(1, options={"MaxSessions": "1"})
        link = link_to(node_of(sandbox), settings_of(sandbox))
        with server(echo) as remote, forwarded(link, remote) as port:
            with closing(link.start("cat", timeout=20)):
                connections = [connect(port) for _ in range(20)]
                for connection in connections:
                    with connection:
                        connection.sendall(b"x")
                        assert connection.recv(1) == b"x"
            assert len(master_pids()) == 1

    def test_refusals_do_not_harm_it(self, link1: Link) -> None:
        with forwarded(link1, free_port()) as port:
            before = master_pids()
            assert [ask(port, b"x") for _ in range(5)] == [b""] * 5
            assert master_pids() == before

    def test_a_port_that_keeps_silent_does_not_harm_it(self, link1: Link) -> None:
        """Its queue is full, so the node's kernel drops who comes; the connection is sound."""
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
            port = full.getsockname()[1]
            for _ in range(2):
                one = stack.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            link1.script("true", timeout=20)
            before = master_pids()
            with pytest.raises(NodeError, match=f"node1: .*{port} does not answer"):
                link1.dial(port, timeout=2)
            assert master_pids() == before

    def test_it_keeps_nothing_of_us(self, link1: Link) -> None:
        def files() -> int:
            (pid,) = master_pids()
            return len(list(Path(f"/proc/{pid}/fd").iterdir()))

        link1.script("true", timeout=20)
        before = files()
        with server(echo) as remote, forwarded(link1, remote) as port:
            for _ in range(10):
                assert ask(port, b"x") == b"x"
            left = [connect(port) for _ in range(10)]
        wait_until(lambda: files() == before)
        for one in left:
            one.close()


def test_a_client_that_is_killed_leaves_no_port_taken(sandbox: Sandbox) -> None:
    """Though the master that it opened lives on."""
    code = """
        import sys, time
        from gridops.model import Node, PortForward
        from gridops.reach import link_to
        from gridops.reach.port_forward import Forwards
        from gridops.inventory.settings import SshSettings
        link = link_to(Node("node1", "node1"), SshSettings(config_file=sys.argv[1]))
        forwards = Forwards.reserve([PortForward(int(sys.argv[3]), int(sys.argv[2]))])
        forwards.prepare(link)
        forwards.lead()
        print("up", flush=True)
        time.sleep(60)
    """
    port = free_port()
    with server(echo) as remote:
        words = [str(sandbox.ssh_config), str(port), str(remote)]
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), *words],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "up\n"
            with connect(port) as connection:
                connection.sendall(b"x")
                assert connection.recv(1) == b"x"
                child.kill()
                child.wait()
                assert said(connection) == b""
            assert len(master_pids()) == 1
            socket.create_server(("127.0.0.1", port)).close()
        finally:
            child.kill()
            child.communicate()


class TestBeforeTheRun:
    def test_an_sshd_that_forbids_it_is_said(self, make_sandbox) -> None:
        sandbox = make_sandbox(1, options={"AllowTcpForwarding": "no"})
        link = link_to(node_of(sandbox), settings_of(sandbox))
        with (
            server(echo) as remote,
            Forwards.reserve([PortForward(remote)]) as forwards,
            pytest.raises(ForwardingForbidden, match=f"node1: .*{remote}.*AllowTcpForwarding"),
        ):
            forwards.prepare(link)

    def test_or_with_the_first_connection(self, make_sandbox, heard: list[events.Event]) -> None:
        sandbox = make_sandbox(1, options={"AllowTcpForwarding": "no"})
        link = link_to(node_of(sandbox), settings_of(sandbox))
        remote = free_port()
        with forwarded(link, remote) as port, server(echo, remote):
            assert ask(port, b"x") == b""
            (failed,) = of(heard, events.PORT_FAILED)
            assert "AllowTcpForwarding" in str(failed["error"])

    def test_a_node_that_cannot_be_reached_raises_and_the_next_one_serves(
        self, link1: Link, heard: list[events.Event]
    ) -> None:
        ssh = SshSettings.model_validate({"connect_timeout": 2, "config_file": "/dev/null"})
        nowhere = link_to(Node("nowhere", "127.0.0.1", port=free_port()), ssh)
        local = free_port()
        with server(echo) as remote, Forwards.reserve([PortForward(remote, local)]) as forwards:
            with pytest.raises(ReachError, match="nowhere"):
                forwards.prepare(nowhere)
            assert of(heard, events.PORT_FORWARDED) == []
            forwards.prepare(link1)
            forwards.lead()
            assert ask(local, b"x") == b"x"

    def test_a_port_that_was_left_to_one_node_leads_to_the_next(
        self, sandbox: Sandbox, ssh_settings: SshSettings
    ) -> None:
        here = link_to(Node("here", "localhost", connection="local"), ssh_settings)
        there = link_to(node_of(sandbox), ssh_settings)
        with server(echo) as remote, Forwards.reserve([PortForward(remote)]) as forwards:
            heard: list[events.Event] = []
            with events.listening(heard.append):
                forwards.prepare(here)  # the very same port
                forwards.lead()
                forwards.prepare(there)
                forwards.lead()
            first, second = (fields["local"] for fields in of(heard, events.PORT_FORWARDED))
            assert first == remote != second
            assert ask(int(str(second)), b"x") == b"x"

    def test_ports_that_lead_in_a_circle_are_refused(self, link1: Link) -> None:
        one, two = free_port(), free_port()
        ports = [PortForward(one, two), PortForward(two, one)]
        with Forwards.reserve(ports) as forwards, pytest.raises(UsageError, match="both"):
            forwards.prepare(link1)
