"""`inv` and `gridops` as processes of their own: streams, signals, terminals, start-up."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.cli import BIN, clear, left_of, run, silent, started
from support.nodes import wait_until

LONG = "sleep 3081"
SELECTED = b"gridops: node2: the only node selected\n"
RUN = re.compile(rb"gridops: node2: the run is (\d{8}-\d{6}-[0-9a-f]{8})\n")
UP = ("run", "--on", "node2", "--no-sync", "--cmd")


@pytest.fixture
def node2(sandbox) -> Iterator[Path]:
    """The directory of node2; what a test's command left there is an error."""
    where = sandbox.root / "node2"
    yield where
    left = left_of(where, "3081", 0)
    clear(where, "3081")
    assert not left


@pytest.fixture
def nowhere(inventory, monkeypatch) -> None:
    """A working directory that is no project: runs are in the home directory, and nothing said."""
    monkeypatch.chdir("/")


def gone(where: Path) -> bool:
    return not left_of(where, "3081", 0)


# -- streams and status ------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["inv", "gridops"])
def test_streams_are_separate_and_byte_for_byte(program, inventory, project):
    (project / "tasks.py").write_text("from gridops.tasks import ns\n")
    (project / "bytes").write_bytes(bytes(range(256)) * 4000)
    done = run(program, "run", "--on", "node1", "--cmd", "cat bytes; cat bytes >&2; exit 9")
    assert done.status == 9
    assert done.stdout == bytes(range(256)) * 4000
    said, _, rest = done.stderr.partition(bytes(range(256)))
    assert bytes(range(256)) + rest == bytes(range(256)) * 4000
    assert all(line.startswith(b"gridops: node1: ") for line in said.splitlines())


def test_a_users_own_tasks_have_ours_beside_them(inventory, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/tasks.py").write_text(
        "from invoke import task\n"
        "from gridops.tasks import ns\n"
        "from gridops.tasks.run import run\n"
        "@task\n"
        "def train(c):\n"
        "    run(c, cmd='echo trained; exit 3', on='node1', sync=False)\n"
        "ns.add_task(train)\n"
    )
    done = run("inv", "--search-root", "mine", "train", cwd=tmp_path)
    assert (done.status, done.out) == (3, "trained\n")
    done = run("inv", "best", "--nodes=node3", cwd=tmp_path / "mine")
    assert (done.status, done.out, done.err) == (0, "node3\n", "")


def test_an_unknown_flag_is_refused_by_either(inventory, project):
    (project / "tasks.py").write_text("from gridops.tasks import ns\n")
    for program, status in ("inv", 1), ("gridops", 2):
        done = run(program, "health", "--nodse", "x")
        assert (done.status, done.out) == (status, "")
        assert "--nodse" in done.err
        assert done.err.count("\n") == 1


def test_debug_shows_where_an_error_comes_from(inventory, project):
    for words in ("--debug", "best", "--nodes=nobody"), ("best", "--nodes=nobody", "--debug"):
        done = run("gridops", *words)
        assert done.status == 2
        assert "Traceback" in done.err
        assert "UnknownNameError" in done.err


