"""A project tree on a node, whatever reaches it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.nodes import node_of, settings_of

from gridops.errors import PartialTransfer, SyncError, UnmarkedTarget, UsageError
from gridops.inventory.settings import Settings, SshSettings, SyncSettings
from gridops.model import Node, SyncReport
from gridops.observe import events
from gridops.reach import link_to
from gridops.reach.link import Link
from gridops.transfers.sync import list_tree, session, sync_tree, target_of
from gridops.transfers.sync import remote as node

ODD_NAMES = (
    b"-dash",
    b"a b/c d",
    b"new\nline",
    b"qu'o\"te",
    "ünï/cöde".encode(),
    b"bad\xff\xfe",
    b"*",
    b"[x]",
    b"host:colon",
    b"a b/x:y",
    b"#hash",
    b";semi",
    b"back\\slash",
    b"esc\\#012",
    b" lead and trail ",
    b"tab\there\r",
    b"$HOME",
    b"~",
    b"...",
    bytes(range(0x80, 0xC0)),
    bytes(range(0xC0, 0x100)) + bytes(range(1, 0x2F)),
)


@dataclass
class Place:
    """A node, and where its disk is seen from here."""

    link: Link
    root: Path  # remote_root
    settings: Settings

    def sync(self, src: Path, *, dry_run: bool = False, **changed: object) -> SyncReport:
        settings = self.settings.model_copy(
            update={"sync": SyncSettings.model_validate({"timeout": 60, **changed})}
        )
        return sync_tree(self.link, src, settings, dry_run=dry_run)

    def plan(self, src: Path, **changed: object) -> SyncReport:
        return self.sync(src, dry_run=True, **changed)

    def on(self, node: Node) -> Place:
        return replace(self, link=link_to(node, self.settings.ssh))


@pytest.fixture(params=["local", "ssh"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "local":
        root = tmp_path / "node root"
        there = Node("here", "here", connection="local", remote_root=str(root))
        ssh = SshSettings()
    else:
        sandbox = request.getfixturevalue("sandbox")
        relative = f"sync-{time.monotonic_ns()}/ro ot"
        there = replace(node_of(sandbox, "node1"), remote_root=f"~/{relative}")
        root, ssh = sandbox.node("node1").home / relative, settings_of(sandbox)
    yield Place(link_to(there, ssh), root, Settings(ssh=ssh))
    shutil.rmtree(root.parent if request.param == "ssh" else root, ignore_errors=True)


@pytest.fixture
def src(tmp_path: Path) -> Path:
    path = tmp_path / "my project"
    path.mkdir()
    return path


@pytest.fixture
def there(place: Place, src: Path) -> Path:
    """The tree's directory on the node."""
    return place.root / src.name


def put(root: Path, *names: str | bytes, text: str = "x") -> None:
    for name in names:
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def entries(root: Path) -> set[bytes]:
    """Everything below `root` but gridops' own: names, a directory's with a slash."""
    base = os.fsencode(root)
    found: set[bytes] = set()
    for directory, below, files in os.walk(base):
        inside = directory[len(base) + 1 :]
        if inside.split(b"/")[0] == b".gridops":
            continue
        for name in files:
            found.add(inside + b"/" + name if inside else name)
        for name in below:
            if inside or name != b".gridops":
                link = os.path.islink(os.path.join(directory, name))  # noqa: PTH114, PTH118
                found.add((inside + b"/" + name if inside else name) + (b"" if link else b"/"))
    return found


