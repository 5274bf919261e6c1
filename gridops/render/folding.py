"""Output and errors that several nodes have in common, said once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gridops.errors import GridError
from gridops.inventory.nodeset import fold
from gridops.model import Outcome, Reply
from gridops.system.text import plain


def folded(outcomes: Iterable[Outcome[Reply]]) -> list[tuple[str, int, Outcome[Reply]]]:
    """Nodes that said and did the same, together: (node set, how many, one of them)."""
    groups: dict[tuple[object, ...], list[Outcome[Reply]]] = {}
    for outcome in outcomes:
        reply = outcome.value
        key = (
            (reply.status, reply.stdout, reply.stderr)
            if reply
            else (type(outcome.error), outcome.error and outcome.error.message)
        )
        groups.setdefault(key, []).append(outcome)
    return [(fold(o.node.name for o in group), len(group), group[0]) for group in groups.values()]


def failures(outcomes: Iterable[Outcome[Any]]) -> list[str]:
    """One line an error that several nodes share: `gpu[1-3]: what (hint)`."""
    errors = ((outcome.node.name, outcome.error) for outcome in outcomes)
    return _lines((name, error) for name, error in errors if error is not None)


def grouped(errors: Iterable[GridError]) -> list[str]:
    """Lines as from `failures`, for errors that know their nodes."""
    return _lines((error.node or "", error) for error in errors)


def _lines(errors: Iterable[tuple[str, GridError]]) -> list[str]:
    groups: dict[tuple[str, str], list[str]] = {}
    for name, error in errors:
        groups.setdefault((error.message, error.hint), []).append(name)
    return [
        plain(f"{fold(names)}: {message}" + (f" ({hint})" if hint else ""))
        for (message, hint), names in groups.items()
    ]
