"""`exec`, `sync`, `inventory.*` and `sandbox.*` on real nodes."""

from __future__ import annotations

import json
import re
import time

import jsonschema
import pytest
from support.cli import refusing

RULE = "-" * 15


@pytest.fixture
def dead(inventory):
    with refusing() as port:
        inventory({"dead": {"host": "127.0.0.1", "port": port}})
        yield "dead"


# -- exec --------------------------------------------------------------------------------------


def test_identical_output_is_shown_once(tell, inventory):
    done = tell("exec", "--cmd", "echo same; echo too >&2")
    assert (done.status, done.out) == (0, f"{RULE}\nnode[1-3] (3)\n{RULE}\nsame\n")
    assert done.err == f"{RULE}\nnode[1-3] (3)\n{RULE}\ntoo\n"


def test_what_differs_is_shown_apart(tell, inventory):
    command = "case $GRIDOPS_NODE in node2) printf other; exit 3;; esac; echo same"
    done = tell("exec", "--cmd", command)
    assert done.status == 3
    assert done.out == (
        f"{RULE}\nnode[1,3] (2)\n{RULE}\nsame\n{RULE}\nnode2 (1) exit status 3\n{RULE}\nother\n"
    )


def test_the_status_is_the_largest(tell, inventory):
    done = tell("exec", "--cmd", "exit ${GRIDOPS_NODE#node}")
    assert (done.status, done.out) == (3, "")
    assert done.err.splitlines() == [f"gridops: node{n}: exit status {n}" for n in (1, 2, 3)]


def test_one_nodes_output_is_bare(tell, inventory):
    done = tell("exec", "--nodes", "node1", "--cmd", "printf 'a\\0\\377'; printf e >&2; exit 4")
    assert (done.status, done.stdout, done.stderr) == (4, b"a\0\xff", b"e")


def test_a_dead_node_is_125_and_the_others_are_unaffected(tell, inventory, dead):
    done = tell("exec", "--cmd", "echo same")
    assert done.status == 125
    assert done.out == f"{RULE}\nnode[1-3] (3)\n{RULE}\nsame\n"
    assert done.err.startswith("gridops: dead: ")
    assert "Connection refused" in done.err
    assert done.err.count("\n") == 1


def test_exec_in_json_has_every_node(tell, inventory, dead):
    done = tell("exec", "--format=json", "--cmd", "echo $GRIDOPS_NODE; echo e >&2; exit 2")
    assert (done.status, done.err) == (125, "")
    assert done.document["command"] == "echo $GRIDOPS_NODE; echo e >&2; exit 2"
    nodes = done.document["nodes"]
    assert [(n["name"], n["status"], n["stdout"], n["stderr"]) for n in nodes] == [
        ("node1", 2, "node1\n", "e\n"),
        ("node2", 2, "node2\n", "e\n"),
        ("node3", 2, "node3\n", "e\n"),
        ("dead", 125, None, None),
    ]
    assert "Connection refused" in nodes[3]["error"]


def test_a_command_that_hangs_on_one_node_is_ended_there(tell, inventory):
    command = "case $GRIDOPS_NODE in node2) sleep 60;; esac; echo fine"
    began = time.monotonic()
    done = tell("exec", "--timeout", "1", "--cmd", command)
    assert time.monotonic() - began < 15
    assert done.status == 124
    assert done.out == f"{RULE}\nnode[1,3] (2)\n{RULE}\nfine\n"
    assert done.err == "gridops: node2: the command was ended after 1 s (--timeout)\n"


def test_a_time_limit_counts_for_each_node_by_itself(tell, inventory):
    """One at a time: the second and third begin when the first's time is over."""
    inventory(ssh={"pool_size": 1})
    command = "case $GRIDOPS_NODE in node1) sleep 60;; esac; echo fine"
    done = tell("exec", "--timeout", "1", "--cmd", command)
    assert done.out == f"{RULE}\nnode[2-3] (2)\n{RULE}\nfine\n"


def test_exec_runs_in_the_home_directory_with_the_environment(tell, inventory):
    done = tell("exec", "--nodes=node1", "--env", "A=x y", "--", "sh", "-c", 'pwd; echo "$A"')
    assert done.out == f"{inventory.sandbox.node('node1').home}\nx y\n"


def test_more_than_can_be_kept_is_counted_on_stderr(tell, inventory, monkeypatch):
    monkeypatch.setattr("gridops.dispatch.exec.LIMIT", 1000)
    done = tell("exec", "--nodes=node1", "--cmd", "head -c 2500 /dev/zero")
    assert done.stdout == bytes(1000)
    assert done.err == "gridops: 1500 more bytes of stdout were not kept\n"


def test_all_nodes_together_have_bounded_room_for_their_output(tell, inventory, monkeypatch):
    monkeypatch.setattr("gridops.dispatch.exec.ROOM", 3000)
    done = tell("exec", "--cmd", "head -c 2500 /dev/zero")
    assert done.stdout.count(b"\0") == 3000
    dropped = re.findall(r"gridops: (\d+) more bytes of stdout were not kept", done.err)
    assert sum(map(int, dropped)) == 3 * 2500 - 3000


# -- sync --------------------------------------------------------------------------------------


