"""`gridops.transfers.rsync`: patchwork's interface, on Fabric's Connections and gridops' own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fabric
import pytest
from invoke.exceptions import UnexpectedExit
from support.nodes import node_of, settings_of

from gridops.errors import (
    AuthenticationFailed,
    ConnectRefused,
    HostKeyUnknown,
    NodeTimeout,
    NoRsync,
    PartialTransfer,
)
from gridops.sandbox import Sandbox
from gridops.transfers import rsync

Connect = Callable[..., fabric.Connection]


@pytest.fixture
def there(sandbox: Sandbox) -> Iterator[Path]:
    """A directory of this test's own in node1's home."""
    path = sandbox.node("node1").home / f"transfers-{time.monotonic_ns()}"
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def src(tmp_path: Path) -> Path:
    path = tmp_path / "src"
    (path / "sub").mkdir(parents=True)
    (path / "a").write_text("hello")
    (path / "sub/b").write_text("x")
    (path / "link").symlink_to("a")
    return path


@pytest.fixture(autouse=True)
def cwd(src: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(src.parent)


def plain(sandbox: Sandbox, name: str = "node1", **changed: object) -> fabric.Connection:
    """Fabric's own Connection, as its users make one."""
    node = sandbox.node(name)
    options = {
        "host": "127.0.0.1",
        "user": "root" if os.geteuid() == 0 else os.environ["USER"],
        "port": node.port,
        "connect_kwargs": {"key_filename": str(sandbox.root / "client_key")},
        "config": fabric.Config(
            overrides={"run": {"hide": True}, "ssh_config_path": str(sandbox.ssh_config)}
        ),
    }
    return fabric.Connection(**{**options, **changed})


def ours(sandbox: Sandbox, name: str = "node1", **changed: object) -> fabric.Connection:
    from gridops.reach.connection import Connection

    config = fabric.Config(overrides={"run": {"hide": True}})
    return Connection.for_node(
        node_of(sandbox, name), settings_of(sandbox), **{"config": config, **changed}
    )


@pytest.fixture(params=[plain, ours], ids=["fabric", "gridops"])
def connect(request: pytest.FixtureRequest) -> Connect:
    return request.param


@pytest.fixture
def c(connect: Connect, sandbox: Sandbox) -> Iterator[fabric.Connection]:
    with connect(sandbox) as made:
        yield made


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


# -- what patchwork does ----------------------------------------------------------------------


def test_a_directory_goes_into_the_target(c, there):
    result = rsync(c, "src", str(there))
    assert names(there) == {"src", "src/a", "src/sub", "src/sub/b", "src/link"}
    assert result.ok
    assert "src/sub/b" in result.stdout
    assert result.command.startswith("/")


def test_a_trailing_slash_means_the_contents(c, there):
    rsync(c, "src/", f"{there}/new")
    assert names(there) == {"new", "new/a", "new/sub", "new/sub/b", "new/link"}


def test_symlinks_stay_symlinks_and_times_and_modes_are_kept(c, src, there):
    (src / "a").chmod(0o751)
    os.utime(src / "a", (1e9, 1e9))
    rsync(c, "src/", str(there))
    assert (there / "link").is_symlink()
    assert (there / "a").stat().st_mode & 0o777 == 0o751
    assert (there / "a").stat().st_mtime == 1e9


def test_delete_removes_what_is_not_here(c, there):
    (there / "old").write_text("x")
    rsync(c, "src/", str(there))
    assert (there / "old").exists()
    rsync(c, "src/", str(there), delete=True)
    assert not (there / "old").exists()


@pytest.mark.parametrize("exclude", ["sub", ["sub", "b"], ("su*",), iter(["sub/"])])
def test_exclude_is_a_pattern_or_several(c, there, exclude):
    rsync(c, "src/", str(there), exclude=exclude)
    if isinstance(exclude, (str, list, tuple)):  # an iterator serves the first of the two only
        assert names(there) == {"a", "link"}


