"""`metrics.serve` and Prometheus as processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from support.cli import BIN
from support.nodes import find_program, wait_until


class Exporting:
    """A running exporter."""

    def __init__(self, process: subprocess.Popen[str], url: str, before: list[str]) -> None:
        self.process = process
        self.url = url
        self.before = before  # the lines that it said before it listened

    def get(self, path: str, **headers: str) -> str:
        request = urllib.request.Request(f"{self.url}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())

    def value(self, series: str) -> float | None:
        """Of one series, as the exposition spells it: `grid_node_up{node="a"}`."""
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.get("metrics"), re.MULTILINE)
        return float(found[1]) if found else None

    @property
    def rounds(self) -> float:
        return self.value("grid_exporter_rounds_total") or 0.0

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Tell it to; its exit status, and what it said since it began to serve."""
        self.process.send_signal(number)
        said = self.process.communicate(timeout=30)[1]
        return self.process.returncode, said


@contextmanager
def exporting(inventory: Path, *words: str, **options: Any) -> Iterator[Exporting]:
    """An exporter of the inventory's nodes, once it listens."""
    command = [str(BIN / "gridops"), "metrics.serve", "--port", "0", "--inventory", str(inventory)]
    process = subprocess.Popen(
        [*command, *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        **options,
    )  # fmt: skip
    try:
        assert process.stderr
        said: list[str] = []
        while not (url := re.search(r"https?://\S+/", said[-1] if said else "")):
            said.append(process.stderr.readline())
            assert said[-1], (process.wait(10), said)
        yield Exporting(process, url[0], said[:-1])
    finally:
        process.kill()
        process.communicate()


class Prometheus:
    """A real one that scrapes every fifth of a second."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, query: str) -> dict[str, float]:
        """What an instant query gives: value by node, or by "" without that label."""
        coded = urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(f"{self.url}api/v1/query?{coded}", timeout=10) as answer:
            found = json.load(answer)
        return {
            one["metric"].get("node", ""): float(one["value"][1]) for one in found["data"]["result"]
        }

    def wait_for(self, query: str, wanted: dict[str, float], timeout: float = 30) -> None:
        wait_until(lambda: self.ask(query) == wanted, timeout)

    def targets(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}api/v1/targets", timeout=10) as answer:
            return list(json.load(answer)["data"]["activeTargets"])


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def prometheus(place: Path, target: str, config: str = "") -> Iterator[Prometheus]:
    """One that scrapes `target` (host:port); `config`: more lines of its scrape_config."""
    place.mkdir()
    file = place / "prometheus.yml"
    file.write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
        "scrape_configs:\n"
        f"- job_name: gridops\n  static_configs: [{{targets: ['{target}']}}]\n{config}"
    )
    port = free_port()
    log = (place / "log").open("wb")
    child = subprocess.Popen(
        [find_program("prometheus"), f"--config.file={file}",
         f"--storage.tsdb.path={place / 'data'}", "--query.lookback-delta=2s",
         f"--web.listen-address=127.0.0.1:{port}"],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        env={**os.environ, "GOMAXPROCS": "1"},
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}/"
        wait_until(lambda: _ready(url, child, place / "log"), 60)
        yield Prometheus(url)
    finally:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(20)
        child.kill()
        child.wait()
        log.close()


def _ready(url: str, child: subprocess.Popen[bytes], log: Path) -> bool:
    assert child.poll() is None, log.read_text()
    with suppress(OSError):
        urllib.request.urlopen(f"{url}-/ready", timeout=2).close()
        return True
    return False