def test_a_sync_reports_every_node(tell, inventory, project):
    (project / "two.txt").write_text("2")
    done = tell("sync")
    assert (done.status, done.err) == (0, "")
    header, *rows = done.out.splitlines()
    assert header.split() == ["NODE", "FILES", "BYTES", "DELETED", "SECONDS", "TARGET"]
    assert [row.split()[:4] for row in rows] == [[f"node{n}", "2", "of", "2"] for n in (1, 2, 3)]
    (project / "two.txt").unlink()
    (project / "hello.txt").write_text("changed")
    nodes = tell("sync", "--format=json", "--nodes=node1,node3").document["nodes"]
    assert [(n["name"], n["ok"], n["added"], n["changed"], n["deleted"]) for n in nodes] == [
        ("node1", True, [], ["hello.txt"], ["two.txt"]),
        ("node3", True, [], ["hello.txt"], ["two.txt"]),
    ]
    there = inventory.tree("node1") / "project"
    assert {path.name for path in there.iterdir()} == {"hello.txt", ".gridops"}


def test_reports_of_many_nodes_are_folded(tell, inventory, project, monkeypatch):
    monkeypatch.setattr("gridops.tasks._terminal.MAX_ROWS", 2)
    done = tell("sync")
    (row,) = done.out.splitlines()[1:]
    assert row.split()[:4] == ["3", "1", "of", "1"]
    assert row.endswith("node[1-3]")
    assert done.err == "gridops: 3 nodes, folded; --each shows a row for every node\n"


def test_a_dry_sync_lists_and_changes_nothing(tell, inventory, project):
    tell("sync", "--nodes=node1")
    (project / "new\x1b[2J").write_text("")
    (project / "hello.txt").write_text("changed")
    done = tell("sync", "--dry-run", "--nodes=node1")
    assert done.status == 0
    assert "\x1b" not in done.out
    assert [line.split()[1] for line in done.out.splitlines()] == ["+", "~"]
    assert done.out.endswith("node1: ~ hello.txt\n")
    assert "would add 1, change 1, delete 0 of 2 files" in done.err
    assert (inventory.tree("node1") / "project/hello.txt").read_text() == "hello\n"


def test_one_node_that_fails_does_not_keep_the_others(tell, inventory, project, dead):
    done = tell("sync")
    assert done.status == 125
    assert [row.split()[0] for row in done.out.splitlines()] == ["NODE", "node1", "node2", "node3"]
    assert done.err.startswith("gridops: dead: ")
    assert done.err.count("\n") == 1
    found = tell("sync", "--format=json")
    assert found.status == 125
    assert [n["ok"] for n in found.document["nodes"]] == [True, True, True, False]


# -- the inventory -----------------------------------------------------------------------------


def test_the_inventory_is_checked_listed_and_described(tell, inventory, tmp_path):
    inventory({"node2": {"tags": ["big"], "slots": 4}})
    done = tell("inventory.check")
    assert (done.status, done.out) == (0, f"{inventory.path}: 3 nodes, tags: big\n")
    done = tell("inventory.list", "--tags=big")
    assert done.out.splitlines()[1].split() == ["node2", "node2", "-", "-", "ssh", "4", "big"]
    found = tell("inventory.list", "--format=json").document
    assert [n["name"] for n in found["nodes"]] == ["node1", "node2", "node3"]
    assert tell("inventory.list", "--format=csv").out.splitlines()[0].startswith("node,host,user")
    schema = tell("inventory.schema").document
    jsonschema.validate(json.loads(inventory.path.read_text()), schema)


def test_every_problem_of_an_inventory_is_a_line(tell, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("nodes:\n  a: {slot: 1}\n  b: {port: 99999}\n")
    done = tell("inventory.check", "--inventory", str(path))
    assert done.status == 2
    first, second = done.out.splitlines()
    assert first.startswith(f"{path}:2:nodes.a.slot: unknown key")
    assert second.startswith(f"{path}:3:nodes.b.port: ")


# -- the sandbox -------------------------------------------------------------------------------


def test_a_sandbox_goes_up_and_down(tell, session_dir, monkeypatch):
    where = session_dir / "clisb"
    try:
        done = tell("sandbox.up", "--nodes", "2", "--dir", str(where))
        assert (done.status, done.out) == (0, f"{where / 'inventory.yaml'}\n")
        assert "node2: sshd on 127.0.0.1:" in done.err
        told = tell("health", "--inventory", done.out.strip(), "--format=json").document
        assert all(node["state"] in ("healthy", "degraded") for node in told["nodes"])
        done = tell("sandbox.status", "--dir", str(where))
        assert done.status == 0
        assert [row.split()[0::2][:2] for row in done.out.splitlines()[1:]] == [
            ["node1", "running"], ["node2", "running"],
        ]  # fmt: skip
        found = tell("sandbox.status", "--format=json", "--dir", str(where)).document
        assert [n["running"] for n in found["nodes"]] == [True, True]
    finally:
        done = tell("sandbox.down", "--dir", str(where))
    assert (done.status, done.err) == (0, f"gridops: {where}: everything is gone\n")
    assert not where.exists()
    assert tell("sandbox.status", "--dir", str(where)).status == 125
    assert "there was no sandbox" in tell("sandbox.down", "--dir", str(where)).err


def test_a_sandbox_of_too_many_nodes_is_refused(tell, tmp_path):
    done = tell("sandbox.up", "--nodes", "0", "--dir", str(tmp_path / "sb"))
    assert (done.status, "1 to 200" in done.complaint) == (2, True)
