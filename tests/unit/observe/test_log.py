"""The log: lines for people, JSON for machines, silence at no cost."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
from datetime import datetime

import pytest

from gridops.errors import UnknownNameError
from gridops.observe import events
from gridops.observe.log import get_logger, setup_logging, shutdown_logging
from gridops.observe.messages import MESSAGES


@pytest.fixture(autouse=True)
def _undo():
    yield
    shutdown_logging()


def logged(form: str = "json", level: str = "DEBUG", **options) -> io.StringIO:
    stream = io.StringIO()
    setup_logging(level, format=form, stream=stream, **options)
    return stream


def in_python(program: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_a_json_line_has_time_level_event_service_and_context():
    stream = logged(service_name="grid-ci")
    with events.bound(task="run", run_id="r1"):
        events.emit(events.NODE_SKIPPED, node="gpu01", reason="it is down")
    line = json.loads(stream.getvalue())
    moment = line.pop("timestamp")
    assert moment.endswith("Z")
    assert (
        abs(datetime.now().timestamp() - datetime.fromisoformat(moment[:-1] + "+00:00").timestamp())
        < 60
    )
    assert line == {
        "level": "warning",
        "event": "node.skipped",
        "service": "grid-ci",
        "task": "run",
        "run_id": "r1",
        "node": "gpu01",
        "reason": "it is down",
        "message": "it is down; trying the next best node",
    }


def test_a_json_lines_fields_are_facts():
    stream = logged()
    left = [{"pid": 12, "user": "root", "name": "sleep"}]
    events.emit(events.RUN_QUEUED, nodes=("a", "b"), id="r1", seconds=60.0, gpus=2, command="x")
    events.emit(events.RUN_LEFT, node="a", id="r1", reason="SIGHUP", state="queued")
    events.emit(events.RUN_FINISHED, node="a", id="r1", status=0, seconds=1.5, left=left)
    queued, gone, ended = map(json.loads, stream.getvalue().splitlines())
    assert (queued["nodes"], queued["gpus"], queued["seconds"]) == (["a", "b"], 2, 60.0)
    assert (gone["state"], gone["reason"]) == ("queued", "SIGHUP")
    assert ended["left"] == left


def test_each_line_is_one_json_document():
    stream = logged()
    get_logger("x").info("a\nb", what="c\nd", odd=object, bytes_=b"\xff")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["a\nb"]


def test_a_retry_is_one_line_an_attempt_and_one_at_the_end():
    stream = logged("human", "INFO")
    events.emit(events.RETRY, what="connect", attempt=1, delay=1.234, error="gpu01: refused")
    events.emit(events.RETRY, what="connect", attempt=2, delay=2.5, error="gpu01: refused")
    events.emit(events.RETRY_ENDED, what="connect", attempts=3, ok=False, error="gpu01: refused")
    said = [line.split(" ", 2)[2] for line in stream.getvalue().splitlines()]
    assert said == [
        "connect: attempt 1 failed: gpu01: refused; again in 1.2 s",
        "connect: attempt 2 failed: gpu01: refused; again in 2.5 s",
        "connect: given up after 3 attempts: gpu01: refused",
    ]


def test_a_retry_that_succeeds_ends_with_a_line():
    stream = logged("human", "INFO")
    events.emit(events.RETRY_ENDED, what="sync", attempts=2, ok=True, error=None)
    assert stream.getvalue().endswith("INFO sync: attempt 2 succeeded\n")


def test_the_level_decides_what_is_said():
    stream = logged("human", "warning")
    events.emit(events.NODE_SELECTED, node="a", reason="idle")
    get_logger().info("quiet")
    events.emit(events.WARNING, message="loud")
    assert re.fullmatch(r"\S+Z WARNING loud\n", stream.getvalue())


@pytest.mark.parametrize(
    "name",
    [value for key, value in vars(events).items() if key.isupper() and MESSAGES[value].log],
)
def test_every_event_has_a_line_even_with_fields_missing(name):
    stream = logged()
    events.emit(name)
    assert json.loads(stream.getvalue())["event"] == name


def test_progress_is_not_logged():
    stream = logged()
    events.emit(events.SYNC_PROGRESS, node="a", percent=3.0, bytes=1)
    assert stream.getvalue() == ""


def test_an_event_it_does_not_know_is_a_debug_line():
    stream = logged()
    events.emit("job.adopted", node="a", job="j1")
    line = json.loads(stream.getvalue())
    assert (line["level"], line["event"], line["job"]) == ("debug", "job.adopted", "j1")


def test_setting_up_twice_does_not_say_things_twice():
    first, second = logged(), logged()
    events.emit(events.WARNING, message="once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_after_shutdown_it_is_silent(capfd):
    setup_logging("DEBUG")
    shutdown_logging()
    events.emit(events.TASK_FINISHED, task="run", status="success", seconds=1.0)
    assert capfd.readouterr().err == ""


def test_other_handlers_see_the_records_in_words(caplog):
    logged()
    events.emit(events.NODE_SKIPPED, node="gpu01", reason="down")
    get_logger("tasks").warning("100% sure", node="a")
    assert caplog.messages == ["down; trying the next best node", "100% sure"]
    assert [record.name for record in caplog.records] == ["gridops", "gridops.tasks"]


def test_records_of_the_standard_librarys_loggers_are_lines_too():
    stream = logged()
    logging.getLogger("gridops.reach").error("cannot %s", "connect")
    line = json.loads(stream.getvalue())
    assert (line["level"], line["event"]) == ("error", "cannot connect")


def test_a_logger_binds_fields_and_takes_the_context_along():
    stream = logged()
    log = get_logger("tasks").bind(node="gpu01")
    with events.bound(task="deploy"):
        log.info("copied", files=3)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["node"], line["task"], line["files"]) == (
        "copied",
        "gpu01",
        "deploy",
        3,
    )


def test_an_exception_is_logged_with_its_traceback():
    stream = logged()
    try:
        raise ValueError("inner")
    except ValueError:
        get_logger().exception("failed")
    line = json.loads(stream.getvalue())
    assert line["level"] == "error"
    assert "ValueError: inner" in line["exception"]
    human = logged("human")
    try:
        raise ValueError("inner")
    except ValueError:
        get_logger().exception("failed")
    assert "ERROR failed\nTraceback" in human.getvalue()


def test_fields_follow_the_words_of_a_human_line():
    stream = logged("human")
    get_logger().info("copied", node="gpu01", files=3)
    assert stream.getvalue().endswith(" INFO gpu01: copied files=3\n")


@pytest.mark.parametrize("form", ["human", "json"])
def test_command_lines_and_environments_stay_out(form):
    stream = logged(form)
    get_logger().info("start", command="login --password hunter2", env={"K": "hunter2"})
    events.emit(events.RUN_STARTED, node="a", cwd="~", command="hunter2", env="hunter2")
    assert "start" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_a_command_line_is_a_matter_of_debugging_and_an_environment_is_never():
    stream = logged()
    get_logger().debug("start", command="train.py", env={"K": "hunter2"})
    assert "train.py" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_what_a_node_says_cannot_steer_the_terminal():
    stream = logged("human")
    events.emit(events.WARNING, message="\x1b[2Jgone\r\nfake line")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"level": "LOUD"},
            "unknown log level 'LOUD' (valid: DEBUG, INFO, WARNING, ERROR, CRITICAL)",
        ),
        ({"format": "xml"}, "unknown log format 'xml' (valid: auto, human, json)"),
    ],
)
def test_a_level_or_format_that_does_not_exist_is_refused_with_the_valid_ones(options, message):
    with pytest.raises(UnknownNameError) as caught:
        setup_logging(**options)
    assert str(caught.value) == message


EMIT = "events.emit(events.WARNING, message='caf\\u00e9 \\u2192 \\udcff')"
PROGRAM = "from gridops.observe import events, log; log.setup_logging({!r}, format={!r}); {}"


def test_nothing_goes_to_stdout():
    done = in_python(PROGRAM.format("INFO", "json", EMIT))
    assert done.stdout == ""
    assert json.loads(done.stderr)["message"].startswith("café →")


def test_a_locale_that_cannot_spell_a_line_spells_it_out():
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    env["PYTHONIOENCODING"] = "ascii:strict"
    done = in_python(PROGRAM.format("INFO", "human", EMIT), env=env)
    assert (done.returncode, "caf\\xe9 \\u2192" in done.stderr) == (0, True)


@pytest.mark.parametrize("close", ["exec 2>&-", "exec 2>/dev/full"])
def test_a_stderr_that_is_closed_or_full_harms_nothing(close):
    program = PROGRAM.format("INFO", "json", EMIT) + "; print('done')"
    done = subprocess.run(
        ["sh", "-c", f'{close}; exec "$@"', "sh", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "done\n"


def test_silence_costs_no_structlog():
    quiet = EMIT + "; log.get_logger().debug('x'); import sys; print('structlog' in sys.modules)"
    assert in_python(PROGRAM.format("ERROR", "json", quiet)).stdout == "False\n"
    assert in_python(PROGRAM.format("INFO", "human", quiet)).stdout == "False\n"
    assert in_python(PROGRAM.format("INFO", "json", quiet)).stdout == "True\n"


def test_a_terminal_gets_colours_unless_they_are_unwanted():
    def on_a_terminal(env: dict[str, str]) -> bytes:
        ours, theirs = pty.openpty()
        program = [sys.executable, "-c", PROGRAM.format("INFO", "auto", EMIT)]
        subprocess.run(program, stderr=theirs, timeout=60, check=True, env={**os.environ, **env})
        os.close(theirs)
        said = os.read(ours, 4096)
        os.close(ours)
        return said

    assert b"\x1b[33mwarning\x1b[0m caf" in on_a_terminal({"TERM": "xterm", "NO_COLOR": ""})
    assert b"\x1b" not in on_a_terminal({"TERM": "xterm", "NO_COLOR": "1"})
    assert b"\x1b" not in on_a_terminal({"TERM": "dumb"})
