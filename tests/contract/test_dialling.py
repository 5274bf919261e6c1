"""Connections to ports as a node sees them, whatever reaches it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from support.nodes import node_of, settings_of

from gridops.errors import PortClosed
from gridops.model import Node
from gridops.reach import link_to
from gridops.reach.link import Link
from gridops.reach.local import LocalLink

LIMIT = 20.0


@pytest.fixture(params=["local", "ssh"])
def link(request: pytest.FixtureRequest) -> Link:
    if request.param == "local":
        return LocalLink(Node("here", "localhost", connection="local"))
    sandbox = request.getfixturevalue("sandbox")
    return link_to(node_of(sandbox), settings_of(sandbox))


@pytest.fixture
def elsewhere() -> Iterator[socket.socket]:
    """A server at an address that is not the one of localhost."""
    with socket.create_server(("127.0.0.5", 0)) as server:
        server.settimeout(LIMIT)
        yield server


def test_an_address_that_the_node_sees_is_reached(link: Link, elsewhere: socket.socket) -> None:
    host, port = elsewhere.getsockname()
    stream = link.dial(port, host=host, timeout=LIMIT)
    taken, _ = elsewhere.accept()
    with taken:
        stream.sendall(b"there")
        assert taken.recv(100) == b"there"
        taken.sendall(b"and back")
        assert stream.recv(100) == b"and back"
    stream.close()


def test_without_an_address_it_is_the_nodes_loopback(link: Link, elsewhere: socket.socket) -> None:
    with pytest.raises(PortClosed):
        link.dial(elsewhere.getsockname()[1], timeout=LIMIT)


def test_silence_can_be_limited(link: Link, elsewhere: socket.socket) -> None:
    host, port = elsewhere.getsockname()
    stream = link.dial(port, host=host, timeout=LIMIT)
    stream.settimeout(0.05)
    with pytest.raises(TimeoutError):
        stream.recv(1)
    stream.close()