def test_a_machine_with_no_inventory_and_no_ssh_runs_things_on_itself(home, project, tmp_path):
    """No OpenSSH on the PATH either."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for program in Path("/usr/bin").iterdir():
        if "ssh" not in program.name:
            (tools / program.name).symlink_to(program)
    env = {"PATH": str(tools), "HOME": str(home)}
    done = run("gridops", "run", "--cmd", "cat hello.txt; pwd; echo $GRIDOPS_NODE", env=env)
    assert (done.status, done.out) == (0, f"hello\n{home}/gridops/project\nlocalhost\n"), done.err
    done = run("gridops", "health", "--format=csv", "--lenient", env=env)
    assert done.out.splitlines()[1].startswith("localhost,localhost,")
    done = run("gridops", "exec", "--", "echo", "a  b", env=env)
    assert (done.status, done.out, done.err) == (0, "a  b\n", "")


def test_all_that_is_printed_can_be_printed_anywhere(inventory, project):
    env = {**os.environ, "LC_ALL": "C", "LANG": "C", "PYTHONIOENCODING": "ascii"}
    (project / "grün 漢.txt").write_text("x")
    done = run("gridops", "sync", "--dry-run", "--nodes=node1", env=env)
    assert done.status == 0
    assert "gr\\xfcn \\u6f22.txt" in done.out
    done = run("gridops", *UP, "printf 'gr\\303\\274n'", env=env)
    assert (done.status, done.stdout) == (0, "grün".encode())


def test_a_big_output_takes_little_memory(nowhere):
    """200 MB; the process takes about 40."""
    measure = (  # a small process of its own: a child counts what its parent took when it forked
        "import resource, subprocess, sys; status = subprocess.call(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr);"
        "sys.exit(status)"
    )
    words = [str(BIN / "gridops"), *UP, "head -c 200000000 /dev/zero"]
    child = subprocess.Popen(
        [sys.executable, "-c", measure, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout
    count = sum(len(chunk) for chunk in iter(lambda: child.stdout.read(1 << 20), b""))
    said = child.stderr.read().decode().split()
    child.stdout.close()
    child.stderr.close()
    assert (child.wait(30), count) == (0, 200_000_000)
    assert int(said[-1]) < 150_000  # kB


# -- who listens no more -----------------------------------------------------------------------


def test_a_reader_that_leaves_ends_the_command(nowhere, node2):
    """As `| head -1` does."""
    with started(*UP, f"echo up; {LONG} & while :; do echo more; sleep 0.02; done") as child:
        child.stdout.close()
        assert child.wait(15) == 141
        assert RUN.fullmatch(child.stderr.read().removeprefix(SELECTED))
    assert gone(node2)


def test_an_output_that_is_full_is_said_and_the_run_goes_on(nowhere, tmp_path):
    with Path("/dev/full").open("wb") as full:
        done = run("gridops", *UP, "echo up; sleep 1; exit 4", stdout=full, capture_output=False,
                   stderr=subprocess.PIPE)  # fmt: skip
    assert done.status == 125
    last = done.err.splitlines()[-1]
    assert last.startswith(
        "gridops: cannot write the output: No space left on device (the run goes"
    )
    assert wait_for(last) == 4


def wait_for(said: str) -> int:
    """The exit status of the run that a line names."""
    found = re.search(r"\d{8}-\d{6}-[0-9a-f]{8}", said)
    assert found, said
    return run("gridops", "jobs.wait", found[0]).status


def test_nothing_needs_a_standard_stream(nowhere, tmp_path):
    line = f'exec <&- >&- 2>&-; "$0" {" ".join(UP)} "echo lost; echo lost >&2; touch $1; exit 5"'
    mark = tmp_path / "ran"
    done = subprocess.run(
        ["bash", "-c", line, str(BIN / "gridops"), str(mark)], timeout=60, check=False
    )
    assert (done.returncode, mark.exists()) == (5, True)
    done = subprocess.run(
        ["bash", "-c", 'exec >&-; "$0" health', str(BIN / "gridops")],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")


# -- signals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_the_remote_tree_when_it_is_to(name, status, nowhere, node2):
    words = UP if name == "SIGINT" else ("run", "--kill-on-exit", *UP[1:])
    with started(*words, f"setsid {LONG} & echo up; {LONG}") as child:
        assert not gone(node2)
        child.send_signal(getattr(signal, name))
        assert child.wait(15) == status
        said = child.stderr.read()
    assert gone(node2)
    asked = "asking the node to stop the command (KILL follows after 10 s); Ctrl-C leaves it"
    lines = f"gridops: node2: {name}: {asked}\ngridops: node2: the run has ended by SIGTERM\n"
    assert RUN.sub(b"", said) == SELECTED + lines.encode()


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_to_the_client_leaves_the_run(name, status, nowhere, tmp_path):
    go = tmp_path / "go"
    with started(*UP, f"echo up; until [ -e {go} ]; do sleep 0.1; done; exit 8") as child:
        child.send_signal(getattr(signal, name))
        assert child.wait(15) == status
        said = child.stderr.read().decode().splitlines()[-1]
    assert said.startswith(f"gridops: node2: {name}: left; the run goes on there: `inv jobs.logs ")
    go.touch()
    assert wait_for(said) == 8


def test_a_client_that_is_killed_leaves_the_run(nowhere, tmp_path):
    go = tmp_path / "go"
    with started(*UP, f"echo up; until [ -e {go} ]; do sleep 0.1; done; exit 8") as child:
        child.kill()
        child.wait()
        said = child.stderr.read().decode().splitlines()[-1]
    go.touch()
    assert wait_for(said) == 8


def test_a_second_ctrl_c_leaves_at_once_and_the_node_sees_to_the_rest(nowhere, node2):
    with started(*UP, f"trap '' TERM; echo up; {LONG}; {LONG}") as child:
        child.send_signal(signal.SIGINT)
        assert child.stderr.readline() == SELECTED
        assert RUN.fullmatch(child.stderr.readline())
        assert b"asking the node" in child.stderr.readline()
        time.sleep(1)  # for it to have been asked
        child.send_signal(signal.SIGINT)
        assert child.wait(5) == 130
        assert b"SIGINT: left; the run is being ended there" in child.stderr.read()
    wait_until(lambda: gone(node2), 20)  # ten seconds later the node does it


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_who_leaves_a_moment_after_ctrl_c_has_the_run_ended_all_the_same(nowhere, node2, second):
    """The node learns of it before we are gone, however soon the second signal comes."""
    with started(*UP, f"echo up; {LONG}") as child:
        child.send_signal(signal.SIGINT)
        time.sleep(0.005)
        child.send_signal(second)
        assert child.wait(10) in (130, 143)
        assert b"left; the run is being ended there" in child.stderr.read()
    wait_until(lambda: gone(node2), 15)


def test_ctrl_c_ends_an_exec_everywhere(inventory, sandbox, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    command = f"touch {marks}/$GRIDOPS_NODE; {LONG}"
    with started("exec", "--cmd", command, until=b"") as child:
        wait_until(lambda: len(list(marks.iterdir())) == 3)
        child.send_signal(signal.SIGINT)
        assert child.wait(15) == 130
        assert b"SIGINT: asking the nodes to stop the command" in child.stderr.read()
    assert not left_of(sandbox.root, "3081", 0)


def test_ctrl_c_while_nodes_are_asked_is_130_and_leaves_no_ssh(inventory, project, session_dir):
    with silent() as port:
        there = {"host": "127.0.0.1", "port": port}
        inventory({"mute1": there, "mute2": there}, ssh={"connect_timeout": 30})
        with started("run", "--nodes=mute[1-2]", "--cmd", "x", until=b"") as child:
            wait_until(lambda: left_of(session_dir, f"{port}", 0) or ssh_children(child.pid))
            child.send_signal(signal.SIGINT)
            assert child.wait(5) == 130
            assert child.stderr.read() == b"gridops: interrupted\n"
        wait_until(lambda: not ssh_children(child.pid))


def ssh_children(pid: int) -> list[str]:
    """The ssh processes in the session of `pid`, or started by it."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if entry.name.isdigit() and (entry / "comm").read_text() == "ssh\n":
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == pid or b"mute" in (entry / "cmdline").read_bytes():
                    found.append(entry.name)
    return found


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_a_transfer(name, status, inventory, project, monkeypatch, home):
    """Of which this rsync makes an endless one."""
    real = shutil.which("rsync")
    (home / "rsync").write_text(
        f'#!/bin/sh\ncase $* in *--version*) exec {real} "$@";; esac\n{LONG}\n'
    )
    (home / "rsync").chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    with started("sync", "--nodes=node1", until=b"") as child:
        wait_until(lambda: left_of(home, "3081", 0))
        child.send_signal(getattr(signal, name))
        assert child.wait(10) == status
        assert b"Traceback" not in child.stderr.read()
    assert not left_of(home, "3081", 0)


