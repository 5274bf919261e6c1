"""Safe reader of YAML files: plain values, with the line of each.

Values are left as text: the settings' types make numbers and booleans of them, so `python: 3.10`
stays 3.10 and `${PORT}` may become a number. Only null is told apart. Duplicate keys, tags that
construct objects, and aliases that multiply are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gridops.errors import InventoryError
from gridops.system.text import printable

MAX_BYTES = 8 << 20
MAX_DOCUMENT_VALUES = 200_000  # counted after aliases are followed
MAX_DEPTH = 20

KeyPath = tuple[str | int, ...]
_TAGS = {
    f"tag:yaml.org,2002:{kind}"
    for kind in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "merge", "value")
}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class Document:
    """The values of a file and where each one is."""

    file: str
    data: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def line(self, path: KeyPath) -> int:
        """The line (from 1) of the value at `path`.

        Where there is none, that of the value it would be in.
        """
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def error(self, path: KeyPath, message: str, hint: str = "") -> InventoryError:
        return InventoryError(
            message, file=self.file, line=self.line(path), key=dot_path(path), hint=hint
        )


def dot_path(path: KeyPath) -> str:
    """The path as text: `("nodes", "gpu01", "slots")` is `nodes.gpu01.slots`.

    It is one line, whatever a key is made of.
    """
    return printable(".".join(str(part) for part in path))


def read(file: Path, substitute: Callable[[str], str] = str, *, origin: str = "") -> Document:
    """Read `file`; every value that is text has gone through `substitute` (ValueError: it is bad).

    `origin` says who named the file, should it not be there. Raises InventoryError.
    """
    text = _text(file, origin)
    try:
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as exc:
        raise _syntax_error(str(file), text, exc) from None
    except RecursionError:
        raise InventoryError("nested too deeply", file=str(file)) from None
    document = Document(str(file))
    if root is not None:
        document.data = _ValueReader(document, substitute).value(root, ())
    return document


def _text(file: Path, origin: str) -> str:
    name = str(file)
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InventoryError("there is no such file", file=name, hint=origin) from None
    except OSError as exc:
        raise InventoryError(f"cannot be read: {exc.strerror}", file=name) from None
    if len(raw) > MAX_BYTES:
        raise InventoryError(f"larger than {MAX_BYTES >> 20} MiB", file=name)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise InventoryError("not UTF-8 text", file=name, line=line) from None


def _syntax_error(file: str, text: str, exc: yaml.YAMLError) -> InventoryError:
    mark = getattr(exc, "problem_mark", None)
    if mark is None:
        position = getattr(exc, "position", 0)
        line = text.count("\n", 0, position) + 1
        return InventoryError("a control character is not YAML", file=file, line=line)
    lines = text.splitlines()
    source = lines[mark.line] if mark.line < len(lines) else ""
    problem = getattr(exc, "problem", None) or "syntax error"
    hint = ""
    if "nesting depth" in problem:
        problem = "nested too deeply"
    elif "\t" in source[: len(source) - len(source.lstrip())]:
        problem, hint = "a tab in the indentation", "YAML wants spaces"
    elif any(sign in source for sign in "[{@*!&%`"):
        hint = 'put quotes around text with special characters: "gpu[01-04]", "${USER}"'
    return InventoryError(f"not valid YAML: {problem}", file=file, line=mark.line + 1, hint=hint)


class _ValueReader:
    def __init__(self, document: Document, substitute: Callable[[str], str]) -> None:
        self.document = document
        self.substitute = substitute
        self.left = MAX_DOCUMENT_VALUES

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.document.lines.setdefault(path, node.start_mark.line + 1)
        self.left -= 1
        if self.left < 0 or len(path) > MAX_DEPTH:
            raise self.document.error(path, "too many or too deeply nested values")
        if node.tag not in _TAGS:
            raise self.document.error(path, f"the YAML tag {_short(node.tag)} is not allowed")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, at)) for at, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _scalar(self, node: yaml.Node, path: KeyPath) -> str | None:
        if node.tag == "tag:yaml.org,2002:null":
            return None
        try:
            return self.substitute(node.value)
        except ValueError as exc:
            raise self.document.error(path, str(exc)) from None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.document.error(path, "a key has to be plain text", hint="quote it")
            name = key.value
            where = (*path, name)
            if key.tag == "tag:yaml.org,2002:merge":
                merged = {**self._merge_keys(item, where), **merged}
                continue
            if name in found:
                first = self.document.lines[where]
                self.document.lines[where] = key.start_mark.line + 1
                raise self.document.error(where, f"duplicate key; the first is in line {first}")
            self.document.lines[where] = key.start_mark.line + 1
            found[name] = self.value(item, where)
        return {**merged, **found}

    def _merge_keys(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        """Values of a merge key, `<<: *anchor` or `<<: [*one, *two]`; the earlier one wins."""
        value = self.value(node, path)
        merged: dict[str, Any] = {}
        for part in value if isinstance(value, list) else [value]:
            if not isinstance(part, dict):
                raise self.document.error(path, "<< merges mappings only")
            merged = {**part, **merged}
        return merged


def _short(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")