def test_rsync_opts_are_words_in_shell_syntax(c, there):
    rsync(c, "src/", str(there), rsync_opts="--exclude='su b' --exclude 'sub' --dry-run")
    assert names(there) == set()
    rsync(c, "src/", str(there), rsync_opts=["--exclude", "sub", "--no-links"])
    assert names(there) == {"a"}


def test_several_sources_in_one_text_wildcards_and_home(c, home, there):
    (home / "in home").write_text("x")
    rsync(c, "src/sub src/a*", str(there))
    rsync(c, "~/in*", str(there))
    assert names(there) == {"sub", "sub/b", "a", "in home"}


def test_a_target_may_begin_at_the_home(c, sandbox, there):
    rsync(c, "src/a", f"~/{there.name}/one")
    rsync(c, "src/a", f"{there.name}/two")
    assert names(there) == {"one", "two"}


# -- without its faults -----------------------------------------------------------------------

ODD = ["sp ace", "qu'o\"te", "$HOME", "a;b", "-dash", "ünï", "host:colon", "*", "new\nline", "`x`"]


@pytest.mark.parametrize("name", ODD)
def test_names_mean_themselves(c, there, name):
    Path(name).mkdir()
    (Path(name) / "file").write_text("x")
    rsync(c, name, str(there))
    rsync(c, [name], there / name)
    assert names(there) == {name, f"{name}/file", f"{name}/{name}", f"{name}/{name}/file"}


def test_an_exclude_pattern_is_no_shell_text(c, there):
    rsync(c, "src/", str(there), exclude=['a"; touch evil; "', "$(touch evil)", "s'b"])
    assert names(there) == {"a", "sub", "sub/b", "link"}
    assert not Path("evil").exists()


def test_what_fails_has_its_reason_and_invokes_result(c, there):
    with pytest.raises(PartialTransfer, match=r"missing \(No such file") as caught:
        rsync(c, ["src/a", "missing"], str(there))
    assert names(there) == {"a"}
    cause = caught.value.__cause__
    assert isinstance(cause, UnexpectedExit)
    assert cause.result.exited == 23
    assert "missing" in cause.result.stderr


def test_the_connections_configuration_holds(connect, sandbox, there, capfd):
    run = {"warn": True, "hide": "stderr", "echo": True}
    with connect(sandbox, config=configured(sandbox, connect, run)) as c:
        result = rsync(c, ["src/a", "missing"], str(there))
    assert result.exited == 23
    shown = capfd.readouterr()
    assert shown.out.startswith(result.command)
    assert "sending incremental file list" in shown.out
    assert shown.err == ""
    with connect(sandbox, config=configured(sandbox, connect, {"dry": True})) as c:
        assert rsync(c, "src/sub", str(there)).ok
    assert names(there) == {"a"}


def configured(sandbox: Sandbox, connect: Connect, run: dict[str, object]) -> fabric.Config:
    overrides: dict[str, object] = {"run": run}
    if connect is plain:
        overrides["ssh_config_path"] = str(sandbox.ssh_config)
    return fabric.Config(overrides=overrides)


def test_the_command_timeout_holds(connect, sandbox, there, tmp_path, monkeypatch):
    slow = tmp_path / "bin/rsync"
    slow.parent.mkdir()
    slow.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] || sleep 30\nexec {shutil.which("rsync")} "$@"\n'
    )
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    config = configured(sandbox, connect, {"hide": True})
    config.timeouts.command = 1
    began = time.monotonic()
    with connect(sandbox, config=config) as c, pytest.raises(NodeTimeout):
        rsync(c, "src/", str(there))
    assert time.monotonic() - began < 5


def test_nobody_is_asked_for_a_password(sandbox, there):
    with plain(sandbox, connect_kwargs={}, config=no_config()) as c:
        began = time.monotonic()
        known = f"-o UserKnownHostsFile='{sandbox.root}/known_hosts'"
        with pytest.raises(AuthenticationFailed):
            rsync(c, "src/", str(there), ssh_opts=known)
        assert time.monotonic() - began < 10


