"""Answers with faults in them, made of real ones by a seeded random generator."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

NUMBER = re.compile(rb"\d+")
STRING = re.compile(rb'"[^"]*"')
TOKENS = (
    *(b"", b"\0", b"\n", b"\r", b"\xff\xfe", b"\x1b[2J", b" ", b'"', b"'", b"{", b"}", b"]", b","),
    *(b"null", b"true", b"NaN", b"Infinity", b"1e999", b"-1", b"0", b"007", b"0x1f", b"5.5"),
    *(b"9" * 19, b"9" * 40, b"9" * 5000, b"-" + b"9" * 5000, "٣".encode(), b"1_000"),
    *(b"[" * 50_000, b'{"a":' * 20_000, b'"\\ud800"', b'"\\u0000"', b"\xed\xa0\x80", b"[]", b"{}"),
    *(b"done\n", b"end\n", b"state x running\n", b"out 0 5\n", b"out 0 " + b"9" * 30 + b"\n"),
    *(b"unsupported\n", b"unwritable x\n", b"# ==> a/spec/run <==\n", b"==", b"..", b"/", b"../"),
    *(b"x" * 5000, b"x" * 200_000, b"a b " * 1000, b"%", b"100%", b",,,", b" -> ", b'" -> "'),
)


def mutated(seeds: Sequence[bytes], count: int, seed: int = 1) -> Iterator[bytes]:
    """`count` answers, the same for the same `seed`."""
    rng = random.Random(seed)
    for _ in range(count):
        data = rng.choice(seeds)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            data = rng.choice(WAYS)(rng, data, seeds)
        yield data


def _place(rng: random.Random, data: bytes) -> tuple[int, int]:
    begin = rng.randint(0, len(data))
    return begin, min(len(data), begin + rng.choice((0, 1, 2, 8, 64, 512)))


def _flip(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 16))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _insert(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    begin, end = _place(rng, data)
    return data[:begin] + rng.choice(TOKENS) + data[rng.choice((begin, end)) :]


def _replace(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """A number or a string by something else."""
    found = list(rng.choice((NUMBER, STRING)).finditer(data))
    if not found:
        return data
    one = rng.choice(found)
    return data[: one.start()] + rng.choice(TOKENS) + data[one.end() :]


def _cut(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    begin, end = _place(rng, data)
    return data[:begin] if rng.random() < 0.5 else data[:begin] + data[end:]


def _repeat(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    begin, end = _place(rng, data)
    return data[:begin] + data[begin:end] * rng.choice((2, 3, 100)) + data[end:]


def _line(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Lines dropped, doubled, swapped, or another answer's among them."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    other = rng.choice(rng.choice(seeds).split(b"\n"))
    lines[at : at + 1] = rng.choice(([], [lines[at]] * 2, [other], [other, lines[at]]))
    if rng.random() < 0.3:
        rng.shuffle(lines)
    return b"\n".join(lines)


WAYS = (_flip, _insert, _insert, _replace, _replace, _replace, _cut, _repeat, _line)
