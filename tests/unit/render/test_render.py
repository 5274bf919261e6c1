"""Values to text: JSON documents, CSV, aligned lines, tables of a terminal, words."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gridops.errors import ConnectRefused, GridError, NodeTimeout, RunTimeout, SyncError
from gridops.model import (
    Cpu,
    Gpu,
    Jobs,
    Node,
    NodeHealth,
    Outcome,
    Reply,
    Space,
    SyncReport,
)
from gridops.probe.score import rank
from gridops.render import documents, tables
from gridops.render.folding import failures, fold_replies
from gridops.render.units import duration, percent, round_or_none
from gridops.sandbox import SandboxNode
from gridops.system.text import plain, size

GPU = Gpu(0, "GPU-1", "NVIDIA H200", 143771, 14377, 12.0, 30.0, 2, 1)
MUTE = Gpu(1, "GPU-2", "NVIDIA H200", None, None, None, None, lease="run-7")  # [N/A] all over
BUSY = NodeHealth(
    Node("gpu01", "10.0.0.7", user="ml", port=2222, tags=("gpu", "eu"), slots=2),
    "degraded",
    score=12.345678,
    reasons=("memory 97 % used (limit 95 %)", "GPU 0 at 99 °C"),
    latency_ms=8.123,
    cpu=Cpu(64, 3.14, 2.8, 2.0, 4.8123),
    memory=Space(540_000, 20_000, 96.2963),
    disk=Space(1000, 250, 75.0, "~/gridops"),
    gpus=(GPU, MUTE),
    gpu_error="nvidia-smi did not answer in time",
    jobs=Jobs(1, 2, 3),
    uptime_s=86400.12,
    users=("ada", "bob"),
)
DEAD = NodeHealth(Node("cpu1", "cpu1"), "unreachable", error="Connection refused (is it up?)")
IDLE = replace(
    BUSY, node=Node("cpu2", "cpu2"), state="healthy", reasons=(), gpus=(), gpu_error=None
)


def parsed(document: dict[str, object]) -> dict[str, object]:
    return json.loads(documents.to_json(document))


# -- JSON --------------------------------------------------------------------------------------


def test_a_health_document_has_every_key_of_the_contract():
    document = parsed(documents.health_document("inv.yaml", 0.41234, [BUSY]))
    assert document == {
        "schema": 1,
        "inventory": "inv.yaml",
        "elapsed_s": 0.412,
        "nodes": [
            {
                "name": "gpu01",
                "host": "10.0.0.7",
                "state": "degraded",
                "score": 12.3,
                "reasons": ["memory 97 % used (limit 95 %)", "GPU 0 at 99 °C"],
                "latency_ms": 8.1,
                "error": None,
                "cpu": {"cores": 64, "load1": 3.14, "load5": 2.8, "load15": 2.0, "percent": 4.8},
                "memory": {"total_bytes": 540_000, "available_bytes": 20_000, "percent": 96.3},
                "disk": {
                    "path": "~/gridops",
                    "total_bytes": 1000,
                    "available_bytes": 250,
                    "percent": 75.0,
                },
                "gpus": [
                    {
                        "index": 0,
                        "uuid": "GPU-1",
                        "name": "NVIDIA H200",
                        "memory_total_mib": 143771,
                        "memory_used_mib": 14377,
                        "utilization_percent": 12.0,
                        "temperature_c": 30.0,
                        "processes": 2,
                        "other_processes": 1,
                        "vendor": "nvidia",
                        "lease": None,
                    },
                    {
                        "index": 1,
                        "uuid": "GPU-2",
                        "name": "NVIDIA H200",
                        "memory_total_mib": None,
                        "memory_used_mib": None,
                        "utilization_percent": None,
                        "temperature_c": None,
                        "processes": 0,
                        "other_processes": 0,
                        "vendor": "nvidia",
                        "lease": "run-7",
                    },
                ],
                "gpu_error": "nvidia-smi did not answer in time",
                "jobs": {"running": 1, "slots": 2, "queued": 3},
                "uptime_s": 86400.1,
                "users": ["ada", "bob"],
                "ray": None,
            }
        ],
    }


def test_an_unreachable_node_has_the_same_keys_with_nulls():
    busy, dead = parsed(documents.health_document("x", 1, [BUSY, DEAD]))["nodes"]
    assert list(dead) == list(busy)
    assert dead == {
        **dict.fromkeys(busy),
        "name": "cpu1",
        "host": "cpu1",
        "state": "unreachable",
        "error": "Connection refused (is it up?)",
        "reasons": [],
        "gpus": [],
        "users": [],
        "ray": None,
    }


def test_the_sample_in_the_documentation_has_the_same_keys():
    text = (Path(__file__).parents[3] / "docs/json.md").read_text()
    sample = json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
    assert keys(sample) == keys(
        parsed(documents.health_document("x", 1, [replace(BUSY, reasons=())]))
    )


def keys(value: object) -> object:
    """The document's shape: keys all the way down, of a list those of its first item."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    return [keys(inner) for inner in value[:1]] if isinstance(value, list) else None