def no_config() -> fabric.Config:
    return fabric.Config(overrides={"run": {"hide": True}}, ssh_config=None, lazy=True)


def test_an_unknown_host_key_is_refused_unless_that_is_wished(sandbox, there, tmp_path):
    opts = f"-o UserKnownHostsFile='{tmp_path}/none'"
    with plain(sandbox, config=no_config()) as c:
        with pytest.raises(HostKeyUnknown):
            rsync(c, "src/", str(there), ssh_opts=opts)
        assert names(there) == set()
        rsync(c, "src/", str(there), strict_host_keys=False, ssh_opts=opts)
    assert "a" in names(there)


def test_nobody_listening_has_its_own_line(sandbox, there):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with plain(sandbox, port=port) as c, pytest.raises(ConnectRefused, match=r"127\.0\.0\.1: "):
        rsync(c, "src/", str(there))


def test_no_rsync_there_has_its_own_line(c, there):
    with pytest.raises(NoRsync, match="there is no rsync on it"):
        rsync(c, "src/", str(there), rsync_opts="--rsync-path=/no/such/rsync")


@pytest.mark.parametrize("key", ["single", "several"])
def test_key_files_are_used(sandbox, there, tmp_path, key):
    copy = tmp_path / "my key"
    shutil.copy(sandbox.root / "client_key", copy)
    copy.chmod(0o600)
    files = str(copy) if key == "single" else ["/no/such/key", str(copy)]
    with plain(sandbox, connect_kwargs={"key_filename": files}, config=no_config()) as c:
        rsync(c, "src/", str(there), ssh_opts=f"-o UserKnownHostsFile={sandbox.root}/known_hosts")
    assert "a" in names(there)


@pytest.mark.parametrize("hops", [1, 2])
def test_the_gateway_is_used(sandbox, there, hops, tmp_path, monkeypatch):
    """node1 is reached through the other nodes; a shim sees every ssh that takes part."""
    said = tmp_path / "log"
    shim = tmp_path / "bin/ssh"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\necho "$*" >> {said}\nexec {shutil.which("ssh")} "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    gateway = None
    for name in ["node3", "node2"][:hops]:
        gateway = plain(sandbox, name, gateway=gateway)
    with plain(sandbox, gateway=gateway) as c:
        rsync(c, "src/", str(there))
    assert "a" in names(there)
    lines = said.read_text().splitlines()
    assert len(lines) == 1 + hops
    assert all("-W [127.0.0.1]:" in line for line in lines[1:])


def test_a_proxy_command_is_used(sandbox, there, tmp_path):
    program, mark = tmp_path / "relay.py", tmp_path / "mark"
    program.write_text(RELAY)
    with plain(sandbox, gateway=f"{sys.executable} {program} {mark} %h %p") as c:
        rsync(c, "src/", str(there))
    assert mark.exists()
    assert "a" in names(there)


RELAY = """
import os, pathlib, select, socket, sys
pathlib.Path(sys.argv[1]).touch()
server = socket.create_connection((sys.argv[2], int(sys.argv[3])))
while True:
    for ready in select.select([0, server], [], [])[0]:
        data = os.read(0, 65536) if ready == 0 else server.recv(65536)
        if not data:
            sys.exit()
        server.sendall(data) if ready == 0 else os.write(1, data)
"""


def test_our_own_connection_needs_no_second_login(sandbox, there, tmp_path):
    with ours(sandbox) as c:
        c.run("true", in_stream=False)
        before = logins(sandbox)
        rsync(c, "src/", str(there))
        assert logins(sandbox) == before
    assert "a" in names(there)


def logins(sandbox: Sandbox) -> int:
    """How many connections node1's sshd has accepted and still has."""
    pid = sandbox.node("node1").pid
    done = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return len(done.stdout.split())


def test_importing_it_does_not_import_fabric():
    program = "import sys, gridops.transfers, gridops.transfers.sync; print(*sys.modules)"
    said = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert {"fabric", "paramiko", "invoke", "asyncio"}.isdisjoint(said)
