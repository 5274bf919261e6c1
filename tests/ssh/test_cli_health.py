"""`health` and `best` on real nodes."""

from __future__ import annotations

import csv
import io
import time

import pytest
from cli import refusing, silent

from gridops.render import tables


@pytest.fixture
def dead(inventory):
    """One more node, which refuses."""
    with refusing() as port:
        inventory({"dead": {"host": "127.0.0.1", "port": port}})
        yield "dead"


def test_all_nodes_are_shown_in_the_inventorys_order(tell, inventory):
    done = tell("health")
    assert (done.status, done.err) == (0, "")
    header, *rows = done.out.splitlines()
    assert header.split() == list(tables.HEALTH_HEADER)
    assert [row.split()[:2] for row in rows] == [[f"node{n}", "healthy"] for n in (1, 2, 3)]


def test_selected_nodes_alone_are_asked(tell, inventory):
    inventory({"node1": {"tags": ["a"]}, "node3": {"tags": ["b"]}})
    out = tell("health", "--nodes", "node[2-3]", "--format=csv").out
    assert [line.split(",")[0] for line in out.splitlines()] == ["name", "node2", "node3"]
    out = tell("health", "--tags", "a,b", "--format=csv").out
    assert [line.split(",")[0] for line in out.splitlines()] == ["name", "node1", "node3"]


def test_json_is_one_document_and_nothing_else(tell, inventory):
    done = tell("health", "--format=json")
    assert (done.status, done.err) == (0, "")
    assert done.document["schema"] == 1
    assert done.document["inventory"] == str(inventory.path)
    assert 0 < done.document["elapsed_s"] < 30
    nodes = done.document["nodes"]
    assert [node["name"] for node in nodes] == ["node1", "node2", "node3"]
    for node in nodes:
        assert node["state"] == "healthy"
        assert 0 <= node["score"] <= 100
        assert node["disk"]["path"] == f"~/{inventory.root}"
        assert node["cpu"]["cores"] > 0


def test_a_dead_node_has_a_row_that_says_why_and_the_status_is_1(tell, inventory, dead):
    done = tell("health")
    assert (done.status, done.err) == (1, "")
    row = done.out.splitlines()[-1]
    assert row.split()[:3] == ["dead", "unreachable", "-"]
    assert "Connection refused" in row
    assert done.out.count("healthy") == 3
    states = {n["name"]: n["state"] for n in tell("health", "--format=json").document["nodes"]}
    assert states == {
        "node1": "healthy",
        "node2": "healthy",
        "node3": "healthy",
        dead: "unreachable",
    }


def test_every_csv_row_is_as_wide_as_the_header(tell, inventory, dead):
    done = tell("health", "--format", "csv")
    rows = list(csv.reader(io.StringIO(done.out)))
    assert done.status == 1
    assert {len(row) for row in rows} == {len(tables.HEALTH_CSV)}
    assert [row[0] for row in rows] == ["name", "node1", "node2", "node3", "dead"]


def test_lenient_asks_for_one_healthy_node(tell, inventory, dead):
    assert tell("health", "--lenient").status == 0
    assert tell("health", "--lenient", "--nodes", "dead").status == 1


def test_a_silent_node_takes_no_more_than_its_time(tell, inventory):
    with silent() as port:
        inventory(
            {"mute": {"host": "127.0.0.1", "port": port}},
            ssh={"connect_timeout": 1},
            health_check={"timeout": 2, "max_load_per_core": 1000},
        )
        began = time.monotonic()
        done = tell("health", "--format=json")
        took = time.monotonic() - began
    assert took < 8
    states = [(n["name"], n["state"]) for n in done.document["nodes"]]
    assert states[:3] == [("node1", "healthy"), ("node2", "healthy"), ("node3", "healthy")]
    assert states[3] == ("mute", "unreachable")
    assert done.document["nodes"][3]["error"]


def test_a_degraded_node_says_what_is_wrong(tell, inventory):
    inventory(health_check={"max_memory_percent": 0.001})
    done = tell("health", "--nodes", "node1")
    assert done.status == 1
    assert "degraded" in done.out
    assert "memory" in done.out
    assert "limit 0.001 %" in done.out


# -- best --------------------------------------------------------------------------------------


def test_best_prints_a_name_alone(tell, inventory):
    done = tell("best")
    assert (done.status, done.err) == (0, "")
    assert done.out in {"node1\n", "node2\n", "node3\n"}


def test_best_explains_every_place(tell, inventory, dead):
    done = tell("best", "--explain")
    assert (done.status, done.err) == (0, "")
    header, *rows = done.out.splitlines()
    assert header.split() == list(tables.RANKING_HEADER)
    assert [row.split()[0] for row in rows] == ["1", "2", "3", "4"]
    assert rows[3].split()[1:3] == ["dead", "unreachable"]
    assert all(len(row.split()) > 4 for row in rows)


def test_best_in_json(tell, inventory, dead):
    found = tell("best", "--format=json").document
    assert found["best"] == found["ranking"][0]["name"]
    assert [r["place"] for r in found["ranking"]] == [1, 2, 3, 4]
    assert found["ranking"][3] == {
        "place": 4,
        "name": "dead",
        "state": "unreachable",
        "score": None,
        "reason": found["ranking"][3]["reason"],
    }


def test_no_node_that_can_be_reached_is_status_1(tell, inventory, dead):
    done = tell("best", "--nodes", "dead")
    assert done.status == 1
    assert done.complaint.startswith("no selected node can be reached")
    done = tell("best", "--nodes", "dead", "--format=json")
    assert (done.status, done.document["best"]) == (1, None)


def test_a_degraded_node_serves_with_a_warning(tell, inventory):
    inventory({"node1": None, "node3": None}, health_check={"max_memory_percent": 0.001})
    done = tell("best")
    assert (done.status, done.out) == (0, "node2\n")
    assert done.err.startswith("gridops: warning: no node is healthy; node2 is the least loaded")
