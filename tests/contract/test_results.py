"""What a fetch brought home is no source of the next sync, whatever reaches the node."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.nodes import node_of, settings_of

from gridops.inventory.settings import Settings, SshSettings, SyncSettings
from gridops.model import Node, SyncReport
from gridops.observe import events
from gridops.reach import link_to
from gridops.reach.link import Link
from gridops.transfers.fetch import FetchReport, fetch_results
from gridops.transfers.sync import list_tree, sync_tree


@dataclass
class Home:
    """A tree here, and its places on two nodes."""

    src: Path
    nodes: tuple[Node, Node]
    roots: tuple[Path, Path]
    settings: Settings

    def sync(self, which: int = 0, src: Path | None = None) -> SyncReport:
        return sync_tree(self._link(which), src or self.src, self.settings)

    def fetch(self, *patterns: str, **options: object) -> FetchReport:
        options = {"into": self.src, "settings": self.settings, **options}
        directory = f"{self.nodes[0].remote_root}/{self.src.name}"
        return fetch_results(self._link(0), directory, patterns, **options)  # type: ignore[arg-type]

    def there(self, which: int = 0) -> Path:
        return self.roots[which] / self.src.name

    def _link(self, which: int) -> Link:
        return link_to(self.nodes[which], self.settings.ssh)


@pytest.fixture(params=["local", "ssh"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    src = tmp_path / "project"
    put(src, "train.py")
    if request.param == "local":
        roots = tmp_path / "one", tmp_path / "two"
        nodes = tuple(
            Node(root.name, "here", connection="local", remote_root=str(root)) for root in roots
        )
        ssh = SshSettings()
    else:
        sandbox = request.getfixturevalue("sandbox")
        names = [f"results-{time.monotonic_ns()}-{which}" for which in "ab"]
        node = node_of(sandbox, "node1")
        nodes = tuple(replace(node, remote_root=f"~/{name}") for name in names)
        roots = tuple(sandbox.node("node1").home / name for name in names)  # type: ignore[assignment]
        ssh = settings_of(sandbox)
    yield Home(src, nodes, roots, Settings(ssh=ssh))  # type: ignore[arg-type]
    for root in roots:
        shutil.rmtree(root, ignore_errors=True)


def put(root: Path, *names: str, text: str = "x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def git(root: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True)


def names(root: Path) -> set[str]:
    every = (str(path.relative_to(root)) for path in root.rglob("*"))
    return {name for name in every if not name.startswith(".gridops")}


@pytest.mark.parametrize("with_git", [False, True])
def test_results_stay_where_they_are_whatever_becomes_of_them_at_home(home: Home, with_git):
    if with_git:
        git(home.src, "init", "-q")
    home.sync()
    put(home.there(), "out/deep/ckpt.bin", "out/log")
    home.fetch("out")
    assert home.sync().total_files == 1
    home.sync(1)
    assert names(home.there(1)) == {"train.py"}
    (home.src / "out").rename(home.src.parent / "moved")
    seen: list[events.Event] = []
    with events.listening(seen.append):
        assert home.sync().deleted == ()
    assert seen[-1].fields["deleted"] == 0
    assert names(home.there()) == {"train.py", "out", "out/deep", "out/deep/ckpt.bin", "out/log"}
    if with_git:
        status = subprocess.check_output(["git", "-C", home.src, "status", "--porcelain"])
        assert b".gridops" not in status


def test_how_many_were_left_out_and_deleted_is_told(home: Home):
    put(home.src, "old")
    home.sync()
    put(home.there(), "out/a", "out/b")
    home.fetch("out")
    (home.src / "old").unlink()
    seen: list[events.Event] = []
    with events.listening(seen.append):
        home.sync()
    assert (seen[-1].fields["deleted"], seen[-1].fields["fetched"]) == (1, 2)


def test_a_result_that_was_edited_is_the_users(home: Home):
    home.sync()
    put(home.there(), "out/a", "out/b")
    home.fetch("out")
    put(home.src, "out/a", text="mine")
    assert home.sync().changed == ("out/a",)
    home.sync(1)
    assert names(home.there(1)) == {"train.py", "out", "out/a"}


@pytest.mark.parametrize("gitignore", [True, False])
def test_a_result_that_git_tracks_belongs_to_the_tree(home: Home, gitignore):
    git(home.src, "init", "-q")
    home.sync()
    put(home.there(), "out/a", "out/b")
    home.fetch("out")
    git(home.src, "add", "out/a")
    tree = list_tree(home.src, SyncSettings(gitignore=gitignore))
    assert (tree.names, tree.fetched) == ((b"out/a", b"train.py"), 1)


def test_a_file_of_the_users_that_a_run_has_changed_remains_the_users(home: Home):
    put(home.src, "state.json")
    home.sync()
    put(home.there(), "state.json", text="changed")
    assert home.fetch(".").replaced == ("state.json",)
    report = home.sync()
    assert (report.total_files, report.deleted) == (2, ())
    assert (home.there() / "state.json").read_text() == "changed"


def test_a_result_that_replaces_one_is_one(home: Home):
    home.sync()
    put(home.there(), "out/a")
    home.fetch("out")
    put(home.there(), "out/a", text="newer")
    assert home.fetch("out").replaced == ("out/a",)
    assert home.sync().total_files == 1


def test_a_directory_of_the_users_travels_empty_and_one_of_a_fetch_does_not(home: Home):
    (home.src / "out").mkdir()
    home.sync()
    put(home.there(), "out/deep/a", "new/b")
    home.fetch("out", "new")
    home.sync(1)
    assert names(home.there(1)) == {"train.py", "out"}


def test_another_place_within_the_tree_or_around_it_is_heeded(home: Home):
    home.sync()
    put(home.there(), "out/a")
    home.fetch("out", into=home.src / "from node")
    assert list_tree(home.src, SyncSettings()).names == (b"train.py",)
    git(home.src, "init", "-q")
    tree = list_tree(home.src, SyncSettings())
    assert (tree.names, tree.fetched) == ((b"train.py",), 1)
    put(home.src / "from node", "mine")
    tree = list_tree(home.src / "from node" / "out", SyncSettings(gitignore=False))
    assert (tree.names, tree.fetched) == ((), 1)


def test_the_record_is_private_and_forgets_what_is_gone(home: Home):
    home.sync()
    put(home.there(), "out/a", "out/b")
    home.fetch("out/a")
    record = home.src / ".gridops/fetched"
    assert record.stat().st_mode & 0o777 == 0o600
    (home.src / "out/a").unlink()
    home.fetch("out/b")
    assert b"out/a" not in record.read_bytes()
    assert b"out/b" in record.read_bytes()


def test_nobody_elses_record_counts(home: Home):
    if os.geteuid():
        pytest.skip("only root can give files away")
    home.sync()
    put(home.there(), "out/a")
    home.fetch("out")
    os.chown(home.src / ".gridops/fetched", 12345, -1)
    assert list_tree(home.src, SyncSettings()).names == (b"out/a", b"train.py")


def test_a_record_that_cannot_be_written_is_said_and_the_results_are_here(home: Home):
    home.sync()
    put(home.there(), "out/a")
    (home.src / ".gridops/fetched").mkdir(parents=True)
    seen: list[events.Event] = []
    with events.listening(seen.append):
        assert home.fetch("out").new == ("out/a",)
    said = [event.fields["message"] for event in seen if event.name == events.WARNING]
    assert any("cannot record what was fetched into" in message for message in said)
