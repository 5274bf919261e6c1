"""`--port`: what the flag takes, and ports that cannot be had."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from support.forwarding import free_port

from gridops.errors import UsageError
from gridops.model import Node, PortForward, Reply
from gridops.observe import events, messages
from gridops.reach.port_forward import Forwards
from gridops.reach.ports import Ports, query_ports, refusal_reason
from gridops.tasks import _parse
from gridops.tasks._progress import Narrator


@pytest.mark.parametrize(
    ("texts", "ports"),
    [
        ([], ()),
        (["8080"], (PortForward(8080),)),
        (["9000:8080"], (PortForward(8080, 9000),)),
        (["1", "65535:65535"], (PortForward(1), PortForward(65535, 65535))),
        (["8080", "8080"], (PortForward(8080), PortForward(8080))),
        (["1:80", "2:80"], (PortForward(80, 1), PortForward(80, 2))),
    ],
)
def test_ports_as_they_may_be_given(texts, ports):
    assert _parse.ports(texts) == ports


@pytest.mark.parametrize(
    "text",
    ["", ":", "0", "65536", "70000", "-1", "+1", "http", "80:", ":80", "0:80", "80:0", "1:2:3",
     "8080:localhost:80", "127.0.0.1:80", "8 0", " 80", "80\n", "8_0", "٣", "1.5", "0x50",
     "9" * 99],
)  # fmt: skip
def test_what_is_no_port_is_said_with_what_is(text):
    with pytest.raises(UsageError) as caught:
        _parse.ports([text])
    assert f"--port {text!r} is not [LOCAL:]REMOTE (ports from 1 to 65535" in str(caught.value)
    assert caught.value.exit_status == 2


def test_one_local_port_cannot_lead_to_two():
    with pytest.raises(UsageError, match="9000 can forward to one"):
        _parse.ports(["9000:1", "80", "9000:2"])


def test_a_taken_port_is_said_with_who_has_it_and_none_is_kept():
    first = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError) as caught:
            Forwards.reserve([PortForward(80, first), PortForward(80, port)])
    assert f"port {port} of this machine is taken" in str(caught.value)
    if Path("/proc/net/tcp").exists():
        assert f"(pid {os.getpid()})" in str(caught.value)
    socket.create_server(("127.0.0.1", first)).close()


def test_a_port_that_is_taken_on_all_addresses_is_taken():
    with socket.create_server(("", 0)) as taken, pytest.raises(UsageError, match="taken"):
        Forwards.reserve([PortForward(80, taken.getsockname()[1])])


def test_a_port_that_is_not_ours_to_have_is_said(monkeypatch):
    def refuse(host, port):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("gridops.reach.ports.listen", refuse)
    with pytest.raises(UsageError, match="port 80 of this machine is for root alone"):
        Forwards.reserve([PortForward(8080, 80)])


def test_a_reserved_port_is_taken_until_the_end():
    port = free_port()
    with Forwards.reserve([PortForward(80, port)]):
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
        assert reachable_from_elsewhere(port) is False
    socket.create_server(("127.0.0.1", port)).close()


def reachable_from_elsewhere(port):
    """As from another machine: not by the loopback address that we listen on."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.2", port)) == 0


def test_without_ports_nothing_is_done():
    with Forwards.reserve(()) as forwards:
        forwards.prepare(None)  # nobody is asked
        forwards.lead()


class Says:
    """A node that answers whatever it is asked with the same text."""

    def __init__(self, text):
        self.node = Node("gpu01", "gpu01")
        self._text = text

    def script(self, text, *args, timeout):
        return Reply(0, self._text)


def test_what_a_node_says_of_its_ports_is_taken_strictly():
    said = b"motd\nbusy\nbusy x\nbusy 999999\nhere\nbusy 80\nbusy 81 \nhere a b\n"
    assert query_ports(Says(said), [80]) == Ports(known=True, shared=False, busy=frozenset({80}))
    assert query_ports(Says(b""), [80]) == Ports(known=False, shared=False, busy=frozenset())


def test_why_a_port_cannot_be_reached_is_said_as_far_as_it_is_known():
    assert "AllowTcpForwarding" in str(refusal_reason(Says(b"here a b\nbusy 80\n"), 80))
    assert str(refusal_reason(Says(b"here a b\n"), 80)) == "gpu01: nothing listens on port 80 there"
    assert "or its sshd forbids forwarding" in str(refusal_reason(Says(b""), 80))


def test_what_happens_is_told_in_a_line(capsys):
    tell = Narrator()
    for name, fields in (
        (events.PORT_FORWARDED, {"local": 43211, "remote": 8080}),
        (events.PORT_BUSY, {"remote": 8080}),
        (events.PORT_FAILED, {"remote": 8080, "error": "nothing listens on port 8080 there"}),
    ):
        event = events.Event(name, {"node": "gpu01", **fields})
        tell(event)
        message = messages.find(event)
        assert message
        assert message.log
        assert "?" not in messages.fill(message.log, event)
    assert capsys.readouterr().err.splitlines() == [
        "gridops: gpu01: http://127.0.0.1:43211 leads to port 8080 there",
        "gridops: warning: gpu01: something listens on port 8080 there already, and --port leads"
        " to that until it ends",
        "gridops: gpu01: --port 8080: nothing listens on port 8080 there",
    ]
