"""Exclude patterns: rsync's, applied to the list of a tree instead of by rsync itself.

Source: rsync(1), PATTERN MATCHING RULES. `*` is any text without a slash, `**` any text, `?` one
character that is no slash, `[…]` one of a set (`[!…]`: none of it); a backslash takes the next
character as it is. A pattern that begins with a slash starts at the top of the tree; any other
matches the end of a path, so one without a slash is a name at any depth. One that ends with a slash
matches directories only, one that ends with `/***` a directory and what is in it. What matches is
left out, a directory with everything below it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from gridops.errors import UsageError
from gridops.transfers.sync.walk import Excluded


def compile_patterns(patterns: Iterable[str]) -> Excluded | None:
    """Predicate for the paths that are excluded; None: nothing is.

    It says of a path that it is itself excluded (not: that it lies in an excluded directory).
    Raises UsageError for a pattern that means nothing, such as `[z-a]`.
    """
    always: list[bytes] = []
    directories: list[bytes] = []
    for pattern in patterns:
        text = os.fsencode(pattern)
        bare = text.rstrip(b"/")
        if bare:
            (directories if text != bare else always).append(_check(_regex(bare), pattern))
    if not always and not directories:
        return None
    anything = re.compile(b"|".join(always) or rb"(?!)", re.DOTALL)
    directory = re.compile(b"|".join([*always, *directories]), re.DOTALL)
    return lambda path, is_directory: bool((directory if is_directory else anything).search(path))


def _check(regex: bytes, pattern: str) -> bytes:
    try:
        re.compile(regex)
    except re.error as exc:
        raise UsageError(f"sync.exclude_patterns: {pattern!r} is not a pattern: {exc}") from exc
    return regex


def _regex(pattern: bytes) -> bytes:
    begin = rb"\A" if pattern.startswith(b"/") else rb"(?:\A|/)"
    body = pattern.lstrip(b"/")
    end = rb"\Z"
    if body.endswith(b"/***"):
        body, end = body[:-4], rb"(?:/.*)?\Z"
    return begin + _translate(body) + end


_TOKEN = re.compile(rb"\*\*/|\*\*|\*|\?|\[[!^]?\]?(?:\[:\w+:\]|[^\]])*\]|\\.|.", re.DOTALL)


def _translate(body: bytes) -> bytes:
    return b"".join(_token(match[0]) for match in _TOKEN.finditer(body))


def _token(token: bytes) -> bytes:
    if token in _WILD:
        return _WILD[token]
    if token.startswith(b"[") and len(token) > 2:
        inner = token[1:-1].replace(b"\\", b"\\\\")
        inner = _CLASS.sub(lambda match: _CLASSES.get(match[1], b""), inner).replace(b"[", b"\\[")
        return b"(?!/)[" + (b"^" + inner[1:] if inner[:1] in b"!^" else inner) + b"]"
    if token.startswith(b"\\") and len(token) == 2:
        return re.escape(token[1:])
    return re.escape(token)


_WILD = {b"**/": rb"(?:.*/)?", b"**": rb".*", b"*": rb"[^/]*", b"?": rb"[^/]"}
_CLASS = re.compile(rb"\[:(\w+):\]")
_CLASSES = {
    b"alnum": b"0-9A-Za-z",
    b"alpha": b"A-Za-z",
    b"digit": b"0-9",
    b"lower": b"a-z",
    b"space": rb"\s",
    b"upper": b"A-Z",
    b"xdigit": b"0-9A-Fa-f",
}
