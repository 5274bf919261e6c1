"""Metrics and run ids over whole command lines."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.cli import refusing, run

from gridops.observe.paths import store_path
from gridops.observe.store import Store

HERE = ("run", "--no-sync", "--on", "node1", "--cmd")


def metrics() -> dict[str, float]:
    """What `inv metrics` prints, by series as it spells them."""
    done = run("inv", "metrics")
    assert (done.status, done.err) == (0, "")
    lines = [line for line in done.out.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


@pytest.fixture(autouse=True)
def _in_a_project(project: Path) -> None:
    Path("tasks.py").write_text("from gridops.tasks import ns\n")


@pytest.mark.usefixtures("inventory")
def test_three_runs_in_three_processes_read_three():
    for _ in range(3):
        assert run("inv", *HERE, "true").status == 0
    found = metrics()
    assert found.get('grid_tasks_submitted_total{task_type="run"}') == 3
    assert found.get('grid_tasks_completed_total{status="success",task_type="run"}') == 3
    assert found.get('grid_task_duration_seconds_count{task_type="run"}') == 3
    assert found.get("grid_active_tasks") == 0


@pytest.mark.usefixtures("inventory")
def test_each_task_is_counted_by_its_name_and_nodes_by_theirs():
    assert run("inv", "health").status == 0
    assert run("inv", "run", "--cmd", "exit 3").status == 3
    assert run("inv", "exec", "--cmd", "true").status == 0
    assert run("inv", "sync", "--nodes", "node2").status == 0
    found = metrics()
    for task, status in (("health", "success"), ("run", "failure"), ("exec", "success")):
        series = f'grid_tasks_completed_total{{status="{status}",task_type="{task}"}}'
        assert found.get(series) == 1, series
    assert found.get('grid_sync_operations_total{node="node2",status="success"}') in (1, 2)
    assert found.get("grid_node_selection_seconds_count") == 1
    for node in ("node1", "node2", "node3"):
        assert 0 <= found[f'grid_node_health_score{{node="{node}"}}'] <= 100
        assert found.get(f'grid_node_up{{node="{node}"}}') == 1


def test_a_node_that_refuses_is_counted_as_down_and_the_retry_by_its_kind(inventory):
    with refusing() as port:
        gone = {"gone": {"host": "127.0.0.1", "port": port}}
        inventory(gone, retry={"max_retries": 1, "initial_delay": 0.01})
        assert run("inv", "health", "--nodes", "gone").status == 1
        assert run("inv", "run", "--no-sync", "--nodes", "gone,node1", "--cmd", "true").status == 0
    found = metrics()
    assert found.get('grid_node_up{node="gone"}') == 0
    assert found.get('grid_node_health_score{node="gone"}') is None


@pytest.mark.usefixtures("inventory")
def test_openmetrics_is_to_be_had():
    run("inv", *HERE, "true")
    done = run("inv", "metrics", "--openmetrics")
    assert done.out.endswith("\n# EOF\n")
    assert 'grid_tasks_submitted_total{task_type="run"} 1.0\n' in done.out


@pytest.mark.usefixtures("inventory")
def test_a_run_has_one_id_on_the_node_in_the_log_and_in_the_history():
    done = run("inv", *HERE, "echo $GRIDOPS_RUN_ID", "--log-format", "json")
    (row,) = Store().runs()
    assert done.out.strip() == row.id
    assert (row.node, row.state, row.status) == ("node1", "finished", 0)
    lines = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    of_run = {line["event"]: line.get("run_id") for line in lines}
    assert of_run["run.started"] == of_run["run.finished"] == row.id
    assert "echo" not in done.err  # commands may hold secrets: not in the log


@pytest.mark.usefixtures("inventory")
def test_a_durable_run_has_one_id_on_the_node_and_in_the_history_with_its_end():
    job = run("inv", *HERE, "exit 4", "--detach").out.strip()
    assert [(row.id, row.state) for row in Store().runs()] == [(job, "detached")]
    assert run("inv", "jobs.wait", job).status == 4
    (row,) = Store().runs()
    assert (row.id, row.state, row.status) == (job, "finished", 4)
    assert run("inv", "jobs.show", job, "--format=json").document["job"]["id"] == job


@pytest.mark.usefixtures("inventory")
def test_a_store_that_is_locked_costs_one_warning_and_no_more(tell, monkeypatch):
    assert tell(*HERE, "true").status == 0
    monkeypatch.setattr("gridops.observe.store.STORE_LOCK_TIMEOUT", 0.1)
    other = sqlite3.connect(store_path(), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    done = tell(*HERE, "echo out; exit 7")
    assert (done.status, done.out) == (7, "out\n")
    (warning,) = [line for line in done.err.splitlines() if "warning: metrics" in line]
    assert "database is locked" in warning
    other.execute("ROLLBACK")
    other.close()


@pytest.mark.usefixtures("inventory")
@pytest.mark.parametrize("broken", ["not a directory", "not a database", "read-only"])
def test_a_store_that_cannot_be_used_costs_one_warning_and_no_more(tmp_path, broken):
    place = tmp_path / "state"
    if broken == "not a directory":
        place.write_text("")
    else:
        place.mkdir()
        (place / "gridops.db").write_bytes(b"no database " * 1000)
    if broken == "read-only":
        (place / "gridops.db").unlink()
        (place / "gridops.db").mkdir()
    environment = {**os.environ, "GRIDOPS_STATE_DIR": str(place)}
    done = run("gridops", *HERE, "echo out; exit 5", env=environment)
    assert (done.status, done.out) == (5, "out\n")
    assert done.err.count("warning:") == 1, done.err
    assert "Traceback" not in done.err


@pytest.mark.usefixtures("inventory")
def test_nothing_is_recorded_where_nothing_is_wanted(monkeypatch):
    monkeypatch.setenv("GRIDOPS_METRICS", "off")
    assert run("inv", *HERE, "true").status == 0
    assert not store_path().exists()


@pytest.mark.usefixtures("inventory")
def test_many_tasks_that_end_at_once_are_all_counted():
    """Whole processes; the very moment is in tests/unit/observe/test_store.py."""
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", "from gridops.tasks.program import main; main()",
             "exec", "--nodes", "node1", "--cmd", "true"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for _ in range(5)
    ]  # fmt: skip
    assert [one.communicate(timeout=60)[1] for one in crowd] == [b""] * 5
    found = metrics()
    assert found.get('grid_tasks_completed_total{status="success",task_type="exec"}') == 5


def test_a_gateway_that_is_not_there_is_a_warning_and_an_error_for_the_strict():
    words = ("metrics.push", "--gateway", "http://127.0.0.1:1", "--timeout", "5")
    done = run("inv", *words)
    assert done.status == 0
    assert done.complaint.startswith("warning: metrics could not be pushed to http://127.0.0.1:1")
    assert run("inv", *words, "--strict").status == 125
    began = time.monotonic()
    assert run("inv", "metrics.push", "--gateway", "ftp://x").status == 2
    assert time.monotonic() - began < 10


def test_the_metrics_go_into_a_file_whole(tmp_path):
    path = tmp_path / "x.prom"
    done = run("inv", "metrics", "--textfile", str(path))
    assert (done.status, done.out, done.err) == (0, "", "")
    assert path.read_text().startswith("# HELP grid_tasks_submitted_total ")
    assert run("inv", "metrics", "--textfile", str(tmp_path / "no" / "x")).status == 125


@pytest.mark.parametrize(
    "words",
    [("--port", "x"), ("--port", "70000"), ("--every", "0"), ("--auth-file", "none"),
     ("--tls-cert", "x"), ("--nodes", "none")],
)  # fmt: skip
def test_what_makes_no_sense_is_said_before_anything_is_served(words):
    done = run("gridops", "metrics.serve", *words)
    assert done.status == 2
    assert words[0] in done.complaint or words[1] in done.complaint


def test_listing_the_tasks_loads_nothing_that_only_metrics_need():
    program = "import sys, gridops.tasks; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    unwanted = {"prometheus_client", "rich", "structlog", "sqlite3", "http.server"}
    assert not unwanted.intersection(loaded)
