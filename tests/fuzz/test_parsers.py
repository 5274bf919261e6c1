"""Whatever a node sends, its readers raise GridError and nothing else, in bounded memory.

`make fuzz` feeds each 5000 inputs; here it is a small, seeded share.
"""

from __future__ import annotations

import os
import time
import tracemalloc
from contextlib import suppress

import pytest
from fuzz.mutator import mutated
from fuzz.parsers import PARSERS

from gridops.errors import GridError

INPUTS = int(os.environ.get("GRIDOPS_FUZZ_INPUTS", "60"))
SEED = int(os.environ.get("GRIDOPS_FUZZ_SEED", "1"))
LONG = INPUTS > 1000
LONGEST = 5.0  # seconds of CPU for one answer
MEMORY = 64 * 1024 * 1024  # bytes
CHUNK = 64 * 1024


@pytest.mark.parametrize("name", PARSERS)
def test_a_real_answer_is_read(name: str) -> None:
    read = [_fault(name, data) for data in PARSERS[name].seeds]
    assert None in read or name in ("rsync complaints", "ssh's words")


@pytest.mark.parametrize("name", PARSERS)
def test_a_mutated_answer_raises_nothing_but_grid_error(name: str) -> None:
    seed = SEED * 1000 + list(PARSERS).index(name)
    for number, data in enumerate(mutated(PARSERS[name].seeds, INPUTS, seed)):
        began = time.process_time()
        try:
            _fault(name, data)
        except Exception as exc:
            raise AssertionError(f"input {number} of seed {seed}: {data[:2000]!r}") from exc
        assert time.process_time() - began < LONGEST, (number, seed)


def _fault(name: str, data: bytes) -> GridError | None:
    try:
        PARSERS[name].read(data)
        return None
    except GridError as exc:
        fault = exc
    assert len(str(fault)) < 5000, fault
    return fault


ENDLESS = [
    pytest.param(name, unit, id=f"{name}-{unit[:12]!r}")
    for name, parser in PARSERS.items()
    for unit in (parser.endless if LONG else parser.endless[:1])
]


@pytest.mark.parametrize(("name", "unit"), ENDLESS)
def test_an_endless_answer_takes_bounded_memory(name: str, unit: bytes) -> None:
    parser = PARSERS[name]
    assert parser.chunks is not None
    tracemalloc.start()
    try:
        sink = parser.chunks()
        chunk = unit * (CHUNK // len(unit))
        with suppress(GridError):
            for _ in range(2000 if LONG else 5):
                sink(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEMORY, peak
