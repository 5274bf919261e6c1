"""`health` and `best` on real nodes."""

from __future__ import annotations

import csv
import io
import os
import signal
import time

import pytest
from support.cli import Inventory, refusing, silent
from support.jobs import Place, begun, start, supervisor
from support.nodes import node_of, settings_of, wait_until

from gridops.jobs import client
from gridops.reach import link_to
from gridops.render import tables
from gridops.sandbox import Setup


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


def test_many_nodes_are_folded_by_state_unless_each_is_asked_for(
    tell, inventory, dead, monkeypatch
):
    monkeypatch.setattr("gridops.tasks._terminal.MAX_ROWS", 3)
    done = tell("health")
    assert done.status == 1
    assert [row.split()[:2] for row in done.out.splitlines()] == [
        ["STATE", "NODES"],
        ["healthy", "3"],
        ["unreachable", "1"],
    ]
    assert "node[1-3]" in done.out
    assert done.err == "gridops: 4 nodes, folded; --each shows a row for every node\n"
    assert len(tell("health", "--each").out.splitlines()) == 5
    assert len(tell("health", "--format=csv").out.splitlines()) == 5


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


# -- durable runs ------------------------------------------------------------------------------

SMI = """#!/bin/sh
case "$*" in
*--query-gpu=index,uuid,name\\ *) printf '%s, GPU-%s, H100\\n' 0 a 1 b ;;
*--query-gpu=*) printf '%s, GPU-%s, H100, 81559, 4, 0, 30\\n' 0 a 1 b ;;
esac
"""


@pytest.fixture
def node(make_sandbox, home, tell, monkeypatch):
    """One node of this test's own, with two slots and two GPUs, beside one that has neither."""
    tools = home / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text(SMI)
    (tools / "nvidia-smi").chmod(0o755)
    made = make_sandbox(2, setup={"node1": Setup(env_path=f"{tools}:{os.environ['PATH']}")})
    calm = {"max_load_per_core": 1000, "max_memory_percent": 100, "max_cpu_percent": 100}
    path = Inventory(made, home / "gpus.json")({"node1": {"slots": 2}}, health_check=calm)
    monkeypatch.setenv("GRIDOPS_INVENTORY", str(path))
    place = Place(link_to(node_of(made, "node1"), settings_of(made)), made.node("node1").home)
    yield place
    for job in client.list_jobs(place.link):
        if job.active:
            client.kill(place.link, job.id, grace=0)


def shown(tell, name="node1"):
    """Of a node, its jobs, and which run has each of its GPUs."""
    document = tell("health", "--format=json", "--nodes", name).document
    (found,) = document["nodes"]
    return found["jobs"], [gpu["lease"] for gpu in found["gpus"]]


def test_health_shows_slots_queues_and_leases(tell, node):
    assert shown(tell) == ({"running": 0, "slots": 2, "queued": 0}, [None, None])
    first = start(node, "sleep 300", slots=2, gpus=1)
    second = start(node, "sleep 300", slots=2)
    start(node, "sleep 300", slots=2, wait=100.0)
    assert shown(tell) == ({"running": 2, "slots": 2, "queued": 1}, [first, None])
    row = tell("health", "--nodes", "node1").out.splitlines()[-1]
    assert "  1/2 0%  2/2+1  " in row
    client.kill(node.link, second, grace=0)
    wait_until(lambda: shown(tell) == ({"running": 2, "slots": 2, "queued": 0}, [first, None]))


def test_health_does_not_count_a_run_whose_supervisor_was_killed(tell, node):
    job_id = start(node, "sleep 300", slots=2, gpus=2)
    begun(node, job_id)
    assert shown(tell) == ({"running": 1, "slots": 2, "queued": 0}, [job_id, job_id])
    os.kill(supervisor(node, job_id), signal.SIGKILL)
    wait_until(lambda: shown(tell) == ({"running": 0, "slots": 2, "queued": 0}, [None, None]))


def test_best_is_a_node_with_a_free_slot_and_says_what_is_taken(tell, node):
    for _ in range(2):
        start(node, "sleep 300", slots=2)
    assert tell("best").out == "node2\n"
    places = tell("best", "--explain").out.splitlines()
    assert places[1].split()[1] == "node2"
    assert "2 of 2 slots taken; score" in places[2]
    done = tell("best", "--nodes", "node1")
    assert (done.status, done.out) == (0, "node1\n")
    assert done.err == ("gridops: warning: a run would have to wait on node1: 2 of 2 slots taken\n")


def test_best_for_gpus_is_a_node_that_has_them_free(tell, node):
    ranking = tell("best", "--gpus", "2", "--format=json").document["ranking"]
    assert [(r["name"], r["fits"]) for r in ranking] == [("node1", "now"), ("node2", "never")]
    assert "2 of 2 GPUs free, 2 are needed" in ranking[0]["reason"]
    assert ranking[1]["reason"].startswith("has no GPU, 2 are needed")

    start(node, "sleep 300", slots=2, gpus=1)
    done = tell("best", "--gpus", "2")
    assert (done.status, done.out) == (0, "node1\n")
    assert "1 of 2 GPUs free, 2 are needed" in done.err

    done = tell("best", "--gpus", "3")
    assert done.status == 1
    assert done.complaint.startswith("no node that can be reached has 3 GPUs")
    assert tell("best", "--gpus", "x").status == 2


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
        "fits": "later",
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
