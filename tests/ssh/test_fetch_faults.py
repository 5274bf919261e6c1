"""Results that come home from nodes that are broken or slow, to disks that are full, or half."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli import Inventory, Tell, started
from support.nodes import node_of, processes_of, settings_of, sshd_sessions, wait_until

from gridops.errors import DiskFull, NoRsync, NotWritable, TransferLost
from gridops.inventory.settings import Settings
from gridops.jobs import client
from gridops.jobs.spec import JobSpec
from gridops.jobs.start import start_job
from gridops.observe import events
from gridops.reach import link_to
from gridops.retry import without_waiting
from gridops.sandbox import Sandbox, Setup
from gridops.transfers.fetch import FetchReport, fetch_results

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def there(sandbox: Sandbox) -> Iterator[Path]:
    """A directory of this test's own in node1's home."""
    path = sandbox.node("node1").home / f"faults-{time.monotonic_ns()}"
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def into(tmp_path: Path) -> Path:
    path = tmp_path / "into"
    path.mkdir()
    return path


def fetch(sandbox: Sandbox, directory: Path, into: Path, *patterns: str) -> FetchReport:
    settings = Settings(ssh=settings_of(sandbox))
    link = link_to(node_of(sandbox, "node1"), settings.ssh)
    return fetch_results(link, str(directory), patterns or (".",), into, settings)


def test_a_nodes_rsync_that_cannot_name_what_it_leaves_out_still_serves(
    make_sandbox, tmp_path, into
):
    """Those before 3.1 do not know the option."""
    old = tmp_path / "bin/rsync"
    old.parent.mkdir()
    told = "rsync: on remote machine: --debug=filter1: unknown option"
    usage = "rsync error: syntax or usage error (code 1) at main.c(1578) [server=3.0.9]"
    old.write_text(
        f"""#!/bin/sh
case $* in *--debug=*) printf '%s\\n' '{told}' '{usage}' >&2; exit 1 ;; esac
exec {shutil.which("rsync")} "$@"
"""
    )
    old.chmod(0o755)
    path = f"{old.parent}:{os.environ['PATH']}"
    made = make_sandbox(1, setup={"node1": Setup(shell="/bin/sh", env_path=path)})
    there = made.node("node1").home / "results"
    there.mkdir()
    (there / "a").write_text("a")
    (there / ".git").write_text("gitdir: elsewhere")
    fetch(made, there, into)
    assert [path.name for path in into.iterdir() if path.name != ".gridops"] == ["a"]


def big(path: Path, mebibytes: int) -> bytes:
    data = os.urandom(1024 * 1024 * mebibytes)
    path.write_bytes(data)
    return data


def throttle(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine's rsync ask its peer for 8 MiB/s."""
    path.mkdir()
    slow = path / "rsync"
    slow.write_text(f'#!/bin/sh\nexec {shutil.which("rsync")} --bwlimit=8192 "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")


def coming(into: Path) -> int:
    """Bytes of the file that is under way."""
    return sum(path.stat().st_size for path in into.glob(".gridops/*/tmp/big*"))


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


# -- disks here ----------------------------------------------------------------------------------


@needs_root
def test_a_full_disk_here_has_its_own_line_and_gets_its_room_back(sandbox, there, mount):
    point = mount("size=2m")
    big(there / "zz-big", 3)
    (there / "small").write_text("x")
    with pytest.raises(DiskFull) as caught:
        fetch(sandbox, there, point)
    assert str(caught.value).startswith(f"no space left on this machine: {point} (free some")
    assert {path.name for path in point.iterdir()} <= {"small", ".gridops"}
    assert not list(point.glob(".gridops/fetch-*"))


@needs_root
def test_a_disk_here_that_takes_nothing_has_its_own_line(sandbox, there, mount):
    (there / "a").write_text("x")
    point = mount("size=1m")
    subprocess.run(["mount", "-o", "remount,ro", str(point)], check=True)
    with pytest.raises(NotWritable, match="cannot write on this machine"):
        fetch(sandbox, there, point)


# -- programs ------------------------------------------------------------------------------------


def test_a_node_without_rsync_has_its_own_line(make_sandbox, into, tmp_path):
    path = tmp_path / "bin"
    path.mkdir()
    for name in ("sh", "cat", "dd", "id"):
        (path / name).symlink_to(str(shutil.which(name)))
    made = make_sandbox(1, setup={"node1": Setup(shell="/bin/sh", env_path=str(path))})
    (made.node("node1").home / "a").write_text("x")
    with pytest.raises(NoRsync, match=r"node1: there is no rsync on it \(install rsync there\)"):
        fetch(made, made.node("node1").home, into, "a")
    assert list(into.iterdir()) == []


def test_no_rsync_here_has_its_own_line(sandbox, there, into, tmp_path, monkeypatch):
    (there / "a").write_text("x")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh").symlink_to(str(shutil.which("ssh")))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(NoRsync, match="there is no rsync on this machine"):
        fetch(sandbox, there, into)
    assert list(into.iterdir()) == []


# -- interruptions -------------------------------------------------------------------------------


def test_a_broken_connection_is_made_anew_and_the_file_continued(
    make_sandbox, into, tmp_path, monkeypatch
):
    made = make_sandbox(1)
    node = made.node("node1")
    there = node.home / "run"
    there.mkdir()
    data = big(there / "big", 24)
    throttle(tmp_path / "bin", monkeypatch)
    killed: list[int] = []

    def kill_once() -> None:
        wait_until(lambda: coming(into) > 6_000_000)
        for pid in sshd_sessions(node.pid):
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_once)
    killer.start()
    seen: list[events.Event] = []
    with events.listening(seen.append), without_waiting():
        report = fetch(made, there, into)
    killer.join(10)
    assert killed
    assert [event.fields["attempt"] for event in seen if event.name == events.RETRY] == [1]
    assert report.new == ("big",)
    assert report.bytes < 34_000_000  # not all of it twice
    assert (into / "big").read_bytes() == data
    assert sorted(path.name for path in into.iterdir()) == [".gridops", "big"]
    assert not list(into.glob(".gridops/fetch-*"))


