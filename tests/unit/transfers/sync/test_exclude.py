"""Exclude patterns mean what rsync's mean."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gridops.errors import UsageError
from gridops.transfers.sync.exclude import compile_patterns

PATHS = (
    "a.log",
    "b/a.log",
    "b/c/x.log.txt",
    "data/x",
    "src/data/x",
    "src/data.py",
    "build",
    "deep/build/x",
    "deep/er/file[1].txt",
    "deep/er/file1.txt",
    "deep/er/.hidden",
    "sp ace/üñï",
    "star*name",
    "x/y/z/w",
)
PATTERNS = (
    ["*.log"],
    ["data/"],
    ["/data"],
    ["data"],
    ["build"],
    ["build/"],
    ["/deep/**"],
    ["deep/***"],
    ["/src/*.py"],
    ["src/*"],
    ["**/x"],
    ["x/**/w"],
    ["er/file?.txt"],
    ["file[[]1].txt"],
    ["file[0-9].txt"],
    ["file[!0-9].txt"],
    ["file[[:digit:]x].tx[^a]"],
    [".*"],
    ["sp ace/*"],
    ["star\\*name"],
    ["c/x.log.txt"],
    ["*"],
    ["/*"],
    ["nothing", "*.txt", "/x/y"],
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("patterns")
    for path in PATHS:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")
    return root


@pytest.mark.parametrize("patterns", PATTERNS, ids=" ".join)
def test_the_same_files_stay_as_with_rsync(tree, patterns):
    words = [f"--exclude={pattern}" for pattern in patterns]
    done = subprocess.run(
        ["rsync", "-r", "--list-only", "--out-format=%n", *words, f"{tree}/"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    by_rsync = {
        line.split(maxsplit=4)[4] for line in done.stdout.splitlines() if line.startswith("-")
    }
    assert by_rsync == {path for path in PATHS if not is_left_out(patterns, path)}


def is_left_out(patterns: list[str], path: str) -> bool:
    excluded = compile_patterns(patterns)
    assert excluded
    *above, _ = (path[:at] for at in [i for i, c in enumerate(path) if c == "/"] + [len(path)])
    return excluded(path.encode(), False) or any(excluded(up.encode(), True) for up in above)


def test_no_pattern_excludes_nothing():
    assert compile_patterns(()) is None
    assert compile_patterns(["", "/"]) is None


def test_names_that_are_no_text_can_be_excluded():
    excluded = compile_patterns(["*.bin"])
    assert excluded
    assert excluded(b"a/\xff\xfe\n.bin", False)
    assert not excluded(b"a/\xff.bin\n", False)


def test_a_pattern_without_meaning_is_refused_by_name():
    with pytest.raises(UsageError, match=r"\[z-a\]"):
        compile_patterns(["*.log", "[z-a]"])