def test_json_keeps_names_readable():
    assert "°C" in documents.to_json(documents.health_document("ü.yaml", 1, [BUSY]))


def test_a_ranking_names_the_best_unless_none_serves():
    ranking = parsed(documents.ranking_document(rank([DEAD, BUSY, IDLE])))
    assert ranking["best"] == "cpu2"
    assert [(r["place"], r["name"], r["state"], r["score"]) for r in ranking["ranking"]] == [
        (1, "cpu2", "healthy", 12.3),
        (2, "gpu01", "degraded", 12.3),
        (3, "cpu1", "unreachable", None),
    ]
    assert all(r["reason"] for r in ranking["ranking"])
    assert parsed(documents.ranking_document(rank([DEAD])))["best"] is None


def outcome(name: str, value: object = None, error: GridError | None = None) -> Outcome[object]:
    return Outcome(Node(name, name), value, error, 1.23456)


def test_an_exec_document_tells_replies_from_errors():
    found = parsed(
        documents.exec_document(
            "hostname",
            [
                outcome("a", Reply(3, b"out\xff\n", b"err")),
                outcome("b", error=ConnectRefused("refused", node="b", hint="up?")),
                outcome("c", error=RunTimeout("too long", node="c")),
            ],
        )
    )
    assert found == {
        "schema": 1,
        "command": "hostname",
        "nodes": [
            {
                "name": "a",
                "status": 3,
                "error": None,
                "stdout": "out�\n",
                "stderr": "err",
                "seconds": 1.235,
            },
            {
                "name": "b",
                "status": 125,
                "error": "b: refused (up?)",
                "stdout": None,
                "stderr": None,
                "seconds": 1.235,
            },
            {
                "name": "c",
                "status": 124,
                "error": "c: too long",
                "stdout": None,
                "stderr": None,
                "seconds": 1.235,
            },
        ],
    }


def test_a_sync_document_has_reports_and_errors():
    report = SyncReport(
        Node("a", "a"), "/src", "/there", 2, 300, 0.12345, 10, ("new",), ("old",), ("gone",), True
    )
    good, bad = parsed(
        documents.sync_document([outcome("a", report), outcome("b", error=SyncError("no"))])
    )["nodes"]
    assert good == {
        "name": "a",
        "ok": True,
        "error": None,
        "source": "/src",
        "target": "/there",
        "dry_run": True,
        "files": 2,
        "bytes": 300,
        "seconds": 0.123,
        "total_files": 10,
        "added": ["new"],
        "changed": ["old"],
        "deleted": ["gone"],
    }
    assert bad == {"name": "b", "ok": False, "error": "no"}


