"""The house's words, as far as they can be counted: openings of docstrings, names of times."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gridops"
QUESTION = re.compile(r"(What|Whether|Where|Which|How|Who|Whose|When|That|Why)(ever)?\b")
LONGEST_OPENING = 12  # words
TIME = ("TIMEOUT", "INTERVAL", "GRACE", "LEASE", "DELAY", "AGE")
SECONDS = re.compile(r"^([A-Z][A-Z0-9_]*)(?:: \w+)? = [0-9._ */+-]+ +#.*\bseconds?\b", re.MULTILINE)

Documented = ast.Module | ast.ClassDef | ast.FunctionDef


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
