"""Control masters: opened once, shared, replaced when dead, and never a reason to hang."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.network import closed_port, listener, silenceable
from support.nodes import node_of, settings_of, wait_until

from gridops.errors import (
    AuthenticationFailed,
    ConnectionLost,
    ConnectRefused,
    ConnectTimeout,
    HostKeyChanged,
    HostKeyUnknown,
    HostUnknown,
    NodeError,
    ReachError,
)
from gridops.inventory.settings import SshSettings
from gridops.model import Node
from gridops.observe import events
from gridops.reach import agent, endpoint, link_to, pool
from gridops.reach import masters as openssh
from gridops.reach.endpoint import Endpoint
from gridops.reach.fanout import fan_out
from gridops.reach.ssh import SshLink
from gridops.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("fresh_runtime_dir")


@pytest.fixture
def opened() -> Iterator[list[events.Event]]:
    """The masters that this process opens."""
    seen: list[events.Event] = []

    def listen(event: events.Event) -> None:
        if event.name == events.CONNECTION_OPENED:
            seen.append(event)

    with events.listening(listen):
        yield seen


def hello(node: Node, ssh: SshSettings, timeout: float = 20) -> bytes:
    return link_to(node, ssh).script("echo hello", timeout=timeout).stdout


def masters() -> tuple[pool.Master, ...]:
    return pool.status()


def only_master() -> pool.Master:
    (master,) = masters()
    return master


def pid_of(master: pool.Master) -> int:
    assert master.pid is not None
    return master.pid


def gone(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def in_python(code: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A process of its own, as another `inv` would be."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


SAY_HELLO = """
    import sys
    from gridops.model import Node
    from gridops.observe import events
    from gridops.reach import link_to
    from gridops.inventory.settings import SshSettings
    opened = []
    events.subscribe(lambda event: opened.append(event.name == events.CONNECTION_OPENED))
    link = link_to(Node("node1", "node1"), SshSettings(config_file=sys.argv[1]))
    print(link.script("echo hello", timeout=20).stdout.decode().strip(), sum(opened))
