"""pydantic's complaints in gridops' words: file, line, key, what is wrong, the valid choices."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gridops.errors import InventoryError, did_you_mean
from gridops.inventory.document import Document, KeyPath

M = TypeVar("M", bound=BaseModel)

_WORDS = {
    "model_type": "should be a mapping of keys and values",
    "model_attributes_type": "should be a mapping of keys and values",
    "dict_type": "should be a mapping of keys and values",
    "tuple_type": "should be a list",
    "string_type": "should be text",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "int_parsing_size": "should be a smaller number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "finite_number": "should be a number",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
}


def validate(
    model: type[M], data: Any, document: Document, path: KeyPath, *, also: Iterable[str] = ()
) -> tuple[M | None, list[InventoryError]]:
    """Validate `data`, which is at `path` of the document, as a `model`.

    Returns the model, or None and everything wrong with `data`. `also`: keys that are valid beside
    the model's own (the caller has taken them out).
    """
    try:
        return model.model_validate({} if data is None else data), []
    except ValidationError as exc:
        details = exc.errors(include_url=False)
    problems = [_problem(model, detail, document, path, tuple(also)) for detail in details]
    return None, sorted(problems, key=lambda problem: problem.line)


def _problem(
    model: type[BaseModel],
    detail: ErrorDetails,
    document: Document,
    path: KeyPath,
    also: Iterable[str],
) -> InventoryError:
    # pydantic adds parts of its own to a location (a union's member, `[key]`): not part of the path
    where = tuple(part for part in detail["loc"] if part != "[key]")
    if detail["type"] == "extra_forbidden":
        valid = [*(also if len(where) == 1 else ()), *_fields(model, where[:-1])]
        return document.error((*path, *where), "unknown key", choices(str(where[-1]), valid))
    return document.error((*path, *where), _message(detail))


def _message(detail: ErrorDetails) -> str:
    words = _WORDS.get(detail["type"])
    if words is None:
        text = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
        words = text[:1].lower() + text[1:]
    value = detail["input"]
    if "should be" not in words:
        return words
    if value is None:
        return f"{words}, not empty"
    if isinstance(value, str | int | float):
        return f"{words}, not {_quote_value(str(value))}"
    kind = {"dict": "a mapping", "list": "a list"}.get(type(value).__name__)
    return f"{words}, not {kind}" if kind else words


def _quote_value(text: str) -> str:
    """Text in quotes, numbers without; cut where it is long."""
    if re.fullmatch(r"[+-]?[0-9.]{1,20}", text):
        return text
    return repr(text if len(text) <= 60 else text[:57] + "…")


def choices(name: str, valid: list[str]) -> str:
    """The hint `did you mean slots? valid: …`"""
    return f"{did_you_mean(name, valid)}valid: {', '.join(valid)}"


def _fields(model: type[BaseModel], where: KeyPath) -> list[str]:
    """The keys that are valid at `where` below `model`."""
    for part in where:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)
