"""The HTTP server: who may read, and what becomes of those who do not behave."""

from __future__ import annotations

import base64
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest

from gridops.errors import ServeError, UsageError
from gridops.observe import connections
from gridops.observe.auth import OPEN, Access, access, is_loopback, server_tls
from gridops.observe.exporter import Exporter, Page, Request


def hello(request: Request) -> Page:
    return Page(f"hello {request.accept}", headers={"X-Of": request.path})


def broken(request: Request) -> Page:
    raise ValueError("no")


ROUTES = {"/": hello, "/healthz": hello, "/broken": broken}


@contextmanager
def serving(**options: object) -> Iterator[Exporter]:
    routes = options.pop("routes", ROUTES)
    address = options.pop("address", ("127.0.0.1", 0))
    public = frozenset({"/healthz"})
    with Exporter(address, routes, public=public, **options) as exporter:  # type: ignore[arg-type]
        yield exporter


@pytest.fixture
def serve() -> Iterator[Callable[..., Exporter]]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(serving(**options))


def ask(
    exporter: Exporter, path: str = "/", method: str = "GET", tls: object = None, **headers: str
) -> tuple[int, str, dict[str, str]]:
    place = ("127.0.0.1", exporter.port)
    known = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = (
        HTTPSConnection(*place, timeout=10, context=tls)  # type: ignore[arg-type]
        if tls
        else HTTPConnection(*place, timeout=10)
    )
    connection.request(method, path, headers=known)
    answer = connection.getresponse()
    found = (answer.status, answer.read().decode(), dict(answer.getheaders()))
    connection.close()
    return found


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


# -- answering ---------------------------------------------------------------------------------


def test_a_page_is_made_for_each_request(serve):
    status, text, headers = ask(serve(), "/?x=1", Accept="this")
    assert (status, text, headers["X-Of"]) == (200, "hello this", "/")
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Python" not in headers["Server"]


def test_head_is_get_without_the_page(serve):
    status, text, headers = ask(serve(), method="HEAD")
    assert (status, text, headers["Content-Length"]) == (200, "", "6")


def test_what_is_not_there_is_said_with_what_is(serve):
    status, text, _ = ask(serve(), "/metric")
    assert status == 404
    assert "/healthz" in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(serve, method):
    assert ask(serve(), method=method)[0] == 501


def test_a_page_that_cannot_be_made_harms_no_other(serve):
    exporter = serve()
    assert ask(exporter, "/broken")[:2] == (500, "ValueError: no\n")
    assert ask(exporter)[0] == 200


def test_a_port_that_is_taken_is_an_error_with_advice(serve):
    port = serve().port
    with pytest.raises(ServeError, match=f"127.0.0.1 port {port}") as caught:
        Exporter(("127.0.0.1", port), ROUTES)
    assert "--port" in caught.value.hint


def test_an_address_that_is_not_ours_is_an_error():
    with pytest.raises(ServeError):
        Exporter(("192.0.2.1", 0), ROUTES)
    with pytest.raises(ServeError):
        Exporter(("no such host", 0), ROUTES)


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here")
def test_it_speaks_ipv6(serve):
    exporter = serve(address=("::1", 0))
    assert exporter.url == f"http://[::1]:{exporter.port}/"
    with socket.create_connection(("::1", exporter.port), timeout=10) as link:
        link.sendall(b"GET / HTTP/1.0\r\nHost: [::1]\r\n\r\n")
        assert link.recv(100).startswith(b"HTTP/1.0 200")


# -- who may -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "given", "status"),
    [
        (OPEN, "", 200),
        (Access(basic="ada:pass:word"), "", 401),
        (Access(basic="ada:pass:word"), basic("ada:pass:word"), 200),
        (Access(basic="ada:pass:word"), basic("ada:pass"), 401),
        (Access(basic="ada:pass:word"), "Basic %%%", 401),
        (Access(basic="ada:pass:word"), "Bearer ada:pass:word", 401),
        (Access(bearer="t0ken"), "Bearer t0ken", 200),
        (Access(bearer="t0ken"), "bearer t0ken", 200),
        (Access(bearer="a=b,c=d"), "Bearer a=b,c=d", 200),
        (Access(bearer="t0ken"), "Bearer t0ke", 401),
        (Access(bearer="t0ken"), basic("t0ken"), 401),
        (Access("ada:x", "t0ken"), "Bearer t0ken", 200),
        (Access("ada:x", "t0ken"), basic("ada:x"), 200),
    ],
)
def test_who_has_the_credentials_may_read(serve, who, given, status):
    found, text, headers = ask(serve(access=who), Authorization=given)
    assert found == status
    assert ("hello" in text) == (status == 200)
    assert ("WWW-Authenticate" in headers) == (status == 401)


