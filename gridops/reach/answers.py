"""Answers of nodes: bounded while they come, checked when they are read.

A node may be broken or hostile, so nothing that it sends is believed. Numbers are read by `whole`
and `real`, JSON by `document` and `Fields`, lines by `Lines`, whose `Limit` ends an answer that
does not end by itself. Whoever reads an answer of many records checks each by itself, so that a bad
one hides no other.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from gridops.errors import UnreadableAnswer

MAX_COUNT = 1 << 62  # larger than any honest figure
MAX_TIME = 253402300799  # Unix time: the end of the year 9999
MAX_TEXT = 64 * 1024  # characters of one text
MAX_LINE = 128 * 1024  # bytes of a line that are kept; the rest of it is dropped
SHOWN_LENGTH = 40  # characters of a wrong value that a message shows

MAX_VALUES = 500_000  # of a JSON document: an empty list takes two bytes there, here sixty

_SURROGATE = "[\ud800-\udfff]"
_UNPAIRED = "[\ud800-\udc7f\udd00-\udfff]"  # the rest stands for undecodable bytes


def whole(text: str, most: int = MAX_COUNT) -> int:
    """A whole number from 0 to `most`, in plain digits. Raises ValueError."""
    if not (text.isascii() and text.isdigit() and len(text) < 20) or int(text) > most:
        raise ValueError(f"{text[:SHOWN_LENGTH]!r} is not a number from 0 to {most}")
    return int(text)


def real(text: str, most: float = math.inf) -> float:
    """A finite number from 0 to `most`. Raises ValueError."""
    value = float(text[:400])
    if not (math.isfinite(value) and 0 <= value <= most):
        raise ValueError(f"{text[:SHOWN_LENGTH]!r} is not a number from 0 to {most:g}")
    return value


def document(text: bytes | str, what: str = "its answer") -> Any:
    """The JSON value that `text` is. Raises UnreadableAnswer, which says `what` is none."""
    marks: tuple[Any, ...] = (b",", b"[", b"{") if isinstance(text, bytes) else (",", "[", "{")
    if sum(map(text.count, marks)) > MAX_VALUES:
        raise UnreadableAnswer(f"{what} has more than {MAX_VALUES} values")
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise UnreadableAnswer(f"{what} is nested too deeply") from None
    except ValueError as exc:
        raise UnreadableAnswer(f"{what} is not JSON: {str(exc)[:100]}") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


class Fields:
    """A JSON object with typed values; one that is missing or null counts as empty.

    Every method raises UnreadableAnswer for a value of another type, or out of its range.
    """

    def __init__(self, value: object, what: str = "its answer") -> None:
        """Wrap `value`; `what` is its name in messages."""
        self._what = what
        if not isinstance(value, dict):
            raise self._wrong(what, value, "an object")
        self._values: Mapping[str, object] = value

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def text(self, key: str, longest: int = MAX_TEXT) -> str:
        value = self._values.get(key)
        return "" if value is None else self._text(key, value, longest)

    def os_text(self, key: str, longest: int = MAX_TEXT) -> str:
        """A text with its undecodable bytes kept, for `os.fsencode` to give back."""
        value = self._values.get(key)
        return "" if value is None else self._text(key, value, longest, _UNPAIRED)

    def whole(self, key: str, most: int = MAX_COUNT, least: int = 0) -> int | None:
        """A number from `least` to `most`."""
        value = self._values.get(key)
        if value is None:
            return None
        if type(value) is int and least <= value <= most:
            return value
        raise self._wrong(key, value, f"a whole number from {least} to {most}")

    def real(self, key: str, most: float = 1e18) -> float | None:
        """A finite number from 0 to `most`."""
        value = self._values.get(key)
        return None if value is None else self._real(key, value, most)

    def flag(self, key: str) -> bool:
        value = self._values.get(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self._wrong(key, value, "true or false")

    def inner(self, key: str) -> Fields:
        value = self._values.get(key)
        return Fields({} if value is None else value, f"{self._what}: {key}")

    def items(self, key: str, most: int = 100_000) -> list[object]:
        """A list of at most `most` values, of any types."""
        value = self._values.get(key)
        if value is None:
            return []
        if isinstance(value, list) and len(value) <= most:
            return value
        raise self._wrong(key, value, f"a list of up to {most}")

    def objects(self, key: str, most: int = 100_000) -> Iterator[Fields]:
        return (Fields(item, f"{self._what}: {key}") for item in self.items(key, most))

    def texts(self, key: str, most: int = 100_000) -> tuple[str, ...]:
        return tuple(self._text(key, item, MAX_TEXT) for item in self.items(key, most))

    def wholes(self, key: str, most: int = MAX_COUNT) -> tuple[int, ...]:
        items = self.items(key)
        if any(type(item) is not int or not 0 <= item <= most for item in items):
            raise self._wrong(key, items, f"a list of numbers up to {most}")
        return tuple(items)  # type: ignore[arg-type]

    def text_values(self, longest: int = MAX_TEXT) -> dict[str, str]:
        """The whole object, with texts as values."""
        return {
            self._text("a name", key, longest): self._text(key, value, longest)
            for key, value in self._values.items()
        }

    def real_values(self, most: float = 1e18) -> dict[str, float]:
        """The whole object, with numbers as values."""
        return {
            self._text("a name", key, MAX_TEXT): self._real(key, value, most)
            for key, value in self._values.items()
        }

    def object_values(self) -> dict[str, Fields]:
        """The whole object, with objects as values."""
        return {
            self._text("a name", key, MAX_TEXT): Fields(value, f"{self._what}: {key[:40]}")
            for key, value in self._values.items()
        }

    def _text(self, key: str, value: object, longest: int, unfit: str = _SURROGATE) -> str:
        if not isinstance(value, str) or len(value) > longest or "\0" in value:
            raise self._wrong(key, value, f"a text of up to {longest} characters")
        return value if value.isascii() else re.sub(unfit, "\N{REPLACEMENT CHARACTER}", value)

    def _real(self, key: str, value: object, most: float) -> float:
        if type(value) in (int, float) and 0 <= value <= most:  # type: ignore[operator]
            return float(value)  # type: ignore[arg-type]
        raise self._wrong(key, value, f"a number up to {most:g}")

    def _wrong(self, key: str, value: object, wanted: str) -> UnreadableAnswer:
        where = key if key == self._what else f"{self._what}: {key[:SHOWN_LENGTH]}"
        return UnreadableAnswer(f"{where} is {_describe(value)}, not {wanted}")


def _describe(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, int) and not -MAX_COUNT < value < MAX_COUNT:
        return "a huge number"  # Python refuses to write out what is longer than 4300 digits
    shown = repr(value[:SHOWN_LENGTH] if isinstance(value, str) else value)
    return shown if len(shown) <= SHOWN_LENGTH else f"{shown[:SHOWN_LENGTH]}…"


@dataclass(frozen=True, slots=True)
class Limit:
    """The size of an answer that is still taken; `rate` is lines a second that come on top."""

    lines: int
    bytes: int
    rate: float = 0.0


class Meter:
    """Count of an answer's lines and bytes against its Limit."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._lines = 0
        self._bytes = 0
        self._began = time.monotonic()

    def add(self, lines: int, count: int) -> None:
        """Count further lines and bytes. Raises UnreadableAnswer when that is too much."""
        self._lines += lines
        self._bytes += count
        limit = self._limit
        if self._lines <= limit.lines and self._bytes <= limit.bytes:
            return
        if limit.rate:  # so much time, so much more of both
            factor = 1 + limit.rate * (time.monotonic() - self._began) / limit.lines
            if self._lines <= factor * limit.lines and self._bytes <= factor * limit.bytes:
                return
        raise UnreadableAnswer(
            f"its answer does not end ({self._lines} lines, {self._bytes} bytes)",
            hint="a script that gridops placed there may have been replaced or changed",
        )


class Lines:
    """A sink that hands on lines, as far as `limit` goes.

    Each is cut at MAX_LINE bytes. Raises UnreadableAnswer beyond the limit.
    """

    def __init__(self, on_line: Callable[[bytes], None], limit: Limit) -> None:
        self._on_line = on_line
        self._meter = Meter(limit)
        self._line = bytearray()

    def __call__(self, data: bytes) -> None:
        *whole_lines, rest = data.split(b"\n")
        self._meter.add(len(whole_lines), len(data))
        for part in whole_lines:
            line = bytes(self._line + part[: MAX_LINE - len(self._line)])
            self._line.clear()
            self._on_line(line)
        self._line += rest[: MAX_LINE - len(self._line)]

    @property
    def rest(self) -> bytes:
        """The line that has not ended."""
        return bytes(self._line)
