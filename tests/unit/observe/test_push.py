"""Pushing to a gateway."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gridops.errors import ServeError, UsageError
from gridops.observe.auth import Access
from gridops.observe.metrics import Metrics
from gridops.observe.push import Gateway
from gridops.observe.store import Store


class FakeGateway(ThreadingHTTPServer):
    """Keeps what it is sent; answers as it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.sent: list[tuple[str, str, str, dict[str, str]]] = []
        self.status = 202
        self.delay = 0.0
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeGateway

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.sent.append((self.command, self.path, body, dict(self.headers)))
        time.sleep(self.server.delay)
        self.send_response(self.server.status)
        if self.server.status == 307:
            self.send_header("Location", f"{self.server.url}/elsewhere")
        self.end_headers()
        self.wfile.write(b"as you like it" if self.server.status < 300 else b"pushed in bad order")

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with FakeGateway() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


@pytest.fixture(autouse=True)
def _something_to_tell() -> None:
    metrics = Metrics()
    metrics.record_task("run")
    metrics.record_task_complete("run", duration=2)
    metrics.flush()


def push(gateway: FakeGateway, timeout: float = 10, **options: Any) -> None:
    known = {"job": "gridops", "instance": "ci", **options}
    Gateway.of(gateway.url, **known).push(Store(), timeout=timeout)


def test_all_metrics_are_put_in_place_of_those_of_the_same_job_and_instance(gateway):
    push(gateway)
    ((method, path, body, headers),) = gateway.sent
    assert (method, path) == ("PUT", "/metrics/job/gridops/instance/ci")
    assert 'grid_tasks_submitted_total{task_type="run"} 1.0\n' in body
    assert 'grid_task_last_success_timestamp_seconds{task_type="run"} ' in body
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "Authorization" not in headers


def test_names_with_slashes_and_blanks_arrive(gateway):
    push(gateway, job="a b", instance="c")
    push(gateway, job="a/b", instance="c")
    coded = base64.urlsafe_b64encode(b"a/b").decode()
    assert [path for _, path, _, _ in gateway.sent] == [
        "/metrics/job/a%20b/instance/c",
        f"/metrics/job@base64/{coded}/instance@base64/Yw==",
    ]


@pytest.mark.parametrize(
    ("who", "header"),
    [(Access(basic="ada:x"), "Basic YWRhOng="), (Access(bearer="t0ken"), "Bearer t0ken")],
)
def test_credentials_travel_in_the_header(gateway, who, header):
    push(gateway, access=who)
    assert gateway.sent[0][3]["Authorization"] == header


def test_what_the_gateway_does_not_like_is_said(gateway):
    gateway.status = 400
    with pytest.raises(ServeError, match="HTTP status 400: pushed in bad order"):
        push(gateway)


def test_nothing_is_sent_to_where_the_gateway_points(gateway):
    gateway.status = 307
    with pytest.raises(ServeError, match="307"):
        push(gateway, access=Access(bearer="t0ken"))
    assert len(gateway.sent) == 1


def test_a_gateway_that_does_not_answer_costs_no_more_than_the_time_it_has(gateway):
    gateway.delay = 3
    began = time.monotonic()
    with pytest.raises(ServeError, match=r"no answer within 0\.3 s|timed out"):
        push(gateway, timeout=0.3)
    assert time.monotonic() - began < 1.5


def test_a_gateway_that_is_not_there_is_said():
    with pytest.raises(ServeError, match=r"http://127\.0\.0\.1:1: .*refused"):
        Gateway.of("http://127.0.0.1:1", "j", "i").push(Store(), timeout=5)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "is not a URL"),
        ("ftp://host", "is not a URL"),
        ("http://", "is not a URL"),
        ("http://host:port", "is not a URL"),
        ("http://ada:secret@host", "has a login in it"),
    ],
)
def test_what_is_no_url_is_said_and_no_password_repeated(url, said):
    with pytest.raises(UsageError, match=said) as caught:
        Gateway.of(url, "j", "i")
    assert "secret" not in str(caught.value)


def test_a_host_and_port_will_do():
    assert Gateway.of("host:9091", "j", "i").url == "http://host:9091/metrics/job/j/instance/i"
    assert Gateway.of("https://h/base/", "j", "i").url == "https://h/base/metrics/job/j/instance/i"
