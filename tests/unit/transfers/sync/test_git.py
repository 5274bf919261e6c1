"""No program starts because a repository's configuration names it, whatever git is asked."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gridops.errors import GridError
from gridops.inventory.settings import SyncSettings
from gridops.transfers.sync import list_tree
from gridops.transfers.sync.provenance import provenance_of


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A work tree with a change since its commit."""
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "-q")
    (root / "a").write_text("one\n")
    (root / "b").write_text("one\n")
    commit(root)
    (root / "a").write_text("two\n")
    return root


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Leaves a file beside it when it is started, and does what most of those programs should."""
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\necho \"$0 $*\" >>'{tmp_path}/started'\nexec cat\n")
    path.chmod(0o755)
    return path


def git(root: Path, *words: str, **environment: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    subprocess.run(
        ["git", *identity, "-c", "protocol.file.allow=always", *words],
        cwd=root,
        env={**os.environ, **environment},
        capture_output=True,
        check=True,
    )


def commit(root: Path) -> None:
    git(root, "add", ".")
    git(root, "commit", "-qm", "a commit")


def ask_everything(root: Path) -> None:
    """Everything for which gridops asks git."""
    for settings in (SyncSettings(), SyncSettings(gitignore=False)):
        list_tree(root, settings)
    provenance_of(root)
    (root / "none").mkdir(exist_ok=True)
    list_tree(root / "none", SyncSettings())


def started(tmp_path: Path) -> str:
    path = tmp_path / "started"
    return path.read_text() if path.exists() else ""


KEYS = (
    "core.fsmonitor",
    "core.sshCommand",
    "core.gitProxy",
    "core.askPass",
    "core.editor",
    "core.pager",
    "core.alternateRefsCommand",
    "pager.diff",
    "pager.ls-files",
    "pager.config",
    "diff.external",
    "diff.one.command",
    "diff.one.textconv",
    "filter.one.clean",
    "filter.one.smudge",
    "filter.one.process",
    "filter.a=b.clean",
    "credential.helper",
    "gpg.program",
    "gpg.ssh.program",
    "alias.diff",
    "alias.ls-files",
    "alias.rev-parse",
    "alias.config",
    "uploadpack.packObjectsHook",
    "trailer.one.command",
    "merge.one.driver",
    "interactive.diffFilter",
    "submodule.one.update",
    "trace2.eventTarget",
)


@pytest.mark.parametrize("where", ["itself", "nested", "gitdir file", "included", "environment"])
@pytest.mark.parametrize("key", KEYS)
def test_no_setting_of_a_repository_starts_a_program(
    tree: Path, program: Path, tmp_path: Path, key: str, where: str, monkeypatch
) -> None:
    root = tree
    if where in ("nested", "gitdir file"):
        root = tree / "results/deep"
        root.mkdir(parents=True)
        git(root, "init", "-q")
    (root / ".gitattributes").write_text("* filter=one diff=one\nb filter=a=b\n")
    value = f"!{program}" if key.startswith(("alias.", "submodule.")) else str(program)
    if where == "environment":  # what `git -c` gives to what it starts
        monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'{key}={value}'")
        if "filter" in key:
            pytest.skip("a filter that the user has named is the user's own")
    else:
        git(root, "config", key, value)
    if where == "included":
        (root / ".git/config").rename(root / ".git/more")
        (root / ".git/config").write_text("[core]\nbare = false\n[include]\npath = more\n")
    if where == "gitdir file":
        (root / ".git").rename(tree / "results/store")
        (root / ".git").write_text("gitdir: ../store\n")
    ask_everything(tree)
    assert started(tmp_path) == ""


def test_no_hook_of_a_repository_starts(tree: Path, program: Path, tmp_path: Path) -> None:
    for name in ("post-index-change", "reference-transaction", "fsmonitor-watchman", "pre-commit"):
        shutil.copy(program, tree / ".git/hooks" / name)
    (tree / "b").write_text("one\n")  # its entry in the index is stale: git would like to write it
    ask_everything(tree)
    assert started(tmp_path) == ""


def test_no_submodule_is_asked_by_its_own_configuration(
    tree: Path, program: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    (other / "x").write_text("x")
    commit(other)
    git(tree, "submodule", "add", "-q", str(other), "sub")
    commit(tree)
    for key in ("core.fsmonitor", "filter.one.clean", "filter.one.process"):
        git(tree / "sub", "config", key, str(program))
    (tree / "sub/.gitattributes").write_text("* filter=one")
    (tree / "sub/x").write_text("y")
    ask_everything(tree)
    assert started(tmp_path) == ""


def test_what_a_partial_clone_lacks_is_not_fetched(
    tree: Path, program: Path, tmp_path: Path
) -> None:
    for key, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.url": str(tmp_path),
        "remote.origin.promisor": "true",
        "remote.origin.uploadpack": str(program),
        "protocol.file.allow": "always",
    }.items():
        git(tree, "config", key, value)
    for path in (tree / ".git/objects").glob("??/*"):
        path.unlink()
    ask_everything(tree)
    assert started(tmp_path) == ""


def test_a_directory_that_only_looks_like_a_repository_is_none(
    tree: Path, program: Path, tmp_path: Path, caplog
) -> None:
    bare = tree / "results"
    git(tree, "init", "-q", "--bare", "results")
    git(bare, "config", "core.fsmonitor", str(program))
    git(bare, "config", "core.bare", "false")
    git(bare, "config", "core.worktree", str(bare))
    listed = list_tree(bare, SyncSettings())
    assert b"config" in listed.names
    provenance_of(bare)
    ask_everything(tree)
    assert started(tmp_path) == ""


@pytest.mark.parametrize("name", ["../../secret", "/secret", ".git/config", "sub/../../secret"])
def test_no_index_leads_out_of_its_tree(tree: Path, tmp_path: Path, name: str) -> None:
    """Nor to its repository's files, where passwords may be."""
    nested = tree / "results/deep"
    nested.mkdir(parents=True)
    (tree / "secret").write_text("secret")
    git(nested, "init", "-q")
    put = "x" * len(name)
    (nested / put).write_text("x")
    git(nested, "add", put)
    index = nested / ".git/index"
    data = index.read_bytes()[:-20].replace(put.encode(), name.encode())
    index.write_bytes(data + bytes(20))  # a checksum of nothing is not checked
    git(nested, "config", "index.skipHash", "true")
    try:
        names = list_tree(tree, SyncSettings()).names
    except GridError:
        return
    assert not [one for one in names if b".." in one or (b"secret" in one and one != b"secret")]
    assert not [one for one in names if b".git/" in one]


def test_the_users_own_filter_still_counts(tree: Path, program: Path, tmp_path: Path, home) -> None:
    """What git-lfs puts into ~/.gitconfig makes a diff what it should be."""
    git(tree, "config", "--global", "filter.one.clean", f"{program}")
    (tree / ".gitattributes").write_text("* filter=one")
    provenance_of(tree)
    assert "program" in started(tmp_path)
