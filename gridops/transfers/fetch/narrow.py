"""Narrow matches on a node to the files that a run wrote: `times.sh`, sent over a link."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gridops.errors import NodeError, NodeTimeout
from gridops.model import Reply
from gridops.reach.answers import Limit
from gridops.reach.link import Link, on_node, run_script
from gridops.reach.pump import Sink
from gridops.system import scripts
from gridops.transfers.fetch.patterns import Group
from gridops.transfers.fetch.times import Times
from gridops.transfers.fetch.written import Chooser, Entry, Window, above, topmost
from gridops.transfers.names import holds_private, is_below

TIMES_LIMIT = Limit(
    lines=1_000_000, bytes=128 * 1024 * 1024
)  # of an answer; a file takes about 130 bytes
FIND_FILES_TIMEOUT = 300.0  # seconds that looking through the node's directories may take
STDERR_LIMIT = 1024 * 1024  # bytes


@dataclass
class Narrowed:
    """The narrowed groups, in their order, and the files left out."""

    groups: Sequence[Group]
    older: int = 0  # files that the run did not write
    later: list[str] = field(default_factory=list)  # files that changed after its end


def narrow(link: Link, run: str, groups: Sequence[Group]) -> Narrowed:
    """Narrow `groups` to the files that the run `run` wrote or changed.

    Raises NodeError where the node cannot tell, a ReachError.
    """
    bases = {group.base for group in groups if not group.empty}
    parts = {base: _part(link, run, base, groups) for base in bases}
    older = sum(part.older for part in parts.values())
    later = [name for part in parts.values() for name in part.later]
    kept = [parts[g.base].of(g) if g.base in parts else Group(g.base) for g in groups]
    return Narrowed(kept, older, later)


@dataclass(frozen=True, slots=True)
class _Part:
    """The files that the run wrote in one directory."""

    names: dict[str, list[str]]
    copied: frozenset[str]
    older: int
    later: list[str]

    def of(self, group: Group) -> Group:
        names = [one for name in group.names for one in self.names.get(name, ())]
        copied = [name for name in group.copied if name in self.copied]
        return Group(group.base, names, copied)


def _part(link: Link, run: str, base: str, groups: Sequence[Group]) -> _Part:
    names = list(dict.fromkeys(name for g in groups if g.base == base for name in g.names))
    copied = list(dict.fromkeys(name for g in groups if g.base == base for name in g.copied))
    chooser = Chooser(names)
    verdicts: dict[str, list[str]] = {name: [] for name in copied}

    def take(path: str, entry: Entry, window: Window) -> None:
        if not is_below(path):
            raise ValueError("names what lies elsewhere")
        if path in verdicts:
            verdicts[path].append(window.judge(entry))
        hidden = path in verdicts or (path != "." and holds_private(path.split("/")))
        chooser.add(path, entry, window, counts=not hidden)

    most = topmost(names)
    _ask(link, run, base, [("a", sorted(above(most))), ("m", most), ("c", copied)], take)
    choice = chooser.choice()
    good = frozenset(name for name, said in verdicts.items() if "written" in said)
    rest = [said for name, said in verdicts.items() if name not in good]
    later = [name for name, said in verdicts.items() if name not in good and "later" in said]
    older = choice.older + len(rest) - len(later)
    return _Part(choice.names, good, older, choice.later + later)


def _ask(
    link: Link,
    run: str,
    base: str,
    words: Sequence[tuple[str, Sequence[str]]],
    take: Callable[[str, Entry, Window], None],
) -> None:
    """Ask times.sh about `words`: names, with their letters."""
    mark = os.urandom(6).hex()
    kinds = "".join(letter for letter, some in words if some)
    args = (base, run, mark, kinds, *(f"{letter}{name}" for letter, some in words for name in some))
    times = Times(mark, run, take, TIMES_LIMIT)
    reply = ask_script(link, scripts.script("transfers/fetch/times.sh"), args, STDERR_LIMIT, times)
    try:
        times.finish()
    except ValueError as exc:
        said = os.fsdecode(reply.stderr).strip()[-200:]
        raise NodeError(
            f"it does not say when files were changed{f': {said!r}' if said else ''}",
            node=link.node.name,
            hint="it needs a `stat` that supports %z",
        ) from exc
    if times.window is None:
        raise NodeError(f"it has no record of when the run {run} began", node=link.node.name)


def ask_script(
    link: Link, text: str, args: tuple[str, ...], limit: int, on_stdout: Sink | None = None
) -> Reply:
    """The reply, of `limit` bytes at most, to a script. Raises NodeError, a ReachError.

    With a sink for its standard output that is no part of the reply.
    """
    end = time.monotonic() + FIND_FILES_TIMEOUT
    try:
        with on_node(link.node.name):
            return run_script(
                lambda command: link.start(command, timeout=max(0.1, end - time.monotonic())),
                text,
                args,
                end,
                b"",
                limit=limit,
                on_stdout=on_stdout,
            )
    except NodeTimeout as exc:
        raise NodeTimeout(
            f"looking for the files took over {FIND_FILES_TIMEOUT:g} s",
            node=link.node.name,
            hint="name a directory rather than **",
        ) from exc
