"""What a scrape gets: the same as the exposition of the whole store, at once."""

from __future__ import annotations

import re
import time

import pytest

from gridops.observe import exposition
from gridops.observe.metrics import Metrics
from gridops.observe.paths import store_path
from gridops.observe.rows import NodeRecord
from gridops.observe.scrape import Rounds, Scrape
from gridops.observe.store import Store

NOW = time.time()
GPU = {"index": 0, "uuid": "GPU-1", "name": 'a "b"', "temperature_c": 50.0}
RECORDS = [
    NodeRecord("b", NOW, "healthy", 5.0, {"cores": 4, "load1": 0.5, "gpus": [GPU]}),
    NodeRecord("a", NOW, "unreachable", None),
]
FIRST = Rounds(1, 0.5, NOW, True)


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics()
    for task in ("run", "sync"):
        made.record_task(task)
        made.record_task_complete(task, duration=2)
    made.record_sync("a", duration=1)
    made.record_sync("a\\b", "failure", duration=7)
    made.record_retry("ConnectRefused")
    made.flush()
    return made


def families(text: str) -> dict[str, str]:
    """The text of each family, by its name."""
    blocks = re.split(r"^(?=# HELP )", text.removesuffix("# EOF\n"), flags=re.MULTILINE)
    return {block.split()[2]: "\n".join(sorted(block.splitlines())) for block in blocks if block}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_it_is_what_the_whole_exposition_is(metrics, openmetrics):
    scrape = Scrape(Store())
    scrape.publish(RECORDS, FIRST)
    text = scrape.text(openmetrics=openmetrics)
    whole = families(
        exposition.generate(
            [
                *exposition.of_processes(Store().totals(), Store().stamps(), Store().active()),
                *exposition.of_nodes(RECORDS),
            ],
            openmetrics=openmetrics,
        )
    )
    found = families(text)
    assert {name: block for name, block in found.items() if name in whole} == whole
    own = {name for name in found if name not in whole}
    assert own
    assert all(name.startswith(("grid_exporter_", "process_")) for name in own)
    assert text.count("# EOF") == text.endswith("# EOF\n") == openmetrics


def test_what_other_processes_add_is_in_the_next_scrape(metrics):
    scrape = Scrape(Store())
    scrape.publish(RECORDS, FIRST)
    assert 'grid_tasks_submitted_total{task_type="run"} 1.0' in scrape.text(openmetrics=False)
    metrics.record_task("run")
    metrics.flush()
    text = scrape.text(openmetrics=False)
    assert 'grid_tasks_submitted_total{task_type="run"} 2.0' in text
    assert "\ngrid_active_tasks 1.0\n" in text
    assert 'grid_tasks_submitted_total{task_type="sync"} 1.0' in text
    metrics.record_task_complete("run")
    metrics.flush()
    assert "\ngrid_active_tasks 0.0\n" in scrape.text(openmetrics=True)


def test_nodes_are_those_of_the_last_round(metrics):
    scrape = Scrape(Store())
    assert "grid_node_up{" not in scrape.text(openmetrics=False)
    assert "grid_exporter_last_round_timestamp_seconds 0.0" in scrape.text(openmetrics=False)
    scrape.publish(RECORDS, FIRST)
    scrape.publish(RECORDS[1:], Rounds(2, 0.25, NOW, False))
    text = scrape.text(openmetrics=False)
    assert re.findall(r"^grid_node_up.*", text, re.MULTILINE) == ['grid_node_up{node="a"} 0.0']
    assert "grid_exporter_rounds_total 2.0\n" in text
    assert "grid_exporter_round_duration_seconds 0.25\n" in text
    assert "grid_exporter_inventory_ok 0.0\n" in text


def test_a_store_that_breaks_leaves_what_was_known_of_it(metrics):
    scrape = Scrape(Store())
    scrape.publish(RECORDS, FIRST)
    assert "grid_exporter_store_ok 1.0\n" in scrape.text(openmetrics=False)
    store_path().write_bytes(b"no database " * 1000)
    for suffix in ("-wal", "-shm"):
        store_path().with_name(f"gridops.db{suffix}").unlink(missing_ok=True)
    scrape.publish(RECORDS, FIRST)
    text = scrape.text(openmetrics=False)
    assert "grid_exporter_store_ok 0.0\n" in text
    assert 'grid_tasks_submitted_total{task_type="run"} 1.0' in text
    assert 'grid_node_up{node="b"} 1.0' in text


def test_without_a_store_there_are_the_families_and_nothing_is_made():
    text = Scrape(Store()).text(openmetrics=False)
    assert "# TYPE grid_tasks_submitted_total counter\n" in text
    assert "grid_node_selection_seconds_count 0.0\n" in text
    assert "grid_active_tasks 0.0\n" in text
    assert not store_path().exists()
