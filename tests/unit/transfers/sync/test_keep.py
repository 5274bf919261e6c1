"""A tree that is kept here until a run that waits begins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gridops.errors import SyncError
from gridops.inventory.settings import SyncSettings
from gridops.transfers.sync import keep, list_tree
from gridops.transfers.sync.keep import keep_tree
from gridops.transfers.sync.tree import Tree


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRIDOPS_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state" / "trees"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "demo"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "sub" / "tool").write_text("#!/bin/sh\n")
    (root / "sub" / "tool").chmod(0o755)
    os.utime(root / "sub" / "tool", ns=(1, 1234567890123456789))
    (root / os.fsdecode(b"odd \xff\n")).write_text("odd\n")
    (root / "link").symlink_to("sub/tool")
    (root / "sub").chmod(0o555)
    return list_tree(root, SyncSettings())


def test_it_is_what_it_was_whatever_is_edited_and_nothing_is_left(tree: Tree, state: Path) -> None:
    with keep_tree(tree) as kept:
        tool = tree.root / "sub" / "tool"
        tool.write_text("edited\n")
        copy = kept.root / "sub" / "tool"
        assert copy.read_text() == "#!/bin/sh\n"
        assert (copy.stat().st_mode & 0o777, copy.stat().st_mtime_ns) == (
            0o755,
            1234567890123456789,
        )
        assert (kept.root / "sub").stat().st_mode & 0o777 == 0o555
        assert (kept.root / "sub" / "empty").is_dir()
        assert (kept.root / "link").readlink() == Path("sub/tool")
        assert (kept.root / os.fsdecode(b"odd \xff\n")).read_text() == "odd\n"
        assert (kept.project, kept.origin, kept.digest) == ("demo", tree.root, tree.digest)
        assert list(state.iterdir()) == [kept.root.parent]
        assert state.stat().st_mode & 0o077 == 0
    assert list(state.iterdir()) == []


def test_it_is_removed_when_the_wait_fails(tree: Tree, state: Path) -> None:
    with pytest.raises(OSError, match="mine"), keep_tree(tree):
        raise OSError("mine")
    assert list(state.iterdir()) == []


def test_one_that_is_too_large_is_refused(
    tree: Tree, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keep, "KEEP_LIMIT", 10)
    with pytest.raises(SyncError, match="are kept here while a run waits"), keep_tree(tree):
        pass
    assert list(state.glob("*")) == []


def test_the_one_of_a_living_process_stays_and_that_of_a_dead_one_goes(
    tree: Tree, state: Path
) -> None:
    with keep_tree(tree) as first:
        for name in ("dead", "cut"):
            (state / name).mkdir()
        (state / "dead" / "lock").touch()
        (state / "dead" / "tree").mkdir(mode=0o555)
        with keep_tree(tree) as second:
            assert {path.name for path in state.iterdir()} == {
                first.root.parent.name,
                second.root.parent.name,
            }


def test_a_file_that_cannot_be_read_is_named(tree: Tree, state: Path) -> None:
    (tree.root / "link").unlink()
    with pytest.raises(SyncError, match=r"cannot be kept in .*link"), keep_tree(tree):
        pass
    assert list(state.glob("*")) == []