def test_who_ignores_hangups_goes_on(nowhere, node2):
    with started(
        *UP, f"echo up; sleep 1; echo whole; exit 6 # {LONG}",
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    ) as child:  # fmt: skip
        child.send_signal(signal.SIGHUP)
        assert child.stdout.read() == b"whole\n"
        assert child.wait(10) == 6


# -- terminals ---------------------------------------------------------------------------------


@contextmanager
def on_terminal(*words: str, columns: int = 120) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`gridops WORDS` on a terminal of its own: the process, and the terminal's other end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))

    def take() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    child = subprocess.Popen(
        [str(BIN / "gridops"), *words], stdin=theirs, stdout=theirs, stderr=theirs,
        preexec_fn=take, env={**os.environ, "TERM": "xterm", "COLUMNS": str(columns)},
    )  # fmt: skip
    os.close(theirs)
    try:
        yield child, ours
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        child.wait()
        with suppress(OSError):
            os.close(ours)


def read_until(fd: int, pattern: bytes, seconds: float = 20) -> bytes:
    """What a terminal shows until `pattern` is there, or it is closed."""
    said, limit = b"", time.monotonic() + seconds
    while not re.search(pattern, said):
        left = limit - time.monotonic()
        assert left > 0, said
        if select.select([fd], [], [], left)[0]:
            try:
                said += os.read(fd, 65536)
            except OSError:
                break
    return said


