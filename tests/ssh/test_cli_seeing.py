"""`history`, `report` and `health --watch` on real nodes."""

from __future__ import annotations

import csv
import io
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.cli import BIN, Inventory, refusing

from gridops.render import history


@pytest.fixture
def ran(tell, inventory, project):
    """Two runs, one of which failed, after a look at all nodes."""
    assert tell("health").status == 0
    assert tell("run", "--cmd", "true", "--on", "node1").status == 0
    assert tell("run", "--cmd", "exit 7", "--on", "node2").status == 7


# -- history ---------------------------------------------------------------------------------------


def test_nothing_was_run_yet(tell, inventory):
    done = tell("history")
    assert (done.status, done.out) == (0, "")
    assert done.complaint.startswith("no runs are recorded")
    assert tell("history", "--format", "json").document == {"schema": 1, "runs": []}
    assert tell("history", "--plot", "load").complaint.startswith("nothing is recorded")


def test_runs_are_listed_newest_first(tell, ran):
    done = tell("history")
    assert (done.status, done.err) == (0, "")
    header, *rows = done.out.splitlines()
    assert header.split() == list(history.HISTORY_HEADER)
    assert ["node2  status 7" in rows[0], "node1  ok" in rows[1]] == [True, True]
    assert rows[0].endswith("exit 7")


def test_history_in_json_has_what_a_script_needs(tell, ran):
    newest, first = tell("history", "--format", "json").document["runs"]
    assert (newest["node"], newest["status"], newest["state"]) == ("node2", 7, "finished")
    assert (first["node"], first["status"], first["command"]) == ("node1", 0, "true")
    assert time.time() - 60 < first["started"] < newest["started"] < time.time()
    assert 0 <= newest["duration_s"] < 30
    assert first["id"] != newest["id"]


def test_history_in_csv_is_as_wide_as_its_header(tell, ran):
    rows = list(csv.reader(io.StringIO(tell("history", "--format", "csv").out)))
    assert tuple(rows[0]) == history.HISTORY_CSV
    assert {len(row) for row in rows} == {len(history.HISTORY_CSV)}
    assert len(rows) == 3