def test_nodes_and_the_sandbox_are_described_whole():
    (node,) = parsed(documents.nodes_document("x", [BUSY.node]))["nodes"]
    assert node == {
        "name": "gpu01",
        "host": "10.0.0.7",
        "user": "ml",
        "port": 2222,
        "connection": "ssh",
        "tags": ["gpu", "eu"],
        "slots": 2,
        "remote_root": "~/gridops",
    }
    one = SandboxNode("node1", "127.0.0.1", 22000, Path("/h"), None)
    (node,) = parsed(documents.sandbox_document("x", [one]))["nodes"]
    assert node == {
        "name": "node1",
        "host": "127.0.0.1",
        "port": 22000,
        "home": "/h",
        "pid": None,
        "running": False,
    }


# -- CSV ---------------------------------------------------------------------------------------


def test_every_row_of_the_csv_has_a_value_for_every_column():
    odd = replace(BUSY, reasons=('a "quote", a comma', "a\nline"))
    text = tables.to_csv(tables.HEALTH_CSV, map(tables.health_csv_row, [BUSY, DEAD, IDLE, odd]))
    header, *rows = csv.reader(io.StringIO(text))
    assert header == list(tables.HEALTH_CSV)
    assert {len(row) for row in rows} == {len(header)}
    busy, dead, idle, other = (dict(zip(header, row, strict=True)) for row in rows)
    assert busy == {
        "name": "gpu01",
        "host": "10.0.0.7",
        "state": "degraded",
        "score": "12.3",
        "latency_ms": "8.1",
        "cores": "64",
        "load1": "3.14",
        "load5": "2.8",
        "load15": "2.0",
        "cpu_percent": "4.8",
        "memory_total_bytes": "540000",
        "memory_available_bytes": "20000",
        "memory_percent": "96.3",
        "disk_path": "~/gridops",
        "disk_total_bytes": "1000",
        "disk_available_bytes": "250",
        "disk_percent": "75.0",
        "gpus": "2",
        "gpus_free": "0",
        "gpu_memory_percent": "10.0",
        "jobs_running": "1",
        "slots": "2",
        "jobs_queued": "3",
        "reasons": "memory 97 % used (limit 95 %); GPU 0 at 99 °C",
        "error": "",
        "ray": "",
    }
    told = {name: value for name, value in dead.items() if value}
    assert told == {
        "name": "cpu1",
        "host": "cpu1",
        "state": "unreachable",
        "gpus": "0",
        "gpus_free": "0",
        "error": "Connection refused (is it up?)",
    }
    assert (idle["gpus"], idle["gpu_memory_percent"]) == ("0", "")
    assert other["reasons"] == 'a "quote", a comma; a\nline'


def test_csv_ends_without_a_newline_of_its_own():
    assert tables.to_csv(("A", "B"), [("1", "2")]) == "a,b\n1,2"


# -- tables ------------------------------------------------------------------------------------


def test_the_table_has_a_column_for_ray_only_where_a_node_belongs_to_a_cluster():
    header, rows = tables.health_columns([BUSY, DEAD, IDLE])
    assert "RAY" not in header
    header, rows = tables.health_columns([replace(BUSY, ray="head"), DEAD, IDLE])
    assert [row[header.index("RAY")] for row in rows] == ["head", "-", "none"]
    assert {len(row) for row in rows} == {len(header)}


def test_the_columns_of_a_plain_table_are_aligned():
    text = tables.align(tables.HEALTH_HEADER, map(tables.health_row, [BUSY, DEAD, IDLE]))
    header, busy, dead, idle = text.split("\n")
    for name in tables.HEALTH_HEADER[1:]:
        at = header.index(name)
        for line in (busy, dead, idle):
            assert line[at - 2 : at] in ("  ", ""), (name, line)
            assert line[at : at + 1] != " ", (name, line)
    assert " ".join(busy.split()) == (
        "gpu01 degraded 12.3 5% of 64 3.14 96% 75% 2/2 10% 1/2+3 8 ms "
        "memory 97 % used (limit 95 %); GPU 0 at 99 °C"
    )
    assert dead.split(maxsplit=10) == [
        *("cpu1", "unreachable", "-", "-", "-", "-", "-", "-", "-", "-"),
        "Connection refused (is it up?)",
    ]
    assert idle == idle.rstrip()