def test_what_came_whole_before_it_broke_is_home(sandbox, there, into, tmp_path, monkeypatch):
    (there / "a").write_text("first")
    big(there / "big", 24)
    throttle(tmp_path / "bin", monkeypatch)

    def kill() -> None:
        wait_until(lambda: coming(into) > 3_000_000)
        for pid, what in processes_of(into, 0).items():
            if "rsync" in what.split()[0]:
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(Exception, match=r"signal 9|broke off"), without_waiting():
        fetch(sandbox, there, into)
    killer.join(10)
    assert (into / "a").read_text() == "first"
    assert not (into / "big").exists()


@pytest.fixture
def run_of(inventory: Inventory) -> Iterator[Callable[[str], str]]:
    """Start a run in a directory of node1; its id."""
    sandbox = inventory.sandbox
    link = link_to(node_of(sandbox, "node1"), settings_of(sandbox))
    ids: list[str] = []

    def start(directory: str) -> str:
        ids.append(start_job(link, JobSpec(command="true", directory=directory)).id)
        return ids[-1]

    yield start
    client.prune(link, 0)


def test_ctrl_c_leaves_nothing_half_and_the_next_fetch_goes_on(
    tell: Tell, sandbox, run_of, there, into, tmp_path, monkeypatch
):
    job = run_of(str(there))
    data = big(there / "big", 24)
    throttle(tmp_path / "bin", monkeypatch)
    with started("jobs.fetch", job, "big", "--into", str(into), until=b"") as child:
        wait_until(lambda: child.poll() is not None or coming(into) > 8_000_000)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=20)
    assert child.returncode == 130, said
    assert b"repeat the fetch to go on where this one ended" in said
    assert [path.name for path in into.iterdir()] == [".gridops"]
    seen: list[events.Event] = []
    with events.listening(seen.append):
        assert tell("jobs.fetch", job, "big", "--into", str(into)).status == 0
    (end,) = [event for event in seen if event.name == events.FETCH_FINISHED]
    assert end.fields["bytes"] < 20_000_000
    assert (into / "big").read_bytes() == data
    assert sorted(path.name for path in into.iterdir()) == [".gridops", "big"]
    assert not list(into.glob(".gridops/fetch-*"))


def test_a_fetch_that_is_given_up_says_so(sandbox, there, into, tmp_path, monkeypatch):
    (there / "a").write_text("x")
    broken = tmp_path / "bin" / "rsync"
    broken.parent.mkdir()
    broken.write_text(
        f'#!/bin/sh\n[ "$1" != --version ] || exec {shutil.which("rsync")} --version\n'
        "echo 'rsync: connection unexpectedly closed (9 bytes received so far) [receiver]' >&2\n"
        "exit 12\n"
    )
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    with without_waiting(), pytest.raises(TransferLost, match="node1: the transfer broke off"):
        fetch(sandbox, there, into)
    assert list(into.iterdir()) == []
