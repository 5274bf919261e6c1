"""Clients of the exporter that are slow, silent or many: nobody shuts others out.

All of it by real sockets; the limits are the exporter's own, shorter where a test waits for one.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from gridops.observe import connections
from gridops.observe import exporter as module
from gridops.observe.auth import server_tls
from gridops.observe.exporter import Exporter, Page, Request

BIG = "0123456789abcdef" * (1 << 19)  # 8 MiB, of which the kernel takes 4 for who does not read
CROWD = 100  # clients of a kind; there are few threads
PROMPT = 2.0  # seconds in which a scrape is answered meanwhile, also on a busy machine
REQUEST = b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n"


def big(request: Request) -> Page:
    return Page(BIG)


def small(request: Request) -> Page:
    return Page("grid_node_up 1\n")


@pytest.fixture(params=["plain", "tls"])
def exporter(request, certificate) -> Iterator[Exporter]:
    tls = server_tls(*certificate) if request.param == "tls" else None
    with Exporter(("127.0.0.1", 0), {"/metrics": small, "/big": big}, tls=tls) as made:
        yield made


@pytest.fixture
def connect(exporter: Exporter, certificate) -> Iterator[Callable[..., socket.socket]]:
    """A connection, by default one over which HTTP can be spoken; all are closed at the end."""
    client = ssl.create_default_context(cafile=certificate[0])
    with ExitStack() as stack:

        def connected(*, bare: bool = False) -> socket.socket:
            made = socket.socket()
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)  # and no more
            made.settimeout(30)
            made.connect(("127.0.0.1", exporter.port))
            if exporter.url.startswith("https") and not bare:
                made = client.wrap_socket(made, server_hostname="127.0.0.1")
            return stack.enter_context(made)

        yield connected


def answer_of(client: socket.socket) -> bytes:
    found = b""
    while data := client.recv(1 << 20):
        found += data
    return found


def scrape(connect: Callable[..., socket.socket]) -> float:
    """Seconds until the whole answer was there."""
    began = time.monotonic()
    client = connect()
    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = answer_of(client)
    assert answer.endswith(b"grid_node_up 1\n"), answer
    client.close()
    return time.monotonic() - began


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def is_hung_up_on(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except (ConnectionError, ssl.SSLError):
        return True


# -- a crowd of them -------------------------------------------------------------------------------


def silent(connect: Callable[..., socket.socket]) -> socket.socket:
    return connect(bare=True)


def in_the_middle_of_a_request(connect: Callable[..., socket.socket]) -> socket.socket:
    client = connect()
    client.sendall(b"GET /big HTTP/1.1\r\nHo")
    return client


def in_the_middle_of_a_handshake(connect: Callable[..., socket.socket]) -> socket.socket:
    client = connect(bare=True)
    client.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # a ClientHello's beginning
    return client


def without_reading(connect: Callable[..., socket.socket]) -> socket.socket:
    client = connect()
    client.sendall(REQUEST)
    return client


KINDS = [silent, in_the_middle_of_a_request, in_the_middle_of_a_handshake, without_reading]


@pytest.mark.parametrize("kind", KINDS)
def test_a_crowd_that_stands_in_the_way_delays_no_scrape(exporter, connect, kind):
    crowd = [kind(connect) for _ in range(CROWD if kind is not without_reading else 12)]
    assert max(scrape(connect) for _ in range(5)) < PROMPT
    assert len(crowd) > module.WORKERS


def test_more_connections_than_there_may_be_shut_nobody_out(exporter, connect, monkeypatch):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 32)
    crowd = [silent(connect) for _ in range(CROWD)]
    assert max(scrape(connect) for _ in range(5)) < PROMPT
    assert is_hung_up_on(crowd[0])


def test_a_crowd_that_drips_and_comes_again_delays_no_scrape(exporter, connect, certificate):
    """Each sends a byte now and then, and connects anew as soon as it is hung up on."""
    stop = threading.Event()
    letters = b"GET /metrics HTTP/1.1\r\nX-Padding: " + b"x" * 10_000

    def drip(number: int) -> None:
        while not stop.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", exporter.port)) as one:
                for at in range(len(letters)):
                    one.sendall(letters[at : at + 1])
                    if stop.wait(0.05 + number / 1000):
                        return

    crowd = [threading.Thread(target=drip, args=(number,), daemon=True) for number in range(60)]
    for one in crowd:
        one.start()
    time.sleep(0.5)
    try:
        assert max(scrape(connect) for _ in range(10)) < PROMPT
    finally:
        stop.set()
        for one in crowd:
            one.join(10)


def test_nothing_is_left_of_a_crowd(exporter, connect, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT", 1.0)
    scrape(connect)
    threads, files = threading.active_count(), open_files()
    crowd = [
        kind(connect) for kind in KINDS for _ in range(20 if kind is not without_reading else 4)
    ]
    for one in crowd[:-4]:
        assert is_hung_up_on(one)
    for one in crowd:
        one.close()
    end = time.monotonic() + 10
    while open_files() > files and time.monotonic() < end:
        time.sleep(0.05)
    assert open_files() <= files
    assert threading.active_count() <= threads


def test_answers_that_nobody_takes_use_no_more_memory_than_there_is_for_them(
    exporter, connect, monkeypatch
):
    monkeypatch.setattr(connections, "MAX_UNSENT", 10 << 20)
    crowd = [without_reading(connect) for _ in range(8)]
    assert scrape(connect) < PROMPT
    assert [len(answer_of(client)) > len(BIG) for client in crowd].count(True) <= 3


# -- the limit for all of a request ----------------------------------------------------------------


def test_who_sends_a_byte_now_and_then_has_the_same_time_as_others(exporter, connect, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT", 1.0)
    began = time.monotonic()
    client = connect()
    with suppress(OSError):  # reset, broken pipe, or TLS' own word for it
        while time.monotonic() - began < 20:
            client.sendall(b"x")
            time.sleep(0.1)
    assert 0.5 < time.monotonic() - began < 5


def test_who_reads_a_little_now_and_then_has_the_same_time_as_others(
    exporter, connect, monkeypatch
):
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT", 1.5)
    client = connect()
    began = time.monotonic()
    client.sendall(REQUEST)
    taken = 0
    with suppress(ConnectionError, ssl.SSLError):
        while data := client.recv(65_536):
            taken += len(data)
            time.sleep(0.02)
    assert 0 < taken < len(BIG)
    assert time.monotonic() - began < 10


def test_a_slow_client_that_keeps_to_the_limit_gets_all(exporter, connect):
    client = connect()
    for byte in REQUEST:
        client.sendall(bytes((byte,)))
        time.sleep(0.005)
    time.sleep(0.5)
    assert answer_of(client).endswith(BIG.encode())


# -- what else they may do -------------------------------------------------------------------------


def test_a_head_without_an_end_is_refused_when_it_is_too_long(exporter, connect):
    client = connect()
    with suppress(ConnectionError, ssl.SSLError):
        client.sendall(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * (2 * connections.HEAD_LIMIT))
        assert answer_of(client).split(b" ", 1)[1][:3] in (b"400", b"413", b"431")
    assert scrape(connect) < PROMPT


def test_who_hangs_up_in_the_middle_harms_nobody(exporter, connect, capfd):
    for kind in KINDS:
        kind(connect).close()
    assert scrape(connect) < PROMPT
    assert capfd.readouterr().err == ""


def test_ending_waits_for_no_client(certificate):
    """Neither for those who are slow, nor for a page that takes long to make."""
    gate = threading.Event()

    def stuck(request: Request) -> Page:
        gate.wait(30)
        return Page("late")

    with ExitStack() as stack:
        with Exporter(("127.0.0.1", 0), {"/": stuck, "/big": big}) as exporter:
            place = ("127.0.0.1", exporter.port)
            clients = [
                stack.enter_context(socket.create_connection(place, timeout=10)) for _ in range(9)
            ]
            for client, path in zip(clients, ["/", "/", "/big", "/big", "", "", ""], strict=False):
                client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode() if path else b"GE")
            time.sleep(0.3)
            began = time.monotonic()
        assert time.monotonic() - began < module.STOP_TIMEOUT + 1
        gate.set()
