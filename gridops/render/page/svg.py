"""Bars, lines and signs, as SVG inside the page.

All of it is for the eye alone (aria-hidden): the figures stand beside it as text. Widths are
attributes, since the page's policy allows no inline style.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from gridops.render.page.html import Html, element

STEP = 5  # units between two points of a line
TALL = 100  # units of a line's full height
BRIDGED = 3  # parts without a figure that a line crosses
FOOT = 8  # units that an outage's mark is high
WARM, HOT = 70.0, 90.0  # percent

SIGNS = {
    "good": "M4 8.5 7 11.5 12 5",
    "warn": "M8 4.5v4.5M8 11.5v.2",
    "bad": "M5 5l6 6M11 5l-6 6",
    "busy": "M6 4.8v6.4L11 8z",
    "none": "M5 8h6",
}
FRAMES = {"warn": "M8 1 15.5 14.5H.5z"}
CIRCLE = "M8 .5a7.5 7.5 0 1 1 0 15 7.5 7.5 0 1 1 0-15z"


def sign(kind: str) -> Html:
    """A state as a shape: good, warn, bad, busy or none."""
    frame = element("path", class_="frame", d=FRAMES.get(kind, CIRCLE))
    mark = element("path", class_="mark", d=SIGNS[kind])
    return _svg("sign " + kind, "0 0 16 16", frame, mark, stretched=False)


def heat(percent: float) -> str:
    return " hot" if percent >= HOT else " warm" if percent >= WARM else ""


def bar(percent: float | None, *, calm: bool = False) -> Html:
    """A horizontal bar, full at 100; a `calm` one never warns."""
    fill = _within(percent or 0.0)
    return _svg("bar" + ("" if calm else heat(fill)), "0 0 100 1", _rect(0, 0, f"{fill:.1f}", 1))


def columns(percents: Sequence[float | None]) -> Html:
    """An upright bar for each value, side by side."""
    drawn: list[Html] = []
    for number, percent in enumerate(percents):
        fill = _within(percent or 0.0)
        x = number * 10
        drawn.append(_rect(x, 0, 8, 28, class_="rest"))
        high = 28 * fill / 100
        drawn.append(
            _rect(x, f"{28 - high:.1f}", 8, f"{high:.1f}", class_=("fill" + heat(fill)).strip())
        )
    wide = max(8, len(percents) * 10 - 2)
    return _svg("columns", f"0 0 {wide} 28", *drawn, stretched=False, width=wide, height=28)


def split(parts: Sequence[tuple[str, int]]) -> Html:
    """One bar in which every (kind, count) has its share."""
    total = sum(count for _, count in parts) or 1
    drawn, x = [], 0.0
    for kind, count in parts:
        wide = 100 * count / total
        drawn.append(_rect(f"{x:.2f}", 0, f"{wide:.2f}", 1, class_=kind))
        x += wide
    return _svg("split", "0 0 100 1", *drawn)


def line(values: Sequence[float | None], outages: Sequence[bool]) -> Html:
    """A line from 0 to 100. It has gaps where nothing is known, marks where nobody answered."""
    drawn = [_rect(x, TALL - FOOT, wide, FOOT, class_="out") for x, wide in _marks(outages)]
    for points in _pieces(values, outages):
        path = "L".join(f"{x} {y}" for x, y in points)
        if len(points) == 1:
            drawn.append(element("path", class_="line dot", d=f"M{path}h.01"))
            continue
        area = f"M{points[0][0]} {TALL}L{path}L{points[-1][0]} {TALL}z"
        drawn.append(element("path", class_="area", d=area))
        drawn.append(element("path", class_="line", d=f"M{path}"))
    return _svg("trend", f"0 0 {max(1, len(values)) * STEP} {TALL}", *drawn)


def _pieces(
    values: Sequence[float | None], outages: Sequence[bool]
) -> Iterator[list[tuple[int, int]]]:
    """The points of each stretch: one ends at an outage, or where nobody looked for a while."""
    points: list[tuple[int, int]] = []
    unseen = 0
    for number, (value, out) in enumerate(zip(values, outages, strict=True)):
        unseen += 1
        if points and (out or unseen > BRIDGED):
            yield points
            points = []
        if value is not None and not out:
            points.append((number * STEP + STEP // 2, round(TALL - _within(value) * 0.96) - 2))
            unseen = 0
    if points:
        yield points


def _marks(outages: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Start and width of each stretch of outages."""
    x = 0
    for out, parts in groupby(outages):
        wide = len(list(parts)) * STEP
        if out:
            yield x, wide
        x += wide


def _within(percent: float) -> float:
    return max(0.0, min(100.0, percent))


def _rect(x: object, y: object, width: object, height: object, **more: object) -> Html:
    return element("rect", x=x, y=y, width=width, height=height, **more)


def _svg(
    class_: str, box: str, *children: Html, stretched: bool = True, **attributes: object
) -> Html:
    ratio = "none" if stretched else None
    return element(
        "svg", *children, class_=class_, viewBox=box, preserveAspectRatio=ratio,
        aria_hidden="true", focusable="false", **attributes,
    )  # fmt: skip
