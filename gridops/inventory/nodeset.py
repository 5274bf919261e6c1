"""ClusterShell's node sets, with limits: `gpu[01-16]`, `a,b`, `gpu[1-8]!gpu3`, `@tag`, `gpu*`.

ClusterShell is imported only where a text needs it. Groups are the inventory's tags; what
/etc/clustershell says plays no part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from gridops.errors import UnknownNameError, UsageError, did_you_mean

if TYPE_CHECKING:
    from ClusterShell.NodeUtils import GroupResolver

MAX_NODES = 20_000  # what one text may stand for

_BRACKETS = re.compile(r"\[([^\]]*)\]")
_RANGE = re.compile(r"\s*(\d{1,9})(?:-(\d{1,9}))?(?:/(\d{1,9}))?\s*")
_OUTSIDE = r"(?![^\[\]]*\])"  # what follows is not inside brackets
_COMMA = re.compile(rf",{_OUTSIDE}")
_OPERATOR = re.compile(rf"[,!&^]{_OUTSIDE}")


def expand(text: str) -> list[str]:
    """The names that `text` stands for, in the order it is written. No groups, no wildcards.

    Raises ValueError when it is not a node set or stands for more than MAX_NODES names.
    """
    if "@" in text or "*" in text or "?" in text:
        raise ValueError("groups and wildcards are not allowed here")
    if not any(sign in text for sign in "[],!&^"):
        return [text]
    check_size(text)
    if re.search(r"[!&^]", text):
        return list(_node_set(text))
    return [name for part in _parts(_COMMA, text) for name in _in_order(part)]


def _parts(operator: re.Pattern[str], text: str) -> list[str]:
    parts = [part.strip() for part in operator.split(text)]
    if not all(parts):
        raise ValueError("a name is missing beside an operator")
    return parts


def _in_order(part: str) -> Iterator[str]:
    """Expand in written order: `n[3,1-2]` is n3, n1, n2, where ClusterShell alone would sort."""
    for brackets in _BRACKETS.finditer(part):
        if "," in brackets[1]:
            for piece in brackets[1].split(","):
                yield from _in_order(part[: brackets.start(1)] + piece + part[brackets.end(1) :])
            return
    yield from _node_set(part)


def check_size(text: str) -> None:
    """Raise ValueError when `text` stands for more than MAX_NODES names."""
    total = 0
    for part in _OPERATOR.split(text):
        size = 1
        for brackets in _BRACKETS.finditer(part):
            size *= sum(_range_size(piece) for piece in brackets[1].split(","))
        total += size
        if total > MAX_NODES:
            raise ValueError(f"expands to more than {MAX_NODES} names")


def _range_size(text: str) -> int:
    found = _RANGE.fullmatch(text)
    if not found:
        return MAX_NODES + 1 if re.search(r"\d{10}", text) else 1
    first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
    return max(1, (last - first) // max(1, step) + 1)


def fold(names: Iterable[str]) -> str:
    """Fold names into a node set: `gpu01, gpu02` as `gpu[01-02]`."""
    listed = list(names)
    return str(_node_set(",".join(listed))) if len(listed) > 1 else "".join(listed)


def matching(text: str, names: Iterable[str], groups: Mapping[str, Iterable[str]]) -> set[str]:
    """Those of `names` that the node set `text` stands for; `groups` are what `@tag` may name.

    A text that begins with `!` leaves out of all. Raises UnknownNameError where any part of the
    text names what is not there, UsageError when it is not a node set.
    """
    known = dict.fromkeys(names)
    plain = {part.strip() for part in text.split(",")}
    if plain <= known.keys():
        return plain
    whole = f"@*{text}" if text.startswith("!") else text
    try:
        check_size(whole)
        resolver = _resolver(known, groups)
        for part in _parts(_OPERATOR, whole):
            _check_part(part, known, groups, resolver)
        return set(_node_set(whole, resolver))
    except ValueError as exc:
        raise UsageError(f"not a node set: {text!r}: {exc}") from None


def unknown_node(names: Iterable[str], known: Iterable[str]) -> UnknownNameError:
    """The error for `names` that are not `known`; it lists these, folded where they are many."""
    listed = list(known)
    name = fold(names)
    error = UnknownNameError("node", name, listed if len(listed) <= 12 else [fold(listed)])
    if len(listed) > 12:
        error.hint = did_you_mean(name, listed) + error.hint
    return error


def _check_part(
    part: str, known: Iterable[str], groups: Mapping[str, Iterable[str]], resolver: GroupResolver
) -> None:
    if part.startswith("@"):
        for group in _node_set(part[1:]) if part != "@*" else ():
            if group not in groups:
                raise UnknownNameError("tag", group, sorted(groups))
        return
    found = set(_node_set(part, resolver))
    unknown = found.difference(known)
    if unknown or not found:
        raise unknown_node(sorted(unknown) or [part], known)


def _node_set(text: str, resolver: GroupResolver | None = None) -> Iterable[str]:
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException
    from ClusterShell.NodeUtils import GroupResolverError, GroupSourceError

    try:
        found: Iterable[str] = NodeSet(text, resolver=resolver or RESOLVER_NOGROUP)
    except (NodeSetException, GroupResolverError, GroupSourceError) as exc:
        raise ValueError(str(exc).strip() or "syntax error") from None
    return found


def _resolver(names: Iterable[str], groups: Mapping[str, Iterable[str]]) -> GroupResolver:
    from ClusterShell.NodeUtils import GroupResolver, GroupSource

    joined = {group: ",".join(members) for group, members in groups.items()}
    return GroupResolver(GroupSource("tags", joined, ",".join(names)))
