"""The house's words and measures, as far as they can be counted: `make house` prints them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.house import PACKAGE, QUESTION, SECONDS, TIME, Documented, House, entered_by_a_run

LONGEST_OPENING = 12  # words


def documented(tree: ast.Module) -> Iterator[tuple[Documented, str]]:
    """Each docstring of a module with what it documents."""
    for node in ast.walk(tree):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            yield node, text


def opening(text: str) -> str:
    """A docstring's first sentence, on one line."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[^.])[.:;](?:\s|$)", paragraph, maxsplit=1)[0]


def wrong_words(source: str) -> Iterator[str]:
    for node, text in documented(ast.parse(source)):
        name = getattr(node, "name", "the module")
        if QUESTION.match(text):
            yield f"{name}: begins with a question: {opening(text)}"
        if len(opening(text).split()) > LONGEST_OPENING:
            yield f"{name}: its first sentence is long: {opening(text)}"
    for found in SECONDS.finditer(source):
        if not found[1].endswith(TIME):
            yield f"{found[1]}: the name of a time ends in {', '.join(TIME)}"


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_docstrings_and_times_are_named_by_the_rules(path: Path) -> None:
    assert list(wrong_words(path.read_text())) == []


@pytest.fixture(scope="module")
def house() -> House:
    return House()


def test_the_package_has_few_rooms_and_no_deep_chain_of_imports(house):
    assert house.rooms().value <= 16
    assert house.import_depth().value <= 14, house.import_depth().names


def test_functions_and_modules_are_short(house):
    assert house.ninetieth() <= 18
    (longest, function), *_ = house.function_lines()
    assert longest <= 45, function
    (longest, module), *_ = house.module_lines()
    assert longest <= 300, module


def test_functions_are_named_by_verbs(house):
    """Participles are for predicates."""
    found = house.participles()
    assert found.percent <= 2, found.names


def test_a_name_means_one_thing(house):
    assert house.twice().names == []
    assert house.meanings().names == []


def test_a_plain_run_on_this_machine_enters_little_of_the_package():
    functions = [one for one in entered_by_a_run() if one.function]
    assert len({one.file for one in functions}) <= 69  # goal: 50
    assert len(functions) <= 405  # goal: 350
