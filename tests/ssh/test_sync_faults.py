"""Syncs to nodes that are broken, odd, full or slow, and syncs that are interrupted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.nodes import find_program, processes_of, settings_of, wait_until

from gridops.errors import (
    ConnectRefused,
    DiskFull,
    NodeTimeout,
    NoRsync,
    NotWritable,
    SyncError,
    TransferLost,
    UsageError,
)
from gridops.inventory.settings import RetrySettings, Settings, SshSettings, SyncSettings
from gridops.model import Node, SyncReport
from gridops.observe import events
from gridops.reach import link_to
from gridops.reach.fanout import fan_out
from gridops.retry import without_waiting
from gridops.sandbox import Sandbox, Setup
from gridops.transfers.sync import sync_tree

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
TOOLS = ("sh", "cat", "chmod", "cmp", "dd", "gzip", "head", "mkdir", "mv", "rm", "rmdir", "sed")
TOOLS += ("sort", "stat", "uniq", "wc")


@pytest.fixture
def src(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.fixture
def fresh_root(sandbox: Sandbox) -> Iterator[str]:
    """A remote_root of this test's own on the shared nodes."""
    name = f"faults-{time.monotonic_ns()}"
    yield f"~/{name}"
    for node in sandbox.nodes:
        shutil.rmtree(node.home / name, ignore_errors=True)


def sync(
    sandbox: Sandbox,
    src: Path,
    *,
    root: str = "~/gridops",
    name: str = "node1",
    timeout: float = 60,
) -> SyncReport:
    ssh = settings_of(sandbox)
    node = Node(name, host=name, remote_root=root)
    settings = Settings(ssh=ssh, sync=SyncSettings(timeout=timeout))
    return sync_tree(link_to(node, ssh), src, settings)


def big(path: Path, mebibytes: int) -> None:
    path.write_bytes(os.urandom(1024 * 1024 * mebibytes))


# -- disks --------------------------------------------------------------------------------------


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    point = tmp_path / "mnt"
    point.mkdir()

    def do(*options: str) -> Path:
        words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(point)]
        subprocess.run(words, check=True, capture_output=True)
        return point

    yield do
    subprocess.run(["umount", "-l", str(point)], check=False, capture_output=True)


@needs_root
def test_a_full_disk_has_its_own_line(sandbox, src, mount):
    big(src / "big", 3)
    point = mount("size=1m")
    with pytest.raises(DiskFull, match=f"node1: no space left on the disk: {point}/project"):
        sync(sandbox, src, root=str(point))
    shutil.rmtree(src)
    src.mkdir()
    (src / "small").write_text("x")
    report = sync(sandbox, src, root=str(point))  # what came half the way is out of the way again
    assert report.added == ("small",)
    assert sum(f.stat().st_size for f in point.rglob("*") if f.is_file()) < 10_000


@needs_root
def test_a_disk_too_full_to_begin_has_the_same_line(sandbox, src, mount):
    point = mount("size=64k")
    with pytest.raises(OSError, match="No space left"):
        (point / "filler").write_bytes(b"x" * 100_000)
    (src / "a").write_text("x")
    with pytest.raises(DiskFull, match=r"node1: .*No space left"):
        sync(sandbox, src, root=str(point))


@needs_root
def test_a_read_only_file_system_has_its_own_line(sandbox, src, mount):
    (src / "a").write_text("x")
    point = mount("size=1m")
    sync(sandbox, src, root=str(point))
    subprocess.run(["mount", "-o", "remount,ro", str(point)], check=True)
    for name in ("project", "other"):
        other = src.with_name(name)
        other.mkdir(exist_ok=True)
        (other / "b").write_text("x")
        with pytest.raises(NotWritable, match=r"node1: .*[Rr]ead-only"):
            sync(sandbox, other, root=str(point))


def test_a_place_that_refuses_us_has_its_own_line(sandbox, src):
    (src / "a").write_text("x")
    with pytest.raises(SyncError, match="node1: cannot"):
        sync(sandbox, src, root="/proc/1")


# -- nodes --------------------------------------------------------------------------------------


def tools_without(directory: Path, *missing: str) -> str:
    """A PATH with the usual tools but those."""
    directory.mkdir()
    for name in [*TOOLS, "rsync", "id", "ls"]:
        if name not in missing:
            (directory / name).symlink_to(str(shutil.which(name)))
    return str(directory)


