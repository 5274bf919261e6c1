"""Interpolation of `${VAR}` and `${VAR:-default}` in an inventory's values.

The variables come from the environment and `.env` files. `$${` stands for a literal `${`; a `$`
that no `{` follows is just itself. python-dotenv is imported and `.env` read only when a value has
a `${`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from gridops.errors import InventoryError

_REFERENCE = re.compile(
    r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<fallback>:-[^}]*)?\}|(?P<bad>\$\{)"
)


class Variables:
    """Values by name: the environment's first, then those of each directory's `.env` in turn."""

    def __init__(
        self, directories: Sequence[Path], environment: Mapping[str, str] | None = None
    ) -> None:
        self._directories = directories
        self._environment = os.environ if environment is None else environment
        self._files: list[Mapping[str, str | None]] | None = None

    def substitute(self, text: str) -> str:
        """`text` with its references replaced. ValueError: one is malformed or not set."""
        return _REFERENCE.sub(self._replace, text) if "${" in text else text

    def _replace(self, found: re.Match[str]) -> str:
        if found["bad"]:
            raise ValueError("write ${NAME} or ${NAME:-default}, or $${ for a literal ${")
        name, fallback = found["name"], found["fallback"]
        if name is None:
            return "${"
        value = self._value(name)
        if fallback is not None:
            return value or fallback[2:]
        if value is None:
            raise ValueError(
                f"${{{name}}} is not set, neither in the environment nor in .env "
                f"(set it, or write ${{{name}:-default}})"
            )
        return value

    def _value(self, name: str) -> str | None:
        if name in self._environment:
            return self._environment[name]
        if self._files is None:
            self._files = [_read(directory / ".env") for directory in self._directories]
        return next((v for file in self._files if (v := file.get(name)) is not None), None)


def _read(file: Path) -> Mapping[str, str | None]:
    if not file.is_file():
        return {}
    from dotenv import dotenv_values

    try:
        return dotenv_values(file)
    except (OSError, UnicodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise InventoryError(f"cannot be read: {reason}", file=str(file)) from None
