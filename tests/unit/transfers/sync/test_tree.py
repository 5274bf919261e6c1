"""What belongs to a project tree."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from gridops.errors import SyncError, UsageError
from gridops.inventory.settings import SyncSettings
from gridops.transfers.sync import list_tree
from gridops.transfers.sync.tree import Tree

NAMES = (
    b"-dash",
    b"a b/c d",
    b"new\nline",
    b"qu'o\"te",
    "ünï/cöde".encode(),
    b"bad\xff\xfe",
    b"*",
    b"[x]",
    b"host:colon",
    b"#hash",
    b"back\\slash",
    b" lead",
    b"tab\there\r",
    b"$HOME",
    b"~",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.fixture
def work_tree(root: Path) -> Path:
    git(root, "init")
    return root


def git(directory: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=m"]
    local = ["-c", "protocol.file.allow=always"]
    done = subprocess.run(
        ["git", *identity, *local, *words],
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def put(root: Path, *names: str | bytes) -> None:
    for name in names:
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def listed(root: Path, **settings: object) -> set[str]:
    return names_of(list_tree(root, SyncSettings.model_validate(settings)))


def names_of(tree: Tree) -> set[str]:
    return {os.fsdecode(name) for name in tree.names} | {
        os.fsdecode(name) + "/" for name in tree.empty
    }


# -- in a git work tree -----------------------------------------------------------------------


def test_tracked_and_untracked_files_belong_and_ignored_ones_do_not(work_tree):
    put(work_tree, "tracked", "untracked", "x.log", "sub/y.log", "sub/kept.log", "out/big")
    (work_tree / ".gitignore").write_text("*.log\nout/\n")
    (work_tree / "sub/.gitignore").write_text("!kept.log\n")
    git(work_tree, "add", "tracked")
    expected = {"tracked", "untracked", ".gitignore", "sub/.gitignore", "sub/kept.log"}
    assert listed(work_tree) == expected


def test_the_private_and_the_users_own_ignore_files_count(work_tree, home):
    put(work_tree, "a", "private", "mine")
    (work_tree / ".git/info/exclude").write_text("private\n")
    (home / "ignored").write_text("mine\n")
    (home / ".gitconfig").write_text(f"[core]\nexcludesFile = {home}/ignored\n")
    assert listed(work_tree) == {"a"}


def test_a_tracked_file_that_is_ignored_as_well_belongs(work_tree):
    put(work_tree, "a.log")
    (work_tree / ".gitignore").write_text("*.log\n")
    git(work_tree, "add", "-f", "a.log")
    assert listed(work_tree) == {"a.log", ".gitignore"}


def test_a_file_deleted_here_does_not_belong_though_the_index_has_it(work_tree):
    put(work_tree, "a", "b", "c/d")
    git(work_tree, "add", ".")
    (work_tree / "b").unlink()
    shutil.rmtree(work_tree / "c")
    assert listed(work_tree) == {"a"}


def test_names_are_bytes_all_the_way(work_tree):
    put(work_tree, *NAMES)
    assert set(list_tree(work_tree, SyncSettings()).names) == set(NAMES)
    git(work_tree, "add", ".")
    assert set(list_tree(work_tree, SyncSettings()).names) == set(NAMES)


def test_a_file_in_conflict_belongs_once(work_tree):
    put(work_tree, "a")
    git(work_tree, "add", ".")
    git(work_tree, "commit", "-m", "1")
    git(work_tree, "checkout", "-b", "other")
    (work_tree / "a").write_text("other")
    git(work_tree, "commit", "-am", "2")
    git(work_tree, "checkout", "m")
    (work_tree / "a").write_text("mine")
    git(work_tree, "commit", "-am", "3")
    with pytest.raises(subprocess.CalledProcessError):
        git(work_tree, "merge", "other")
    assert list_tree(work_tree, SyncSettings()).names == (b"a",)


def test_a_directory_below_the_top_is_a_tree_of_its_own(work_tree):
    put(work_tree, "a", "sub/b", "sub/c.log")
    (work_tree / ".gitignore").write_text("*.log\n")
    assert listed(work_tree / "sub") == {"b"}


def test_submodules_belong_with_their_own_rules(work_tree, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init")
    put(other, "lib.py")
    (other / ".gitignore").write_text("*.o\n")
    git(other, "add", ".")
    git(other, "commit", "-m", "1")
    git(work_tree, "submodule", "add", str(other), "mods/lib")
    put(work_tree / "mods/lib", "new.py", "x.o")
    expected = {".gitmodules", "mods/lib/lib.py", "mods/lib/new.py", "mods/lib/.gitignore"}
    assert listed(work_tree) == expected


def test_a_submodule_that_was_never_fetched_is_no_error(work_tree, tmp_path):
    test_submodules_belong_with_their_own_rules(work_tree, tmp_path)
    git(work_tree, "submodule", "deinit", "-f", "mods/lib")
    assert listed(work_tree) == {".gitmodules"}


def test_a_repository_cloned_into_the_tree_belongs(work_tree):
    put(work_tree, "a", "clone/b", "clone/c.o")
    git(work_tree / "clone", "init")
    (work_tree / "clone/.gitignore").write_text("*.o\n")
    assert listed(work_tree) == {"a", "clone/b", "clone/.gitignore"}


def test_a_linked_work_tree_is_one_too(work_tree, tmp_path):
    put(work_tree, "a")
    git(work_tree, "add", ".")
    git(work_tree, "commit", "-m", "1")
    git(work_tree, "worktree", "add", str(tmp_path / "linked"))
    put(tmp_path / "linked", "b", "c.log")
    (tmp_path / "linked/.gitignore").write_text("*.log\n")
    assert listed(tmp_path / "linked") == {"a", "b", ".gitignore"}


def test_symlinks_belong_as_symlinks_and_what_is_behind_them_does_not(work_tree):
    put(work_tree, "real/file")
    git(work_tree, "add", ".")
    (work_tree / "to_dir").symlink_to("real")
    (work_tree / "dangling").symlink_to("nowhere")
    assert listed(work_tree) == {"real/file", "to_dir", "dangling"}


def test_a_directory_that_became_a_symlink_is_one(work_tree):
    put(work_tree, "dir/a", "else/a")
    git(work_tree, "add", ".")
    shutil.rmtree(work_tree / "dir")
    (work_tree / "dir").symlink_to("else")
    assert listed(work_tree) == {"dir", "else/a"}


def test_a_file_that_became_a_directory_is_one(work_tree):
    put(work_tree, "a")
    git(work_tree, "add", ".")
    (work_tree / "a").unlink()
    put(work_tree, "a/b")
    assert listed(work_tree) == {"a/b"}


def test_git_variables_of_a_hook_do_not_mislead(work_tree, tmp_path, monkeypatch):
    put(work_tree, "a")
    git(tmp_path, "init", "elsewhere")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere/.git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", "nowhere")
    assert listed(work_tree) == {"a"}


def test_a_tree_that_the_repository_around_it_ignores_belongs_whole(work_tree, warnings):
    put(work_tree, "experiments/one/a", "experiments/one/b.log")
    (work_tree / ".gitignore").write_text("experiments/\n*.log\n")
    assert listed(work_tree / "experiments/one") == {"a", "b.log"}
    assert "ignores it" in warnings[0]


def test_an_empty_work_tree_has_nothing(work_tree, warnings):
    assert listed(work_tree) == set()
    assert warnings == []


def test_another_owners_repository_is_refused_with_the_remedy(work_tree, monkeypatch):
    put(work_tree, "secret.env")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(SyncError, match=r"belongs to another user.*safe\.directory"):
        listed(work_tree)


def test_a_broken_repository_is_refused(work_tree):
    put(work_tree, "a")
    git(work_tree, "add", ".")
    (work_tree / ".git/index").write_bytes(b"nonsense that is no index at all")
    with pytest.raises(SyncError, match="index file"):
        listed(work_tree)


def test_a_dot_git_that_is_none_is_said_and_everything_belongs(root, warnings):
    put(root, "a")
    (root / ".git").write_text("gitdir: /nowhere\n")
    assert listed(root) == {"a"}
    assert "git cannot use its .git" in warnings[0]


def test_without_git_everything_belongs_and_that_is_said(
    work_tree, tmp_path, monkeypatch, warnings
):
    put(work_tree, "a", "x.log")
    (work_tree / ".gitignore").write_text("*.log\n")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert listed(work_tree) == {"a", "x.log", ".gitignore"}
    assert "git is not installed" in warnings[0]


def test_gitignore_false_takes_everything_but_dot_git(work_tree):
    put(work_tree, "a", "x.log", "sub/.git/config", "sub/b")
    (work_tree / ".gitignore").write_text("*.log\n")
    assert listed(work_tree, gitignore=False) == {"a", "x.log", ".gitignore", "sub/b"}


def test_exclude_patterns_hold_in_a_work_tree_as_well(work_tree):
    put(work_tree, "a.py", "data/x.py", "deep/data/y", "b.txt")
    git(work_tree, "add", ".")
    assert listed(work_tree, exclude_patterns=["data/", "*.txt"]) == {"a.py"}
    assert listed(work_tree, exclude_patterns=["/data", "*.txt"]) == {"a.py", "deep/data/y"}


# -- elsewhere --------------------------------------------------------------------------------


def test_elsewhere_all_files_and_empty_directories_belong(root):
    put(root, "a", "sub/.hidden", "sub/x.log")
    (root / "empty/deep").mkdir(parents=True)
    (root / ".gitignore").write_text("*.log\n")
    assert listed(root) == {"a", "sub/.hidden", "sub/x.log", ".gitignore", "empty/deep/"}


def test_a_directory_whose_files_are_all_excluded_is_an_empty_one(root):
    put(root, "data/x.bin", "cache/y")
    assert listed(root, exclude_patterns=["*.bin", "cache/"]) == {"data/"}


def test_a_bare_repository_is_a_directory_like_any_other(root, warnings):
    git(root, "init", "--bare")
    assert "HEAD" in listed(root)
    assert warnings == []


def test_pipes_and_sockets_stay_and_that_is_said(root, warnings, monkeypatch):
    put(root, "a")
    os.mkfifo(root / "pipe")
    monkeypatch.chdir(root)  # the path of a socket has to be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert listed(root) == {"a"}
    assert warnings == ["not synced, since no regular files: pipe, socket"]


def test_our_own_state_never_belongs(root):
    put(root, "a", ".gridops/marker", "sub/.gridops/x")
    assert listed(root) == {"a", "sub/.gridops/x"}


def test_symlinks_that_lead_out_are_said(root, warnings):
    put(root, "sub/x")
    (root / "sub/in").symlink_to("../sub/x")
    (root / "sub/out").symlink_to("../../else")
    (root / "absolute").symlink_to("/data")
    listed(root)
    assert warnings == [
        "symlinks that lead out of the tree are copied as symlinks: absolute, sub/out"
    ]


def test_the_source_must_be_a_directory(root):
    put(root, "file")
    for name in ("missing", "file"):
        with pytest.raises(UsageError, match=name):
            list_tree(root / name, SyncSettings())


def test_a_directory_that_cannot_be_read_is_remembered(root, monkeypatch):
    put(root, "a", "closed/b")
    close(root / "closed", monkeypatch)
    tree = list_tree(root, SyncSettings())
    assert (tree.names, tree.empty, tree.unreadable) == ((b"a",), (), (b"closed",))


def test_a_directory_that_cannot_be_read_is_remembered_in_a_work_tree(work_tree, monkeypatch):
    put(work_tree, "a", "closed/b")
    git(work_tree, "add", ".")
    close(work_tree / "closed", monkeypatch)
    tree = list_tree(work_tree, SyncSettings())
    assert (tree.names, tree.unreadable) == ((b"a", b"closed/b"), (b"closed",))


def close(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it unreadable, for root as well."""
    real = os.scandir

    def scandir(path: bytes | int) -> object:
        if path == os.fsencode(directory):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("gridops.transfers.sync.walk.os.scandir", scandir)


# -- the manifest -----------------------------------------------------------------------------


def test_the_manifest_is_plain_sorted_text_that_printf_can_undo(root):
    tree = Tree(root, tuple(sorted(NAMES)), (b"empty dir",))
    lines = tree.manifest.split(b"\n")
    assert lines.pop() == b""
    assert lines == sorted(lines)
    assert all(0x20 <= byte < 0x7F for line in lines for byte in line)
    done = [subprocess.check_output([b"printf", b"%b", line]) for line in lines]
    assert set(done) == {*NAMES, b"empty dir/"}


def test_the_digest_tells_lists_apart(root):
    assert Tree(root, (b"a",)).digest == Tree(root, (b"a",)).digest
    assert Tree(root, (b"a",)).digest != Tree(root, (b"a", b"b")).digest
    assert Tree(root, (b"a",)).digest != Tree(root, (), (b"a",)).digest
