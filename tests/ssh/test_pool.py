"""The shared connections as things to see, open ahead and close."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support.nodes import node_of, nodes_of, settings_of, wait_until

from gridops.errors import HostUnknown
from gridops.inventory.settings import SshSettings
from gridops.model import Node
from gridops.observe import events
from gridops.reach import link_to, masters, pool
from gridops.reach.endpoint import Endpoint
from gridops.sandbox import Sandbox


@pytest.fixture
def directory(fresh_runtime_dir: Path) -> Path:
    return fresh_runtime_dir


pytestmark = pytest.mark.usefixtures("directory")


def gone(pid: int | None) -> bool:
    with suppress(OSError):
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    return True


def test_opening_ahead_spares_the_next_command_the_handshake(
    sandbox: Sandbox, ssh_settings: SshSettings
) -> None:
    outcomes = list(pool.open(nodes_of(sandbox), ssh_settings))
    assert {outcome.node.name for outcome in outcomes if outcome.ok} == {"node1", "node2", "node3"}
    seen: list[str] = []
    with events.listening(lambda event: seen.append(event.name)):
        for node in nodes_of(sandbox):
            link_to(node, ssh_settings).script("true", timeout=20)
    assert seen == []


def test_a_node_that_cannot_be_opened_is_an_outcome_and_local_ones_are_passed_over(
    sandbox: Sandbox, ssh_settings: SshSettings
) -> None:
    nodes = [
        node_of(sandbox),
        Node("lost", "nowhere.invalid"),
        Node("here", "localhost", connection="local"),
    ]
    outcomes = {outcome.node.name: outcome for outcome in pool.open(nodes, ssh_settings)}
    assert set(outcomes) == {"node1", "lost"}
    assert isinstance(outcomes["lost"].error, HostUnknown)


def test_no_more_than_pool_size_are_opened_at_once(sandbox: Sandbox) -> None:
    """Two servers that never speak: the second is not even called while the first one waits."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(3)
        port = server.getsockname()[1]
        nodes = [Node("a", "127.0.0.1", port=port), Node("b", "localhost", port=port)]
        ssh = settings_of(sandbox, pool_size=1, connect_timeout=1)
        opening = threading.Thread(target=lambda: list(pool.open(nodes, ssh)))
        opening.start()
        first, _ = server.accept()
        server.settimeout(0.5)
        with pytest.raises(TimeoutError):
            server.accept()
        first.close()
        server.close()
        opening.join(20)


def test_status_tells_what_is_open_for_whom_since_when_and_in_use(
    sandbox: Sandbox, ssh_settings: SshSettings, directory: Path
) -> None:
    before = time.time()
    link = link_to(Node("gpu", "node1", port=sandbox.node("node1").port), ssh_settings)
    process = link.start("cat", timeout=20)
    (master,) = pool.status()
    assert (master.node, master.target) == ("gpu", f"node1:{sandbox.node('node1').port}")
    assert before <= master.opened <= time.time()
    assert master.pid is not None
    os.kill(master.pid, 0)
    assert master.socket.parent == directory
    assert master.answers
    assert master.sessions == 1
    process.close()
    wait_until(lambda: pool.status()[0].sessions == 0)


def test_closing_some_leaves_the_others(sandbox: Sandbox, ssh_settings: SshSettings) -> None:
    list(pool.open(nodes_of(sandbox), ssh_settings))
    pids = {master.node: master.pid for master in pool.status()}
    assert pool.close([node_of(sandbox, "node2")], ssh_settings) == 1
    assert [master.node for master in pool.status()] == ["node1", "node3"]
    wait_until(lambda: gone(pids["node2"]))


def test_closing_all_leaves_nothing(
    sandbox: Sandbox, ssh_settings: SshSettings, directory: Path
) -> None:
    list(pool.open(nodes_of(sandbox), ssh_settings))
    pids = [master.pid for master in pool.status()]
    assert pool.close() == 3
    assert pool.close() == 0
    wait_until(lambda: all(gone(pid) for pid in pids))
    assert list(directory.iterdir()) == []


def test_further_masters_of_a_node_are_closed_with_it(
    sandbox: Sandbox, ssh_settings: SshSettings
) -> None:
    endpoint = Endpoint.of(node_of(sandbox), ssh_settings)
    for index in (0, 1):
        control, _ = masters.connect(endpoint, index=index, timeout=20)
        control.close()
    assert pool.close([node_of(sandbox)], ssh_settings) == 2


def test_a_master_that_hangs_is_shown_as_such_and_closed_for_good(
    sandbox: Sandbox, ssh_settings: SshSettings
) -> None:
    list(pool.open([node_of(sandbox)], ssh_settings))
    (master,) = pool.status()
    assert master.pid
    os.kill(master.pid, signal.SIGSTOP)
    (hung,) = pool.status()
    assert not hung.answers
    assert pool.close() == 1
    wait_until(lambda: gone(master.pid))
    assert pool.status() == ()


def test_what_dead_masters_left_is_cleared_away(
    sandbox: Sandbox, ssh_settings: SshSettings, directory: Path
) -> None:
    list(pool.open(nodes_of(sandbox), ssh_settings))
    for master in pool.status():
        assert master.pid
        os.kill(master.pid, signal.SIGKILL)
        wait_until(lambda pid=master.pid: gone(pid))  # type: ignore[misc]
    (directory / f"{'0' * 16}.0.json").write_text("{}")
    assert pool.status() == ()
    assert list(directory.iterdir()) == []


def test_what_a_killed_process_left_half_written_is_cleared_away_after_an_hour(
    directory: Path,
) -> None:
    old, young = (directory / f".{'0' * 16}.0.json.{digit * 16}" for digit in "ab")
    for path in old, young:
        path.write_text("{")
    os.utime(old, (time.time() - 4000,) * 2)
    assert pool.status() == ()
    assert list(directory.iterdir()) == [young]


def test_what_gridops_did_not_make_is_never_touched(
    sandbox: Sandbox, ssh_settings: SshSettings, directory: Path
) -> None:
    files = [
        "notes",
        "sync-0123456789abcdef.lock",
        "0123456789abcdef.x",
        "known_hosts.lock",
        ".theirs.json",
    ]
    for name in files:
        (directory / name).write_text("theirs")
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(directory / "theirs.0"))
        theirs.listen()
        list(pool.open([node_of(sandbox)], ssh_settings))
        assert pool.close() == 1
        assert sorted(path.name for path in directory.iterdir()) == sorted([*files, "theirs.0"])


def test_a_note_that_cannot_be_read_hides_no_master(
    sandbox: Sandbox, ssh_settings: SshSettings, directory: Path
) -> None:
    list(pool.open([node_of(sandbox)], ssh_settings))
    (note,) = directory.glob("*.json")
    note.write_text("not json")
    (master,) = pool.status()
    assert (master.node, master.pid, master.sessions) == ("?", None, None)
    assert pool.close() == 1