"""


class TestSharing:
    def test_the_second_command_pays_no_handshake(
        self, node1: Node, ssh_settings: SshSettings, opened: list[events.Event]
    ) -> None:
        assert hello(node1, ssh_settings) == hello(node1, ssh_settings) == b"hello\n"
        assert len(opened) == 1
        assert opened[0].fields["node"] == "node1"

    def test_a_later_process_finds_the_master(
        self, sandbox: Sandbox, node1: Node, ssh_settings: SshSettings
    ) -> None:
        hello(node1, ssh_settings)
        out, _ = in_python(SAY_HELLO, str(sandbox.ssh_config)).communicate(timeout=30)
        assert out == "hello 0\n"

    def test_processes_that_race_for_a_node_open_one_master(self, sandbox: Sandbox) -> None:
        children = [in_python(SAY_HELLO, str(sandbox.ssh_config)) for _ in range(5)]
        said = [child.communicate(timeout=60)[0].split() for child in children]
        assert [words[0] for words in said] == ["hello"] * 5
        assert sum(int(words[1]) for words in said) == 1
        assert len(masters()) == 1

    def test_threads_that_race_for_a_node_open_one_master(
        self, node1: Node, ssh_settings: SshSettings, opened: list[events.Event]
    ) -> None:
        nodes = [Node(f"n{number}", node1.host) for number in range(8)]
        outcomes = list(fan_out(nodes, lambda node: hello(node, ssh_settings), timeout=30))
        assert [outcome.error for outcome in outcomes] == [None] * 8
        assert len(opened) == 1

    def test_another_user_port_or_option_is_another_master(
        self, sandbox: Sandbox, node1: Node, opened: list[events.Event]
    ) -> None:
        hello(node1, settings_of(sandbox))
        hello(node1, settings_of(sandbox, options={"Compression": "yes"}))
        port = sandbox.node("node1").port
        hello(Node("node1", "node1", port=port), settings_of(sandbox))
        assert len(opened) == 3

    def test_a_changed_ssh_configuration_is_not_ignored(
        self, sandbox: Sandbox, tmp_path: Path, opened: list[events.Event]
    ) -> None:
        config = tmp_path / "config"
        for name in ("node1", "node2"):
            here = sandbox.node(name)
            config.write_text(
                f"Host it\n  HostName {here.host}\n  Port {here.port}\n  HostKeyAlias it-{name}\n"
                f"  UserKnownHostsFile {tmp_path}/known_hosts\n"
                f"Match all\n  Include {sandbox.ssh_config}\n"
            )
            ssh = SshSettings(config_file=config, host_keys="accept-new")
            home = link_to(Node("it", "it"), ssh).script("pwd", timeout=20).stdout
            assert name in home.decode()
        assert len(opened) == 2

    def test_sockets_are_where_only_we_can_reach_them(
        self, node1: Node, ssh_settings: SshSettings, fresh_runtime_dir: Path
    ) -> None:
        hello(node1, ssh_settings)
        assert fresh_runtime_dir.stat().st_mode & 0o777 == 0o700

    def test_an_unused_master_ends_after_persist(self, sandbox: Sandbox, node1: Node) -> None:
        hello(node1, settings_of(sandbox, persist=1))
        pid = pid_of(only_master())
        wait_until(lambda: gone(pid), 15)
        assert masters() == ()

    def test_a_pipeline_ends_although_the_master_goes_on(self, sandbox: Sandbox) -> None:
        """The master holds neither our output nor any other descriptor of ours open."""
        ours, theirs = os.pipe()
        os.set_inheritable(theirs, True)
        child = in_python(SAY_HELLO, str(sandbox.ssh_config), pass_fds=(theirs,))
        os.close(theirs)
        out, err = child.communicate(timeout=30)  # until everybody closed them
        assert (out, err) == ("hello 1\n", "")
        assert os.read(ours, 1) == b""
        os.close(ours)
        assert len(masters()) == 1


class TestMaxSessions:
    def test_refused_sessions_go_over_further_masters(
        self, make_sandbox: Any, opened: list[events.Event]
    ) -> None:
        sandbox = make_sandbox(1, options={"MaxSessions": "2"})
        link = link_to(node_of(sandbox), settings_of(sandbox))
        running = [link.start("cat", timeout=20) for _ in range(5)]
        try:
            assert len(opened) == 3
            for process in running:
                os.write(process.stdin, b"x")
                assert os.read(process.stdout, 1) == b"x"
        finally:
            for process in running:
                process.close()
        assert [master.node for master in masters()] == ["node1"] * 3

    def test_sessions_that_have_become_free_are_used_again(
        self, make_sandbox: Any, opened: list[events.Event]
    ) -> None:
        sandbox = make_sandbox(1, options={"MaxSessions": "1"})
        link = link_to(node_of(sandbox), settings_of(sandbox))
        for _ in range(3):
            first, second = link.start("cat", timeout=20), link.start("cat", timeout=20)
            first.close()
            second.close()
            wait_until(lambda: all(master.sessions == 0 for master in masters()))
        assert len(opened) <= 3

    def test_a_node_that_grants_no_session_at_all_is_not_asked_again_and_again(
        self, make_sandbox: Any, opened: list[events.Event]
    ) -> None:
        sandbox = make_sandbox(1, options={"MaxSessions": "0"})
        with pytest.raises(NodeError, match="refuses a session"):
            hello(node_of(sandbox), settings_of(sandbox))
        assert len(opened) == 1


class TestStaleMasters:
    def test_a_dead_master_is_replaced(
        self, node1: Node, ssh_settings: SshSettings, opened: list[events.Event]
    ) -> None:
        hello(node1, ssh_settings)
        os.kill(pid_of(only_master()), signal.SIGKILL)
        assert hello(node1, ssh_settings) == b"hello\n"
        assert len(opened) == 2

    def test_a_hung_master_is_replaced_and_its_end_does_not_harm_the_new_one(
        self, sandbox: Sandbox, node1: Node, opened: list[events.Event]
    ) -> None:
        ssh = settings_of(sandbox, connect_timeout=1)
        hello(node1, ssh)
        hung = pid_of(only_master())
        os.kill(hung, signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert hello(node1, ssh) == b"hello\n"
            assert time.monotonic() - began < 5
        finally:
            os.kill(hung, signal.SIGTERM)
            os.kill(hung, signal.SIGCONT)
        wait_until(lambda: gone(hung))
        assert hello(node1, ssh) == b"hello\n"
        assert len(opened) == 2

    def test_a_retired_master_ends_with_the_last_that_runs_over_it(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        with silenceable(sandbox.node("node1").port) as way:
            ssh = way.settings(sandbox, tmp_path, connect_timeout=1)
            far = Node("far", "far")
            process = link_to(far, ssh).start("cat; exit 5", timeout=20)
            retired = pid_of(only_master())
            way.silent = True
            with pytest.raises(ConnectTimeout):
                hello(far, ssh, timeout=15)
            way.silent = False
            assert hello(far, ssh) == b"hello\n"
            assert not gone(retired)
            process.close_stdin()
            assert process.wait(10) == 5
            process.close()
            wait_until(lambda: gone(retired))
            assert hello(far, ssh) == b"hello\n"

    def test_many_who_find_a_master_hung_replace_it_once(
        self, sandbox: Sandbox, node1: Node, opened: list[events.Event]
    ) -> None:
        ssh = settings_of(sandbox, connect_timeout=1)
        hello(node1, ssh)
        hung = pid_of(only_master())
        os.kill(hung, signal.SIGSTOP)
        try:
            nodes = [Node(f"n{number}", node1.host) for number in range(6)]
            outcomes = list(fan_out(nodes, lambda node: hello(node, ssh), timeout=20))
            assert [outcome.error for outcome in outcomes] == [None] * 6
            assert len(opened) == 2
        finally:
            os.kill(hung, signal.SIGKILL)

    def test_a_socket_that_nobody_listens_on_is_in_nobodys_way(
        self, node1: Node, ssh_settings: SshSettings
    ) -> None:
        path = openssh.socket_path(Endpoint.of(node1, ssh_settings))
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        assert hello(node1, ssh_settings) == b"hello\n"

    def test_a_network_that_went_silent_is_an_error_in_time_and_over_when_it_is_back(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        with silenceable(sandbox.node("node1").port) as way:
            ssh = way.settings(sandbox, tmp_path, connect_timeout=1)
            far = Node("far", "far")
            assert hello(far, ssh) == b"hello\n"
            way.silent = True
            began = time.monotonic()
            with pytest.raises(ConnectTimeout) as caught:
                hello(far, ssh, timeout=15)
            assert caught.value.node == "far"
            assert time.monotonic() - began < 6
            way.silent = False
            assert hello(far, ssh) == b"hello\n"

    def test_a_command_under_which_the_network_goes_silent_is_lost(
        self, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(endpoint, "KEEPALIVE_INTERVAL", 1)
        with silenceable(sandbox.node("node1").port) as way:
            link = link_to(Node("far", "far"), way.settings(sandbox, tmp_path))
            process = link.start("sleep 60", timeout=20)
            way.silent = True
            began = time.monotonic()
            with pytest.raises(ConnectionLost):
                process.wait(30)
            assert time.monotonic() - began < 10
            process.close()

    def test_a_command_whose_connection_goes_is_lost_not_finished(
        self, node1: Node, ssh_settings: SshSettings
    ) -> None:
        process = link_to(node1, ssh_settings).start("sleep 30", timeout=20)
        os.kill(pid_of(only_master()), signal.SIGKILL)
        with pytest.raises(ConnectionLost):
            process.wait(10)
        process.close()

    def test_a_killed_command_is_not_a_lost_connection(
        self, node1: Node, ssh_settings: SshSettings
    ) -> None:
        process = link_to(node1, ssh_settings).start("kill -9 $$", timeout=20)
        with pytest.raises(NodeError, match="killed"):
            process.wait(10)
        process.close()

    def test_a_command_that_exits_255_has_exited_255(
        self, node1: Node, ssh_settings: SshSettings
    ) -> None:
        process = link_to(node1, ssh_settings).start("exit 255", timeout=20)
        assert process.wait(10) == 255
        process.close()


class TestLogins:
    """Each with its own error class and words, and none of them hangs."""

    def test_nothing_listens(self, sandbox: Sandbox) -> None:
        with closed_port() as port, pytest.raises(ConnectRefused, match="refused") as caught:
            hello(Node("dead", "127.0.0.1", port=port), settings_of(sandbox))
        assert caught.value.node == "dead"

    def test_a_name_that_does_not_resolve(self, sandbox: Sandbox) -> None:
        with pytest.raises(HostUnknown, match=r"nowhere\.invalid does not resolve"):
            hello(Node("lost", "nowhere.invalid"), settings_of(sandbox))

    def test_a_listener_that_never_speaks_costs_the_connect_timeout(self, sandbox: Sandbox) -> None:
        with listener() as port:
            began = time.monotonic()
            with pytest.raises(ConnectTimeout):
                hello(Node("mute", "127.0.0.1", port=port), settings_of(sandbox, connect_timeout=1))
            assert time.monotonic() - began < 4

    def test_a_server_that_stalls_after_its_banner_costs_the_time_that_was_given(
        self, sandbox: Sandbox
    ) -> None:
        with listener(b"SSH-2.0-slow\r\n") as port:
            began = time.monotonic()
            with pytest.raises(ConnectTimeout, match="login did not finish"):
                hello(Node("slow", "127.0.0.1", port=port), settings_of(sandbox), timeout=2)
            assert time.monotonic() - began < 4

    def test_an_unknown_host_key_is_refused_with_what_to_do(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        ssh = known_hosts(sandbox, tmp_path / "none")
        with pytest.raises(HostKeyUnknown, match="inv trust --nodes node1"):
            hello(node_of(sandbox), ssh)
        assert not (tmp_path / "none").exists()

    def test_a_changed_host_key_is_refused_even_when_new_ones_are_accepted(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        here, other = sandbox.node("node1"), sandbox.node("node2")
        key = next(
            line.split(" ", 1)[1]
            for line in (sandbox.root / "known_hosts").read_text().splitlines()
            if f":{other.port}" in line
        )
        (tmp_path / "wrong").write_text(f"[{here.host}]:{here.port} {key}\n")
        for host_keys in ("strict", "accept-new"):
            ssh = known_hosts(sandbox, tmp_path / "wrong", host_keys=host_keys)
            with pytest.raises(HostKeyChanged, match="--replace"):
                hello(node_of(sandbox), ssh)

    def test_accept_new_takes_a_key_it_sees_for_the_first_time(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        ssh = known_hosts(sandbox, tmp_path / "new", host_keys="accept-new")
        assert hello(node_of(sandbox), ssh) == b"hello\n"
        assert f":{sandbox.node('node1').port}" in (tmp_path / "new").read_text()

    def test_a_refused_login_is_said_once_and_not_tried_again(self, sandbox: Sandbox) -> None:
        seen: list[str] = []
        with events.listening(lambda event: seen.append(event.name)):
            ssh = settings_of(sandbox, options={"PubkeyAuthentication": "no"})
            with pytest.raises(AuthenticationFailed, match="Permission denied"):
                hello(node_of(sandbox), ssh)
        assert events.RETRY not in seen

    def test_logins_that_maxstartups_drops_are_tried_again(self, make_sandbox: Any) -> None:
        sandbox = make_sandbox(1, options={"MaxStartups": "2"})
        links = [
            SshLink(Node(f"n{number}", "node1"), settings_of(sandbox, persist=100 + number))
            for number in range(6)
        ]
        for number, link in enumerate(links):  # each a master of its own
            options = (("ServerAliveInterval", str(number + 1)),)
            link.endpoint = Endpoint(**{**vars(link.endpoint), "options": options})
        seen: list[str] = []

        def work(node: Node) -> bytes:
            return links[int(node.name[1:])].script("echo hello", timeout=30).stdout

        with events.listening(lambda event: seen.append(event.name)):
            outcomes = list(fan_out([link.node for link in links], work))
        assert [outcome.error for outcome in outcomes] == [None] * 6
        assert events.RETRY in seen

    def test_an_agent_that_hangs_is_left_out(
        self, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = str(tmp_path / "agent")
        warned: list[str] = []
        monkeypatch.setattr(agent, "AGENT_TIMEOUT", 0.5)
        monkeypatch.setenv("SSH_AUTH_SOCK", path)

        def listen(event: events.Event) -> None:
            if event.name == events.WARNING:
                warned.append(event.fields["message"])

        with socket.socket(socket.AF_UNIX) as hung, events.listening(listen):
            hung.bind(path)
            hung.listen()
            ssh = settings_of(sandbox, options={"IdentityAgent": "SSH_AUTH_SOCK"})
            began = time.monotonic()
            assert hello(node_of(sandbox), ssh) == b"hello\n"
            assert time.monotonic() - began < 4
        assert len(warned) == 1
        assert path in warned[0]

    @pytest.mark.parametrize("terminal", [True, False])
    def test_nothing_ever_prompts(
        self, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
    ) -> None:
        """Not even the ssh that goes to a jump host, which gets none of our options."""
        ask = tmp_path / "askpass"
        ask.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
        ask.chmod(0o755)
        monkeypatch.setenv("SSH_ASKPASS", str(ask))
        monkeypatch.setenv("DISPLAY", ":0")
        config = behind_node1(sandbox, tmp_path, "  StrictHostKeyChecking ask\n")
        near, far = os.openpty()
        child = in_python(
            SAY_HELLO.replace("node1", "far"),
            str(config),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(far, termios.TIOCSCTTY, 0) if terminal else None,
        )
        os.close(far)
        _, err = child.communicate(timeout=30)
        assert "jump host" in err
        with suppress(OSError):
            os.set_blocking(near, False)
            assert os.read(near, 1000) == b""
        os.close(near)
        assert not (tmp_path / "asked").exists()


class TestUsersConfiguration:
    def test_what_it_asks_of_an_interactive_login_does_not_disturb_us(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        with closed_port() as port:
            pass
        config = tmp_path / "config"
        config.write_text(
            "Host node1\n"
            "  ControlMaster auto\n"
            f"  ControlPath {tmp_path}/theirs-%C\n"
            "  RemoteCommand tmux attach\n"
            "  RequestTTY force\n"
            f"  LocalForward {port} localhost:80\n"
            "  PermitLocalCommand yes\n"
            f"  LocalCommand touch {tmp_path}/ran\n"
            f"Match all\n  Include {sandbox.ssh_config}\n"
        )
        ssh = SshSettings(config_file=config)
        assert hello(node_of(sandbox), ssh) == b"hello\n"
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), 2)
        shell = link_to(node_of(sandbox), ssh).rsync_shell()
        assert shell
        done = subprocess.run(
            f"{shell} node1 'test -t 1 || echo through'",
            shell=True,
            capture_output=True,
            timeout=20,
            check=True,
        )
        assert (done.stdout, done.stderr) == (b"through\n", b"")
        assert [path.name for path in tmp_path.iterdir()] == ["config"]

    def test_proxyjump_is_followed(self, sandbox: Sandbox, tmp_path: Path) -> None:
        far = sandbox.node("node2")
        config = tmp_path / "config"
        config.write_text(
            f"Host far\n  HostName {far.host}\n  Port {far.port}\n  ProxyJump node1\n"
            f"Match all\n  Include {sandbox.ssh_config}\n"
        )
        ssh = SshSettings(config_file=config)
        reply = link_to(Node("far", "far"), ssh).script("pwd", timeout=20)
        assert reply.stdout.decode().strip() == str(far.home)

    def test_a_jump_host_whose_key_is_unknown_is_refused(
        self, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        config = behind_node1(sandbox, tmp_path, "  StrictHostKeyChecking ask\n")
        ssh = SshSettings(config_file=config, host_keys="accept-new")
        with pytest.raises(HostKeyUnknown, match="jump host"):
            hello(Node("far", "far"), ssh)
        assert not (tmp_path / "none").exists()

    def test_a_wrong_option_is_said_as_ssh_says_it(self, sandbox: Sandbox) -> None:
        ssh = settings_of(sandbox, options={"NoSuchThing": "1"})
        with pytest.raises(ReachError, match=r"(?i)bad configuration option: nosuchthing"):
            hello(node_of(sandbox), ssh)


class TestThisMachine:
    def test_without_ssh_the_error_says_what_to_install(
        self, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ReachError, match="openssh-client"):
            hello(node_of(sandbox), settings_of(sandbox))

    def test_without_home_it_works(self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HOME")
        assert hello(node_of(sandbox), settings_of(sandbox)) == b"hello\n"

    def test_few_open_files_are_made_more(self, sandbox: Sandbox) -> None:
        limit, answers = self._with_limits(sandbox, 32, 4096).split(" ", 1)
        assert answers == "40 0"
        assert 400 <= int(limit) <= 1000  # what 40 at once need, and hardly more

    def test_few_open_files_that_cannot_be_made_more_mean_fewer_at_once(
        self, sandbox: Sandbox
    ) -> None:
        assert self._with_limits(sandbox, 96, 96) == "96 40 0"

    @staticmethod
    def _with_limits(sandbox: Sandbox, soft: int, hard: int) -> str:
        code = """
            import resource, sys
            from gridops.model import Node
            from gridops.reach import link_to
            from gridops.reach.fanout import fan_out
            from gridops.inventory.settings import SshSettings
            ssh = SshSettings(config_file=sys.argv[1])
            nodes = [Node(f"n{i}", f"node{i % 3 + 1}") for i in range(40)]
            outcomes = list(fan_out(
                nodes, lambda n: link_to(n, ssh).script("sleep 0.2; echo hi", timeout=30)))
            bad = [o.error for o in outcomes if not o.ok]
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            print(limit, len(outcomes), len(bad), *bad)
        """
        child = in_python(
            code,
            str(sandbox.ssh_config),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
        )
        out, err = child.communicate(timeout=60)
        assert err == ""
        return out.strip()


# -- servers that misbehave ------------------------------------------------------------------------


def known_hosts(sandbox: Sandbox, file: Path, **changed: object) -> SshSettings:
    """The sandbox's settings with another known_hosts file."""
    return settings_of(sandbox, options={"UserKnownHostsFile": str(file)}, **changed)


def behind_node1(sandbox: Sandbox, directory: Path, jump: str) -> Path:
    """A configuration by which `far` is node2 behind node1, whose host key is unknown."""
    far, config = sandbox.node("node2"), directory / "config"
    config.write_text(
        f"Host far\n  HostName {far.host}\n  Port {far.port}\n  ProxyJump node1\n"
        f"Host node1\n  UserKnownHostsFile {directory}/none\n{jump}"
        f"Match all\n  Include {sandbox.ssh_config}\n"
    )
    return config