def test_a_node_without_rsync_has_its_own_line(make_sandbox, src, tmp_path):
    path = tools_without(tmp_path / "bin", "rsync")
    made = make_sandbox(1, setup={"node1": Setup(shell="/bin/sh", env_path=path)})
    (src / "a").write_text("x")
    with pytest.raises(NoRsync, match=r"node1: there is no rsync on it \(install rsync there\)"):
        sync(made, src)


def test_no_rsync_here_has_its_own_line(sandbox, src, tmp_path, fresh_root, monkeypatch):
    (src / "a").write_text("x")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh").symlink_to(str(shutil.which("ssh")))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(NoRsync, match="node1: there is no rsync on this machine"):
        sync(sandbox, src, root=fresh_root)


def test_a_login_that_prints_text_is_told_how_to_stop(make_sandbox, src, tmp_path):
    chatty = tmp_path / "chatty"
    chatty.write_text('#!/bin/sh\necho Welcome to the machine\nexec /bin/sh "$@"\n')
    chatty.chmod(0o755)
    made = make_sandbox(1, setup={"node1": Setup(shell=str(chatty))})
    (src / "a").write_text("x")
    with pytest.raises(SyncError, match=r"node1: its login shell prints text.*ssh node1 true"):
        sync(made, src)


def test_a_node_that_is_down_has_its_own_line_and_is_asked_again(make_sandbox, src):
    made = make_sandbox(1)
    made.stop("node1")
    (src / "a").write_text("x")
    seen: list[events.Event] = []
    with events.listening(seen.append), without_waiting(), pytest.raises(ConnectRefused):
        sync(made, src)
    retries = [event for event in seen if event.name == events.RETRY]
    assert len(retries) == RetrySettings().max_retries
    assert "Connection refused" in retries[0].fields["error"]


SHELLS = ["dash", "bash", "busybox sh", "fish", "tcsh", "zsh"]


@pytest.mark.parametrize("shell", SHELLS)
def test_any_login_shell_will_do(make_sandbox, src, shell):
    name, *rest = shell.split()
    made = make_sandbox(1, setup={"node1": Setup(shell=" ".join([find_program(name), *rest]))})
    bring_and_delete(made, src)


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_the_nodes_side_works_with_any_posix_sh(make_sandbox, src, tmp_path, shell):
    path = Path(tools_without(tmp_path / "bin", "sh"))
    (path / "sh").symlink_to(find_program(shell))
    made = make_sandbox(1, setup={"node1": Setup(shell=f"{path}/sh", env_path=str(path))})
    bring_and_delete(made, src)


def test_busybox_and_rsync_are_all_that_a_node_needs(make_sandbox, src, tmp_path):
    path = tmp_path / "bin"
    path.mkdir()
    for name in TOOLS:
        (path / name).symlink_to(find_program("busybox"))
    (path / "rsync").symlink_to(str(shutil.which("rsync")))
    made = make_sandbox(1, setup={"node1": Setup(shell=f"{path}/sh", env_path=str(path))})
    bring_and_delete(made, src)


def bring_and_delete(made: Sandbox, src: Path) -> None:
    """Everything that the node's side does, with names that shells stumble over."""
    odd = ["new\nline", "sp ace/-dash", "ünï", os.fsdecode(bytes(range(0x80, 0x100))), "$x", "'\"`"]
    for name in ["stays", "gone/deep/a", *odd, *(f"many/{'x' * 100}{n}" for n in range(300))]:
        (src / name).parent.mkdir(parents=True, exist_ok=True)
        (src / name).write_text("x")
    (src / "empty").mkdir()
    there = made.node("node1").home / "gridops/project"
    sync(made, src)
    (there / "result").write_text("x")
    shutil.rmtree(src)
    src.mkdir()
    (src / "stays").write_text("x")
    report = sync(made, src)
    assert len(report.deleted) == 302 + len(odd)
    names = {path.name for path in there.iterdir()}
    assert names == {"stays", "result", ".gridops"}
    assert sync(made, src).deleted == ()


# -- interruptions --------------------------------------------------------------------------------


def rsyncs_in(directory: Path, *, server: bool = False) -> list[int]:
    """The rsync processes that have `directory` open or in their command line."""
    found = processes_of(directory, patience=0)
    return [
        pid
        for pid, what in found.items()
        if what.split()[0].endswith("rsync") and server <= ("--server" in what)
    ]


