"""Samples as evenly spaced points, for lines that are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gridops.observe.rows import Sample

TREND_MIN_AGE, TREND_MAX_AGE = 600.0, 6 * 3600.0  # seconds a trend spans, unless told otherwise

Value = Callable[[Sample], float | None]


@dataclass(frozen=True, slots=True)
class Span:
    """Time from `start` to `end`, in `count` equal parts. Both are seconds since the epoch."""

    start: float
    end: float
    count: int

    def part(self, at: float) -> int | None:
        """Index of the part that a moment belongs to; None outside."""
        if not self.start <= at <= self.end:
            return None
        return min(self.count - 1, int((at - self.start) / (self.end - self.start) * self.count))


def span(history: Mapping[str, Sequence[Sample]], end: float, count: int) -> Span:
    """Span from the oldest sample to `end`, within limits."""
    oldest = min((samples[0].at for samples in history.values() if samples), default=end)
    return Span(end - min(TREND_MAX_AGE, max(TREND_MIN_AGE, end - oldest)), end, count)


class Trend:
    """One node's samples, placed in the parts of a span."""

    def __init__(self, samples: Iterable[Sample], over: Span) -> None:
        placed = ((over.part(sample.at), sample) for sample in samples)
        self._count = over.count
        self._placed = [(part, sample) for part, sample in placed if part is not None]

    def __bool__(self) -> bool:
        return bool(self._placed)

    def means(self, value: Value) -> list[float | None]:
        """The mean of each part; None for a part without a figure."""
        sums, counts = [0.0] * self._count, [0] * self._count
        for part, sample in self._placed:
            figure = value(sample)
            if figure is not None:
                sums[part] += figure
                counts[part] += 1
        return [total / many if many else None for total, many in zip(sums, counts, strict=True)]

    def outages(self) -> list[bool]:
        """True for parts in which the node was unreachable at least once."""
        found = [False] * self._count
        for part, sample in self._placed:
            found[part] |= sample.state == "unreachable"
        return found
