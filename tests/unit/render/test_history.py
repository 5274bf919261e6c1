"""History as rows and records, and drawn; the live view's lines; Markdown."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from gridops.model import Cpu, Jobs, Node, NodeHealth, Space
from gridops.observe.rows import RunRow, Sample
from gridops.render import history, live, markdown
from gridops.render.overview import Overview
from gridops.render.sparkline import bar, spark

NOW = 1_795_534_212.0
RUN = RunRow("20261124-1", "run", "gpu01", NOW - 900, 600.0, "finished", 0, "make\nall")
RUNS = (
    RUN._replace(id="20261124-9", started=NOW - 60, seconds=None, state="running", status=None),
    RUN,
    RUN._replace(id="20261124-2", node="b", seconds=60.0, status=7),
    RUN._replace(id="", node=None, seconds=0.0, state="failed", status=125, error="no node"),
)
HEALTHY = NodeHealth(
    Node("n1", "n1"),
    "healthy",
    score=12.0,
    latency_ms=8.0,
    cpu=Cpu(64, 3.0, 2.0, 1.0, 4.8),
    memory=Space(1000, 500, 50.0),
    disk=Space(1000, 250, 75.0, "~/gridops"),
    jobs=Jobs(0, 1),
)


def node(name: str, state: str = "healthy", score: float | None = 12.0) -> NodeHealth:
    found = replace(HEALTHY, node=Node(name, name), state=state, score=score)
    if state == "unreachable":
        return NodeHealth(found.node, "unreachable", error="Connection refused")
    return replace(found, reasons=("memory 97 % used",)) if state == "degraded" else found


# -- characters ------------------------------------------------------------------------------------


def test_a_spark_goes_from_nothing_to_full():
    assert spark([0, 50, 100, 250, -3, None]) == "▁▅██▁ "
    assert spark([0, 50, 100, None], [False, False, False, True]) == "▁▅█×"
    assert spark([0, 50, 100, None], [False, False, False, True], ascii=True) == "_=#x"
    assert spark([1, 2], top=2) == "▅█"
    assert spark([1.0], top=0) == "▁"


def test_a_bar_is_as_long_as_its_share():
    assert bar(1, 10) == "█" * 10
    assert bar(0.5, 10, ascii=True) == "#####"
    assert bar(0, 10) == bar(0, 10, ascii=True) == ""
    assert bar(7, 3) == "███"


def test_what_is_not_nothing_is_seen():
    assert bar(0.0001, 10) == "▏"
    assert bar(0.0001, 10, ascii=True) == "#"


# -- history ---------------------------------------------------------------------------------------


def test_a_row_says_when_where_and_how_it_went():
    rows = [history.row(run, NOW) for run in RUNS]
    assert [row[2:5] for row in rows] == [
        ("gpu01", "running", "1m00s"),
        ("gpu01", "ok", "10m00s"),
        ("b", "status 7", "1m00s"),
        ("-", "failed (125)", "0.0s"),
    ]
    assert rows[1][-1] == "make all"
    assert len(rows[0]) == len(history.HISTORY_HEADER)


def test_a_row_holds_nothing_that_steers_a_terminal():
    row = history.row(RUN._replace(command="echo \x1b[31m\x07"), NOW)
    assert row[-1] == "echo ?[31m?"


def test_a_record_has_null_for_what_is_not_known():
    assert history.history_document(RUNS[3:]) == {
        "schema": 1,
        "runs": [
            {
                "id": None,
                "task": "run",
                "node": None,
                "started": NOW - 900,
                "duration_s": 0.0,
                "state": "failed",
                "status": 125,
                "command": "make\nall",
                "error": "no node",
            }
        ],
    }
    assert len(history.csv_row(RUN)) == len(history.HISTORY_CSV)
    assert None not in history.csv_row(RUNS[3])


@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("width", [10, 60, 80, 200])
def test_durations_fit_the_width_and_the_longest_fills_it(width, ascii):
    lines = [line.text for line in history.durations(RUNS, NOW, width, ascii=ascii)]
    assert [re.search("gpu01|  b|  - ", line) is not None for line in lines] == [True] * 4
    assert "no" not in lines[0]
    if width >= 60:
        assert max(map(len, lines)) <= width
        assert len(lines[2]) > 0.9 * width
    assert all(line.isascii() for line in lines) is ascii


def test_durations_are_drawn_oldest_first():
    lines = history.durations(RUNS, NOW, 80, ascii=True)
    assert ["running" in line.text for line in lines] == [False, False, False, True]
    assert history.durations((), NOW, 80, ascii=True) == []


def samples(name: str, *scores: float | None) -> list[Sample]:
    end = NOW - 60 * len(scores)
    return [
        Sample(name, end + 60 * n, "healthy" if score is not None else "unreachable", score)
        for n, score in enumerate(scores, 1)
    ]


@pytest.mark.parametrize("ascii", [False, True])
def test_load_is_drawn_a_line_a_node_with_its_last_figure(ascii):
    found = {"a": samples("a", *range(0, 100, 2)), "long-name": samples("long-name", 50, None)}
    lines = [line.text for line in history.loads(found, "load", NOW - 3000, NOW, 60, ascii=ascii)]
    assert lines[0] == "score, 0 to 100"
    assert lines[1].startswith("a          ")
    assert lines[1].endswith("98.0")
    assert lines[2].endswith("out")
    assert ("x" if ascii else "×") in lines[2]
    assert all(len(line) <= 60 for line in lines)
    assert all(line.isascii() for line in lines) is ascii
    times = [time.strftime("%H:%M", time.localtime(at)) for at in (NOW - 3000, NOW)]
    assert lines[-1].split() == times


def test_another_figure_is_drawn_in_percent():
    found = {"a": [Sample("a", NOW, "healthy", 1.0, cpu_percent=42.4)]}
    assert history.loads(found, "cpu", NOW - 600, NOW, 80, ascii=True)[1].text.endswith("42%")
    assert history.loads(found, "gpu", NOW - 600, NOW, 80, ascii=True)[1].text.endswith("-")


# -- the live view -----------------------------------------------------------------------------


def board(*healths: NodeHealth, sort: str = "score", ascii: bool = False) -> live.Board:
    made = live.Board([health.node for health in healths], {}, sort=sort, ascii=ascii)
    for health in healths:
        made.add(health, NOW)
    return made


def texts(made: live.Board, width: int = 120, height: int = 24, now: float = NOW) -> list[str]:
    return [line.text for line in made.lines(width, height, now, "said")]


def test_the_least_loaded_node_is_first_and_the_dead_ones_last():
    made = board(node("a", score=50.0), node("b", "unreachable"), node("c", score=5.0))
    shown = texts(made)
    assert shown[0] == "2 of 3 healthy  said"
    assert [line.split()[0] for line in shown[2:5]] == ["c", "a", "b"]
    assert shown[5] == "b: Connection refused"


def test_the_order_can_be_another():
    found = (node("b", score=1.0), node("a", score=9.0))
    assert [h.node.name for h in board(*found, sort="name").in_order()] == ["a", "b"]
    assert [h.node.name for h in board(*found, sort="inventory").in_order()] == ["b", "a"]


def test_a_change_of_state_stands_out_for_a_while_and_is_listed():
    made = board(node("a"), node("b"))
    made.add(node("b", "unreachable"), NOW + 5)
    row = next(line for line in made.lines(120, 24, NOW + 6, "") if line.text.startswith("b "))
    assert "●" in row.text
    assert any("reverse" in style for _, style in row.pieces)
    assert texts(made, now=NOW + 6)[-1].endswith("b  healthy → unreachable: Connection refused")
    later = next(line for line in made.lines(120, 24, NOW + 99, "") if line.text.startswith("b "))
    assert not any("reverse" in style for _, style in later.pieces)


def test_the_view_is_ascii_where_it_should_be():
    made = board(node("a"), node("b"), ascii=True)
    made.add(node("b", "unreachable"), NOW + 5)
    assert all(line.isascii() for line in texts(made, now=NOW + 6))
    assert any("healthy -> unreachable" in line for line in texts(made, now=NOW + 6))


@pytest.mark.parametrize("height", [4, 5, 8, 24])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_view_fits_the_terminal(width, height):
    made = board(*(node(f"n{n:02}", score=float(n)) for n in range(30)))
    for name in ("n20", "n21"):
        made.add(node(name, "degraded"), NOW + 1)
    shown = texts(made, width, height, NOW + 2)
    assert len(shown) <= height
    assert shown[0].startswith("28 of 30 healthy")
    if height >= 8:
        assert any("more" in line for line in shown)
        assert any(line.startswith("n20") for line in shown), "what is in trouble is not hidden"
    if width >= 80:
        table = [line for line in shown[1:] if not re.match(r"\d\d:|n\d\d:", line)]
        assert max(map(len, table)) <= width


def test_columns_go_where_the_terminal_is_narrow():
    made = board(node("a"))
    assert "TREND" in texts(made, 120)[1]
    assert "LATENCY" in texts(made, 120)[1]
    assert "LATENCY" not in texts(made, 56)[1]
    assert texts(made, 30)[1].split()[:2] == ["NODE", "STATE"]


def test_a_trend_grows_with_every_round():
    made = board(node("a", score=0.0))
    for minute in range(1, 30):
        made.add(node("a", score=99.0), NOW + 60 * minute)
    row = texts(made, 120, now=NOW + 60 * 29)[2]
    assert "▁" in row
    assert row.count("█") > 10


def test_the_view_forgets_what_is_older_than_an_hour():
    made = board(node("a"))
    for minute in range(200):
        made.add(node("a"), NOW + 60 * minute)
    assert len(made._samples["a"]) <= 61


# -- Markdown ----------------------------------------------------------------------------------

NASTY = "a|b `c` *d* <img src=x> [e](http://f) \\ \x1b[31m"


def overview(**changed: object) -> Overview:
    found = (node("a"), node("b", "degraded"), node("c", "unreachable"))
    return replace(Overview("nodes.yaml", NOW, 0.0, 0.1, found, {}, RUNS[1:]), **changed)


def test_the_report_begins_with_the_verdict_and_the_nodes_in_trouble():
    lines = markdown.report(overview()).splitlines()
    assert lines[0] == "### ❌ 1 of 3 nodes healthy"
    rows = [line for line in lines if line.startswith("| **")]
    assert [row.split("**")[1] for row in rows] == ["c", "b", "a"]
    assert "Connection refused" in rows[0]
    assert "memory 97 % used" in rows[1]
    assert markdown.report(overview(nodes=(node("a"),))).startswith("### ✅ 1 of 1 node healthy")


def test_every_row_of_a_table_has_its_columns():
    for table in re.findall(r"(?:^\|.*\n)+", markdown.report(overview()), re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(counts) == 1, table


def test_nothing_in_the_report_is_more_than_text():
    health = replace(node("b", "degraded"), reasons=(NASTY,))
    runs = (RUN._replace(id=NASTY, node=NASTY, command=NASTY, error=NASTY),)
    text = markdown.report(overview(nodes=(health,), runs=runs, inventory=NASTY, warning=NASTY))
    assert "<img" not in text
    assert "\x1b" not in text
    assert "[e](" not in text.replace("\\[", "").replace("\\]", "")
    for line in text.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) in (10, 7)
    assert "`" not in text.replace("\\`", "")


def test_commands_are_shown_when_there_are_any():
    assert "<code>make all</code>" in markdown.report(overview())
    bare = tuple(run._replace(command="") for run in RUNS)
    assert "Command" not in markdown.report(overview(runs=bare))


def test_a_large_grid_is_cut_with_a_word_about_it():
    found = tuple(node(f"n{number}") for number in range(1000))
    text = markdown.report(overview(nodes=found))
    assert "… and 900 more nodes" in text
    assert len(text) < 100_000