def held_back(path: Path, seconds: float) -> str:
    """A PATH whose rsync takes its time."""
    path.mkdir()
    slow = path / "rsync"
    slow.write_text(f'#!/bin/sh\nsleep {seconds}\nexec {shutil.which("rsync")} "$@"\n')
    slow.chmod(0o755)
    return f"{path}:{os.environ['PATH']}"


def throttle(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine's rsync send 8 MiB/s."""
    path.mkdir()
    slow = path / "rsync"
    slow.write_text(f'#!/bin/sh\nexec {shutil.which("rsync")} --bwlimit=8192 "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")


def leftovers(there: Path) -> list[Path]:
    return [path for path in there.glob(".gridops/*/*.[tp]*/*") if path.is_file()]


def test_a_killed_transfer_is_repaired_by_the_next(sandbox, src, fresh_root, tmp_path, monkeypatch):
    throttle(tmp_path / "bin", monkeypatch)
    (src / "first").write_text("x")
    there = sandbox.node("node1").home / fresh_root[2:] / src.name
    sync(sandbox, src, root=fresh_root)
    big(src / "big", 24)
    (src / "last").write_text("x")
    (src / "first").unlink()
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            sync(sandbox, src, root=fresh_root)
        except SyncError as exc:
            failed.append(exc)

    thread = threading.Thread(target=attempt)
    thread.start()
    wait_until(lambda: sum(path.stat().st_size for path in leftovers(there)) > 6_000_000)
    for pid in rsyncs_in(src):
        os.kill(pid, signal.SIGKILL)
    thread.join(30)
    assert "signal 9" in str(failed[0])
    assert not (there / "big").exists()
    report = sync(sandbox, src, root=fresh_root)
    assert "big" in report.added
    assert report.bytes < 20_000_000  # it went on where it had stopped
    assert {path.name for path in there.iterdir()} == {"big", "last", ".gridops"}
    assert (there / "big").read_bytes() == (src / "big").read_bytes()
    assert leftovers(there) == []


def test_a_receiver_that_dies_is_a_lost_transfer_and_is_tried_again(
    sandbox, src, fresh_root, tmp_path, monkeypatch
):
    throttle(tmp_path / "bin", monkeypatch)
    big(src / "big", 24)
    there = sandbox.node("node1").home / fresh_root[2:] / src.name
    killed: list[int] = []

    def kill_once() -> None:
        wait_until(lambda: leftovers(there))
        for pid in rsyncs_in(there, server=True):
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_once)
    killer.start()
    seen: list[events.Event] = []
    with events.listening(seen.append), without_waiting():
        report = sync(sandbox, src, root=fresh_root)
    killer.join(10)
    assert killed
    assert [event.fields["attempt"] for event in seen if event.name == events.RETRY] == [1]
    assert [event.fields["ok"] for event in seen if event.name == events.RETRY_ENDED] == [True]
    assert report.added == ("big",)
    assert report.files == 1
    assert (there / "big").read_bytes() == (src / "big").read_bytes()
    assert leftovers(there) == []


def test_what_a_killed_receiver_left_does_not_pile_up(sandbox, src, fresh_root):
    (src / "a").write_text("x")
    there = sandbox.node("node1").home / fresh_root[2:] / src.name
    sync(sandbox, src, root=fresh_root)
    (scratch,) = there.glob(".gridops/*/*.tmp")
    (scratch / ".big.AbC123").write_text("x" * 1000)
    (scratch.with_suffix(".partial") / "big").write_text("x" * 1000)
    sync(sandbox, src, root=fresh_root)
    assert leftovers(there) == []


def test_a_transfer_that_takes_too_long_is_ended(make_sandbox, src, tmp_path):
    path = held_back(tmp_path / "slow", 30)
    made = make_sandbox(1, setup={"node1": Setup(env_path=path)})
    (src / "a").write_text("x")
    began = time.monotonic()
    with pytest.raises(NodeTimeout, match=r"node1: the transfer did not end"):
        sync(made, src, timeout=2)
    assert time.monotonic() - began < 6
    assert rsyncs_in(src) == []


PROGRAM = """
import sys
from pathlib import Path
from gridops.model import Node
from gridops.reach import link_to
from gridops.reach.fanout import fan_out
from gridops.reach.fanout import fan_out
from gridops.inventory.settings import Settings, SshSettings
from gridops.transfers.sync import sync_tree

ssh = SshSettings(config_file=Path(sys.argv[1]))
work = lambda node: sync_tree(link_to(node, ssh), sys.argv[2], Settings(ssh=ssh))
for outcome in fan_out([Node("node1", "node1")], work):
    print(outcome)
"""


def test_ctrl_c_ends_the_transfer(make_sandbox, src, tmp_path):
    path = held_back(tmp_path / "slow", 30)
    made = make_sandbox(1, setup={"node1": Setup(env_path=path)})
    (src / "a").write_text("x")
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(made.ssh_config), str(src)], stderr=subprocess.PIPE
    )
    try:
        wait_until(lambda: rsyncs_in(src))
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=10)
    finally:
        child.kill()
        child.wait()
    assert rsyncs_in(src) == []


