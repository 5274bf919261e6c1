"""The sandbox: real sshd nodes, started and ended without a trace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from support.nodes import find_program, nodes_of, processes_of, run_ssh, settings_of, wait_until

from gridops.errors import SandboxError, UnknownNameError, UsageError
from gridops.reach import link_to
from gridops.sandbox import Sandbox, SandboxNode, Setup, server
from gridops.system.processes import find_process

REPOSITORY = Path(__file__).parents[2]


def test_every_node_has_its_own_home_and_port(sandbox):
    homes = {run_ssh(sandbox, node.name, "cd; pwd; echo $HOME").stdout for node in sandbox.nodes}
    assert homes == {f"{node.home}\n{node.home}\n" for node in sandbox.nodes}
    assert len({node.port for node in sandbox.nodes}) == 3


def test_nodes_show_different_host_keys(sandbox):
    lines = (sandbox.root / "known_hosts").read_text().splitlines()
    assert len({line.split()[2] for line in lines}) == len(lines) == 3


def test_commands_get_their_status_stdin_and_both_streams(sandbox):
    words = ["ssh", "-F", str(sandbox.ssh_config), "node1", "cat; echo err >&2; exit 7"]
    done = subprocess.run(words, input=b"a\0b\xff", capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"a\0b\xff", b"err\n")


def test_nothing_of_the_real_home_or_environment_gets_in(sandbox):
    said = run_ssh(sandbox, "node1", "env").stdout
    assert f"HOME={sandbox.node('node1').home}" in said
    assert "SSH_ORIGINAL_COMMAND" not in said
    assert "NODE_SHELL" not in said
    assert "GRIDOPS_RUNTIME_DIR" not in said


def test_sftp_and_rsync_land_in_the_nodes_home(sandbox, tmp_path):
    (tmp_path / "f").write_text("hello")
    home = sandbox.node("node2").home
    batch = f"put {tmp_path}/f by_sftp\n"
    config = str(sandbox.ssh_config)
    subprocess.run(
        ["sftp", "-q", "-F", config, "-b", "-", "node2"],
        input=batch.encode(),
        capture_output=True,
        timeout=30,
        check=True,
    )
    shell = f"ssh -F '{config}'"
    subprocess.run(
        ["rsync", "-e", shell, f"{tmp_path}/f", "node2:by_rsync"], timeout=30, check=True
    )
    assert (home / "by_sftp").read_text() == (home / "by_rsync").read_text() == "hello"
    for name in ("by_sftp", "by_rsync"):
        (home / name).unlink()


@pytest.mark.parametrize("shell", ["dash", "bash", "fish", "tcsh", "busybox sh"])
def test_a_node_can_have_any_login_shell(make_sandbox, shell):
    name, *rest = shell.split()
    found = find_program(name)
    sandbox = make_sandbox(1, setup={"node1": Setup(shell=" ".join([found, *rest]))})
    done = run_ssh(sandbox, "node1", "echo $SHELL; cd /; pwd")
    assert (done.stdout, done.stderr) == (f"{found}\n/\n", "")


def test_start_up_files_of_the_node_are_read_once_as_by_any_sshd(make_sandbox):
    sandbox = make_sandbox(1, setup={"node1": Setup(shell="/bin/bash")})
    (sandbox.node("node1").home / ".bashrc").write_text("echo noise; export FROM_RC=1\n")
    assert run_ssh(sandbox, "node1", "echo $FROM_RC").stdout == "noise\n1\n"


def test_a_node_can_lack_programs_and_have_an_environment(make_sandbox, tmp_path):
    setup = Setup(env_path=str(tmp_path), env={"WITH": "it's a 'quote' $HOME"})
    sandbox = make_sandbox(2, setup={"node2": setup})
    assert run_ssh(sandbox, "node1", "command -v rsync").returncode == 0
    assert run_ssh(sandbox, "node2", "command -v rsync").returncode != 0
    assert run_ssh(sandbox, "node2", 'echo "$WITH"').stdout == "it's a 'quote' $HOME\n"


def test_sshd_options_reach_sshd(make_sandbox):
    sandbox = make_sandbox(
        2, options={"MaxSessions": "3"}, setup={"node2": Setup(options={"MaxSessions": "1"})}
    )
    configs = [(sandbox.root / name / "sshd_config").read_text() for name in ("node1", "node2")]
    assert "MaxSessions 3" in configs[0]
    assert "MaxSessions 1" in configs[1]


def test_an_interactive_login_gets_a_shell(sandbox):
    words = ["ssh", "-tt", "-F", str(sandbox.ssh_config), "node1"]
    done = subprocess.run(
        words, input="tty; echo at $PWD\nexit\n", capture_output=True, text=True, timeout=30
    )
    if "chown(/dev/pts" in (sandbox.root / "node1" / "log").read_text():
        pytest.skip("here only root's sshd can give a terminal (/dev/pts is mounted without gid)")
    assert f"at {sandbox.node('node1').home}" in done.stdout
    assert "/dev/pts" in done.stdout
    (sandbox.node("node1").home / ".bash_history").unlink(missing_ok=True)


def test_up_again_changes_nothing_and_adds_what_is_missing(make_sandbox):
    sandbox = make_sandbox(2)
    before = sandbox.nodes
    again = Sandbox.up(sandbox.root, 1)
    assert again.nodes == before
    assert [node.name for node in Sandbox.up(sandbox.root, 3).nodes] == ["node1", "node2", "node3"]
    assert sandbox.nodes[:2] == before
    assert run_ssh(sandbox, "node3", "echo here").stdout == "here\n"


def test_up_brings_dead_nodes_back(make_sandbox):
    sandbox = make_sandbox(2)
    os.kill(sandbox.node("node1").pid, signal.SIGKILL)
    wait_until(lambda: not sandbox.node("node1").running)
    assert sandbox.node("node2").running
    Sandbox.up(sandbox.root, 2)
    assert run_ssh(sandbox, "node1", "echo here").stdout == "here\n"


def test_nodes_can_have_names(make_sandbox):
    sandbox = make_sandbox(["alpha", "beta-2"])
    assert run_ssh(sandbox, "beta-2", "echo $HOME").stdout == f"{sandbox.root}/beta-2/home\n"
    with pytest.raises(UnknownNameError, match=r"gamma.*alpha, beta-2"):
        sandbox.node("gamma")


def test_a_stopped_node_is_gone_with_all_it_ran_and_comes_back_on_its_port(make_sandbox):
    sandbox = make_sandbox(2)
    before = sandbox.node("node1")
    escape = "setsid sh -c 'trap \"\" TERM; sleep 600' </dev/null >/dev/null 2>&1 & echo $!"
    pid = int(run_ssh(sandbox, "node1", escape).stdout)
    other = int(run_ssh(sandbox, "node2", "sleep 600 </dev/null >/dev/null 2>&1 & echo $!").stdout)
    sandbox.stop("node1")
    assert not sandbox.node("node1").running
    assert find_process(pid) is None
    assert find_process(other) is not None
    assert run_ssh(sandbox, "node1", "true").returncode == 255
    back = sandbox.start("node1")
    assert (back.port, back.home) == (before.port, before.home)
    assert run_ssh(sandbox, "node1", "true").returncode == 0


def test_stopping_and_starting_twice_is_harmless(make_sandbox):
    sandbox = make_sandbox(1)
    sandbox.stop("node1")
    sandbox.stop("node1")
    assert sandbox.start("node1") == sandbox.start("node1")


def test_down_leaves_no_process_and_no_file(make_sandbox):
    sandbox = make_sandbox(2)
    master = opened_master(sandbox)
    run_ssh(sandbox, "node2", "sleep 600 </dev/null >/dev/null 2>&1 &")
    sandbox.down()
    assert master.wait(5) == 255  # an idle connection is ended as well
    assert not sandbox.root.exists()
    assert not processes_of(sandbox.root, patience=0)
    sandbox.down()


def test_down_finds_the_sessions_of_an_sshd_that_died(make_sandbox):
    sandbox = make_sandbox(1)
    master = opened_master(sandbox)
    os.kill(sandbox.node("node1").pid, signal.SIGKILL)
    wait_until(lambda: not sandbox.node("node1").running)
    with pytest.raises(subprocess.TimeoutExpired):
        master.wait(0.3)
    sandbox.down()
    assert master.wait(5) == 255


def opened_master(sandbox: Sandbox) -> subprocess.Popen[bytes]:
    """An idle connection to node1, by plain ssh."""
    socket = Path(f"{sandbox.root}.sock")
    words = ["ssh", "-F", str(sandbox.ssh_config), "-o", f"ControlPath={socket}", "-MN", "node1"]
    master = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    wait_until(socket.exists)
    return master


def test_down_leaves_nothing_of_the_connections_either(make_sandbox, fresh_runtime_dir):
    sandbox, other = make_sandbox(2), make_sandbox(1)
    for one in (sandbox, other):
        for node in nodes_of(one):
            assert link_to(node, settings_of(one)).script("true", timeout=20).status == 0
    sandbox.down()
    left = {path.name.partition(".")[0] for path in fresh_runtime_dir.iterdir()}
    assert len(left) == 1  # that of the other sandbox, which has a node1 as well
    other.down()
    assert list(fresh_runtime_dir.iterdir()) == []


def test_down_leaves_nothing_of_a_process_that_was_killed_while_it_wrote(make_sandbox):
    sandbox = make_sandbox(1)
    (sandbox.root / f".state.json.{'0' * 16}").write_text("{")
    sandbox.down()
    assert not sandbox.root.exists()


def test_down_keeps_files_that_are_not_the_sandboxs(make_sandbox):
    sandbox = make_sandbox(1)
    (sandbox.root / "notes").write_text("mine")
    sandbox.down()
    assert [path.name for path in sandbox.root.iterdir()] == ["notes"]


def test_a_directory_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis").write_text("mine")
    with pytest.raises(SandboxError, match="not empty"):
        Sandbox.up(tmp_path, 1)
    Sandbox(tmp_path).down()
    assert (tmp_path / "thesis").read_text() == "mine"


def test_a_reused_pid_is_never_killed(make_sandbox):
    sandbox = make_sandbox(1)
    sandbox.stop("node1")
    bystander = subprocess.Popen(["sleep", "600"])
    state = sandbox.root / "state.json"
    stale = sandbox._state().servers["node1"].process
    state.write_text(state.read_text().replace(f'"pid": {stale.pid}', f'"pid": {bystander.pid}'))
    assert not sandbox.node("node1").running
    sandbox.down()
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_a_path_with_spaces_percent_and_unicode_works(make_sandbox, session_dir):
    root = session_dir / "my 100% ünï root"
    with Sandbox.up(root, 1) as sandbox:
        assert run_ssh(sandbox, "node1", "pwd").stdout == f"{root}/node1/home\n"
    assert not root.exists()


@pytest.mark.parametrize("name", ["a'b", 'a"b', "a$b", "a\nb", "a*", "a{b}"])
def test_a_path_that_openssh_cannot_spell_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="without quotes"):
        Sandbox.up(tmp_path / name, 1)


@pytest.mark.parametrize("nodes", [0, ["a b"], ["-x"], ["state.json"], ["../up"]])
def test_names_that_cannot_be_are_refused(tmp_path, nodes):
    with pytest.raises(UsageError):
        Sandbox.up(tmp_path / "sb", nodes)
    assert not (tmp_path / "sb").exists()


def test_without_sshd_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("gridops.sandbox.files.SBIN", str(tmp_path))
    with pytest.raises(SandboxError, match=r"no sshd on this machine \(install openssh-server\)"):
        Sandbox.up(tmp_path / "sb", 1)
    assert not (tmp_path / "sb").exists() or not any((tmp_path / "sb").iterdir())


def test_loading_where_there_is_none_says_so(tmp_path):
    with pytest.raises(SandboxError, match=r"no sandbox in .*sandbox\.up"):
        Sandbox.load(tmp_path)


def test_a_port_taken_meanwhile_is_replaced(make_sandbox, monkeypatch):
    taken = make_sandbox(1).nodes[0].port
    ports = iter([taken, server.free_port("127.0.0.1")])
    monkeypatch.setattr(server, "free_port", lambda listen: next(ports))
    sandbox = make_sandbox(1)
    assert sandbox.nodes[0].port != taken
    assert run_ssh(sandbox, "node1", "echo here").stdout == "here\n"


def test_two_at_once_agree(session_dir):
    root, made = session_dir / "twice", []
    threads = [
        threading.Thread(target=lambda: made.append(Sandbox.up(root, 2).nodes)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert made[0] == made[1] == made[2]
    finally:
        Sandbox(root).down()


def test_an_sshd_that_refuses_its_configuration_says_why(make_sandbox):
    with pytest.raises(SandboxError, match=r"(?i)bad configuration option.*nonsense"):
        make_sandbox(1, options={"Nonsense": "yes"})


def test_one_shared_sshd_serves_many_nodes(make_sandbox):
    sandbox = make_sandbox(300, shared=True)
    assert len({node.pid for node in sandbox.nodes}) == 1
    last: SandboxNode = sandbox.nodes[-1]
    assert last.host == "127.0.1.45"
    assert run_ssh(sandbox, last.name, "pwd").stdout == f"{last.home}\n"
    with pytest.raises(UsageError, match="only together"):
        sandbox.stop("node1")


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_an_ordinary_user_can_have_one(session_dir, tmp_path):
    """In a mount namespace of its own, where /etc/passwd knows one user more."""
    home = session_dir / "ordinary"
    home.mkdir()
    os.chown(home, 54321, 54321)
    passwd = session_dir / "passwd"
    passwd.write_text(
        Path("/etc/passwd").read_text() + f"grid-test:x:54321:54321::{home}:/bin/bash\n"
    )
    (home / ".bashrc").write_text("echo the start-up file of the real home\n")
    base, source = session_dir.stat().st_mode, session_dir / "source"
    session_dir.chmod(0o755)
    shutil.copytree(REPOSITORY / "gridops", source / "gridops")
    program = (
        "from gridops.sandbox import Sandbox; import subprocess, sys\n"
        f"with Sandbox.up('{home}/sb', 2) as sb:\n"
        "    subprocess.run(['ssh', '-F', sb.ssh_config, 'node2', 'id -un; pwd'], check=True)\n"
    )
    script = 'mount --bind "$1" /etc/passwd && shift && exec "$@"'
    become = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
    run = ["env", f"HOME={home}", f"PYTHONPATH={source}", "/usr/bin/python3", "-B", "-c", program]
    try:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, "sh", str(passwd), *become, *run],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        session_dir.chmod(base)
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip("no mount namespaces here")
    assert (done.stdout, done.stderr) == (f"grid-test\n{home}/sb/node2/home\n", "")
    assert not (home / "sb").exists()


def test_what_a_killed_up_had_started_is_found(make_sandbox):
    sandbox = make_sandbox(1)
    program = (
        "import os, signal; from gridops.sandbox import Sandbox, server; begin = server.start\n"
        "def start(one): begin(one); os.kill(os.getpid(), signal.SIGKILL)\n"
        f"server.start = start; Sandbox.up({str(sandbox.root)!r}, 2)"
    )
    sandbox.stop("node1")
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    sandbox.down()
    assert not sandbox.root.exists()
    assert not processes_of(sandbox.root, patience=0)


def test_another_process_can_take_it_over(make_sandbox):
    sandbox = make_sandbox(1)
    program = f"from gridops.sandbox import Sandbox; Sandbox.load({str(sandbox.root)!r}).down()"
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)
    assert not sandbox.root.exists()


def test_sessions_of_bare_nodes_are_the_accounts_own_with_one_home(make_sandbox):
    sandbox = make_sandbox(2, shared=True, setup={"shared": Setup(bare=True)})
    script = "ps -o ppid= -p $$; echo $HOME"
    said = [run_ssh(sandbox, name, script).stdout.split() for name in ("node1", "node2")]
    homes = {home for _, home in said}
    assert homes == {str(sandbox.root / "shared" / "homes")}
    for sshd, _ in said:  # nothing is between sshd and the login shell
        with suppress(FileNotFoundError, ProcessLookupError):  # it may have ended by now
            assert "sshd" in Path(f"/proc/{sshd}/comm").read_text()
