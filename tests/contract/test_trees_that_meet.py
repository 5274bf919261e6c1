"""Two trees in one directory of a node: content decides where size and time cannot.

Everywhere here the files have the same size and were written in the same second, or seem to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.nodes import node_of, settings_of

from gridops.inventory.settings import Settings, SshSettings, SyncSettings
from gridops.model import Node, SyncReport
from gridops.reach import link_to
from gridops.transfers.sync import list_tree, sync_tree

SECOND = 1_700_000_000
NAMES = ("train.py", "lib/model.py", "lib/deep/data.bin")


@dataclass
class There:
    """A node, and where its disk is seen from here."""

    node: Node
    root: Path
    ssh: SshSettings

    def sync(self, src: Path, *, dry_run: bool = False, **changed: object) -> SyncReport:
        sync = SyncSettings.model_validate({"timeout": 60, **changed})
        link = link_to(self.node, self.ssh)
        return sync_tree(link, src, Settings(ssh=self.ssh, sync=sync), dry_run=dry_run)

    def has(self, name: str = NAMES[0], project: str = "project") -> str:
        return (self.root / project / name).read_text()


@pytest.fixture(params=["local", "ssh"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[There]:
    if request.param == "local":
        root, ssh = tmp_path / "root", SshSettings()
        node = Node("here", "here", connection="local", remote_root=str(root))
    else:
        sandbox = request.getfixturevalue("sandbox")
        name = f"meet-{time.monotonic_ns()}"
        node = replace(node_of(sandbox, "node1"), remote_root=f"~/{name}")
        root, ssh = sandbox.node("node1").home / name, settings_of(sandbox)
    yield There(node, root, ssh)
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def clone(tmp_path: Path) -> Callable[..., Path]:
    """Makes a tree whose files say `text`, all of one second of long ago."""

    def make(text: str, where: str = "one", at: float = SECOND) -> Path:
        tree = tmp_path / where / "project"
        for name in NAMES:
            write(tree / name, text, at)
        return tree

    return make


def write(path: Path, text: str, at: float = SECOND) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))


def settled(there: There, tree: Path) -> None:
    """Two syncs long after the tree was written: nothing is in doubt any more."""
    time.sleep(0.06)
    there.sync(tree)
    assert there.sync(tree).files == 0
    assert there.sync(tree).files == 0


def all_are(there: There, text: str) -> bool:
    return {there.has(name) for name in NAMES} == {text}


def test_another_clone_on_this_machine(there, clone):
    one, two = clone("1"), clone("2", "two")
    settled(there, one)
    assert there.sync(two, dry_run=True).changed == tuple(sorted(NAMES))
    assert there.sync(two).files == len(NAMES)
    assert all_are(there, "2")
    assert there.sync(one).files == len(NAMES)
    assert all_are(there, "1")


def test_another_clone_by_another_name_of_the_node(there, clone):
    one, two = clone("1"), clone("2", "two")
    alias = replace(there, node=replace(there.node, name="alias"))
    settled(there, one)
    settled(alias, two)
    assert there.sync(one).files == len(NAMES)
    assert all_are(there, "1")


@pytest.mark.parametrize("same_origin", [False, True])
def test_a_clone_on_another_machine(there, clone, tmp_path, monkeypatch, same_origin):
    """In a CI system many machines are one origin, with one path."""
    if same_origin:
        monkeypatch.setenv("CI", "true")
    one = clone("1")
    settled(there, one)
    mine = os.environ["GRIDOPS_RUNTIME_DIR"]
    one.parent.rename(tmp_path / "aside")
    with monkeypatch.context() as patch:
        if same_origin:
            other = clone("2")
        else:
            patch.setenv("GRIDOPS_ORIGIN", "other@machine:/src/project")
            other = clone("2", "elsewhere")
        ssh = there.ssh if there.node.connection == "local" else None
        patch.setattr("gridops.transfers.sync.record.runtime_dir", lambda: made(tmp_path / "run"))
        assert ssh or mine
        settled(there, other)
        assert all_are(there, "2")
    shutil.rmtree(tmp_path / "one", ignore_errors=True)
    (tmp_path / "aside").rename(tmp_path / "one")
    assert there.sync(one).files == len(NAMES)
    assert all_are(there, "1")


def made(path: Path) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def test_a_machine_that_forgets(there, clone, tmp_path, monkeypatch):
    """A container of a CI system that begins anew each time."""
    settled(there, clone("1"))
    shutil.rmtree(tmp_path / "one")
    path = "gridops.transfers.sync.record.runtime_dir"
    monkeypatch.setattr(path, lambda: made(tmp_path / "run"))
    there.sync(clone("2"))
    assert all_are(there, "2")


def test_the_same_path_cloned_anew(there, clone, tmp_path):
    settled(there, clone("1"))
    shutil.rmtree(tmp_path / "one")
    there.sync(clone("2"))
    assert all_are(there, "2")


def test_a_checkout_of_another_commit_within_a_second(there, tmp_path):
    tree = tmp_path / "project"
    tree.mkdir()
    git = ["git", "-C", str(tree), "-c", "user.name=n", "-c", "user.email=n@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    for text in ("1", "2"):
        (tree / "a").write_text(text)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", text], check=True)
    for _ in range(3):
        for name, text in (("HEAD~1", "1"), ("-", "2")):
            subprocess.run([*git, "checkout", "-q", name], check=True)
            there.sync(tree)
            assert there.has("a") == text


def by_touch(path: Path) -> None:
    path.write_text("2")
    subprocess.run(["touch", "-d", f"@{SECOND}", str(path)], check=True)


def by_tar(path: Path) -> None:
    elsewhere = path.parent.parent / "new"
    write(elsewhere / path.name, "2")
    subprocess.run(["tar", "-C", str(elsewhere), "-cf", "../t.tar", path.name], check=True,
                   cwd=elsewhere)  # fmt: skip
    subprocess.run(["tar", "-C", str(path.parent), "-xf", f"{elsewhere}/../t.tar"], check=True)


def by_rsync(path: Path) -> None:
    elsewhere = path.parent.parent / "new"
    write(elsewhere / path.name, "2")
    subprocess.run(["rsync", "-tI", f"{elsewhere}/{path.name}", str(path)], check=True)


def by_cp(path: Path) -> None:
    elsewhere = path.parent.parent / "new"
    write(elsewhere / path.name, "2")
    subprocess.run(["cp", "-p", f"{elsewhere}/{path.name}", str(path)], check=True)


def by_mv(path: Path) -> None:
    elsewhere = path.parent.parent / "new"
    write(elsewhere / path.name, "2")
    time.sleep(0.1)
    (elsewhere / path.name).rename(path)


@pytest.mark.parametrize("replaced", [by_touch, by_tar, by_rsync, by_cp, by_mv])
def test_a_file_that_was_replaced_with_its_time_kept(there, clone, replaced):
    tree = clone("1")
    settled(there, tree)
    replaced(tree / NAMES[0])
    assert there.sync(tree).changed == (NAMES[0],)
    assert there.has() == "2"


def test_a_directory_that_another_took_the_place_of(there, clone, tmp_path):
    """Its files have not changed at all: they were made before the last sync."""
    tree, other = clone("1"), clone("2", "two")
    settled(there, tree)
    (tree / "lib").rename(tmp_path / "aside")
    (other / "lib").rename(tree / "lib")
    assert there.sync(tree).changed == ("lib/deep/data.bin", "lib/model.py")
    assert there.has("lib/model.py") == "2"


def test_a_tree_that_another_was_renamed_to(there, clone, tmp_path):
    tree, other = clone("1"), clone("2", "two")
    settled(there, tree)
    tree.rename(tmp_path / "aside")
    other.rename(tree)
    there.sync(tree)
    assert all_are(there, "2")


def test_a_src_given_as_another_path_of_the_same_name(there, clone, tmp_path):
    """A symlink is the tree that it leads to."""
    one, two = clone("1"), clone("2", "two")
    settled(there, one)
    (tmp_path / "link").mkdir()
    (tmp_path / "link/project").symlink_to(two)
    there.sync(tmp_path / "link/project")
    assert all_are(there, "2")


def test_a_home_that_two_nodes_share(there, clone):
    """Nor is everything compared each time, when they take turns."""
    tree = clone("1")
    settled(there, tree)
    other = replace(there, node=replace(there.node, name="other"))
    settled(other, tree)
    write(tree / NAMES[0], "2")
    assert there.sync(tree).changed == (NAMES[0],)
    write(tree / NAMES[0], "3")
    assert other.sync(tree).changed == (NAMES[0],)
    assert there.has() == "3"
    origin = (there.root / "project/.gridops/origin").read_text()
    assert there.sync(tree).files == 0
    assert other.sync(tree).files == 0
    assert (there.root / "project/.gridops/origin").read_text() == origin


def test_a_file_that_a_job_wrote_on_the_node_within_the_second(there, clone):
    tree = clone("1", at=SECOND + 0.25)
    settled(there, tree)
    write(there.root / "project" / NAMES[0], "2", SECOND + 0.75)
    assert there.sync(tree).changed == (NAMES[0],)
    assert there.has() == "1"


def test_a_backup_that_was_put_back(there, clone):
    tree = clone("1")
    settled(there, tree)
    write(tree / NAMES[0], "2", SECOND + 100)
    there.sync(tree)
    write(tree / NAMES[0], "1", SECOND)
    there.sync(tree)
    assert there.has() == "1"
    write(tree / NAMES[0], "3", SECOND)
    there.sync(tree)
    assert there.has() == "3"


def test_a_sync_that_was_interrupted_while_another_tree_was_there(there, clone, monkeypatch):
    one, two = clone("1"), clone("2", "two")
    settled(there, one)
    settled(there, two)
    with monkeypatch.context() as patch:
        patch.setattr("gridops.transfers.sync.session.SyncSession._run", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            there.sync(one)
    there.sync(one)
    assert all_are(there, "1")


def test_a_file_that_was_left_out_meanwhile(there, clone):
    tree = clone("1")
    settled(there, tree)
    write(tree / NAMES[0], "2")
    settled_without = {"exclude_patterns": [NAMES[0]], "delete": False}
    time.sleep(0.06)
    there.sync(tree, **settled_without)
    there.sync(tree, **settled_without)
    there.sync(tree, delete=False)
    assert there.has() == "2"


def test_a_file_whose_time_is_in_the_future(there, clone):
    tree = clone("1", at=time.time() + 10**6)
    settled(there, tree)
    write(tree / NAMES[0], "2", tree.joinpath(NAMES[0]).stat().st_mtime)
    there.sync(tree)
    assert there.has() == "2"


def test_a_clock_that_was_put_back(there, clone, monkeypatch):
    tree = clone("1")
    settled(there, tree)
    real = time.time
    monkeypatch.setattr("gridops.transfers.sync.record.time.time", lambda: real() - 10**6)
    write(tree / NAMES[0], "2")
    there.sync(tree)
    assert there.has() == "2"


def test_a_record_that_is_damaged_counts_as_none(there, clone, tmp_path):
    one = clone("1")
    settled(there, one)
    run = Path(os.environ["GRIDOPS_RUNTIME_DIR"])
    for path in run.glob("sync-*.lock"):
        path.write_bytes(path.read_bytes()[:300])
    write(one / NAMES[0], "2")
    there.sync(one)
    assert there.has() == "2"


def test_one_tree_for_many_nodes(there, clone):
    one, two = clone("1"), clone("2", "two")
    settled(there, one)
    there.sync(list_tree(two, SyncSettings()).for_many())
    assert all_are(there, "2")


def test_a_disk_there_without_nanoseconds_is_noticed(there, clone):
    """Else each file would be sent each time."""
    tree = clone("1", at=SECOND + 0.25)
    time.sleep(0.06)
    there.sync(tree)
    for name in NAMES:
        write(there.root / "project" / name, "1", SECOND)
    assert there.sync(tree).files == 0
    assert there.sync(tree).files == 0
