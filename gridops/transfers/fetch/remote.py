"""Files that patterns name on a node: `find.sh`, sent over a link, and its answer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from gridops.errors import NodeError, UnreadableAnswer
from gridops.observe import events
from gridops.reach.link import Link
from gridops.system import scripts
from gridops.transfers.fetch.narrow import Narrowed, ask_script, narrow
from gridops.transfers.fetch.patterns import Group, Pattern
from gridops.transfers.names import holds_private, is_below

NAMES_LIMIT = 16 * 1024 * 1024  # bytes of names that an answer may hold
MAX_MATCHES = 200_000


@dataclass(frozen=True, slots=True)
class Matches:
    groups: tuple[Group, ...]
    missing: tuple[Pattern, ...]  # they match nothing
    private: tuple[str, ...] = ()  # names that match and never come
    unwritten: tuple[Pattern, ...] = ()  # they match nothing that the run wrote
    older: int = 0  # files that stay there, since the run did not write them
    later: tuple[str, ...] = ()  # files that stay there, since they changed after its end


def find(
    link: Link,
    directory: str,
    patterns: Sequence[Pattern],
    *,
    home_instead: bool = False,
    run: str = "",
) -> Matches:
    """Find the files that `patterns` name; of the run `run` those it wrote.

    Patterns without a base begin in `directory`; with `home_instead`, where there is no such
    directory, in the home directory. Raises NodeError when there is none, NodeTimeout, a
    ReachError.
    """
    answers = _ask(link, [(one.base or directory, one.glob) for one in patterns])
    if any(
        answer.base == "-" and not one.base for one, answer in zip(patterns, answers, strict=True)
    ):
        if not home_instead:
            raise NodeError(
                f"the run's directory {directory} does not exist",
                node=link.node.name,
                hint="to fetch from elsewhere begin a pattern with / or ~/",
            )
        message = f"{link.node.name}: {directory} does not exist: searching the home directory"
        events.emit(events.WARNING, message=message)
        return find(link, "~", patterns, run=run)
    matched = [_match(one, answer) for one, answer in zip(patterns, answers, strict=True)]
    narrowed = narrow(link, run, matched) if run else Narrowed(matched)
    return _sort_out(patterns, answers, matched, narrowed)


def _match(pattern: Pattern, answer: Group) -> Group:
    names, copied = (
        [name for name in found if _wanted(pattern, name)]
        for found in (answer.names, answer.copied)
    )
    return Group(answer.base, names, copied)


def _sort_out(
    patterns: Sequence[Pattern],
    answers: Sequence[Group],
    matched: Sequence[Group],
    narrowed: Narrowed,
) -> Matches:
    groups: dict[str, Group] = {}
    missing: list[Pattern] = []
    unwritten: list[Pattern] = []
    private: list[str] = []
    for pattern, answer, match, rest in zip(
        patterns, answers, matched, narrowed.groups, strict=True
    ):
        hidden = [name for name in answer.names + answer.copied if _private(pattern, name)]
        private += hidden
        if rest.empty:
            missing += [pattern] if match.empty and not hidden else []
            unwritten += [] if match.empty else [pattern]
            continue
        group = groups.setdefault(rest.base, Group(rest.base))
        group.names += rest.names
        group.copied += rest.copied
    return Matches(
        tuple(groups.values()),
        tuple(missing),
        tuple(private),
        tuple(unwritten),
        narrowed.older,
        tuple(narrowed.later),
    )


def _wanted(pattern: Pattern, name: str) -> bool:
    name = name.removesuffix("/")
    return pattern.covers(name) and not holds_private(name.split("/"))


def _private(pattern: Pattern, name: str) -> bool:
    name = name.removesuffix("/")
    return pattern.covers(name) and holds_private(name.split("/"))


def _ask(link: Link, pairs: Sequence[tuple[str, str]]) -> list[Group]:
    """The answer to each pair of a directory and a pattern."""
    reply = ask_script(link, _script(), tuple(word for pair in pairs for word in pair), NAMES_LIMIT)
    if reply.stdout.count(b"\0") > MAX_MATCHES:
        raise UnreadableAnswer(
            f"the patterns match over {MAX_MATCHES} names",
            node=link.node.name,
            hint="name a directory rather than **",
        )
    found = _parse(reply.stdout.split(b"\0"))
    if len(found) != len(pairs):
        said = os.fsdecode(reply.stderr).strip()[-200:]
        why = f": {said!r}" if said else ""
        raise NodeError(f"its answer is not valid{why}", node=link.node.name)
    return found


def _parse(fields: Sequence[bytes]) -> list[Group]:
    """Parse the answer: no groups if it is not at its end; names elsewhere are passed over."""
    found: list[Group] = []
    for field_ in fields[:-2]:
        kind, text = field_[:1], os.fsdecode(field_[1:])
        if kind == b"b" and (text == "-" or text.startswith("/")):
            found.append(Group(text))
        elif not found or kind not in (b"m", b"c"):
            return []
        elif is_below(text):
            (found[-1].names if kind == b"m" else found[-1].copied).append(text)
    return found if list(fields[-2:]) == [b".", b""] else []


def _script() -> str:
    return scripts.script("transfers/fetch/find.sh")
