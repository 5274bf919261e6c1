"""Retries on the backoff library: only where one may help, with growing and jittered pauses.

What is retried is a cause that gridops knows as transient (`GridError.transient`) or an exception
of the caller's own that the caller names; never a command that ran and failed, a refused login or a
host key that does not match.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from types import TracebackType
from typing import TypeVar

from gridops.errors import GridError, UsageError
from gridops.observe import events

R = TypeVar("R")

JITTER = 0.25  # a delay is multiplied by something between 1 - JITTER and 1 + JITTER
Exceptions = type[Exception] | tuple[type[Exception], ...]

_waiting = True


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """Number of retries and the pauses between them; delays in seconds.

    The pause after attempt n (from 0) is `min(initial_delay * exponential_base**n, max_delay)`,
    times a random factor within ±25 % when `jitter` is on. `max_elapsed` bounds the whole: no
    attempt begins later than that many seconds after the first one began.
    """

    max_retries: int = 3
    initial_delay: float = 1.0
    max_delay: float = 60.0
    exponential_base: float = 2.0
    jitter: bool = True
    max_elapsed: float | None = None

    def __post_init__(self) -> None:
        if self.max_retries < 0 or self.initial_delay < 0 or self.max_delay < 0:
            raise UsageError("max_retries, initial_delay and max_delay cannot be negative")
        if self.exponential_base < 1:
            raise UsageError("exponential_base must be at least 1")

    @classmethod
    def of(cls, settings: object) -> RetryConfig:
        """Build it from a section of settings (`inventory.settings.RetrySettings`)."""
        return cls(**{one.name: getattr(settings, one.name) for one in fields(cls)})

    def delay(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt` (from 0)."""
        try:
            grown = self.initial_delay * self.exponential_base**attempt
        except OverflowError:
            grown = self.max_delay
        factor = random.uniform(1 - JITTER, 1 + JITTER) if self.jitter else 1.0
        return min(grown, self.max_delay) * factor


def retry(
    config: RetryConfig | None = None, exceptions: Exceptions = GridError, *, what: str = ""
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """A decorator: call the function again while it raises one of `exceptions` that may pass.

    The last exception is raised as it is. `what` names the work in the events (default: the
    function's name).
    """
    settings = config or RetryConfig()

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        name = what or getattr(function, "__name__", "call")

        @functools.wraps(function)
        def call(*args: object, **kwargs: object) -> R:
            import backoff  # imports asyncio: only where something is really called

            # backoff's own max_time leaves out how long the last attempt took
            left = _time_left(settings)
            return backoff.on_exception(
                functools.partial(_delays, settings, left),
                exceptions,
                max_tries=settings.max_retries + 1,
                jitter=None,
                giveup=lambda exc: not _may_pass(exc) or left() <= 0,
                on_backoff=lambda d: _say_again(name, d["tries"], d["wait"], d["exception"]),
                on_giveup=lambda d: _report_given_up(name, d["tries"], d["exception"]),
                on_success=lambda d: _say_success(name, d["tries"]),
                logger=None,
            )(function)(*args, **kwargs)

        return call

    return decorate


class Attempt:
    """One try of a block; `number` counts from 1."""

    def __init__(self, number: int, forgive: Callable[[BaseException], bool]) -> None:
        self.number = number
        self.ok = False
        self._forgive = forgive

    def __enter__(self) -> Attempt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        self.ok = exc is None
        return exc is not None and self._forgive(exc)


def attempts(
    config: RetryConfig | None = None,
    exceptions: Exceptions = GridError,
    *,
    unless: Exceptions = (),
    what: str = "block",
) -> Iterator[Attempt]:
    """Retry a block of code that is not a function:

    for attempt in attempts(config, ConnectRefused):
        with attempt:
            ...

    `unless` are those of `exceptions` that end it here though they may pass.
    """
    settings = config or RetryConfig()
    left = _time_left(settings)
    pause = 0.0

    def forgive(exc: BaseException) -> bool:
        """True if one more try follows; plans the pause before it."""
        nonlocal pause
        if not isinstance(exc, exceptions) or isinstance(exc, unless) or not _may_pass(exc):
            return False
        if tries > settings.max_retries or left() <= 0:
            _say_end(what, tries, exc)
            return False
        pause = _pause(settings, tries - 1, left)
        _say_again(what, tries, pause, exc)
        return True

    for tries in itertools.count(1):
        attempt = Attempt(tries, forgive)
        yield attempt
        if attempt.ok:
            _say_success(what, tries)
            return
        time.sleep(pause)


@contextmanager
def without_waiting() -> Iterator[None]:
    """Make pauses zero inside the block: for tests."""
    global _waiting
    before, _waiting = _waiting, False
    try:
        yield
    finally:
        _waiting = before


def _time_left(config: RetryConfig) -> Callable[[], float]:
    """Seconds of `max_elapsed` that are left, counted from now."""
    if config.max_elapsed is None:
        return lambda: math.inf
    end = time.monotonic() + config.max_elapsed
    return lambda: end - time.monotonic()


def _pause(config: RetryConfig, attempt: int, left: Callable[[], float]) -> float:
    return max(0.0, min(config.delay(attempt), left())) if _waiting else 0.0


def _delays(config: RetryConfig, left: Callable[[], float]) -> Generator[float, None, None]:
    """backoff's wait generator: primed by one send, then a delay a failed attempt."""
    yield 0.0
    for attempt in itertools.count():
        yield _pause(config, attempt, left)


def _may_pass(exc: BaseException) -> bool:
    return exc.transient if isinstance(exc, GridError) else True


def _say_again(what: str, tries: int, pause: float, exc: BaseException) -> None:
    events.emit(
        events.RETRY,
        what=what,
        attempt=tries,
        delay=round(pause, 3),
        error=_brief(exc),
        reason=type(exc).__name__,
    )


def _say_end(what: str, tries: int, exc: BaseException) -> None:
    events.emit(events.RETRY_ENDED, what=what, attempts=tries, ok=False, error=_brief(exc))


def _report_given_up(what: str, tries: int, exc: BaseException) -> None:
    if _may_pass(exc):  # else it was never a matter of trying again
        _say_end(what, tries, exc)


def _say_success(what: str, tries: int) -> None:
    if tries > 1:
        events.emit(events.RETRY_ENDED, what=what, attempts=tries, ok=True, error=None)


def _brief(exc: BaseException) -> str:
    return str(exc) if isinstance(exc, GridError) else f"{type(exc).__name__}: {exc}"
