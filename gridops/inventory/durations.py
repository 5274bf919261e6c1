"""Parser of durations as people write them."""

from __future__ import annotations

import re

TIME_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
YEAR = 366 * TIME_UNITS["d"]

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_DURATION = re.compile(rf"\s*(?:{_PART.pattern}\s*)+", re.IGNORECASE)
_HELP = "a duration: seconds, or text such as 90s, 10m or 1h30m"


def parse_duration(value: object) -> float:
    """Seconds from `90`, `"90"`, `"1.5h"`, `"10m"` or `"1h30m"`; raises ValueError."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            if not _DURATION.fullmatch(value):
                raise ValueError(f"should be {_HELP}") from None
        return sum(float(n) * TIME_UNITS[unit] for n, unit in _PART.findall(value.lower()))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"should be {_HELP}")
