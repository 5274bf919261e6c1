"""The exporter, scraped by a real Prometheus while nodes die and return."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from contextlib import ExitStack, suppress
from urllib.error import HTTPError

import pytest
from support.cli import run, silent
from support.exporters import exporting, prometheus
from support.nodes import wait_until

QUICK = ("--every", "0.5")


def scores(exporter) -> dict[str, float]:
    """By node, as the health document has them."""
    found = json.loads(exporter.get("api/nodes"))["nodes"]
    return {node["name"]: node["score"] for node in found if node["score"] is not None}


def test_prometheus_sees_nodes_die_and_return_and_counts_runs(make_sandbox, tmp_path):
    made = make_sandbox(3)
    with exporting(made.inventory, *QUICK) as exporter:
        target = exporter.url.removeprefix("http://").rstrip("/")
        with prometheus(tmp_path / "prometheus", target) as prom:
            up = {"node1": 1.0, "node2": 1.0, "node3": 1.0}
            prom.wait_for("grid_node_up", up)
            # They change with every round; in some round both must be the same.
            wait_until(
                lambda: scores(exporter) == prom.ask("round(grid_node_health_score, 0.1)"), 30
            )
            assert len(scores(exporter)) == 3

            made.stop("node2")
            prom.wait_for("grid_node_up", {**up, "node2": 0.0})
            wait_until(lambda: set(prom.ask("grid_node_health_score")) == {"node1", "node3"}, 30)
            assert prom.ask("min_over_time(grid_node_up{node!='node2'}[1m])") == {
                "node1": 1.0,
                "node3": 1.0,
            }
            made.start("node2")
            prom.wait_for("grid_node_up", up)
            wait_until(lambda: set(prom.ask("grid_node_health_score")) == set(up), 30)
            assert all(0 <= score <= 100 for score in prom.ask("grid_node_health_score").values())

            for number in range(3):
                words = ("run", "--no-sync", "--on", "node1", "--cmd", f"exit {number}")
                assert run("gridops", *words, "--inventory", str(made.inventory)).status == number
            prom.wait_for("sum(grid_tasks_submitted_total{task_type='run'})", {"": 3.0})
            prom.wait_for("grid_tasks_completed_total{status='failure'}", {"": 2.0})
            prom.wait_for("grid_tasks_completed_total{status='success'}", {"": 1.0})
            prom.wait_for("grid_active_tasks", {"": 0.0})
            assert prom.ask("time() - grid_task_last_success_timestamp_seconds < 60")
            assert [one["health"] for one in prom.targets()] == ["up"]


def test_a_run_counts_as_under_way_until_it_ends_or_is_killed(make_sandbox):
    made = make_sandbox(1)
    words = ("run", "--no-sync", "--cmd", "sleep 60", "--inventory", str(made.inventory))
    with exporting(made.inventory, *QUICK) as exporter:
        assert exporter.value("grid_active_tasks") == 0
        child = subprocess.Popen(
            [sys.executable, "-c", "from gridops.tasks.program import main; main()", *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(lambda: exporter.value("grid_active_tasks") == 1, 30)
        child.send_signal(signal.SIGKILL)
        child.wait()
        wait_until(lambda: exporter.value("grid_active_tasks") == 0, 30)
        assert exporter.value('grid_tasks_submitted_total{task_type="run"}') == 1
        assert (
            exporter.value('grid_tasks_completed_total{status="success",task_type="run"}') is None
        )


def test_promtool_has_nothing_to_say_against_any_of_it(make_sandbox):
    made = make_sandbox(2)
    made.stop("node2")
    with exporting(made.inventory, *QUICK) as exporter:
        wait_until(lambda: exporter.rounds >= 1, 30)
        served = exporter.get("metrics")
        exporter.end()
    printed = run("gridops", "metrics").out
    for text in (served, printed):
        assert text.count('{node="node') > 10
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=text, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_scrape_never_waits_for_a_probe(make_sandbox, inventory):
    """One node takes the connection and never speaks: rounds take seconds, scrapes do not."""
    with silent() as port:
        slow = {"slow": {"host": "127.0.0.1", "port": port}}
        path = inventory(slow, health_check={"timeout": 4}, ssh={"connect_timeout": 4})
        with exporting(path, *QUICK) as exporter:
            wait_until(lambda: exporter.rounds >= 1, 30)
            slowest = 0.0
            end = time.monotonic() + 3
            while time.monotonic() < end:
                began = time.monotonic()
                assert exporter.value('grid_node_up{node="node1"}') == 1
                assert exporter.value('grid_node_up{node="slow"}') == 0
                slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.05)
            assert slowest < 1
            assert (exporter.value("grid_exporter_round_duration_seconds") or 0) > 2
            began = time.monotonic()
            assert exporter.end()[0] == 0  # in the middle of a round
            assert time.monotonic() - began < 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_at_once_and_cleanly(inventory, number):
    with exporting(inventory.path) as exporter:
        began = time.monotonic()
        status, said = exporter.end(number)
        assert (status, said) == (0, "")
        assert time.monotonic() - began < 2


def test_nodes_may_be_added_and_removed_while_it_runs(inventory):
    with exporting(inventory.path, *QUICK) as exporter:
        wait_until(lambda: exporter.value('grid_node_up{node="node1"}') == 1, 30)
        path = inventory({"node2": None, "here": {"connection": "local"}})
        os.utime(path, (time.time() + 5, time.time() + 5))
        wait_until(lambda: exporter.value('grid_node_up{node="here"}') == 1, 30)
        assert exporter.value('grid_node_up{node="node2"}') is None
        path.write_text("nodes: [")
        wait_until(lambda: exporter.value("grid_exporter_inventory_ok") == 0, 30)
        assert exporter.value('grid_node_up{node="here"}') == 1
        assert "the earlier one stays in use" in exporter.get("")
        inventory()
        wait_until(lambda: exporter.value('grid_node_up{node="node2"}') == 1, 30)
        assert exporter.value("grid_exporter_inventory_ok") == 1
        _, said = exporter.end()
    assert said.count("warning") == 1
    assert "has changed: 3 nodes now" in said


@pytest.mark.parametrize("secure", [False, True])
def test_prometheus_is_served_while_a_crowd_stands_in_the_way(
    inventory, tmp_path, certificate, secure
):
    """More connections than there may be: silent, in the middle of a request or a handshake."""
    words = ["--tls-cert", certificate[0], "--tls-key", certificate[1]] if secure else []
    config = "  scrape_interval: 1s\n  scrape_timeout: 1s\n"
    config += f"  scheme: https\n  tls_config: {{ca_file: {certificate[0]}}}\n" if secure else ""
    began = (b"", b"GET /metrics HTTP/1.1\r\nHost: local", b"\x16\x03\x01\x02\x00\x01\x00")
    with ExitStack() as stack:
        url = stack.enter_context(exporting(inventory.path, *QUICK, *words)).url
        place = urllib.parse.urlsplit(url)
        prom = stack.enter_context(prometheus(tmp_path / "prometheus", place.netloc, config))
        prom.wait_for("up", {"": 1.0})
        for number in range(400):
            one = stack.enter_context(socket.create_connection((place.hostname, place.port), 10))
            with suppress(ConnectionError):
                one.sendall(began[number % len(began)])
        time.sleep(6)
        assert prom.ask("avg_over_time(up[5s])") == {"": 1.0}
        assert [one["health"] for one in prom.targets()] == ["up"]


def test_credentials_are_asked_for_by_prometheus_too(inventory, tmp_path):
    (tmp_path / "auth").write_text("ada:pass word\n")
    (tmp_path / "auth").chmod(0o600)
    login = "  basic_auth: {username: ada, password: 'pass word'}\n"
    with exporting(inventory.path, *QUICK, "--auth-file", str(tmp_path / "auth")) as exporter:
        assert exporter.get("healthz") == "ok\n"
        with pytest.raises(HTTPError, match="401"):
            exporter.get("metrics")
        target = exporter.url.removeprefix("http://").rstrip("/")
        with prometheus(tmp_path / "prometheus", target, login) as prom:
            prom.wait_for("grid_node_up", {"node1": 1.0, "node2": 1.0, "node3": 1.0})


def test_an_address_that_others_reach_is_said_to_be_open(inventory):
    with exporting(inventory.path, "--bind", "0.0.0.0") as exporter:
        assert exporter.url.startswith("http://0.0.0.0:")
        assert any("anyone who can reach 0.0.0.0 can read" in line for line in exporter.before)


def test_a_port_that_is_taken_is_one_line(inventory):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("gridops", "metrics.serve", "--port", str(taken.getsockname()[1]))
    assert done.status == 125
    assert "cannot listen on 127.0.0.1 port" in done.complaint


def test_the_textfile_has_a_round_and_all_that_adds_up(inventory, tmp_path):
    assert run("gridops", "exec", "--cmd", "true").status == 0
    path = tmp_path / "gridops.prom"
    done = run("gridops", "metrics.serve", "--textfile", str(path))
    assert (done.status, done.out, done.err) == (0, "", "")
    text = path.read_text()
    assert 'grid_node_up{node="node3"} 1.0\n' in text
    assert 'grid_tasks_submitted_total{task_type="exec"} 1.0\n' in text