def test_health_is_for_anybody(serve):
    assert ask(serve(access=Access(bearer="t0ken")), "/healthz")[0] == 200


def test_what_is_not_there_is_not_told_to_anybody(serve):
    assert ask(serve(access=Access(bearer="t0ken")), "/metric")[0] == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("localhost:9464", 200), ("[::1]:80", 200), ("LOCALHOST", 200),
        ("evil.example", 421), ("127.0.0.1.evil.example:9464", 421),
    ],
)  # fmt: skip
def test_on_loopback_only_names_of_this_machine_are_answered(serve, host, status):
    assert ask(serve(), Host=host)[0] == status


def test_elsewhere_any_name_will_do(serve):
    assert ask(serve(address=("0.0.0.0", 0)), Host="gateway.example")[0] == 200


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("gpu01", False), ("", False)],
)  # fmt: skip
def test_what_is_loopback(host, loopback):
    assert is_loopback(host) == loopback


@pytest.fixture
def secret(tmp_path):
    def write(text: str, mode: int = 0o600) -> str:
        path = tmp_path / "secret"
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    return write


def test_credentials_come_from_files(secret):
    assert access(secret("ada:pass word\n"), None) == Access(basic="ada:pass word")
    assert access(None, secret("t0ken\n")) == Access(bearer="t0ken")
    assert access(None, None) == OPEN


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("ada:x", 0o644, "others may read it"),
        ("ada", 0o600, "user:password"),
        (":x", 0o600, "user:password"),
        ("", 0o600, "one line"),
        ("ada:x\nbob:y", 0o600, "one line"),
        (None, 0, "No such file"),
    ],
)
def test_a_bad_file_is_said_without_what_is_in_it(secret, text, mode, said, tmp_path):
    path = str(tmp_path / "none") if text is None else secret(text, mode)
    with pytest.raises(UsageError, match=said) as caught:
        access(path, None)
    assert "ada" not in str(caught.value)


# -- TLS ---------------------------------------------------------------------------------------


def test_it_speaks_tls(serve, certificate):
    exporter = serve(tls=server_tls(*certificate), access=Access(bearer="t0ken"))
    client = ssl.create_default_context(cafile=certificate[0])
    assert exporter.url.startswith("https://")
    assert ask(exporter, tls=client, Authorization="Bearer t0ken")[0] == 200
    assert ask(exporter, tls=client)[0] == 401


def test_who_does_not_speak_tls_delays_nobody(serve, certificate):
    exporter = serve(tls=server_tls(*certificate))
    with socket.create_connection(("127.0.0.1", exporter.port)) as silent:
        began = time.monotonic()
        client = ssl.create_default_context(cafile=certificate[0])
        assert ask(exporter, tls=client)[0] == 200
        assert time.monotonic() - began < 3
        silent.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"hello" not in silent.recv(1000)


def test_bad_certificates_are_said(certificate, tmp_path):
    with pytest.raises(UsageError, match="go together"):
        server_tls(certificate[0], None)
    with pytest.raises(UsageError, match="No such file"):
        server_tls(certificate[0], str(tmp_path / "none"))
    with pytest.raises(UsageError, match="--tls-cert"):
        server_tls(certificate[1], certificate[0])
    assert server_tls(None, None) is None


def test_a_key_with_a_passphrase_is_refused_rather_than_asked_for(certificate, tmp_path):
    locked = str(tmp_path / "locked.pem")
    subprocess.run(
        ["openssl", "ec", "-aes256", "-passout", "pass:secret", "-in", certificate[1],
         "-out", locked],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    with pytest.raises(UsageError):
        server_tls(certificate[0], locked)


# -- those who do not behave -------------------------------------------------------------------


def test_who_says_nothing_is_hung_up_on(serve, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT", 0.2)
    exporter = serve()
    with socket.create_connection(("127.0.0.1", exporter.port), timeout=10) as silent:
        assert silent.recv(10) == b""


def test_there_are_never_more_than_so_many_at_once_and_the_oldest_makes_room(serve, monkeypatch):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 2)
    exporter = serve()
    place = ("127.0.0.1", exporter.port)
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(socket.create_connection(place, timeout=10)) for _ in range(2)
        )
        assert ask(exporter)[0] == 200
        assert first.recv(10) == b""
        second.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert second.recv(1000).startswith(b"HTTP/1.0 200")


def test_noise_is_no_reason_to_stop(serve, capfd):
    exporter = serve()
    for noise in (b"\x00\xff" * 100 + b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"", b"GET\r\n"):
        with socket.create_connection(("127.0.0.1", exporter.port), timeout=10) as link:
            link.sendall(noise)
    assert ask(exporter)[0] == 200
    assert capfd.readouterr().err == ""
