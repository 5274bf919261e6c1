"""docs/ray.md tells what the cluster's tasks say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
TEXT = (REPOSITORY / "docs/ray.md").read_text(encoding="utf-8")
SOURCE = "\n".join(
    re.sub(r'"\n\s*f?"', "", path.read_text(encoding="utf-8"))  # texts over several lines
    for path in sorted((REPOSITORY / "gridops/ray").glob("*.py"))
)
SAID = re.findall(r"^\| `(?!inv )([^`]+)` \|", TEXT, re.MULTILINE)


@pytest.mark.parametrize("said", SAID)
def test_it_explains_only_what_is_said(said: str) -> None:
    for part in said.split("…"):
        words = part.strip()
        if len(words) > 3:
            assert words in SOURCE


def test_it_explains_every_check_that_is_made_before_the_start() -> None:
    preflight = (REPOSITORY / "gridops/ray/preflight.py").read_text(encoding="utf-8")
    assert len(SAID) >= preflight.count("ClusterError(")


def test_its_example_is_there() -> None:
    for path in re.findall(r"cd (\S+)\n", TEXT):
        assert (REPOSITORY / path / "train.py").is_file()
