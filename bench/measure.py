"""Whole processes, measured in turn: a round runs every contender once, so that a machine that
slows down slows all of them; what counts is the ratio within a round."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

TIMEOUT = 120.0  # seconds for one run

# Nobody is to compile Python's modules anew in every run.
_ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Contender:
    """One tool at one workload."""

    name: str
    argv: Sequence[str]
    before: Callable[[], None] = lambda: None  # not measured
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    statuses: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Sample:
    seconds: float
    cpu: float  # seconds, user and system, of the process and its children
    peak_mib: float  # the largest single process


def run_once(contender: Contender) -> Sample:
    """Raises RuntimeError when the run fails: a tool that does not do the work is not fast."""
    contender.before()
    began = time.perf_counter()
    child = subprocess.Popen(
        contender.argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**_ENVIRONMENT, **contender.env},
        cwd=contender.cwd,
    )
    drained = _Drain(child)
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in contender.statuses:
        raise RuntimeError(
            f"{contender.name} ended with {child.returncode}: {drained.last_words()}"
        )
    drained.close()
    scale = 1024 * (1024 if sys.platform == "darwin" else 1)
    return Sample(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / scale)


class _Drain:
    """Reads and forgets a child's output, but for the end of its stderr."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        import threading

        self._tail = b""
        self._child = child
        self._threads = [
            threading.Thread(target=self._forget, daemon=True),
            threading.Thread(target=self._keep, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _forget(self) -> None:
        while self._child.stdout and os.read(self._child.stdout.fileno(), 1 << 20):
            pass

    def _keep(self) -> None:
        while self._child.stderr and (data := os.read(self._child.stderr.fileno(), 1 << 16)):
            self._tail = (self._tail + data)[-2000:]

    def last_words(self) -> str:
        self.close()
        return self._tail.decode(errors="replace")

    def close(self) -> None:
        for thread in self._threads:
            thread.join(5)
        for stream in (self._child.stdout, self._child.stderr):
            if stream:
                stream.close()


@dataclass(frozen=True)
class Result:
    """A workload's samples, one list a contender, in the order of the rounds."""

    title: str
    samples: Mapping[str, Sequence[Sample]]

    def median(self, name: str) -> float:
        return statistics.median(s.seconds for s in self.samples[name])

    def percentile(self, name: str, percent: int) -> float:
        return statistics.quantiles((s.seconds for s in self.samples[name]), n=100)[percent - 1]

    def peak(self, name: str) -> float:
        return max(s.peak_mib for s in self.samples[name])

    def ratio(self, name: str, others: Sequence[str], beyond: str = "") -> float:
        """Median over the rounds of `name` against the fastest of `others` in that round.

        With `beyond`, of what `name` takes longer than that contender.
        """
        rounds = range(len(self.samples[name]))
        base = [s.seconds for s in self.samples[beyond]] if beyond else [0.0] * len(rounds)
        return statistics.median(
            (self.samples[name][i].seconds - base[i])
            / min(self.samples[o][i].seconds for o in others)
            for i in rounds
        )

    def over_sum(self, name: str, others: Sequence[str]) -> float:
        """Median over the rounds of `name` against the sum of `others` in that round."""
        ours, theirs = self.samples[name], zip(*(self.samples[o] for o in others), strict=True)
        return statistics.median(
            one.seconds / sum(s.seconds for s in them)
            for one, them in zip(ours, theirs, strict=True)
        )

    def above(self, name: str, other: str) -> float:
        """Median over the rounds of how many seconds `name` takes beyond `other`."""
        pairs = zip(self.samples[name], self.samples[other], strict=True)
        return statistics.median(one.seconds - them.seconds for one, them in pairs)


def compare(title: str, contenders: Sequence[Contender], rounds: int) -> Result:
    """Run every contender once for practice, then `rounds` times in turn."""
    samples: dict[str, list[Sample]] = {c.name: [] for c in contenders}
    for number in range(rounds + 1):
        for contender in contenders:
            sample = run_once(contender)
            if number:
                samples[contender.name].append(sample)
    return Result(title, samples)
