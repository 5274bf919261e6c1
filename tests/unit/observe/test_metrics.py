"""Metrics: exactly the families that are promised, added up over processes."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from gridops.observe.metrics import Metrics, get_metrics
from gridops.observe.paths import store_path
from gridops.observe.rows import NodeRecord
from gridops.observe.store import Store


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    found = Metrics()
    yield found
    found.flush()  # into this test's store, not into that of whichever test it is collected in


def samples(text: str, family: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(rf"{family}[{{ ]", line)]


def labels_in(text: str, family: str) -> set[str]:
    return {
        ",".join(re.findall(r'([a-z_]+)="', line))
        for line in text.splitlines()
        if re.match(rf"{family}(_bucket|_sum|_count)?[{{ ]", line)
    }


def type_of(text: str, family: str) -> str:
    (found,) = re.findall(rf"^# TYPE {family} (\w+)$", text, re.MULTILINE)
    return str(found)


def buckets_of(text: str, family: str) -> list[float]:
    found = dict.fromkeys(re.findall(rf'^{family}_bucket{{le="([^"]+)"', text, re.MULTILINE))
    return [float(limit) for limit in found]


def everything(metrics: Metrics) -> str:
    metrics.record_task("run")
    metrics.record_task_complete("run", "success", 2.5)
    metrics.record_sync("gpu01", duration=0.7)
    metrics.record_node_health("gpu01", 12.3)
    metrics.record_selection(0.2)
    return metrics.export_prometheus()


@pytest.mark.parametrize(
    ("family", "kind", "labels", "buckets"),
    [
        ("grid_tasks_submitted_total", "counter", {"task_type"}, []),
        ("grid_tasks_completed_total", "counter", {"status,task_type"}, []),
        ("grid_sync_operations_total", "counter", {"node,status"}, []),
        (
            "grid_task_duration_seconds", "histogram", {"le,task_type", "task_type"},
            [0.1, 1, 5, 10, 30, 60, 300],
        ),
        ("grid_node_selection_seconds", "histogram", {"le", ""}, [0.1, 0.5, 1, 2, 5]),
        ("grid_sync_duration_seconds", "histogram", {"le,node", "node"}, [0.5, 1, 2, 5, 10]),
        ("grid_active_tasks", "gauge", {""}, []),
        ("grid_node_health_score", "gauge", {"node"}, []),
    ],
)  # fmt: skip
def test_the_eight_families_are_exactly_these(metrics, family, kind, labels, buckets):
    text = everything(metrics)
    assert type_of(text, family) == kind
    assert labels_in(text, family) == labels
    assert buckets_of(text, family) == [*buckets, *([float("inf")] if buckets else [])]


def test_all_families_are_there_before_anything_has_happened(metrics):
    text = metrics.export_prometheus()
    assert text.count("# TYPE grid_") == text.count("# HELP grid_") > 30
    assert samples(text, "grid_active_tasks") == ["grid_active_tasks 0.0"]
    assert samples(text, "grid_node_selection_seconds_count") == [
        "grid_node_selection_seconds_count 0.0"
    ]


def test_counters_count_and_histograms_add_up(metrics):
    for seconds in (0.05, 0.1, 0.2, 400):
        metrics.record_task("run")
        metrics.record_task_complete("run", "failure", seconds)
    text = metrics.export_prometheus()
    assert samples(text, "grid_tasks_submitted_total") == [
        'grid_tasks_submitted_total{task_type="run"} 4.0'
    ]
    assert samples(text, "grid_tasks_completed_total") == [
        'grid_tasks_completed_total{status="failure",task_type="run"} 4.0'
    ]
    counts = [line.split()[-1] for line in samples(text, "grid_task_duration_seconds_bucket")]
    assert counts == ["2.0", "3.0", "3.0", "3.0", "3.0", "3.0", "3.0", "4.0"]
    assert samples(text, "grid_task_duration_seconds_sum") == [
        'grid_task_duration_seconds_sum{task_type="run"} 400.35'
    ]


THIRD = """
from gridops.observe.metrics import get_metrics
metrics = get_metrics()
metrics.record_task("run")
metrics.record_task_complete("run", duration=1.5)
"""


def test_three_processes_that_only_end_read_three(metrics):
    for _ in range(3):
        subprocess.run([sys.executable, "-c", THIRD], timeout=60, check=True)
    text = metrics.export_prometheus()
    assert 'grid_tasks_submitted_total{task_type="run"} 3.0' in text
    assert 'grid_tasks_completed_total{status="success",task_type="run"} 3.0' in text
    assert 'grid_task_duration_seconds_bucket{le="5.0",task_type="run"} 3.0' in text


def test_there_is_one_for_the_process():
    assert get_metrics() is get_metrics()


def test_tasks_under_way_are_counted_until_they_are_complete(metrics):
    metrics.record_task("run")
    metrics.record_task("run")
    metrics.record_task("sync")
    assert "\ngrid_active_tasks 3.0\n" in metrics.export_prometheus()
    metrics.record_task_complete("run")
    another = Metrics()
    another.record_task("run")
    another.flush()
    assert "\ngrid_active_tasks 3.0\n" in metrics.export_prometheus()
    another.record_task_complete("run")
    another.flush()
    metrics.record_task_complete("run")
    metrics.record_task_complete("sync")
    metrics.record_task_complete("never begun")
    assert "\ngrid_active_tasks 0.0\n" in metrics.export_prometheus()


def test_a_killed_process_has_no_tasks_under_way(metrics):
    program = f"{THIRD}\nmetrics.record_task('run'); metrics.flush(); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        assert "\ngrid_active_tasks 1.0\n" in metrics.export_prometheus()
        process.kill()
        process.wait()
        assert "\ngrid_active_tasks 0.0\n" in metrics.export_prometheus()
    assert 'grid_tasks_submitted_total{task_type="run"} 2.0' in metrics.export_prometheus()


def test_a_node_that_cannot_be_reached_has_no_score_and_is_down(metrics):
    metrics.record_node_health("up", 0)
    metrics.record_node_health("down", None)
    text = metrics.export_prometheus()
    assert samples(text, "grid_node_health_score") == ['grid_node_health_score{node="up"} 0.0']
    assert samples(text, "grid_node_up") == [
        'grid_node_up{node="down"} 0.0', 'grid_node_up{node="up"} 1.0'
    ]  # fmt: skip


def test_figures_of_a_node_and_its_gpus_come_in_base_units(metrics):
    now = time.time()
    gpu = {
        "index": 1, "uuid": "GPU-7", "name": "H200", "vendor": "nvidia",
        "memory_total_mib": 1024, "memory_used_mib": 1,
        "utilization_percent": 50.0, "temperature_c": 71.0,
    }  # fmt: skip
    figures = {"latency_ms": 8.5, "cpu_percent": 12.5, "disk_available_bytes": 7, "gpus": [gpu]}
    metrics.record_node(NodeRecord("a", now, "degraded", 3.0, figures))
    text = metrics.export_prometheus()
    (seen,) = samples(text, "grid_node_last_probe_timestamp_seconds")
    assert float(seen.split()[1]) == now
    for line in (
        'grid_node_probe_latency_seconds{node="a"} 0.0085',
        'grid_node_cpu_busy_ratio{node="a"} 0.125',
        'grid_node_disk_available_bytes{node="a"} 7.0',
        'grid_node_healthy{node="a"} 0.0',
        'grid_gpu_info{gpu="1",name="H200",node="a",uuid="GPU-7",vendor="nvidia"} 1.0',
        'grid_gpu_memory_size_bytes{gpu="1",node="a"} 1.073741824e+09',
        'grid_gpu_memory_used_bytes{gpu="1",node="a"} 1.048576e+06',
        'grid_gpu_utilization_ratio{gpu="1",node="a"} 0.5',
        'grid_gpu_temperature_celsius{gpu="1",node="a"} 71.0',
    ):
        assert line in text.splitlines()
    assert samples(text, "grid_node_load1") == []


def test_openmetrics_says_the_same_and_has_an_end(metrics):
    plain = everything(metrics)
    text = metrics.export_prometheus(openmetrics=True)
    assert text.endswith("\n# EOF\n")
    assert text.count("# EOF") == 1
    numbers = [line for line in plain.splitlines() if not line.startswith("#")]
    assert [line for line in text.splitlines() if not line.startswith("#")] == numbers


def test_a_name_may_hold_anything(metrics):
    nasty = 'a"b\\c\nd\udcff{}é'
    metrics.record_task(nasty)
    metrics.record_node_health("näme", 1)
    text = metrics.export_prometheus()
    assert r'submitted_total{task_type="a\"b\\c\nd\\udcff{}é"} 1.0' in text
    assert 'up{node="näme"} 1.0' in text


def test_what_cannot_be_stored_is_one_warning_and_still_exported(metrics, monkeypatch, caplog):
    monkeypatch.setattr("gridops.observe.store.STORE_LOCK_TIMEOUT", 0.1)
    metrics.record_task("run")
    metrics.flush()
    other = sqlite3.connect(store_path(), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    metrics.record_task("run")
    metrics.record_node_health("a", 5)
    for _ in range(3):
        text = metrics.export_prometheus()
    assert 'grid_tasks_submitted_total{task_type="run"} 2.0' in text
    assert 'grid_node_health_score{node="a"} 5.0' in text
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "locked" in caplog.text
    other.execute("ROLLBACK")
    other.close()
    metrics.flush()  # nothing is lost
    assert 'grid_tasks_submitted_total{task_type="run"} 2.0' in Metrics().export_prometheus()


def test_a_store_that_cannot_be_there_is_no_error(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("GRIDOPS_STATE_DIR", os.devnull)
    metrics = Metrics()
    assert 'submitted_total{task_type="run"} 1.0' in everything(metrics)
    assert len(caplog.records) == 1
    monkeypatch.setenv("GRIDOPS_STATE_DIR", str(tmp_path))
    metrics.flush()  # kept until it can be stored: here, and not in another test


def test_what_is_recorded_meanwhile_is_stored_next_time(metrics, monkeypatch):
    """While one batch is being stored, others go on recording into the next."""
    write = Store.write

    def slow(self, batch):
        metrics.record_task("run")
        return write(self, batch)

    metrics.record_task("run")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", slow)
        metrics.flush()
    metrics.flush()
    assert 'grid_tasks_submitted_total{task_type="run"} 2.0' in Metrics().export_prometheus()


def test_importing_metrics_loads_neither_prometheus_nor_sqlite():
    program = "import sys, gridops.observe.metrics as m; m.get_metrics(); print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert not {"prometheus_client", "sqlite3", "structlog", "rich"}.intersection(loaded)