def state_of(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Names with kind, mode and content, of everything below `root`, gridops' own included."""
    found: dict[bytes, tuple[object, ...]] = {}
    for directory, below, files in os.walk(os.fsencode(root)):
        for name in below + files:
            path = Path(os.fsdecode(directory)) / os.fsdecode(name)
            status = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[os.fsencode(path)] = (status.st_mode, status.st_mtime_ns, content)
    return found


# -- bringing ---------------------------------------------------------------------------------


def test_a_tree_arrives_whole_with_modes_times_and_symlinks(place, src, there):
    put(src, "a", "sub/deep/b", text="hello")
    (src / "run.sh").write_text("#!/bin/sh\n")
    (src / "run.sh").chmod(0o751)
    (src / "a").chmod(0o640)
    os.utime(src / "a", (1e9, 1e9))
    (src / "link").symlink_to("sub/deep")
    (src / "dangling").symlink_to("no where")
    (src / "absolute").symlink_to("/no/where")
    (src / "empty/er").mkdir(parents=True)
    report = place.sync(src)
    assert entries(there) == entries(src)
    assert (there / "sub/deep/b").read_text() == "hello"
    assert (there / "run.sh").stat().st_mode & 0o777 == 0o751
    assert (there / "a").stat().st_mode & 0o777 == 0o640
    assert (there / "a").stat().st_mtime == 1e9
    for name, to in ("link", "sub/deep"), ("dangling", "no where"), ("absolute", "/no/where"):
        assert os.readlink(there / name) == to  # noqa: PTH115 - exactly as it was made
    assert report.target == str(there)
    assert report.source == str(src)
    assert report.added == (
        "a",
        "absolute",
        "dangling",
        "empty/er/",
        "link",
        "run.sh",
        "sub/deep/b",
    )
    assert (report.changed, report.deleted) == ((), ())
    assert (report.files, report.total_files) == (3, 6)
    assert report.bytes > 0
    assert report.seconds > 0


def test_names_of_all_bytes_travel_and_go_again(place, src, there):
    put(src, "stays", *ODD_NAMES)
    place.sync(src)
    assert entries(there) == entries(src)
    assert place.sync(src).added == ()
    for name in ODD_NAMES:
        (src / os.fsdecode(name)).unlink()
    report = place.sync(src, gitignore=False)
    assert {name for name in entries(there) if not name.endswith(b"/")} == {b"stays"}
    assert len(report.deleted) == len(ODD_NAMES)


@pytest.mark.parametrize(
    "name", ["-dash", "sp ace", "qu'o\"te", "ünï", "$HOME", "new\nline", "a:b", "~", "*"]
)
def test_a_project_may_be_called_anything(place, tmp_path, name):
    src = tmp_path / "in" / name
    put(src, "a", "b:c")
    report = place.sync(src)
    assert report.target == str(place.root / name)
    assert entries(place.root / name) == {b"a", b"b:c"}
    (src / "a").unlink()
    assert place.sync(src).deleted == ("a",)
    assert entries(place.root / name) == {b"b:c"}


@pytest.mark.parametrize("name", ["", ".", "..", ".gridops", "a/b"])
def test_some_names_are_refused(place, src, name):
    with pytest.raises(UsageError):
        sync_tree(place.link, src, place.settings, project=name or ".")
    assert not place.root.exists()


def test_only_what_changed_travels(place, src, there):
    put(src, "a", "b", "c")
    place.sync(src)
    (src / "a").write_text("longer")
    (src / "b").chmod(0o700)
    put(src, "new")
    report = place.sync(src)
    assert (report.added, report.changed) == (("new",), ("a", "b"))
    assert report.files == 2
    assert (there / "a").read_text() == "longer"
    assert (there / "b").stat().st_mode & 0o777 == 0o700


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What syncs take for the time of day."""
    clock = Clock(time.time(), time.monotonic, time.sleep)
    monkeypatch.setattr("gridops.transfers.sync.record.time", clock)
    return clock


@dataclass
class Clock:
    now: float
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]

    def time(self) -> float:
        return self.now


def write_at(path: Path, text: str, seconds: float) -> None:
    path.write_text(text)
    os.utime(path, (seconds, seconds))


def test_a_change_within_the_second_of_a_sync_is_seen(place, src, there, clock):
    """Of the same length, too: rsync by itself would take it for the same file."""
    second = 1_700_000_000
    write_at(src / "lr", "0.1", second + 0.2)
    write_at(src / "other", "0.1", second - 1)
    clock.now = second + 0.3
    place.sync(src)
    write_at(src / "lr", "0.2", second + 0.4)
    clock.now = second + 0.5
    assert place.plan(src).changed == ("lr",)
    assert place.sync(src).changed == ("lr",)
    write_at(src / "lr", "0.3", second + 0.6)
    clock.now = second + 500
    assert place.sync(src).changed == ("lr",)
    assert (there / "lr").read_text() == "0.3"
    assert place.sync(src).changed == ()


def test_an_interrupted_sync_leaves_nothing_unseen(place, src, there, clock, monkeypatch):
    second = 1_700_000_000
    write_at(src / "lr", "0.1", second + 0.2)
    clock.now = second + 0.3
    place.sync(src)
    clock.now = second + 5
    with monkeypatch.context() as patch:
        patch.setattr("gridops.transfers.sync.session.SyncSession._run", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            place.sync(src)
    write_at(src / "lr", "0.2", second + 0.4)
    assert place.sync(src).changed == ("lr",)


def test_of_many_files_that_were_only_touched_no_byte_is_sent(place, src, there):
    """A checkout that comes back, a build that makes the same again."""
    names = [f"f{number}" for number in range(300)]
    for name in names:
        write_at(src / name, f"1 {name}", 1e9)
    place.sync(src)
    later = time.time() + 10
    for name in names:
        os.utime(src / name, (later, later))
    report = place.sync(src)
    assert (report.files, report.added, report.deleted) == (0, (), ())
    assert {int((there / name).stat().st_mtime) for name in names} == {int(later)}
    for name in names:
        write_at(src / name, f"2 {name}", later + 10)
    assert place.sync(src).files == len(names)
    assert [(there / name).read_text() for name in names] == [f"2 {name}" for name in names]


def test_a_second_sync_changes_nothing_at_all(place, src, there):
    put(src, "a", "sub/b")
    (src / "empty").mkdir()
    place.sync(src)
    before = state_of(there)
    report = place.sync(src)
    assert (report.added, report.changed, report.deleted, report.files) == ((), (), (), 0)
    assert report.total_files == 2
    after = state_of(there)
    looked = (there / ".gridops").glob("*/looked")  # a mark of that sync's own
    ours = {os.fsencode(path) for one in looked for path in (one, one.parent)}
    assert {p for p, now in after.items() if now != before.get(p)} <= ours
    place.sync(src)
    assert state_of(there) == after


def test_a_directorys_time_is_the_nodes_own(place, src, there):
    put(src, "out/README")
    os.utime(src / "out", (1e9, 1e9))
    place.sync(src)
    put(there, "out/result")
    written = (there / "out").stat().st_mtime_ns
    place.sync(src)
    assert (there / "out").stat().st_mtime_ns == written != 1e18


def test_the_directories_that_we_make_are_ours_alone(place, src, there):
    put(src, "a")
    place.sync(src)
    for path in (place.root, there, there / ".gridops"):
        assert path.stat().st_mode & 0o777 == 0o700, path
    for path in (there / ".gridops").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_file_is_there_whole_or_not_at_all(place, src, there):
    """A reader that has the old file open reads it to its end."""
    put(src, "a", text="old" * 1000)
    place.sync(src)
    with (there / "a").open() as reader:
        put(src, "a", text="new")
        place.sync(src)
        assert reader.read() == "old" * 1000
    assert (there / "a").read_text() == "new"


def test_git_decides_in_a_work_tree(place, src, there):
    subprocess.run(["git", "init", "-q", str(src)], check=True)
    put(src, "a.py", "data/x.bin", "sub/b.py")
    (src / ".gitignore").write_text("data/\n")
    place.sync(src)
    assert entries(there) == {b"a.py", b".gitignore", b"sub/", b"sub/b.py"}


def test_a_tree_listed_once_serves_many_nodes(place, src, there):
    put(src, "a")
    tree = list_tree(src, place.settings.sync)
    put(src, "later")
    report = sync_tree(place.link, tree, place.settings)
    assert report.added == ("a",)
    assert sync_tree(place.link, tree, place.settings, project="other").added == ("a",)
    assert entries(there) == entries(place.root / "other") == {b"a"}


def test_a_file_that_vanished_after_the_listing_is_no_failure(place, src, there):
    put(src, "a", "b")
    tree = list_tree(src, place.settings.sync)
    (src / "a").unlink()
    sync_tree(place.link, tree, place.settings)
    assert entries(there) == {b"b"}


def test_more_files_than_one_command_line_holds_all_travel(place, src, there, monkeypatch):
    monkeypatch.setattr("gridops.transfers.program._room", lambda: 100)
    put(src, *(f"file{number}" for number in range(20)))
    report = place.sync(src)
    assert len(entries(there)) == report.files == len(report.added) == 20


def test_target_of_is_where_it_goes(place, src):
    put(src, "a")
    report = place.sync(src)
    told = target_of(place.link.node, src).replace("~/", "")  # a relative one begins at the home
    reply = place.link.script('cd -P -- "$1" && pwd', told, timeout=10)
    assert reply.stdout.decode() == f"{report.target}\n"


# -- deleting ---------------------------------------------------------------------------------


def test_deletions_travel_and_results_stay(place, src, there):
    put(src, "a", "old.py", "pkg/gone.py", "pkg/deep/gone.py", "out/README")
    place.sync(src)
    put(there, "result.txt", "out/model.bin", ".cache/x")
    for name in ("old.py", "out/README"):
        (src / name).unlink()
    shutil.rmtree(src / "pkg")
    report = place.sync(src)
    assert report.deleted == ("old.py", "out/README", "pkg/deep/gone.py", "pkg/gone.py")
    left = {b"a", b"result.txt", b"out/", b"out/model.bin", b".cache/", b".cache/x"}
    assert entries(there) == left


def test_an_empty_directory_goes_when_it_goes_here(place, src, there):
    (src / "empty/er").mkdir(parents=True)
    (src / "used").mkdir()
    put(src, "a")
    place.sync(src)
    put(there, "used/result")
    shutil.rmtree(src / "empty")
    (src / "used").rmdir()
    assert place.sync(src).deleted == ("empty/er/",)
    assert entries(there) == {b"a", b"used/", b"used/result"}


def test_a_file_that_the_rules_ignore_from_now_on_is_deleted_like_a_gone_one(place, src, there):
    put(src, "a", "b.log")
    place.sync(src)
    put(there, "c.log")
    assert place.sync(src, exclude_patterns=["*.log"]).deleted == ("b.log",)
    assert entries(there) == {b"a", b"c.log"}


def test_delete_false_keeps_all_and_a_later_sync_may_still_delete_it(place, src, there):
    put(src, "a", "b")
    place.sync(src)
    (src / "b").unlink()
    for _ in range(2):
        assert place.sync(src, delete=False).deleted == ()
    assert entries(there) == {b"a", b"b"}
    assert place.sync(src).deleted == ("b",)
    assert entries(there) == {b"a"}


def test_things_may_become_other_things(place, src, there):
    put(src, "file_to_dir", "dir_to_file/a", "dir_to_file/b/c", "dir_to_link/a", "file_to_link")
    (src / "link_to_dir").symlink_to("file_to_link")
    (src / "link_to_file").symlink_to("dir_to_link")
    place.sync(src)
    for name in ("file_to_dir", "file_to_link", "link_to_dir", "link_to_file"):
        (src / name).unlink()
    for name in ("dir_to_file", "dir_to_link"):
        shutil.rmtree(src / name)
    put(src, "file_to_dir/x", "dir_to_file", "link_to_dir/y", "link_to_file", "z/keep")
    (src / "dir_to_link").symlink_to("z")
    (src / "file_to_link").symlink_to("z")
    planned = place.plan(src)
    report = place.sync(src)
    assert entries(there) == entries(src)
    assert planned.deleted == report.deleted
    assert set(planned.added + planned.changed) == set(report.added + report.changed)


def test_a_result_in_the_way_of_a_file_stays_and_is_named(place, src, there):
    put(src, "out/a", "b")
    place.sync(src)
    put(there, "out/result")
    shutil.rmtree(src / "out")
    put(src, "out", "c")
    with pytest.raises(PartialTransfer, match=r"out .*other files") as caught:
        place.sync(src)
    assert caught.value.files == ("out",)
    assert entries(there) == {b"out/", b"out/result", b"b", b"c"}


def test_many_deletions_are_all_done_though_not_all_are_listed(
    place, src, there, monkeypatch, warnings
):
    text = node._script()
    monkeypatch.setattr(
        "gridops.transfers.sync.remote._script", lambda: text.replace("most=20000", "most=2")
    )
    put(src, "stays", *(f"{'long' * 20}/file{number:03}" for number in range(500)))
    place.sync(src)
    shutil.rmtree(src / ("long" * 20))
    put(src, *(f"{'also' * 20}/file{number:03}" for number in range(500)))
    for report in (place.plan(src), place.sync(src)):
        assert report.deleted == tuple(f"{'long' * 20}/file{number:03}" for number in (0, 1))
        assert warnings.pop() == f"{place.link.node.name}: 498 more deletions are not listed"
    assert entries(there) == entries(src)


# -- whose directory ----------------------------------------------------------------------------


def test_a_directory_that_gridops_did_not_make_is_refused(place, src, there):
    put(there, "precious")
    put(src, "a")
    for dry_run in (True, False):
        with pytest.raises(UnmarkedTarget, match="not empty and gridops did not make it"):
            place.sync(src, dry_run=dry_run)
    assert entries(place.root) == {b"my project/", b"my project/precious"}


def test_the_remedy_that_the_refusal_names_works(place, src, there):
    put(there, "precious")
    put(src, "a")
    (there / ".gridops").mkdir()
    (there / ".gridops/marker").touch()
    assert place.sync(src).added == ("a",)
    assert entries(there) == {b"precious", b"a"}


def test_an_empty_directory_is_adopted(place, src, there):
    there.mkdir(parents=True)
    put(src, "a")
    place.sync(src)
    assert entries(there) == {b"a"}


def test_a_file_where_the_directory_should_be_is_refused(place, src, there):
    place.root.mkdir(parents=True)
    there.write_text("precious")
    put(src, "a")
    with pytest.raises(SyncError, match=r"File exists|Not a directory"):
        place.sync(src)
    assert there.read_text() == "precious"


def test_a_root_behind_a_symlink_is_fine(place, src, tmp_path):
    (tmp_path / "scratch").mkdir()
    place.root.parent.mkdir(parents=True, exist_ok=True)
    place.root.symlink_to(tmp_path / "scratch")
    put(src, "a", "b")
    report = place.sync(src)
    assert report.target == str(tmp_path / "scratch" / src.name)
    (src / "a").unlink()
    assert place.sync(src).deleted == ("a",)
    assert entries(tmp_path / "scratch" / src.name) == {b"b"}
    place.root.unlink()


def test_a_manifest_that_was_tampered_with_leads_nowhere(place, src, there, tmp_path):
    outside = tmp_path / "outside"
    put(outside, "a", "sub/b")
    put(src, "a", "d/x", "e/x")
    place.sync(src)
    manifest = next((there / ".gridops").glob("*/manifest"))
    shutil.rmtree(there / "d")
    (there / "d").symlink_to(outside)
    lines = [
        f"{outside}/a",
        "../outside/a",
        "../../outside/a",
        "d/a",
        "d/sub/b",
        "d/../../outside/a",
        "e/../e/x",
        ".gridops/marker",
        ".gridops/../a",
        "./a",
        "",
        "/",
        "..",
        ".",
        "\\0056\\0056\\0057outside\\0057a",
        "d/\\0163ub/b",
        "-rf",
    ]
    head, *old = manifest.read_text().splitlines()
    manifest.write_text("\n".join([head.replace("exact", "more"), *sorted([*old, *lines]), ""]))
    for sync in (place.plan, place.sync):
        with pytest.raises(PartialTransfer, match="d stays there"):
            sync(src)
    (there / "d").unlink()
    assert place.plan(src).deleted == ()
    assert place.sync(src).deleted == ()
    assert entries(outside) == {b"a", b"sub/", b"sub/b"}
    assert entries(there) == entries(src)


@pytest.mark.parametrize("delete", [True, False])
def test_what_no_sync_brought_is_not_removed_for_a_directory(place, src, there, tmp_path, delete):
    """The user has moved `data` to a larger disk; nor is anything written there."""
    outside = tmp_path / "outside"
    put(outside, "x")
    put(src, "data/x", "data/deep/y", text="ours")
    put(src, "a")
    place.sync(src)
    shutil.rmtree(there / "data")
    (there / "data").symlink_to(outside)
    for change in (lambda: None, lambda: put(src, "data/new"), (src / "data/x").unlink):
        change()
        for sync in (place.plan, place.sync):
            with pytest.raises(PartialTransfer, match=r"data stays there: .* no sync brought"):
                sync(src, delete=delete)
        assert (there / "data").is_symlink()
        assert entries(outside) == {b"x"}
        assert (outside / "x").read_text() == "x"
    shutil.rmtree(src / "data")
    place.sync(src, delete=delete)
    assert (there / "data").is_symlink()
    assert entries(outside) == {b"x"}


@pytest.mark.parametrize("kind", ["file", "pipe", "dangling"])
@pytest.mark.parametrize("name", ["data", "sub/da ta", "new\nline", "sub/[x]*"])
def test_whatever_it_is(place, src, there, kind, name):
    put(src, f"{name}/deep/x", "sub/y")
    put(there.parent / "elsewhere", "z")
    place.root.mkdir(exist_ok=True)
    put(src, "a")
    shutil.move(src / name, src.parent / "aside")
    place.sync(src)
    (there / name).parent.mkdir(exist_ok=True)
    if kind == "file":
        put(there, name, text="result")
    elif kind == "pipe":
        os.mkfifo(there / name)
    else:
        (there / name).symlink_to("nowhere")
    before = (there / name).lstat().st_ino
    shutil.move(src.parent / "aside", src / name)
    with pytest.raises(PartialTransfer, match="no sync brought") as caught:
        place.sync(src)
    assert caught.value.exit_status == 125
    assert (there / name).lstat().st_ino == before


def test_what_a_sync_brought_gives_way_to_a_directory(place, src, there):
    put(src, "one", "b")
    (src / "two").symlink_to("b")
    place.sync(src)
    for name in ("one", "two"):
        (src / name).unlink()
        put(src, f"{name}/x")
    place.sync(src, delete=False)
    assert entries(there) == entries(src)


def broken(*_args: object, **_options: object) -> None:
    raise SyncError("broken off")


def stand(path: Path, kind: str) -> None:
    """Make something there that no sync brings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    else:
        path.symlink_to(path.parent / "elsewhere" if kind == "symlink" else "nowhere")


@pytest.mark.parametrize("kind", ["symlink", "dangling", "pipe", "socket"])
@pytest.mark.parametrize(
    "name", ["x", "sub/da ta", "-new\nline", "sub/[x]*", "ü\\012", "d/\tx\xff."]
)
def test_what_no_sync_brought_is_not_removed_for_a_file(place, src, there, kind, name):
    """Neither what replaced a file that was brought, nor what was there before it."""
    put(src, name, "a", "sub/y", text="ours")
    place.sync(src)
    (there / name).unlink()
    put((there / name).parent, "elsewhere", text="theirs")
    stand(there / name, kind)
    before = (there / name).lstat().st_ctime_ns
    for change in (lambda: None, lambda: put(src, "b"), lambda: put(src, name, text="longer")):
        change()
        for sync in (place.plan, place.sync):
            with pytest.raises(PartialTransfer, match="no sync brought what is there") as caught:
                sync(src)
            assert caught.value.exit_status == 125
            assert len(caught.value.files) == 1
        assert (there / name).lstat().st_ctime_ns == before
        assert not (there / "b").exists()
        assert (there / name).parent.joinpath("elsewhere").read_text() == "theirs"
    (there / name).unlink()
    place.sync(src)
    assert (there / name).read_text() == "longer"


@pytest.mark.parametrize("delete", [True, False])
def test_nor_when_the_file_is_new(place, src, there, delete):
    put(src, "a", "d/b")
    place.sync(src)
    stand(there / "new", "symlink")
    stand(there / "d/new", "pipe")
    put(src, "new", "d/new", "other")
    with pytest.raises(PartialTransfer, match="no sync brought") as caught:
        place.sync(src, delete=delete)
    assert set(caught.value.files) == {"new", "d/new"}
    assert (there / "new").is_symlink()
    assert not (there / "other").exists()


def test_a_special_file_is_not_removed_for_a_symlink(place, src, there):
    put(src, "a")
    (src / "link").symlink_to("a")
    place.sync(src)
    (there / "link").unlink()
    os.mkfifo(there / "link")
    with pytest.raises(PartialTransfer, match="link stays there"):
        place.sync(src)
    (there / "link").unlink()
    put(there, "link", text="a file gives way, as to a file")
    place.sync(src)
    assert (there / "link").readlink() == Path("a")


def test_a_symlink_that_a_sync_brought_gives_way_to_a_file(place, src, there, as_origin):
    put(src, "a")
    for name in ("mine", "another's"):
        (src / name).symlink_to("a")
    place.sync(src)
    (src / "mine").unlink()
    put(src, "mine")
    assert place.plan(src).deleted == ()
    assert place.sync(src).deleted == ()
    assert not (there / "mine").is_symlink()
    as_origin("somebody else")
    (src / "another's").unlink()
    put(src, "another's")
    place.sync(src)
    assert entries(there) == entries(src)
    assert not (there / "another's").is_symlink()
    (there / "another's").unlink()
    (there / "another's").symlink_to("mine")
    with pytest.raises(PartialTransfer, match="another's stays there"):
        place.sync(src)


def test_a_sync_that_broke_off_before_it_replaced_a_symlink_ends_the_next_time(
    place, src, there, monkeypatch
):
    put(src, "a")
    (src / "link").symlink_to("a")
    place.sync(src)
    (src / "link").unlink()
    put(src, "link")
    with monkeypatch.context() as patch:
        patch.setattr(session, "transfer", broken)
        with pytest.raises(SyncError, match="broken off"):
            place.sync(src)
    assert (there / "link").is_symlink()
    place.sync(src)
    assert entries(there) == entries(src)
    assert not (there / "link").is_symlink()


def test_what_is_in_the_way_is_found_however_it_came_there(place, src, there):
    """Also after syncs that found nothing, and where its own directory is as it was."""
    put(src, "data/deep/x", "a")
    for _ in range(3):
        place.sync(src)
    shutil.copytree(there / "data", there / "other")
    (there / "other/deep/x").unlink()
    (there / "other/deep/x").symlink_to("nowhere")
    time.sleep(0.05)
    place.sync(src)
    (there / "data").rename(there / "aside")
    (there / "other").rename(there / "data")
    for _ in range(2):
        with pytest.raises(PartialTransfer, match="data/deep/x stays there"):
            place.sync(src)
    (there / "data/deep/x").unlink()
    put(there, "data/result")
    for _ in range(2):
        place.sync(src)
    assert entries(there / "data") == entries(src / "data") | {b"result"}


def test_only_what_is_of_the_kind_that_was_brought_is_deleted(place, src, there):
    put(src, "a", "file", "file too", "late")
    (src / "link").symlink_to("a")
    (src / "link too").symlink_to("a")
    place.sync(src)
    for name in ("file", "file too", "link"):
        (there / name).unlink()
    (there / "file").symlink_to("a")
    os.mkfifo(there / "file too")
    put(there, "link", text="result")
    for name in ("file", "file too", "link", "link too", "late"):
        (src / name).unlink()
    assert place.plan(src).deleted == ("late", "link too")
    place.sync(src, delete=False)
    assert place.plan(src).deleted == ("late", "link too")
    assert place.sync(src).deleted == ("late", "link too")
    assert entries(there) == {b"a", b"file", b"file too", b"link"}
    assert place.sync(src).deleted == ()


def test_of_what_an_older_client_brought_the_kind_is_not_known(place, src, there):
    put(src, "a", "gone")
    (src / "link").symlink_to("a")
    place.sync(src)
    (kinds,) = (there / ".gridops").glob("*/kinds")
    kinds.unlink()
    (src / "link").unlink()
    (src / "gone").unlink()
    put(src, "link")
    assert place.sync(src).deleted == ("gone",)
    assert entries(there) == entries(src)
    (there / "a").unlink()
    (there / "a").symlink_to("link")
    kinds.unlink()
    place.sync(src)  # as it was until then
    (there / "a").unlink()
    (there / "a").symlink_to("link")
    with pytest.raises(PartialTransfer, match="a stays there"):
        place.sync(src)


def test_half_a_manifest_deletes_nothing(place, src, there):
    """The connection broke while the new list was on its way."""
    put(src, "a", "b", "c")
    place.sync(src)
    put(src, "d")
    real = place.link.script

    def cut(text: str, *args: str, timeout: float, stdin: bytes = b"") -> object:
        return real(text, *args, timeout=timeout, stdin=stdin[: len(stdin) // 2])

    place.link.script = cut  # type: ignore[method-assign]
    with pytest.raises(SyncError, match="did not arrive whole"):
        place.sync(src)
    assert entries(there) == {b"a", b"b", b"c"}


# -- several origins ------------------------------------------------------------------------------


@pytest.fixture
def as_origin(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda name: monkeypatch.setenv("GRIDOPS_ORIGIN", name)


def test_another_origins_files_stay_and_that_is_said(place, src, there, as_origin, warnings):
    as_origin("ann")
    put(src, "both", "of ann")
    place.sync(src)
    (src / "of ann").unlink()
    put(src, "of bob")
    as_origin("bob")
    report = place.sync(src)
    assert report.deleted == ()
    assert entries(there) == {b"both", b"of ann", b"of bob"}
    assert f"{there} was last synced from ann" in warnings[0]
    warnings.clear()
    place.sync(src)
    assert warnings == []


def test_who_brought_a_file_last_may_delete_it(place, src, there, as_origin):
    as_origin("ann")
    put(src, "a", "b")
    place.sync(src)
    as_origin("bob")
    place.sync(src)
    (src / "b").unlink()
    as_origin("ann")
    assert place.plan(src).deleted == ()
    assert place.sync(src).deleted == ()
    as_origin("bob")
    assert place.plan(src).deleted == ("b",)
    assert place.sync(src).deleted == ("b",)
    assert entries(there) == {b"a"}


def test_the_origin_is_this_user_here_with_this_directory(place, src, there, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    put(src, "a")
    place.sync(src)
    assert (there / ".gridops/origin").read_text().splitlines()[0].endswith(f":{src}")
    monkeypatch.setenv("CI", "true")
    place.sync(src)
    assert (there / ".gridops/origin").read_text().splitlines()[0] == f"ci:{src}"


# -- the dry run -----------------------------------------------------------------------------------


def test_a_dry_run_tells_all_and_touches_nothing(place, src, there):
    put(src, "a", "gone", "same", "dir/gone")
    place.sync(src)
    put(there, "result")
    put(src, "a", text="longer")
    put(src, "new", "sub/new")
    (src / "gone").unlink()
    shutil.rmtree(src / "dir")
    before = state_of(there)
    plan = place.plan(src)
    assert plan.dry_run
    assert plan.added == ("new", "sub/new")
    assert plan.changed == ("a",)
    assert plan.deleted == ("dir/gone", "gone")
    assert plan.total_files == 4
    assert state_of(there) == before
    report = place.sync(src)
    assert (report.added, report.changed, report.deleted) == (
        plan.added,
        plan.changed,
        plan.deleted,
    )


def test_a_dry_run_to_nowhere_makes_nothing(place, src, there):
    put(src, "a", "sub/b")
    (src / "empty").mkdir()
    assert place.plan(src).added == ("a", "empty/", "sub/b")
    assert place.plan(src).target == str(there)
    assert not place.root.exists()
    there.mkdir(parents=True)
    assert place.plan(src).added == ("a", "empty/", "sub/b")
    assert list(there.iterdir()) == []


# -- what is said -------------------------------------------------------------------------------


def test_events_tell_the_start_the_progress_and_the_end(place, src):
    put(src, "a", text="x" * 500_000)
    seen: list[events.Event] = []
    with events.listening(seen.append):
        place.plan(src)
        assert [event for event in seen if event.name.startswith("sync")] == []
        report = place.sync(src)
    told = [event for event in seen if event.name.startswith("sync")]
    assert told[0].name == events.SYNC_STARTED
    assert told[0].fields == {"node": place.link.node.name, "files": 1}
    assert {event.name for event in told[1:-1]} == {events.SYNC_PROGRESS}
    assert told[-1].name == events.SYNC_FINISHED
    assert told[-1].fields["status"] == "success"
    assert told[-1].fields["bytes"] == report.bytes


def test_a_failure_has_its_event(place, src, there):
    put(there, "precious")
    put(src, "a")
    seen: list[events.Event] = []
    with events.listening(seen.append), pytest.raises(UnmarkedTarget):
        place.sync(src)
    assert seen[-1].name == events.SYNC_FINISHED
    assert seen[-1].fields["status"] == "failure"


def test_an_unreadable_directory_is_named_and_nothing_is_deleted(place, src, there, monkeypatch):
    put(src, "a", "closed/b", "gone")
    place.sync(src)
    (src / "gone").unlink()
    real = os.scandir

    def scandir(path: bytes | int) -> object:
        if path == os.fsencode(src / "closed"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr("gridops.transfers.sync.walk.os.scandir", scandir)
        with pytest.raises(PartialTransfer, match="closed cannot be read here") as caught:
            place.sync(src)
    assert caught.value.files == ("closed",)
    assert entries(there) == {b"a", b"closed/", b"closed/b", b"gone"}
    assert place.sync(src).deleted == ("gone",)
