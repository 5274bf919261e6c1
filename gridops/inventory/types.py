"""The kinds of values that settings are made of: what each accepts and what it becomes.

A value may come as text, the way YAML or an environment variable spells it. A ValueError raised
here becomes an InventoryError with file, line and key.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gridops.inventory.durations import YEAR, parse_duration

MOST_NARROW = 99  # how far the ends of a range of ports must be apart

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]{0,252}")
BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]")
_USER_REFUSED = re.compile(r"[\s\x00-\x1f\x7f'`\"$;&<>|(){}]|^-|\\$|/|:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_name(text: str) -> str:
    """Check the name of a node or a tag; it ends up in commands, paths and labels."""
    if not _NAME.fullmatch(text):
        raise ValueError("should be of A-Z a-z 0-9 . _ - and begin with a letter or digit")
    return text


def check_host(text: str) -> str:
    """Check a host name, an alias of ~/.ssh/config or an address. IPv6 may be in brackets."""
    bracketed = BRACKETED.fullmatch(text)
    host = bracketed[1] if bracketed else text
    if "@" in host:
        raise ValueError("should be the host alone; the user goes into `user`")
    if not _HOST.fullmatch(host):
        raise ValueError("should be a host name, an alias of ~/.ssh/config or an address")
    return host


def _check_user(text: str) -> str:
    if not text or _USER_REFUSED.search(text):
        raise ValueError("should be a login name, without blanks, quotes or a leading '-'")
    return text


def _check_remote_path(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("should be without control characters")
    if text != "~" and not text.startswith(("/", "~/")):
        raise ValueError("should be a path on the node that begins with / or ~/")
    return text.rstrip("/") or "/"


def _check_line(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("should be one line without control characters")
    return text


def _check_shell(text: str) -> str:
    if "\0" in text:
        raise ValueError("should be without NUL")
    return text


def _local_path(value: object) -> object:
    if isinstance(value, str):
        if not value:
            raise ValueError("should be the path of a file, not empty")
        return Path(value).expanduser()
    return value


def _as_list(value: object) -> object:
    """Split text into a list: `a, b` is as good as `[a, b]`."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _check_ports(text: str) -> str:
    match = re.fullmatch(r"\s*(\d{1,5})\s*-\s*(\d{1,5})\s*", text)
    first, last = (int(part) for part in match.groups()) if match else (0, 0)
    if not 1024 <= first <= last - MOST_NARROW <= 65535 - MOST_NARROW:
        raise ValueError(
            f"should be FIRST-LAST, from 1024 to 65535, at least {MOST_NARROW + 1} ports"
        )
    return f"{first}-{last}"


def _as_lines(value: object) -> object:
    """Make a list of one out of a single text."""
    return [value] if isinstance(value, str) else value


def _schema(*types: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": list(types) if len(types) > 1 else types[0], **more})


_SECONDS = {"minimum": 0, "pattern": r"^\s*([0-9.]+\s*(ms|s|m|h|d)?\s*)+$|\$\{"}
_Parsed = BeforeValidator(parse_duration)
_DurationSchema = _schema("number", "string", **_SECONDS)

Duration = Annotated[
    float, Field(gt=0, le=YEAR, allow_inf_nan=False), _Parsed, _DurationSchema
]  # seconds, more than none
Delay = Annotated[
    float, Field(ge=0, le=YEAR, allow_inf_nan=False), _Parsed, _DurationSchema
]  # seconds, perhaps none
Percent = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65535)]
PortRange = Annotated[str, AfterValidator(_check_ports)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Name = Annotated[str, AfterValidator(check_name)]
Host = Annotated[str, AfterValidator(check_host)]
User = Annotated[str, AfterValidator(_check_user), _schema("string", "number")]
RemotePath = Annotated[str, AfterValidator(_check_remote_path)]
LocalPath = Annotated[Path, BeforeValidator(_local_path), _schema("string")]
Line = Annotated[str, AfterValidator(_check_line), _schema("string", "number", "boolean")]
Shell = Annotated[str, AfterValidator(_check_shell)]
Names = Annotated[
    tuple[Name, ...],
    BeforeValidator(_as_list),
    _schema("array", "string", items={"type": ["string", "number"]}),
]
Lines = Annotated[
    tuple[Line, ...],
    BeforeValidator(_as_lines),
    _schema("array", "string", items={"type": "string"}),
]
