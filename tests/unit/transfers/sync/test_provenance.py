"""From which commit a tree comes, and what of its changes is kept."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gridops.transfers.sync import provenance
from gridops.transfers.sync.provenance import Provenance, missing_parts, provenance_of


def git(root: Path, *words: str, given: bytes = b"") -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    done = subprocess.run(
        ["git", *identity, *words], cwd=root, input=given, capture_output=True, check=True
    )
    return done.stdout.decode()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A work tree with two files and one commit."""
    for name in ("a", "b"):
        (tmp_path / name).write_text("one\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    return tmp_path


def test_a_tree_without_a_commit_comes_from_nowhere(tmp_path: Path) -> None:
    assert provenance_of(tmp_path) == Provenance()
    git(tmp_path, "init", "-q")
    assert provenance_of(tmp_path) == Provenance()


@pytest.mark.parametrize(
    "setting",
    ["diff.noprefix=true", "diff.mnemonicPrefix=true", "color.ui=always", "diff.external=false"],
)
def test_the_diff_applies_whatever_the_users_configuration_is(tree: Path, setting: str) -> None:
    git(tree, "config", *setting.split("="))
    (tree / "a").write_bytes(b"caf\xe9\ntwo")
    (tree / "b").unlink()
    found = provenance_of(tree)
    assert found.commit == git(tree, "rev-parse", "HEAD").strip()
    git(tree, "checkout", "-q", ".")
    git(tree, "apply", given=found.diff.encode(errors="surrogateescape"))
    assert (tree / "a").read_bytes() == b"caf\xe9\ntwo"
    assert not (tree / "b").exists()
    assert missing_parts(found.diff.encode(errors="surrogateescape")) == ""


def test_a_diff_that_is_too_long_is_cut_between_two_files(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "a").write_text("two\n")
    (tree / "b").write_text("two\n" * 500)
    monkeypatch.setattr(provenance, "DIFF_LIMIT", 1000)
    diff = provenance_of(tree).diff.encode()
    assert missing_parts(diff) == "all after its first MiB"
    git(tree, "checkout", "-q", ".")
    git(tree, "apply", given=diff)
    assert ((tree / "a").read_text(), (tree / "b").read_text()) == ("two\n", "one\n")


def test_what_a_diff_cannot_carry_is_named(tree: Path) -> None:
    (tree / "a").write_bytes(b"\0\1")
    (tree / "new").write_text("new\n")
    assert missing_parts(provenance_of(tree).diff.encode()) == "files new to git, binary files"
