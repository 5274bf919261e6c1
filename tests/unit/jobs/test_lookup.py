"""Which run is meant, and which of them a list shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from gridops.errors import (
    AuthenticationFailed,
    ConnectRefused,
    GridError,
    JobUnreachable,
    NoJob,
    RunTimeout,
    UsageError,
)
from gridops.inventory.settings import SshSettings
from gridops.jobs import lookup
from gridops.jobs.listing import filter_jobs, states
from gridops.jobs.records import jobs_from
from gridops.model import Job, Node, Outcome
from gridops.observe import events

FIRST, SECOND = "20261124-100000-000aaaaa", "20261124-110000-000bbbbb"
NODES = (Node("n1", "n1"), Node("n2", "n2"))
SSH = SshSettings()


def job(job_id: str, node: str = "n1", state: str = "running", reason: str = "") -> Job:
    return Job(job_id, node, state, began=state != "refused", reason=reason)  # type: ignore[arg-type]


Answer = tuple[Job, ...] | GridError
Nodes = Callable[..., None]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    """Have n1 and n2 know these runs, or not be asked; what comes later to those asked again."""
    rounds: list[tuple[Answer, ...]] = []

    def ask(nodes: object, ssh: object, question: Callable[..., object], **_: object) -> Iterator:
        told = rounds.pop(0) if len(rounds) > 1 else rounds[0]
        for node, answer in zip(NODES, told, strict=True):
            if isinstance(answer, GridError):
                answer.node = node.name
                yield Outcome(node, error=answer)
            elif question is lookup.client.list_jobs:
                yield Outcome(node, value=answer)
            else:
                yield Outcome(node, value=answer[-1] if answer else None)

    monkeypatch.setattr(lookup, "ask_all", ask)
    return lambda *told: rounds.extend(told)


@pytest.fixture
def warned() -> Iterator[list[str]]:
    heard: list[str] = []

    def listen(event: events.Event) -> None:
        if event.name == events.WARNING:
            heard.append(str(event.fields["message"]))

    with events.listening(listen):
        yield heard


DOWN = ConnectRefused("connection refused")


def test_the_newest_is_not_known_while_a_node_is_silent(answers):
    answers(((job(FIRST),), DOWN))
    for certain in (False, True):
        with pytest.raises(JobUnreachable, match="a newer run may be there") as caught:
            lookup.find(NODES, SSH, "@last", certain=certain)
        assert (caught.value.node, caught.value.exit_status) == ("n2", 125)
        assert FIRST in caught.value.hint


def test_a_part_of_an_id_is_taken_with_a_warning_while_a_node_is_silent(answers, warned):
    answers(((job(FIRST),), DOWN))
    assert lookup.find(NODES, SSH, "20261124").id == FIRST
    (warning,) = warned
    assert warning.startswith("n2: 20261124 may also match a run there")
    assert FIRST in warning
    with pytest.raises(JobUnreachable, match="may also match a run there"):
        lookup.find(NODES, SSH, "20261124", certain=True)


@pytest.mark.parametrize("text", ["", "-", "--help", "-f", "a b", "../x"])
def test_what_can_be_no_id_is_refused_before_a_node_is_asked(monkeypatch, text):
    monkeypatch.setattr(lookup, "ask_all", None)
    for find in (lookup.find, lookup.find_with_retry):
        with pytest.raises(UsageError, match="is not the id of a run"):
            find(NODES, SSH, text)


def test_only_a_part_that_says_enough_ends_a_run(answers):
    answers(((job(FIRST),), (job(SECOND, "n2"),)))
    with pytest.raises(UsageError, match="matches 2 runs"):
        lookup.find(NODES, SSH, FIRST[:8], certain=True)
    assert lookup.find(NODES, SSH, FIRST[:11], certain=True).id == FIRST
    assert lookup.find(NODES, SSH, "aaaa", certain=True).id == FIRST
    with pytest.raises(NoJob):
        lookup.find(NODES, SSH, "aaa")
    named = job("train-a")
    assert lookup.resolve_id((named,), "trai") is named


def test_a_short_beginning_finds_a_run_and_does_not_end_it(answers):
    answers(((job(FIRST),), ()))
    assert lookup.find(NODES, SSH, "2").id == FIRST
    with pytest.raises(UsageError, match="too short to name"):
        lookup.find(NODES, SSH, "2026112", certain=True)


def test_an_attempt_that_never_began_is_not_the_newest_run(answers):
    for reason in ("busy", "unconfirmed"):
        attempt = job(SECOND, state="refused", reason=reason)
        known = (job(FIRST), attempt)
        assert lookup.resolve_id(known, "@last").id == FIRST
        assert lookup.resolve_id(known, "20261124").id == FIRST
        assert lookup.resolve_id(known, SECOND) is attempt
        assert lookup.resolve_id((attempt,), "bbbb") is attempt
        with pytest.raises(NoJob):
            lookup.resolve_id((attempt,), "@last")
    failed = job(SECOND, state="refused", reason="error")
    assert lookup.resolve_id((job(FIRST), failed), "@last") is failed


def test_a_node_that_may_know_an_id_in_full_is_asked_until_it_answers(answers, warned):
    answers(((), DOWN), ((), DOWN), ((), (job(SECOND, "n2"),)))
    pauses: list[float] = []
    assert lookup.find_with_retry(NODES, SSH, SECOND, sleep=pauses.append).node == "n2"
    assert len(pauses) == 2
    assert warned == ["n2 cannot be reached: connection refused; trying again"]


def test_asking_again_ends_when_the_time_is_over(answers):
    answers(((), DOWN))
    with pytest.raises(RunTimeout, match=r"within 0\.1 s"):
        lookup.find_with_retry(NODES, SSH, SECOND, timeout=0.1)


@pytest.mark.parametrize(
    ("text", "error"), [("@last", DOWN), ("bbbb", DOWN), (SECOND, AuthenticationFailed("no login"))]
)
def test_nothing_is_asked_again_that_is_in_doubt_or_only_a_person_can_mend(answers, text, error):
    answers(((), error))
    with pytest.raises(JobUnreachable):
        lookup.find_with_retry(NODES, SSH, text, sleep=pytest.fail)


def test_nobody_waits_for_a_run_that_all_nodes_deny(answers):
    answers(((), ()))
    with pytest.raises(NoJob):
        lookup.find_with_retry(NODES, SSH, SECOND)


def test_a_list_has_what_has_not_ended_and_the_newest_that_have():
    ended = [job(f"a{n}", state="finished") for n in range(4)]
    attempt, active = job("b", state="refused", reason="busy"), job("0")
    known = (active, *ended, attempt)
    assert filter_jobs(known, ended=2) == ((active, *ended[2:]), 2)
    assert filter_jobs(known, ended=0) == ((active,), 4)
    assert filter_jobs(known) == (known, 0)
    assert filter_jobs(known, ("refused",), 2) == ((attempt,), 0)
    assert states(None) == ()
    assert states("running, timed out") == ("running", "timed out")
    with pytest.raises(UsageError, match="unknown state"):
        states("")


def test_no_run_begins_before_it_was_submitted():
    lines = [
        f"file 1000 10 '{FIRST}/sup' -> '1.x'",
        f"file 1000 10 '{FIRST}/child' -> '12.345'",
        f"file 1000 10 '{FIRST}/exit' -> '0.0.50.0.0.exit'",
    ]
    (found,) = jobs_from(lines, "n1").values()
    assert (found.submitted, found.started, found.ended) == (999.5, 999.5, 1000)
