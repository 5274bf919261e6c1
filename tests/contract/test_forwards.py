"""Ports that lead to the node of a run: what holds whatever reaches that node."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.forwarding import ask, connect, echo, forwarded, free_port, of, reverse, said, server
from support.network import closed_port
from support.nodes import node_of, settings_of

from gridops.errors import PortClosed
from gridops.model import Node, PortForward
from gridops.observe import events
from gridops.reach import link_to
from gridops.reach.link import Link
from gridops.reach.local import LocalLink
from gridops.reach.port_forward import Forwards

BIG = 50_000_000


@pytest.fixture(params=["local", "ssh"])
def link(request: pytest.FixtureRequest) -> Link:
    if request.param == "local":
        return LocalLink(Node("here", "localhost", connection="local"))
    sandbox = request.getfixturevalue("sandbox")
    return link_to(node_of(sandbox), settings_of(sandbox))


@pytest.fixture
def heard() -> Iterator[list[events.Event]]:
    found: list[events.Event] = []
    with events.listening(found.append):
        yield found


def test_a_web_page_of_the_node_can_be_read_here(link: Link) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        with forwarded(link, page.server_port) as port:
            got = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20)
            assert got.read() == b"hello"
        page.shutdown()


def test_where_it_leads_is_said(link: Link, heard: list[events.Event]) -> None:
    with server(echo) as remote, forwarded(link, remote) as local:
        assert of(heard, events.PORT_FORWARDED) == [
            {"node": link.node.name, "local": local, "remote": remote}
        ]


def test_an_end_of_input_travels_alone(link: Link) -> None:
    with server(reverse) as remote, forwarded(link, remote) as port:
        assert ask(port, b"abc") == b"cba"


def test_an_end_of_output_arrives_after_all_of_it(link: Link) -> None:
    def says_all(connection: socket.socket) -> None:
        connection.sendall(bytes(1_000_000))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # the other direction is still open

    with server(says_all) as remote, forwarded(link, remote) as port, connect(port) as connection:
        assert len(said(connection)) == 1_000_000


def test_large_transfers_both_ways_at_once_are_exact(link: Link) -> None:
    block = os.urandom(1_000_000)
    sent, got = hashlib.sha256(block * (BIG // len(block))), hashlib.sha256()

    def send(connection: socket.socket) -> None:
        for _ in range(BIG // len(block)):
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)

    with server(echo) as remote, forwarded(link, remote) as port, connect(port) as connection:
        sender = threading.Thread(target=send, args=(connection,))
        sender.start()
        while data := connection.recv(1 << 20):
            got.update(data)
        sender.join()
    assert got.digest() == sent.digest()


def test_fifty_connections_at_once_do_not_mix(link: Link) -> None:
    words = [os.urandom(2000) for _ in range(50)]

    with server(echo) as remote, forwarded(link, remote) as port, ExitStack() as stack:
        open_ones = [stack.enter_context(connect(port)) for _ in words]
        for connection, word in zip(open_ones, words, strict=True):
            connection.sendall(word)
        for connection in open_ones:
            connection.shutdown(socket.SHUT_WR)
        with ThreadPoolExecutor(50) as pool:
            assert list(pool.map(said, open_ones)) == words


def test_a_reader_that_is_slow_holds_the_sender_back(link: Link) -> None:
    """What is on its way is not kept in memory: neither ours nor the master's."""
    passed = [0]

    def flood(connection: socket.socket) -> None:
        while True:
            passed[0] += connection.send(bytes(100_000))

    with server(flood) as remote, forwarded(link, remote) as port, connect(port) as connection:
        connection.recv(1)
        before = -1
        while before != passed[0]:
            before = passed[0]
            time.sleep(0.3)
        assert passed[0] < 40_000_000


def test_a_service_that_is_not_up_yet_is_said_once_and_works_later(
    link: Link, heard: list[events.Event]
) -> None:
    remote = free_port()
    with forwarded(link, remote) as port:
        assert [ask(port, b"?") for _ in range(3)] == [b""] * 3
        assert of(heard, events.PORT_FAILED) == [
            {
                "node": link.node.name,
                "remote": remote,
                "error": f"nothing listens on port {remote} there",
            }
        ]
        with server(echo, remote):
            assert ask(port, b"!") == b"!"
        assert ask(port, b"?") == b""
        assert len(of(heard, events.PORT_FAILED)) == 2  # it had been up in between


def test_a_port_that_the_command_could_not_have_is_said_before_it_starts(
    link: Link, heard: list[events.Event]
) -> None:
    with server(echo) as taken, forwarded(link, taken), forwarded(link, free_port()):
        assert of(heard, events.PORT_BUSY) == [{"node": link.node.name, "remote": taken}]


def test_the_port_is_free_at_once_at_the_end_whatever_is_open(link: Link) -> None:
    with server(echo) as remote:
        with forwarded(link, remote) as port:
            busy = connect(port)
            busy.sendall(b"x")
            assert busy.recv(1) == b"x"
            waiting = connect(port)
        socket.create_server(("127.0.0.1", port)).close()
        with busy, waiting:
            assert said(busy) == said(waiting) == b""


def test_and_after_an_error(link: Link) -> None:
    port = free_port()

    def fail() -> None:
        with Forwards.reserve([PortForward(1, port)]) as forwards:
            forwards.prepare(link)
            forwards.lead()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    socket.create_server(("127.0.0.1", port)).close()


def test_whoever_comes_before_the_run_starts_waits(link: Link) -> None:
    local = free_port()
    with (
        server(echo) as remote,
        Forwards.reserve([PortForward(remote, local)]) as forwards,
        connect(local) as early,
    ):
        early.sendall(b"early")
        early.shutdown(socket.SHUT_WR)
        forwards.prepare(link)
        forwards.lead()
        assert said(early) == b"early"


def test_several_ports_lead_to_several(link: Link) -> None:
    with server(echo) as one, server(reverse) as two:
        ports = [PortForward(one, free_port()), PortForward(two, free_port())]
        with Forwards.reserve(ports) as forwards:
            forwards.prepare(link)
            forwards.lead()
            assert [ask(port.local or 0, b"ab") for port in ports] == [b"ab", b"ba"]


def test_the_same_port_is_left_to_a_command_on_this_machine(
    link: Link, heard: list[events.Event]
) -> None:
    """A sandbox node has this machine's ports, too: else the command could not listen."""
    port = free_port()
    with Forwards.reserve([PortForward(port, port)]) as forwards:
        forwards.prepare(link)
        forwards.lead()
        assert of(heard, events.PORT_FORWARDED)[0]["local"] == port
        assert of(heard, events.PORT_BUSY) == []
        with server(reverse, port):
            assert ask(port, b"ab") == b"ba"


def test_a_server_that_takes_only_ipv6_is_found(link: Link) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with listener, closing(link.dial(listener.getsockname()[1], timeout=20)) as far:
        near, _ = listener.accept()
        with near:
            far.sendall(b"x")
            assert near.recv(1) == b"x"


def test_dialling_a_closed_port_says_so(link: Link) -> None:
    with closed_port() as port, pytest.raises(PortClosed, match=f"{link.node.name}.*{port}"):
        link.dial(port, timeout=20)
