"""Reading host keys the way ssh would connect, and putting them into known_hosts."""

from __future__ import annotations

import socket
import stat
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from support.nodes import node_of, settings_of

from gridops.errors import ConnectRefused, ConnectTimeout, HostKeyChanged, HostKeyUnknown
from gridops.inventory.settings import SshSettings
from gridops.model import Node
from gridops.reach import hostkeys, link_to
from gridops.sandbox import Sandbox


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A known_hosts that does not exist yet, in a directory that does not either."""
    return tmp_path / "dot ssh".replace(" ", "-") / "known_hosts"


@pytest.fixture
def ssh(sandbox: Sandbox, file: Path) -> SshSettings:
    return settings_of(sandbox, options={"UserKnownHostsFile": str(file)})


def key_of(sandbox: Sandbox, name: str) -> str:
    """TYPE BASE64 of a node's host key, from its own disk."""
    return " ".join((sandbox.root / name / "host_key.pub").read_text().split()[:2])


def fingerprint(sandbox: Sandbox, name: str) -> str:
    command = ["ssh-keygen", "-lf", str(sandbox.root / name / "host_key.pub")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1]


def test_a_scan_shows_the_key_and_trusts_nothing(
    sandbox: Sandbox, ssh: SshSettings, file: Path
) -> None:
    found = hostkeys.scan(node_of(sandbox), ssh)
    (key,) = found.keys
    here = sandbox.node("node1")
    assert (found.node, found.file, found.state) == ("node1", file, "new")
    assert key.host == f"[{here.host}]:{here.port}"
    assert f"{key.type} {key.data}" == key_of(sandbox, "node1")
    assert key.fingerprint == fingerprint(sandbox, "node1")
    assert not file.exists()


def test_a_node_whose_key_was_added_can_be_reached(
    sandbox: Sandbox, ssh: SshSettings, file: Path
) -> None:
    node = node_of(sandbox)
    with pytest.raises(HostKeyUnknown):
        link_to(node, ssh).script("true", timeout=20)
    assert hostkeys.add(hostkeys.scan(node, ssh)) == 1
    assert link_to(node, ssh).script("true", timeout=20).status == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_adding_twice_adds_once(sandbox: Sandbox, ssh: SshSettings, file: Path) -> None:
    found = hostkeys.scan(node_of(sandbox), ssh)
    assert [hostkeys.add(found), hostkeys.add(found)] == [1, 0]
    assert hostkeys.scan(node_of(sandbox), ssh).state == "known"
    assert len(file.read_text().splitlines()) == 1


def test_what_the_file_holds_already_stays_and_a_link_stays_a_link(
    sandbox: Sandbox, ssh: SshSettings, file: Path, tmp_path: Path
) -> None:
    file.parent.mkdir()
    file.symlink_to(tmp_path / "real")
    file.write_text("# mine, without a newline at its end")
    hostkeys.add(hostkeys.scan(node_of(sandbox), ssh))
    assert file.is_symlink()
    assert file.read_text().splitlines()[0] == "# mine, without a newline at its end"
    assert len(file.read_text().splitlines()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.parent.name, "real"]


def test_many_at_once_lose_nothing(sandbox: Sandbox, ssh: SshSettings, file: Path) -> None:
    found = [hostkeys.scan(node_of(sandbox, name), ssh) for name in ("node1", "node2", "node3")]
    threads = [threading.Thread(target=hostkeys.add, args=(one,)) for one in found * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(file.read_text().splitlines()) == 3


def test_names_are_hashed_where_ssh_would_hash_them(sandbox: Sandbox, file: Path) -> None:
    options = {"UserKnownHostsFile": str(file), "HashKnownHosts": "yes"}
    ssh, node = settings_of(sandbox, options=options), node_of(sandbox)
    hostkeys.add(hostkeys.scan(node, ssh))
    assert file.read_text().startswith("|1|")
    assert hostkeys.scan(node, ssh).state == "known"
    assert link_to(node, ssh).script("true", timeout=20).status == 0


def test_another_key_is_refused_unless_it_is_to_be_replaced(
    sandbox: Sandbox, ssh: SshSettings, file: Path
) -> None:
    here = sandbox.node("node1")
    wrong = f"[{here.host}]:{here.port} {key_of(sandbox, 'node2')}\n"
    file.parent.mkdir()
    file.write_text(wrong + "other ssh-ed25519 AAAA\n")
    found = hostkeys.scan(node_of(sandbox), ssh)
    assert found.state == "changed"
    with pytest.raises(HostKeyChanged, match="--replace"):
        hostkeys.add(found)
    assert file.read_text().startswith(wrong)
    assert hostkeys.add(found, replace=True) == 1
    assert link_to(node_of(sandbox), ssh).script("true", timeout=20).status == 0
    assert wrong not in file.read_text()
    assert "other ssh-ed25519 AAAA" in file.read_text()
    assert wrong in file.with_name("known_hosts.old").read_text()


def test_a_revoked_key_is_never_added(sandbox: Sandbox, ssh: SshSettings, file: Path) -> None:
    file.parent.mkdir()
    file.write_text(f"@revoked * {key_of(sandbox, 'node1')}\n")
    found = hostkeys.scan(node_of(sandbox), ssh)
    assert found.state == "revoked"
    with pytest.raises(HostKeyChanged, match="revoked"):
        hostkeys.add(found, replace=True)


def test_aliases_and_jump_hosts_are_followed(sandbox: Sandbox, file: Path, tmp_path: Path) -> None:
    far = sandbox.node("node2")
    ssh = _behind_node1(sandbox, tmp_path, f"  UserKnownHostsFile {file}\n  HostKeyAlias zebra\n")
    found = hostkeys.scan(Node("far", "far"), ssh)
    assert [key.line for key in found.keys] == [f"zebra {key_of(sandbox, 'node2')}"]
    hostkeys.add(found)
    reply = link_to(Node("far", "far"), ssh).script("pwd", timeout=20)
    assert reply.stdout.decode().strip() == str(far.home)


def test_a_jump_host_is_checked_as_always(sandbox: Sandbox, file: Path, tmp_path: Path) -> None:
    jump = f"Host node1\n  UserKnownHostsFile {tmp_path}/none\n"
    ssh = _behind_node1(sandbox, tmp_path, f"  UserKnownHostsFile {file}\n{jump}")
    with pytest.raises(HostKeyUnknown, match="jump host"):
        hostkeys.scan(Node("far", "far"), ssh)
    assert not file.exists()
    assert not (tmp_path / "none").exists()


def test_nodes_that_cannot_be_reached_say_why_and_hold_nobody(
    sandbox: Sandbox, ssh: SshSettings
) -> None:
    with socket.socket() as closed, socket.create_server(("127.0.0.1", 0)) as mute:
        closed.bind(("127.0.0.1", 0))
        cases: list[tuple[socket.socket, Any]] = [(closed, ConnectRefused), (mute, ConnectTimeout)]
        for server, error in cases:
            node = Node("bad", "127.0.0.1", port=server.getsockname()[1])
            with pytest.raises(error, match="bad: "):
                hostkeys.scan(node, ssh, timeout=2)


def _behind_node1(sandbox: Sandbox, directory: Path, more: str) -> SshSettings:
    """A configuration by which `far` is node2, reached through node1."""
    far, config = sandbox.node("node2"), directory / "config"
    config.write_text(
        f"Host far\n  HostName {far.host}\n  Port {far.port}\n  ProxyJump node1\n{more}"
        f"Match all\n  Include {sandbox.ssh_config}\n"
    )
    return SshSettings(config_file=config)