def test_a_table_of_nothing_is_its_header():
    assert tables.align(("A", "B"), []) == "A  B"


def test_what_a_node_says_cannot_steer_the_terminal():
    evil = "\x1b[31mred\x1b]0;title\x07\r\nnext\x9b2J\u202e"
    health = replace(DEAD, error=evil)
    (line,) = tables.align(("A",), [(tables.health_row(health)[-1],)]).split("\n")[1:]
    assert line == "?[31mred?]0;title???next?2J?"
    sick = replace(BUSY, reasons=(evil,))
    assert tables.health_row(sick)[-1] == line
    assert tables.ranking_row(rank([sick])[0])[-1].isprintable()
    report = SyncReport(Node("a", "a"), "/s", f"/t{evil}")
    assert tables.sync_row(report)[-1].isprintable()
    assert failures([outcome("a", error=GridError(evil))]) == [f"a: {line}"]


def test_gpus_in_words():
    free = replace(GPU, processes=0)
    assert tables.gpu_words(replace(BUSY, gpus=(GPU,) * 8)) == "8/8 10%"
    assert tables.gpu_words(replace(BUSY, gpus=(free, GPU, replace(free, lease="x")))) == "2/3 10%"
    assert tables.gpu_words(replace(BUSY, gpus=(MUTE,))) == "1/1 -"
    assert tables.gpu_words(IDLE) == "-"
    assert tables.gpu_words(replace(BUSY, gpus=())) == "?"


def test_slots_in_words():
    assert tables.slot_words(Jobs(0, 1)) == "0/1"
    assert tables.slot_words(Jobs(2, 2, queued=3)) == "2/2+3"
    assert tables.slot_words(None) == "-"


def test_a_node_and_a_report_in_a_row():
    assert tables.node_row(BUSY.node) == (
        "gpu01", "10.0.0.7", "ml", "2222", "ssh", "2", "gpu,eu",
    )  # fmt: skip
    assert tables.node_row(Node("a", "a")) == ("a", "a", "-", "-", "ssh", "1", "-")
    report = SyncReport(Node("a", "a"), "/s", "/t", 2, 1234, 0.5, 10, deleted=("x", "y"))
    assert tables.sync_row(report) == ("a", "2 of 10", "1.2 kB", "2", "0.50", "/t")
    assert len(tables.sync_row(report)) == len(tables.SYNC_HEADER)
    assert len(tables.node_row(BUSY.node)) == len(tables.NODES_HEADER)


def on_terminal(renderable: object, width: int = 200, colour: bool = False) -> str:
    from rich.console import Console

    out = io.StringIO()
    system = "truecolor" if colour else None
    console = Console(file=out, width=width, force_terminal=True, color_system=system, markup=False)
    console.print(renderable)
    return out.getvalue()


def test_the_table_of_a_terminal_has_bars_and_colours():
    text = on_terminal(tables.health_table([BUSY, DEAD]), colour=True)
    assert re.search(r"\x1b\[33mdegraded", text)
    assert re.search(r"\x1b\[31munreachable", text)
    assert re.search(r"\x1b\[31m█+", text)  # memory, 96 %
    assert "Connection refused" in text


def test_no_cell_of_a_terminals_table_is_read_as_markup():
    health = replace(DEAD, error="[red]not red[/red] :smile:")
    assert "[red]not red[/red] :smile:" in on_terminal(tables.health_table([health]))
    assert "[bold]x" in on_terminal(tables.table(("A",), [("[bold]x",)]))


def test_in_a_narrow_terminal_notes_wrap_and_names_stay_whole():
    text = on_terminal(tables.health_table([BUSY, DEAD], 110), width=110)
    assert max(map(len, text.split("\n"))) <= 110
    assert "gpu01" in text
    assert "unreachable" in text


