"""Geometry of the page's drawings, in units of their SVG; `macros.html` draws them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

STEP = 5  # units between two points of a trend
HEIGHT = 100  # units of a trend
MAX_BRIDGED = 3  # parts without a figure that a trend crosses
WARM, HOT = 70.0, 90.0  # percent


@dataclass(frozen=True, slots=True)
class TrendLine:
    """A line from 0 to 100: gaps where nothing is known, marks where nobody answered."""

    width: int
    outages: Sequence[tuple[int, int]]  # start and width of each mark
    stretches: Sequence[tuple[str, str]]  # paths of each: the line, and the area below or ""


def fill(percent: float | None) -> float:
    """The part of a bar that is filled, 0 to 100; 0 where it is not known."""
    return max(0.0, min(100.0, percent or 0.0))


def heat(percent: float | None) -> str:
    """A class, with a space in front: ` hot`, ` warm` or none."""
    return "" if percent is None or percent < WARM else " hot" if percent >= HOT else " warm"


def trend_line(values: Sequence[float | None], outages: Sequence[bool]) -> TrendLine:
    stretches = [_paths(points) for points in _stretches(values, outages)]
    return TrendLine(max(1, len(values)) * STEP, list(_marks(outages)), stretches)


def _paths(points: Sequence[tuple[int, int]]) -> tuple[str, str]:
    """The line through the points and the area below it; a dot has none."""
    path = "L".join(f"{x} {y}" for x, y in points)
    if len(points) == 1:
        return f"M{path}h.01", ""
    return f"M{path}", f"M{points[0][0]} {HEIGHT}L{path}L{points[-1][0]} {HEIGHT}z"


def _stretches(
    values: Sequence[float | None], outages: Sequence[bool]
) -> Iterator[list[tuple[int, int]]]:
    """The points of each stretch: one ends at an outage, or where nobody looked for a while."""
    points: list[tuple[int, int]] = []
    unseen = 0
    for number, (value, out) in enumerate(zip(values, outages, strict=True)):
        unseen += 1
        if points and (out or unseen > MAX_BRIDGED):
            yield points
            points = []
        if value is not None and not out:
            points.append((number * STEP + STEP // 2, round(HEIGHT - fill(value) * 0.96) - 2))
            unseen = 0
    if points:
        yield points


def _marks(outages: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Start and width of each stretch of outages."""
    x = 0
    for out, parts in groupby(outages):
        width = len(list(parts)) * STEP
        if out:
            yield x, width
        x += width
