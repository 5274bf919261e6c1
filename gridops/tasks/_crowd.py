"""Folding of tables: over MOST nodes share rows, unless each is asked for."""

from __future__ import annotations

from gridops.tasks._terminal import say

EACH = "a row for every node, however many there are (more than 50 are folded)"
MOST = 50  # rows that are still read one by one


def folds(count: int, each: bool) -> bool:
    return count > MOST and not each


def say_folded(count: int) -> None:
    say(f"{count} nodes, folded; --each shows a row for every node")
