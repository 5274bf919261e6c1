"""Messages: every event is worded in one table, once for the log and the terminal."""

from __future__ import annotations

import re
import string

import pytest

from gridops.observe import events, messages

NAMES = [value for key, value in vars(events).items() if key.isupper()]
LEFT = [{"pid": 12, "user": "root", "name": "sleep"}, {"pid": 14, "user": "ann", "name": "sh"}]


def words(name: str, **facts: object) -> tuple[str | None, str | None]:
    """The event's lines in the log and on a terminal."""
    event = events.Event(name, facts)
    found = messages.find(event)
    assert found
    log = found.log and messages.fill(found.log, event)
    if found.terminal is None:
        return log, None
    return log, messages.fill(found.terminal.replace("{line}", found.log or ""), event)


@pytest.mark.parametrize("name", NAMES)
def test_every_event_has_words(name):
    found = messages.MESSAGES[name]
    assert found.log or found.terminal


def test_every_variant_belongs_to_an_event_that_has_some():
    variants = {key[0] for key in messages.MESSAGES if isinstance(key, tuple)}
    assert variants == set(messages.VARIANTS)


def fields_of(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def documented() -> dict[str, set[str]]:
    """The names of facts that stand beside each event, and in the comment above it."""
    source = open(events.__file__, encoding="utf-8").read()  # noqa: SIM115, PTH123
    found, above = {}, ""
    for line in source.splitlines():
        if line.startswith("#"):
            above += line
        elif match := re.match(r'[A-Z_]+ = "([a-z.]+)"(.*)', line):
            found[match[1]] = set(re.findall(r"[a-z_]+", above + match[2]))
            above = ""
        else:
            above = ""
    return found


@pytest.mark.parametrize("key", messages.MESSAGES, ids=str)
def test_a_message_speaks_of_the_events_own_facts(key):
    name = key if isinstance(key, str) else key[0]
    message = messages.MESSAGES[key]
    used = fields_of(message.log or "") | fields_of(message.terminal or "")
    assert used - {"line"} <= documented()[name]


@pytest.mark.parametrize(
    ("name", "facts", "said"),
    [
        (events.NODE_SELECTED, {"reason": "idle", "degraded": False}, "a: idle"),
        (
            events.NODE_CHANGED,
            {"before": "healthy", "state": "degraded", "reason": ""},
            "a: degraded, was healthy",
        ),
        (
            events.NODE_CHANGED,
            {"before": "healthy", "state": "degraded", "reason": "disk 99 %"},
            "a: degraded, was healthy: disk 99 %",
        ),
        (
            events.SYNC_FINISHED,
            {"status": "success", "files": 1, "deleted": 0, "bytes": 1200, "seconds": 0.26},
            "a: synced 1 file, 1.2 kB in 0.3 s",
        ),
        (
            events.SYNC_FINISHED,
            {"status": "success", "files": 2, "deleted": 3, "fetched": 4, "bytes": 0, "seconds": 1},
            "a: synced 2 files, deleted 3, 0 B in 1 s (without 4 fetched)",
        ),
        (
            events.FETCH_FINISHED,
            {"status": "success", "files": 2, "replaced": 1, "bytes": 10, "seconds": 61.5},
            "a: fetched 2 files (1 replaced), 10 B in 62 s",
        ),
        (
            events.RUN_LEFT,
            {"id": "r1", "reason": "SIGHUP", "state": "running"},
            "a: SIGHUP: left; the run goes on there:"
            " `inv jobs.logs r1 --follow`, `inv jobs.kill r1`",
        ),
        (
            events.RUN_LEFT,
            {"id": "r1", "reason": "SIGHUP", "state": "queued"},
            "a: SIGHUP: left; the run waits for its turn there, or has begun:"
            " `inv jobs.logs r1 --follow`, `inv jobs.kill r1`",
        ),
        (
            events.RUN_LEFT,
            {"id": "r1", "reason": "SIGINT", "state": "stopping"},
            "a: SIGINT: left; the run is being ended there:"
            " `inv jobs.logs r1 --follow`, `inv jobs.kill r1`",
        ),
        (
            events.PACKAGE_READY,
            {"files": 2, "bytes": 2900, "seconds": 0.11, "uploaded": True},
            "a: 2 files, 2.9 kB packed: sent in 0.1 s",
        ),
        (
            events.PACKAGE_READY,
            {"files": 2, "bytes": 2900, "seconds": 0.11, "uploaded": False},
            "a: 2 files, 2.9 kB packed: there already, checked in 0.1 s",
        ),
        (
            events.CLUSTER_STEP,
            {"step": "installing", "version": "2.60.0", "python": "3.11.7"},
            "a: installing Ray 2.60.0 with Python 3.11.7",
        ),
        (events.CLUSTER_STEP, {"step": "bringing", "wheelhouse": "wheels"}, "a: bringing wheels"),
        (
            events.CLUSTER_STEP,
            {"step": "started", "role": "head", "address": "10.0.0.1"},
            "a: head started at 10.0.0.1",
        ),
        (
            events.CLUSTER_STEP,
            {"step": "stopped", "role": "worker", "processes": 3},
            "a: worker stopped, 3 processes",
        ),
        (
            events.CLUSTER_STEP,
            {"step": "stopped", "role": "", "processes": 1},
            "a: stopped, 1 process",
        ),
        (
            events.RETRY,
            {"what": "sync to a", "attempt": 1, "error": "a: lost", "delay": 1.25},
            "sync to a: attempt 1 failed: a: lost; again in 1.2 s",
        ),
    ],
)
def test_log_and_terminal_say_the_same(name, facts, said):
    assert words(name, node="a", **facts) == (said, said)


@pytest.mark.parametrize(
    ("nodes", "gpus", "said"),
    [
        (("a",), 0, "a: no slot is free"),
        (("a", "b"), 1, "a, b: no slot with 1 GPU is free"),
        (tuple("abcdef"), 2, "a, b, c, d, e, …: no slot with 2 GPUs is free"),
    ],
)
def test_a_run_that_waits_says_what_for(nodes, gpus, said):
    line, _ = words(events.RUN_QUEUED, nodes=nodes, id="r1", seconds=60.0, gpus=gpus, command="x")
    assert line == f"{said}: the run r1 is queued for 60 s at most"


def test_the_terminal_warns_in_a_word_where_the_log_has_a_level():
    facts = {"node": "a", "reason": "full", "degraded": True}
    log, terminal = words(events.NODE_SELECTED, **facts)
    assert log == "no healthy node; taking the least loaded: a (full)"
    assert terminal == f"warning: {log}"
    assert words(events.WARNING, message="careful") == ("careful", "warning: careful")


def test_the_end_of_a_run_names_its_signal_and_what_is_left():
    facts = {"node": "a", "id": "r1", "status": 137, "signal": 9, "seconds": 12.34}
    left = (
        "these processes could not be ended: 12 (root, sleep), 14 (ann, sh);"
        " run `sudo kill -KILL 12 14` there"
    )
    assert words(events.RUN_FINISHED, **facts, left=LEFT) == (
        f"a: the run has ended with status 137 after 12 s; {left}",
        f"a: the run has ended by SIGKILL; {left}",
    )
    facts |= {"status": 0, "signal": None}
    assert words(events.RUN_FINISHED, **facts, left=[]) == (
        "a: the run has ended with status 0 after 12 s",
        "a: the run has ended",
    )
    assert words(events.RUN_FINISHED, **{**facts, "signal": 99})[1] == (
        "a: the run has ended by signal 99"
    )


def test_progress_has_no_line_in_the_log():
    assert words(events.SYNC_PROGRESS, node="a", percent=33.4, bytes=5) == (
        None,
        "a: syncing 33 %",
    )


def test_what_others_wrote_is_no_part_of_the_table():
    facts = {"node": "a", "remote": 80, "error": "[{node}] {0} %s"}
    assert words(events.PORT_FAILED, **facts)[0] == "a: --port 80: [{node}] {0} %s"


@pytest.mark.parametrize("key", messages.MESSAGES, ids=str)
def test_a_fact_that_is_missing_costs_no_line(key):
    name, facts = (
        (key, {}) if isinstance(key, str) else (key[0], {messages.VARIANTS[key[0]]: key[1]})
    )
    log, terminal = words(name, **facts)
    assert log or terminal
