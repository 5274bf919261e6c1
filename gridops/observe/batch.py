"""Batch of a process' additions to the store: sums, not single events, so that it stays small."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from gridops.observe.rows import NodeRecord, RunRow, RunState, Sample

Series = tuple[str, str, str]  # family, labels (a JSON list of their values), part of a histogram
SAMPLES = 20_000  # that wait to be written at most, when the store cannot be


def labels(*values: str) -> str:
    return json.dumps([plain(value) for value in values], ensure_ascii=False)


def plain(text: str) -> str:
    """The text as any encoder takes it: bytes of a command line that are no UTF-8 are spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


class Ending(NamedTuple):
    """The end of a run that another process may have started."""

    state: RunState
    status: int | None
    seconds: float | None
    error: str = ""


class Batch:
    """Sums and newest states; `absorb` puts one after another."""

    def __init__(self) -> None:
        self.totals: dict[Series, float] = {}  # to be added
        self.stamps: dict[tuple[str, str], float] = {}  # the newest counts
        self.nodes: dict[str, NodeRecord] = {}
        self.samples: dict[tuple[int, str], Sample] = {}  # by minute and node
        self.runs: dict[str, RunRow] = {}
        self.endings: dict[str, Ending] = {}
        # Tasks under way in this process, by who counts them there: all of them, each time.
        self.active: dict[int, Mapping[str, int]] = {}

    def __bool__(self) -> bool:
        return bool(
            self.totals or self.stamps or self.nodes or self.runs or self.endings or self.active
        )

    def count(self, family: str, *of: str, part: str = "", by: float = 1.0) -> None:
        key = (family, labels(*of), part)
        self.totals[key] = self.totals.get(key, 0.0) + by

    def stamp(self, family: str, *of: str, at: float) -> None:
        key = (family, labels(*of))
        self.stamps[key] = max(at, self.stamps.get(key, 0.0))

    def absorb(self, later: Batch) -> None:
        """Add the batch that came after this one."""
        for series, value in later.totals.items():
            self.totals[series] = self.totals.get(series, 0.0) + value
        for stamp, at in later.stamps.items():
            self.stamps[stamp] = max(at, self.stamps.get(stamp, 0.0))
        self.nodes.update(later.nodes)
        self.samples.update(later.samples)
        for key in list(self.samples)[: max(0, len(self.samples) - SAMPLES)]:
            del self.samples[key]
        self.runs.update(later.runs)
        self.endings.update(later.endings)
        self.active.update(later.active)