def test_a_terminal_has_colours_bars_and_progress(inventory, project):
    with on_terminal("health") as (child, fd):
        said = read_until(fd, b"node3.*\n")
        assert child.wait(10) == 0
    text = said.decode()
    assert "nodes that have answered: 3/3" in text
    assert re.search(r"\x1b\[32mhealthy", text)
    assert re.search("[▏▎▍▌▋▊▉█]", text)


def test_a_terminal_that_cannot_show_it_has_plain_lines(inventory, project, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with on_terminal("health") as (child, fd):
        said = read_until(fd, b"node3.*\n")
        assert child.wait(10) == 0
    assert b"\x1b[32m" not in said
    assert b"NODE   STATE" in said


def test_watching_goes_on_until_ctrl_c(inventory, project):
    with on_terminal("health", "--watch", "0.2", "--nodes=node1") as (child, fd):
        said = read_until(fd, rb"(?s)Ctrl-C ends.*Ctrl-C ends")
        os.write(fd, b"\x03")
        assert child.wait(10) == 0
    assert b"node1" in said
    assert b"Traceback" not in said


def test_watching_without_a_terminal_prints_table_after_table(inventory, project):
    until = re.compile(rb"(?s)^-- \S+\nNODE .*\nnode1 .*\n-- \S+\nNODE")
    with started("health", "--watch", "0.2", "--nodes=node1", until=b"-- ") as child:
        said = b"-- "
        while not until.match(said):
            said += child.stdout.read1()
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 130


def test_a_terminal_that_closes_leaves_the_run(nowhere, tmp_path):
    go = tmp_path / "go"
    with on_terminal(*UP, f"echo up; until [ -e {go} ]; do sleep 0.1; done; exit 8") as (child, fd):
        said = read_until(fd, b"up\r\n").decode()
        os.close(fd)
        assert child.wait(15) == 129
    go.touch()
    assert wait_for(said) == 8


def test_ctrl_c_on_a_terminal_ends_the_command(nowhere, node2):
    with on_terminal(*UP, f"echo up; {LONG}") as (child, fd):
        read_until(fd, b"up\r\n")
        os.write(fd, b"\x03")
        said = read_until(fd, b"Ctrl-C leaves it")
        assert child.wait(15) == 130
    assert b"Traceback" not in said
    assert gone(node2)


def test_what_one_call_compiles_the_next_one_finds(tmp_path):
    kept = tmp_path / "compiled"
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(kept)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    assert run("inv", "--list", env=environment, cwd=Path(__file__).parents[2]).status == 0
    names = {path.name.partition(".")[0] for path in kept.rglob("gridops/tasks/*.pyc")}
    assert {"_task", "health", "run", "jobs"} <= names