@pytest.mark.parametrize(
    ("width", "gone"),
    [(110, []), (80, []), (76, ["LATENCY"]), (64, ["LATENCY", "LOAD"])],
)
def test_where_room_is_short_whole_columns_go_and_no_line_breaks(width, gone):
    text = on_terminal(tables.health_table([BUSY, DEAD, IDLE], width), width=width)
    header, busy, *_ = text.split("\n")
    columns = [name for name in tables.HEALTH_HEADER if name not in (*gone, "NOTES")]
    assert header.split() == columns
    assert "1/2+3" in busy
    assert max(map(len, text.split("\n"))) <= width
    assert len(text.strip().split("\n")) <= 6


@pytest.mark.parametrize(
    ("value", "cells"),
    [(0, ""), (100, "██████"), (50, "███"), (2.1, "▏"), (-5, ""), (250, "██████"), (16, "█")],
)
def test_a_bar_is_drawn_in_eighths(value, cells):
    assert tables.bar(value) == cells.ljust(6)


def test_no_figure_no_bar():
    assert tables.bar(None) == ""


# -- folding -----------------------------------------------------------------------------------


def test_nodes_that_said_the_same_are_folded():
    groups = fold_replies(
        [
            outcome("n1", Reply(0, b"x", b"")),
            outcome("n2", Reply(0, b"y", b"")),
            outcome("n3", Reply(0, b"x", b"")),
            outcome("n4", Reply(1, b"x", b"")),
            outcome("n5", Reply(0, b"x", b"!")),
            outcome("n6", Reply(0, b"x", b"")),
        ]
    )
    assert [(names, count) for names, count, _ in groups] == [
        ("n[1,3,6]", 3), ("n2", 1), ("n4", 1), ("n5", 1),
    ]  # fmt: skip
    assert groups[0][2].value == Reply(0, b"x", b"")


def test_errors_are_folded_apart_from_replies():
    groups = fold_replies(
        [outcome("a1", Reply(0)), outcome("a2", error=NodeTimeout("slow", node="a2"))]
    )
    assert [names for names, _, _ in groups] == ["a1", "a2"]


def test_an_error_that_nodes_share_is_one_line():
    lines = failures(
        [
            outcome("n1", error=ConnectRefused("refused", node="n1", hint="up?")),
            outcome("n2", Reply(0)),
            outcome("n3", error=ConnectRefused("refused", node="n3", hint="up?")),
            outcome("n4", error=ConnectRefused("refused", node="n4")),
        ]
    )
    assert lines == ["n[1,3]: refused (up?)", "n4: refused"]


# -- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1234, "1.2 kB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (1_500_000_000, "1.5 GB"),
        (999_960_000_000, "1.0 TB"),
        (2e12, "2.0 TB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_sizes_in_words(count, words):
    assert size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"),
        (0, "0.0s"),
        (0.44, "0.4s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (190, "3m10s"),
        (3599.6, "1h00m"),
        (7500, "2h05m"),
        (86399.6, "1d00h"),
        (442_800, "5d03h"),
    ],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


def test_figures_in_words():
    assert [percent(None), percent(0.4), percent(99.6)] == ["-", "0%", "100%"]
    assert [round_or_none(None), round_or_none(1.25), round_or_none(7)] == [None, 1.2, 7]
    assert plain("a\tb\x00ü漢 \u2028") == "a?b?ü漢 ?"


@pytest.mark.parametrize("width", [80, 100, 140, 200])
def test_the_health_table_keeps_names_and_notes_at_any_width(width):
    from io import StringIO

    from rich.console import Console

    note = "Connection refused (is it up, and sshd running on that port?)"
    dead = NodeHealth(Node("node3", "node3"), "unreachable", error=note)
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=False)
    console.print(tables.health_table([dead], width))
    assert "node3" in out.getvalue()
    assert "unreachable" in out.getvalue()
    assert "SCORE" in out.getvalue()
    assert note in " ".join(out.getvalue().split()) or width > 80
    assert max(map(len, out.getvalue().splitlines())) <= width
