"""Trying again: how often, how long between, and what is never tried again."""

from __future__ import annotations

import io
from types import SimpleNamespace

import backoff
import pytest

from gridops import retry as module
from gridops.errors import (
    AuthenticationFailed,
    ConnectRefused,
    ConnectTimeout,
    GridError,
    HostKeyChanged,
    NodeError,
    TransferLost,
    UsageError,
)
from gridops.observe import events
from gridops.observe.log import setup_logging, shutdown_logging
from gridops.retry import RetryConfig, attempts, retry, without_waiting

EXACT = RetryConfig(jitter=False)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that only pauses move; `pauses` are those that were taken."""
    clock = SimpleNamespace(now=100.0, pauses=[])

    def sleep(seconds: float) -> None:
        clock.pauses.append(seconds)
        clock.now += seconds

    fake = SimpleNamespace(sleep=sleep, monotonic=lambda: clock.now)
    monkeypatch.setattr(module, "time", fake)
    monkeypatch.setattr(backoff._sync, "time", fake)
    return clock


@pytest.fixture
def told():
    found: list[events.Event] = []
    with events.listening(found.append):
        yield found


def as_function(config, exceptions, work):
    return retry(config, exceptions, what="work")(work)()


def as_block(config, exceptions, work):
    for attempt in attempts(config, exceptions, what="work"):
        with attempt:
            result = work()
    return result


both = pytest.mark.parametrize("run", [as_function, as_block])


class Work:
    """Fails with these, one after the other, then succeeds."""

    def __init__(self, *failures: BaseException, takes=lambda: None) -> None:
        self.failures = list(failures)
        self.calls = 0
        self.takes = takes

    def __call__(self) -> str:
        self.calls += 1
        self.takes()
        if self.failures:
            raise self.failures.pop(0)
        return "done"


def refused(number: int) -> list[BaseException]:
    return [ConnectRefused("refused", node="gpu01") for _ in range(number)]


def test_the_pause_doubles_up_to_the_longest():
    assert [EXACT.delay(n) for n in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_base_first_pause_and_longest_are_the_callers():
    config = RetryConfig(initial_delay=0.5, exponential_base=3, max_delay=5, jitter=False)
    assert [config.delay(n) for n in range(4)] == [0.5, 1.5, 4.5, 5]


def test_a_huge_attempt_number_does_not_overflow():
    assert EXACT.delay(100_000) == 60


def test_jitter_stays_within_a_quarter_either_way_and_uses_that_room():
    drawn = [RetryConfig().delay(3) for _ in range(2000)]
    assert 6.0 <= min(drawn) < 6.4
    assert 9.6 < max(drawn) <= 10.0


@both
def test_it_is_tried_again_until_it_succeeds(run, clock):
    work = Work(*refused(3))
    assert run(EXACT, ConnectRefused, work) == "done"
    assert (work.calls, clock.pauses) == (4, [1, 2, 4])


@both
def test_after_the_last_retry_the_last_error_is_raised(run, clock):
    failures = refused(9)
    work = Work(*failures)
    with pytest.raises(ConnectRefused) as caught:
        run(EXACT, ConnectRefused, work)
    assert caught.value is failures[3]
    assert (work.calls, clock.pauses) == (4, [1, 2, 4])


@both
def test_no_retries_means_one_attempt(run, clock):
    work = Work(*refused(1))
    with pytest.raises(ConnectRefused):
        run(RetryConfig(max_retries=0), ConnectRefused, work)
    assert (work.calls, clock.pauses) == (1, [])


@both
@pytest.mark.parametrize(
    "error",
    [AuthenticationFailed("no"), HostKeyChanged("other"), NodeError("exit 1"), UsageError("what")],
)
def test_what_cannot_pass_is_never_tried_again(run, clock, error, told):
    work = Work(error)
    with pytest.raises(type(error)):
        run(EXACT, GridError, work)
    assert (work.calls, clock.pauses, told) == (1, [], [])


@both
@pytest.mark.parametrize("error", [ConnectTimeout("slow"), TransferLost("code 12")])
def test_what_may_pass_is_tried_again_by_default(run, error):
    work = Work(error)
    assert run(EXACT, GridError, work) == "done"
    assert work.calls == 2


@both
def test_only_the_named_exceptions_are_tried_again(run, clock):
    work = Work(ConnectTimeout("slow"))
    with pytest.raises(ConnectTimeout):
        run(EXACT, (ConnectRefused, TransferLost), work)
    assert (work.calls, clock.pauses) == (1, [])


@both
def test_exceptions_of_the_callers_own_can_be_named(run):
    assert run(EXACT, (ValueError, OSError), Work(ValueError("x"), OSError("y"))) == "done"


@both
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupt_gets_through(run, clock, error):
    with pytest.raises(type(error)):
        run(EXACT, Exception, Work(error))
    assert clock.pauses == []


@both
def test_no_attempt_begins_after_max_elapsed(run, clock):
    work = Work(*refused(9))
    began = clock.now
    with pytest.raises(ConnectRefused):
        run(RetryConfig(max_retries=9, jitter=False, max_elapsed=5), ConnectRefused, work)
    assert clock.now - began <= 5
    assert clock.pauses == [1, 2, 2]


@both
def test_the_time_an_attempt_takes_counts_for_max_elapsed(run, clock):
    def takes() -> None:
        clock.now += 100

    work = Work(*refused(9), takes=takes)
    with pytest.raises(ConnectRefused):
        run(RetryConfig(max_elapsed=5), ConnectRefused, work)
    assert (work.calls, clock.pauses) == (1, [])


@both
def test_every_use_starts_with_the_first_pause(run, clock):
    run(EXACT, ConnectRefused, Work(*refused(2)))
    run(EXACT, ConnectRefused, Work(*refused(1)))
    assert clock.pauses == [1, 2, 1]


@both
def test_tests_need_not_wait(run, clock):
    with without_waiting():
        run(EXACT, ConnectRefused, Work(*refused(3)))
    assert sum(clock.pauses) == 0
    run(EXACT, ConnectRefused, Work(*refused(1)))
    assert sum(clock.pauses) == 1


@both
def test_each_failed_attempt_and_the_end_are_told(run, told):
    run(EXACT, ConnectRefused, Work(*refused(2)))
    why = {"error": "gpu01: refused", "reason": "ConnectRefused"}
    assert [(event.name, dict(event.fields)) for event in told] == [
        (events.RETRY, {"what": "work", "attempt": 1, "delay": 1.0, **why}),
        (events.RETRY, {"what": "work", "attempt": 2, "delay": 2.0, **why}),
        (events.RETRY_ENDED, {"what": "work", "attempts": 3, "ok": True, "error": None}),
    ]


@both
def test_giving_up_is_told_once(run, told):
    with pytest.raises(ConnectRefused):
        run(RetryConfig(max_retries=1, jitter=False), ConnectRefused, Work(*refused(2)))
    assert [event.name for event in told] == [events.RETRY, events.RETRY_ENDED]
    assert dict(told[-1].fields) == {
        "what": "work",
        "attempts": 2,
        "ok": False,
        "error": "gpu01: refused",
    }


@both
def test_success_at_once_is_not_worth_a_word(run, told):
    run(EXACT, ConnectRefused, Work())
    assert told == []


@both
def test_the_log_has_one_line_an_attempt_and_one_at_the_end(run):
    stream = io.StringIO()
    setup_logging("INFO", format="human", stream=stream)
    try:
        with pytest.raises(ValueError, match="odd"):
            run(
                RetryConfig(max_retries=2, jitter=False), ValueError, Work(*[ValueError("odd")] * 3)
            )
    finally:
        shutdown_logging()
    assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == [
        "WARNING work: attempt 1 failed: ValueError: odd; again in 1.0 s",
        "WARNING work: attempt 2 failed: ValueError: odd; again in 2.0 s",
        "WARNING work: given up after 3 attempts: ValueError: odd",
    ]


def test_the_decorated_function_keeps_its_name_arguments_and_result():
    @retry()
    def add(one: int, other: int = 2) -> int:
        "Adds."
        return one + other

    assert (add.__name__, add.__doc__, add(1, other=5)) == ("add", "Adds.", 6)


def test_it_is_named_after_the_function_unless_told_otherwise(told):
    @retry(EXACT, ConnectRefused)
    def connect(failures: list[BaseException]) -> None:
        if failures:
            raise failures.pop()

    connect(refused(1))
    assert told[0].fields["what"] == "connect"


def test_a_block_knows_its_attempt():
    numbers = []
    for attempt in attempts(EXACT, ConnectRefused):
        with attempt:
            numbers.append(attempt.number)
            if attempt.number < 3:
                raise ConnectRefused("refused")
    assert numbers == [1, 2, 3]


@pytest.mark.parametrize(
    "bad",
    [
        {"max_retries": -1},
        {"initial_delay": -0.1},
        {"max_delay": -1},
        {"exponential_base": 0.5},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(bad):
    with pytest.raises(UsageError):
        RetryConfig(**bad)
