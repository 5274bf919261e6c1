"""What patterns name on a node: `find.sh`, sent over a link, and its answer."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from gridops.errors import NodeError, NodeTimeout
from gridops.fetch.patterns import Pattern
from gridops.observe import events
from gridops.reach.link import Link, on_node
from gridops.reach.streams import run_script
from gridops.transfers.private import holds_private

LOOKING = 300.0  # seconds that looking through the node's directories may take
NAMES = 64 * 1024 * 1024  # bytes of names that an answer may hold


@dataclass
class Group:
    """What is to be brought of one directory of the node. Names are relative to it."""

    base: str  # absolute
    names: list[str] = field(default_factory=list)  # as they are
    copied: list[str] = field(default_factory=list)  # symlinks: the files that they lead to


@dataclass(frozen=True, slots=True)
class Found:
    groups: tuple[Group, ...]
    missing: tuple[Pattern, ...]  # they match nothing
    private: tuple[str, ...] = ()  # names that match and never come


def find(
    link: Link, directory: str, patterns: Sequence[Pattern], *, home_instead: bool = False
) -> Found:
    """What `patterns` name, those without a base in `directory`.

    `home_instead`: where there is no such directory, in the home directory. Raises NodeError when
    there is none, NodeTimeout, a ReachError.
    """
    answers = _ask(link, [(one.base or directory, one.glob) for one in patterns])
    if any(
        answer.base == "-" and not one.base for one, answer in zip(patterns, answers, strict=True)
    ):
        if not home_instead:
            raise NodeError(
                f"the run's directory {directory} is not there",
                node=link.node.name,
                hint="a pattern that begins with / or ~/ names a file anywhere else",
            )
        message = f"{link.node.name}: there is no {directory}: looking in the home directory"
        events.emit(events.WARNING, message=message)
        return find(link, "~", patterns)
    return _sorted_out(patterns, answers)


def _sorted_out(patterns: Sequence[Pattern], answers: Sequence[Group]) -> Found:
    groups: dict[str, Group] = {}
    missing: list[Pattern] = []
    private: list[str] = []
    for pattern, answer in zip(patterns, answers, strict=True):
        names = [name for name in answer.names if _wanted(pattern, name)]
        copied = [name for name in answer.copied if _wanted(pattern, name)]
        hidden = [name for name in answer.names + answer.copied if _private(pattern, name)]
        private += hidden
        if not names and not copied:
            missing += [] if hidden else [pattern]
            continue
        group = groups.setdefault(answer.base, Group(answer.base))
        group.names += names
        group.copied += copied
    return Found(tuple(groups.values()), tuple(missing), tuple(private))


def _wanted(pattern: Pattern, name: str) -> bool:
    name = name.removesuffix("/")
    return pattern.covers(name) and not holds_private(name.split("/"))


def _private(pattern: Pattern, name: str) -> bool:
    name = name.removesuffix("/")
    return pattern.covers(name) and holds_private(name.split("/"))


def _ask(link: Link, pairs: Sequence[tuple[str, str]]) -> list[Group]:
    """The answer to each pair of a directory and a pattern."""
    end = time.monotonic() + LOOKING
    try:
        with on_node(link.node.name):
            reply = run_script(
                lambda command: link.start(command, timeout=max(0.1, end - time.monotonic())),
                _script(),
                tuple(word for pair in pairs for word in pair),
                end,
                b"",
                limit=NAMES,
            )
    except NodeTimeout as exc:
        raise NodeTimeout(
            f"looking for the files took over {LOOKING:g} s",
            node=link.node.name,
            hint="name a directory rather than **",
        ) from exc
    found = _understood(os.fsdecode(reply.stdout).split("\0"))
    if len(found) != len(pairs):
        said = os.fsdecode(reply.stderr).strip()[-200:]
        raise NodeError(
            f"its answer could not be understood{f': {said!r}' if said else ''}",
            node=link.node.name,
        )
    return found


def _understood(fields: Sequence[str]) -> list[Group]:
    """No groups at all when the answer has not come to its end."""
    found: list[Group] = []
    for field_ in fields[:-2]:
        kind, text = field_[:1], field_[1:]
        if kind == "b":
            found.append(Group(text))
        elif found and kind in ("m", "c"):
            (found[-1].names if kind == "m" else found[-1].copied).append(text)
    return found if list(fields[-2:]) == [".", ""] else []


@cache
def _script() -> str:
    text = Path(__file__).with_name("find.sh").read_text(encoding="utf-8")
    return re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
