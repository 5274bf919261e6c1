"""Lines and bars of characters; with `ascii` of such that every terminal has."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.,-=+*#"
EIGHTHS = "▏▎▍▌▋▊▉█"
OUT, ASCII_OUT = "×", "x"


def spark(
    values: Sequence[float | None],
    outages: Sequence[bool] = (),
    *,
    top: float = 100.0,
    ascii: bool = False,
) -> str:
    """A character a value, from 0 to `top`: a blank where none is known, a cross at an outage."""
    signs = ASCII_BLOCKS if ascii else BLOCKS
    out = ASCII_OUT if ascii else OUT
    marks = [*outages, *[False] * (len(values) - len(outages))]
    return "".join(
        out if mark else " " if value is None else signs[_step(value, top, len(signs))]
        for value, mark in zip(values, marks, strict=True)
    )


def _step(value: float, top: float, steps: int) -> int:
    share = value / top if top > 0 else 0.0
    return min(steps - 1, int(max(0.0, min(1.0, share)) * steps))


def bar(share: float, width: int, *, ascii: bool = False) -> str:
    """Bar of up to `width` characters for a share, 0 to 1; any share above 0 is seen."""
    share = max(0.0, min(1.0, share))
    if ascii:
        return "#" * (max(1, round(share * width)) if share > 0 else 0)
    full, rest = divmod(round(share * width * 8), 8)
    if share > 0 and not full:
        rest = max(1, rest)
    return "█" * full + (EIGHTHS[rest - 1] if rest else "")