def test_history_is_limited_by_count_age_and_node(tell, ran):
    def nodes(*words: str) -> list[str]:
        return [run["node"] for run in tell("history", "--format", "json", *words).document["runs"]]

    assert nodes("--limit", "1") == ["node2"]
    assert nodes("--since", "1h") == ["node2", "node1"]
    assert nodes("--since", "1ms") == []
    assert nodes("--nodes", "node1,node3") == ["node1"]
    assert nodes("--nodes", "node1,node2", "--limit", "1") == ["node2"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--limit", "0"], "--limit '0' is not a number"),
        (["--limit", "x"], "--limit 'x' is not a number"),
        (["--since", "x"], "--since 'x' is not a duration"),
        (["--plot", "x"], "unknown plot 'x' (valid: durations, load, cpu, memory, gpu)"),
        (["--plot", "--format", "json"], "--plot does not go with --format json"),
        (["--nodes", "nobody"], "unknown node 'nobody'"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(tell, ran, words, complaint):
    done = tell("history", *words)
    assert done.status == 2
    assert done.complaint.startswith(complaint)


def test_durations_and_loads_are_drawn(tell, ran, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    lines = tell("history", "--plot").out.splitlines()
    assert ["node1" in lines[0], "node2  status 7" in lines[1]] == [True, True]
    assert max(map(len, lines)) <= 60
    for what in ("load", "cpu", "memory"):
        lines = tell("history", "--plot", what, "--since", "10m").out.splitlines()
        assert [line.split()[0] for line in lines[1:4]] == ["node1", "node2", "node3"]
        assert max(map(len, lines)) <= 60


def test_drawings_are_ascii_where_the_locale_is_c(tell, ran, monkeypatch):
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    assert tell("run", "--no-sync", "--cmd", "sleep 0.1", "--on", "node1").status == 0
    assert not tell("history", "--plot").out.isascii()
    monkeypatch.setenv("LANG", "C")
    assert tell("history", "--plot").out.isascii()
    drawn = tell("history", "--plot", "load").out
    assert drawn.isascii()
    assert "node3" in drawn


def test_a_broken_store_is_said_in_one_line(tell, inventory, home, monkeypatch):
    (home / "store").mkdir()
    (home / "store/gridops.db").write_text("this is no database, and long enough to be read")
    monkeypatch.setenv("GRIDOPS_STATE_DIR", str(home / "store"))
    done = tell("history")
    assert done.status == 125
    assert "cannot be" in done.complaint


# -- report ----------------------------------------------------------------------------------------


def test_a_report_is_markdown_on_stdout(tell, ran):
    done = tell("report")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("### ✅ 3 of 3 nodes healthy\n")
    assert "| **node2** | ✅ healthy |" in done.out
    assert "❌ status 7" in done.out


def test_a_report_shows_commands_only_when_asked(tell, ran, tmp_path):
    file = tmp_path / "grid.html"
    assert "exit 7" not in tell("report").out
    assert "<code>exit 7</code>" in tell("report", "--commands").out
    tell("report", "--html", str(file))
    assert "exit 7" not in file.read_text()
    tell("report", "--html", str(file), "--commands")
    assert "exit 7" in file.read_text()


def test_a_report_is_a_page_of_its_own(tell, ran, tmp_path):
    file = tmp_path / "grid.html"
    file.write_text("an earlier one")
    done = tell("report", "--html", str(file))
    assert (done.status, done.out) == (0, "")
    assert done.err == f"gridops: written: {file}\n"
    text = file.read_text()
    assert text.startswith("<!doctype html>")
    for word in ("3 of 3 nodes healthy", "node3", "status 7", 'class="trend"'):
        assert word in text
    assert 'http-equiv="refresh"' not in text
    assert [path.name for path in tmp_path.iterdir() if "grid" in path.name] == ["grid.html"]


def test_the_report_of_a_sick_grid_is_no_failure(tell, inventory):
    with refusing() as port:
        inventory({"dead": {"host": "127.0.0.1", "port": port}})
        done = tell("report", "--nodes", "dead,node1")
    assert done.status == 0
    assert done.out.startswith("### ❌ 1 of 2 nodes healthy")
    assert "Connection refused" in done.out


def test_on_github_the_report_goes_to_the_steps_summary(tell, ran, tmp_path, monkeypatch):
    summary, file = tmp_path / "summary.md", tmp_path / "grid.html"
    summary.write_text("# what an earlier command said\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    done = tell("report", "--html", str(file))
    assert (done.status, done.out) == (0, "")
    first, second, *_ = summary.read_text().splitlines()
    assert first == "# what an earlier command said"
    assert second == "### ✅ 3 of 3 nodes healthy"
    assert file.exists()


def test_a_place_that_cannot_be_written_is_said(tell, inventory, tmp_path, monkeypatch):
    done = tell("report", "--html", str(tmp_path / "no/where.html"))
    assert done.status == 125
    assert "cannot write" in done.complaint
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    done = tell("report")
    assert done.status == 125
    assert "GITHUB_STEP_SUMMARY" in done.complaint


def test_a_report_without_a_history_says_so_and_is_there(tell, inventory, home, monkeypatch):
    (home / "store").mkdir()
    (home / "store/gridops.db").mkdir()
    monkeypatch.setenv("GRIDOPS_STATE_DIR", str(home / "store"))
    done = tell("report")
    assert done.status == 0
    assert "3 of 3 nodes healthy" in done.out
    assert "> metrics and history cannot be" in done.out


# -- health --watch --------------------------------------------------------------------------------


@contextmanager
def on_a_terminal(*words: str, rows: int = 24) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`gridops WORDS` on a terminal of its own, and the other end of that."""
    ours, theirs = pty.openpty()
    with suppress(ImportError, OSError):
        import fcntl
        import struct
        import termios

        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 120, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "LANG": "C.UTF-8"}
    child = subprocess.Popen(
        [str(BIN / "gridops"), *words], stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True, env=environment,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield child, ours
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        os.close(ours)


def read_until(terminal: int, what: bytes, seconds: float = 30.0) -> bytes:
    """What the terminal is told until `what` is in it (b"": until its end)."""
    said, limit = b"", time.monotonic() + seconds
    while not what or what not in said:
        if not select.select([terminal], (), (), max(0.0, limit - time.monotonic()))[0]:
            raise AssertionError(said.decode(errors="replace"))
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # the child was the last that had it
            data = b""
        if not data:
            break
        said += data
    return said


HIDDEN, SHOWN = b"\x1b[?1049h", b"\x1b[?1049l"
CURSOR = b"\x1b[?25h"


def test_the_live_view_shows_the_nodes_and_ctrl_c_gives_the_terminal_back(inventory):
    with on_a_terminal("health", "--watch", "1") as (child, terminal):
        said = read_until(terminal, b"3 of 3 healthy")
        assert HIDDEN in said
        read_until(terminal, b"every 1 s")
        child.send_signal(signal.SIGINT)
        rest = read_until(terminal, b"")
        assert child.wait(20) == 0
    assert SHOWN in rest
    assert CURSOR in rest
    assert b"Traceback" not in rest


def test_the_live_view_gives_the_terminal_back_when_it_is_told_to_end(inventory):
    with on_a_terminal("health", "--watch") as (child, terminal):
        read_until(terminal, b"every 5 s")
        child.terminate()
        rest = read_until(terminal, b"")
        assert child.wait(20) == 143
    assert SHOWN in rest
    assert CURSOR in rest


def test_the_live_view_tells_of_a_node_that_has_died(make_sandbox, tmp_path, monkeypatch):
    made = make_sandbox(2)
    monkeypatch.setenv("GRIDOPS_INVENTORY", str(Inventory(made, tmp_path / "own.yaml")()))
    with on_a_terminal("health", "--watch", "1") as (child, terminal):
        read_until(terminal, b"2 of 2 healthy")
        made.stop("node2")
        said = read_until(terminal, b"1 of 2 healthy")
        said += read_until(terminal, b"Connection refused")
        assert "unreachable ●" in said.decode() + read_until(terminal, b"every 1 s").decode()
        child.send_signal(signal.SIGINT)
        read_until(terminal, b"")
        assert child.wait(20) == 0


def test_without_a_terminal_every_round_is_a_table(inventory):
    child = subprocess.Popen(
        [str(BIN / "gridops"), "health", "--watch", "0.2"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert child.stdout
        said = [child.stdout.readline().decode() for _ in range(10)]
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=20)
    finally:
        child.kill()
        child.wait()
    assert [line[:3] for line in said[::5]] == ["-- ", "-- "]
    assert said[1].startswith("NODE")
    assert {line.split()[0] for line in said[2:5]} == {"node1", "node2", "node3"}
    assert not any("\x1b" in line for line in said)
    assert (child.returncode, err.decode()) == (130, "gridops: interrupted\n")


def test_nodes_can_be_sorted_by_name_and_score(tell, inventory):
    inventory({"a9": {"host": "127.0.0.1", "connection": "local"}})
    out = tell("health", "--sort", "name", "--format", "csv").out
    assert [line.split(",")[0] for line in out.splitlines()[1:]] == [
        "a9",
        "node1",
        "node2",
        "node3",
    ]
    rows = list(csv.DictReader(io.StringIO(tell("health", "--sort=score", "--format=csv").out)))
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores)
    assert tell("health", "--sort", "x").complaint.startswith("unknown order 'x'")


def test_recorded_figures_are_the_users_alone(tell, ran, home):
    found = [path for path in Path(home).rglob("gridops.db*") if path.is_file()]
    assert found
    assert all(path.stat().st_mode & 0o077 == 0 for path in found)


# -- what was run holds whatever people put into it ------------------------------------------------


def test_a_command_reaches_no_terminal_and_no_spreadsheet_but_its_output_is_its_own(
    tell, inventory, project
):
    """Escapes, C1, direction overrides and line ends in a command; the node tells of it too."""
    printed = b"\x1b[31mred\x1b[0m\x9b2J\xe2\x80\xae\r\n"
    octal = "".join(f"\\{byte:03o}" for byte in printed)
    odd = f"=1;printf '{octal}' #\x1b]0;owned\x07\x9b2J\u202e\nexit 3"
    done = tell("run", "--no-sync", "--on", "node1", "--cmd", odd)
    assert (done.status, done.stdout) == (3, printed)
    run_id = tell("history", "--format", "json").document["runs"][0]["id"]
    for words in (
        ("jobs",), ("jobs.show", run_id), ("history",), ("report", "--commands"),
        ("run", "--no-sync", "--on", "node1", "--dry-run", "--cmd", odd),
    ):  # fmt: skip
        done = tell(*words)
        assert "owned" in done.out + done.err
        assert [line for line in (done.out + done.err).split("\n") if not line.isprintable()] == []
    for words in (("jobs.show", run_id), ("history",)):
        done = tell(*words, "--format", "json")
        record = done.document.get("job") or done.document["runs"][0]
        assert record["command"] == odd
        assert all(line.isprintable() for line in done.out.split("\n"))
    (row,) = csv.DictReader(io.StringIO(tell("history", "--format", "csv").out))
    assert row["command"].startswith("'=1;printf")
    assert (row["status"], row["node"]) == ("3", "node1")
