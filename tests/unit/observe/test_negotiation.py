"""Formats and encodings by content negotiation: every `q` counts."""

from __future__ import annotations

import gzip
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

from gridops.observe.exporter import Exporter
from gridops.observe.negotiation import accepts_gzip, prefers_openmetrics
from gridops.tasks._monitor import Monitor, Selection
from gridops.tasks._service import Service

OM = "application/openmetrics-text"
PROMETHEUS_2 = (
    f"{OM};version=1.0.0,{OM};version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    f"{OM};version=1.0.0;escaping=allow-utf-8;q=0.6,{OM};version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
        ("", False),
        ("*/*", False),
        (BROWSER, False),
        (OM, True),
        (OM.upper(), True),
        (f"{OM}; q=0", False),
        (f"{OM};q=0, text/plain", False),
        (f"{OM};q=0.5, text/plain;version=0.0.4;q=0.9", False),
        (f"text/plain;version=0.0.4;q=0.4, {OM};version=1.0.0;q=0.5", True),
        (f"text/plain;version=0.0.4, {OM};version=1.0.0", False),
        ("application/*, text/plain;q=0.5", True),
        (f"application/*, {OM};q=0, */*;q=0.1", False),
        ("application/json", False),
        (f"{OM};version=0.0.1", False),
        (f'{OM}; version="1.0.0"; charset=utf-8', True),
        (f"{OM};q=high, text/plain;q=0.1", False),
        (",;=,q=1;;*/*;q=,\x00", False),
    ],
)
def test_openmetrics_is_for_those_who_prefer_it(accept, wanted):
    assert prefers_openmetrics(accept) is wanted


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("GZIP", True),
        ("deflate, gzip;q=0.1", True),
        ("*", True),
        ("", False),
        ("identity", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity;q=0, *;q=0.1", True),
        ("gzip;q=0.5, identity;q=0.9", False),
        ("gzip;q=0.9, identity;q=0.5", True),
        ("x-gzipped", False),
        ("gzip;q=many", False),
    ],
)
def test_gzip_is_for_those_who_take_it(accept, wanted):
    assert accepts_gzip(accept) is wanted


@pytest.fixture
def url(home, tmp_path, monkeypatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)  # without an inventory: this machine alone
    monitor = Monitor(Selection(None), every=15.0)
    service = Service(lambda: monitor.last, monitor.every)
    with Exporter(("127.0.0.1", 0), service.routes) as exporter:
        yield exporter.url


def get(url: str, **headers: str) -> tuple[bytes, dict[str, str]]:
    request = urllib.request.Request(
        url, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read(), dict(answer.headers)


@pytest.mark.parametrize(
    ("accept", "kind", "read"),
    [
        (PROMETHEUS_2, f"{OM}; version=1.0.0; charset=utf-8", openmetrics),
        (f"{OM};q=0, */*", "text/plain; version=0.0.4; charset=utf-8", text),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_answer_is_what_its_headers_say(url, accept, kind, read, packed):
    encoding = "gzip" if packed else "identity"
    body, headers = get(f"{url}metrics", Accept=accept, Accept_Encoding=encoding)
    assert headers["Content-Type"] == kind
    assert headers.get("Content-Encoding") == ("gzip" if packed else None)
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert int(headers["Content-Length"]) == len(body)
    found = (gzip.decompress(body) if packed else body).decode()
    assert {family.name for family in read(found)} > {"grid_active_tasks", "grid_build_info"}


def test_what_is_short_is_not_packed(url):
    body, headers = get(f"{url}healthz", Accept_Encoding="gzip")
    assert (body, headers.get("Content-Encoding")) == (b"ok\n", None)