def test_two_syncs_of_one_project_to_one_node_take_turns(make_sandbox, src, tmp_path):
    path = held_back(tmp_path / "slow", 2)
    made = make_sandbox(1, setup={"node1": Setup(env_path=path)})
    (src / "a").write_text("x")
    said: list[str] = []
    ends: list[float] = []

    def attempt() -> None:
        sync(made, src)
        ends.append(time.monotonic())

    def listen(event: events.Event) -> None:
        if event.name == events.WARNING:
            said.append(event.fields["message"])

    with events.listening(listen):
        threads = [threading.Thread(target=attempt) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert len(ends) == 2
    assert abs(ends[0] - ends[1]) > 1.5
    assert said == ["node1: waiting for another sync of project to it"]


def test_nodes_that_share_their_directory_are_synced_at_once(sandbox, src, tmp_path):
    """As a cluster's do, whose home is on the network."""
    ssh = settings_of(sandbox)
    root = str(tmp_path / "shared")
    nodes = [Node(node.name, host=node.name, remote_root=root) for node in sandbox.nodes]
    settings = Settings(ssh=ssh)
    for number in range(5):
        shutil.rmtree(src)
        for name in [f"file{n}" for n in range(50)] + [f"round{number}/{n}" for n in range(20)]:
            (src / name).parent.mkdir(parents=True, exist_ok=True)
            (src / name).write_text(f"{number}{name}")
        outcomes = fan_out(nodes, lambda node: sync_tree(link_to(node, ssh), src, settings))
        assert [str(outcome.error) for outcome in outcomes if outcome.error] == []
        there = tmp_path / "shared" / src.name
        found = {path.name for path in there.iterdir()}
        assert found == {path.name for path in src.iterdir()} | {".gridops"}
        assert all((there / p.name).read_bytes() == p.read_bytes() for p in src.glob("file*"))
    assert leftovers(there) == []


# -- this machine as a node --------------------------------------------------------------------


@pytest.mark.parametrize("root", ["{src}/..", "{src}", "{src}/sub", "~"])
def test_a_tree_is_not_put_into_itself(src, home, root):
    base = home / src.name if root == "~" else src
    base.mkdir(exist_ok=True)
    (base / "a").write_text("x")
    node = Node("here", "here", connection="local", remote_root=root.format(src=src))
    with pytest.raises(UsageError, match="are inside one another"):
        sync_tree(link_to(node, SshSettings()), base, Settings())
    assert [path.name for path in base.iterdir()] == ["a"]


def test_a_lost_transfer_is_given_up_after_the_last_retry(
    sandbox, src, fresh_root, tmp_path, monkeypatch
):
    (src / "a").write_text("x")
    broken = tmp_path / "bin" / "rsync"
    broken.parent.mkdir()
    broken.write_text(
        f'#!/bin/sh\n[ "$1" != --version ] || exec {shutil.which("rsync")} --version\n'
        "echo 'rsync: connection unexpectedly closed (9 bytes received so far) [sender]' >&2\n"
        "exit 12\n"
    )
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    seen: list[events.Event] = []
    lost = pytest.raises(TransferLost, match="node1: the transfer broke off")
    with events.listening(seen.append), without_waiting(), lost:
        sync(sandbox, src, root=fresh_root)
    assert len([event for event in seen if event.name == events.RETRY]) == 3
    assert seen[-1].fields["status"] == "failure"
