"""A command that lives as long as its client listens, whatever reaches the node."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from support.nodes import end, find_program, node_of, settings_of, sshd_sessions, wait_until

from gridops.errors import ConnectionLost, GridError, NodeError, NodeTimeout
from gridops.inventory.settings import SshSettings
from gridops.jobs import foreground
from gridops.jobs.foreground import OUT_OF_TIME, Ended, ForegroundCommand
from gridops.model import Node, RunSpec
from gridops.reach import link_to
from gridops.reach.link import Link
from gridops.sandbox import Setup
from gridops.system.signals import OUTPUT_CLOSED, Cancel

ODD_VALUES = {
    "QUOTES": 'it\'s "quoted" `id` $(id) $HOME \\ \\n !x',
    "LINES": "one\ntwo\n\nthree\n",
    "BLANKS": "  lead, trail\t ",
    "UNICODE": "grün 漢字 🙂",
    "EMPTY": "",
    "DASHES": "-n -- --help",
    "EQUALS": "a=b=c",
    "GLOB": "* ? [a-z] ~ {1,2}",
    "BYTES": os.fsdecode(b"\x01\x1b[31m\x7f\xff"),
    "LONG": "x" * 100_000,
}
# What a script on the node might call its own variables.
COMMON_NAMES = (
    *("command", "setup", "dir", "missing", "grace", "tag", "pair", "status", "watcher", "pid"),
    *("session", "found", "own", "stat", "environ", "args", "text", "shell", "end", "now"),
)


class Collect:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.data = b""

    def __call__(self, data: bytes) -> None:
        self.data += data


@dataclass
class Place:
    """A node, and where its home is seen from here."""

    link: Link
    home: Path
    started: list[str] = field(default_factory=list)

    def on(self, **changed: object) -> Place:
        node = replace(self.link.node, **changed)  # type: ignore[arg-type]
        settings = getattr(self, "ssh", SshSettings())
        return Place(link_to(node, settings), self.home, self.started)

    def begin(self, command: str, *, directory: str = "", **spec: object) -> ForegroundCommand:
        must_exist = bool(spec.pop("must_exist", False))
        run_id = f"t{time.monotonic_ns()}"
        self.started.append(run_id)
        return ForegroundCommand(
            self.link,
            RunSpec(command, **spec),  # type: ignore[arg-type]
            run_id=run_id,
            directory=directory,
            must_exist=must_exist,
            timeout=20,
        )

    def run(self, command: str, **spec: object) -> tuple[int, bytes, bytes]:
        """Exit status and both streams of a command that ends by itself."""
        out, err = Collect(), Collect()
        ended = self.begin(command, **spec).follow(out, err, Cancel())
        assert ended.stopped is None
        return ended.status, out.data, err.data

    def left(self) -> dict[int, str]:
        """What runs of the commands begun here."""
        return {pid: what for run in self.started for pid, what in tagged(run).items()}

    def sleepers(self) -> dict[int, str]:
        """The sleeps of TREES, also the one that lost the environment by which `left` knows it."""
        found = {}
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                ours = words[0] == b"sleep" and words[1].startswith(b"307")
                if ours and (entry / "cwd").readlink() == self.home.resolve():
                    found[int(entry.name)] = words[1].decode()
        return found


def tagged(run_id: str) -> dict[int, str]:
    """The processes that carry the run's id, pid → command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if f"GRIDOPS_RUN_ID={run_id}".encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (
                        (entry / "cmdline").read_bytes().decode(errors="replace")
                    )
    return found


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreground, "GRACE", 0)
    monkeypatch.setattr(foreground, "END_TIMEOUT", 8.0)


@pytest.fixture(params=["local", "ssh"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from make_place(request, request.param)


@pytest.fixture(params=["dash", "bash", "busybox", "bare"])
def shell(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The node's `sh` is this one; `bare`: BusyBox, with neither setsid nor bash nor grep -z."""
    name = "busybox" if request.param == "bare" else request.param
    program = find_program(name)
    tools = home / "tools"
    tools.mkdir()
    (tools / "sh").symlink_to(program)
    path = f"{tools}:{os.environ['PATH']}"
    if request.param == "bare":
        for applet in ("cat", "dd", "env", "id", "seq", "sleep", "tr"):
            (tools / applet).symlink_to(program)
        (tools / "grep").write_text(
            f"#!{program} sh\ncase $1 in *z*) echo no such option >&2; exit 2;; esac\n"
            f'exec {program} grep "$@"\n'
        )
        (tools / "grep").chmod(0o755)
        path = str(tools)
    monkeypatch.setenv("PATH", path)
    return str(request.param)


@pytest.fixture
def here(request: pytest.FixtureRequest, shell: str) -> Iterator[Place]:
    """This machine, its `sh` being each of several."""
    del shell
    yield from make_place(request, "local")


def make_place(request: pytest.FixtureRequest, kind: str) -> Iterator[Place]:
    if kind == "local":
        ssh, home = SshSettings(), Path(os.environ["HOME"])
        node = Node("here", "here", connection="local")
    else:
        sandbox = request.getfixturevalue("sandbox")
        ssh, home = settings_of(sandbox), sandbox.node("node2").home
        node = node_of(sandbox, "node2")
    made = Place(link_to(node, ssh), home)
    made.ssh = ssh  # type: ignore[attr-defined]
    before = set(home.iterdir())
    yield made
    left = made.left() | made.sleepers()
    end(left)
    for path in set(home.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    assert not left, f"left running: {left}"


class Following:
    """A command that is followed in a thread, to be stopped from outside."""

    def __init__(self, begun: ForegroundCommand) -> None:
        self.out, self.err, self.stop = Collect(), Collect(), Cancel()
        self.ended: Ended | None = None
        self.error: GridError | None = None
        self._thread = threading.Thread(target=self._follow, args=(begun,), daemon=True)
        self._thread.start()

    def _follow(self, begun: ForegroundCommand) -> None:
        try:
            self.ended = begun.follow(self.out, self.err, self.stop)
        except GridError as exc:
            self.error = exc

    def until(self, said: bytes) -> Following:
        wait_until(lambda: said in self.out.data or not self._thread.is_alive())
        assert said in self.out.data, (self.out.data, self.err.data, self.error)
        return self

    def end(self, limit: float = 15.0) -> Ended:
        self._thread.join(limit)
        assert not self._thread.is_alive(), "still followed"
        assert self.ended is not None, self.error
        return self.ended


# -- streams and status -----------------------------------------------------------------------


def test_both_streams_arrive_byte_for_byte(place):
    every = bytes(range(256))
    (place.home / "bytes").write_bytes(every * 3000)
    command = "cat bytes; cat bytes >&2; printf 'no newline at the end'"
    status, out, err = place.run(command)
    assert status == 0
    assert out == every * 3000 + b"no newline at the end"
    assert err == every * 3000


def test_output_comes_as_it_is_printed(place):
    following = Following(place.begin("echo first; read -r _ <go; echo second"))
    os.mkfifo(place.home / "go")
    # The command may have met a missing file: then it says "second" at once, and this fails.
    following.until(b"first\n")
    with (place.home / "go").open("w") as go:
        go.write("\n")
    assert following.end().status == 0
    assert following.out.data == b"first\nsecond\n"


@pytest.mark.parametrize("status", [0, 7, 125, 255])
def test_the_exit_status_is_the_commands(here, status):
    assert here.run(f"exit {status}")[0] == status


@pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("TERM", 15), ("SEGV", 11), ("INT", 2)])
def test_a_signals_death_is_128_and_its_number_and_nobody_comments_it(here, name, number):
    assert here.run(f"kill -{name} $$") == (128 + number, b"", b"")


def test_status_and_signal_come_over_any_link(place):
    assert place.run("exit 255")[0] == 255
    assert place.run("kill -9 $$") == (137, b"", b"")


def test_a_command_that_does_not_exist_is_127(place):
    status, out, err = place.run("no-such-command-anywhere")
    assert (status, out) == (127, b"")
    assert b"no-such-command-anywhere" in err


def test_the_commands_standard_input_is_empty(place):
    assert place.run("cat; read -r x || echo end of input") == (0, b"end of input\n", b"")


def test_what_a_chatty_login_shell_says_is_not_the_commands(place):
    if place.link.node.connection == "local":
        pytest.skip("no login shell there")
    (place.home / ".bashrc").write_text("echo welcome; echo watch out >&2\n")
    assert place.run("echo hi; echo ho >&2") == (0, b"hi\n", b"ho\n")


def test_a_child_in_the_background_that_keeps_the_output_open_does_not_hold_us(place):
    began = time.monotonic()
    status, out, _ = place.run("sleep 60 & echo $!")
    assert time.monotonic() - began < 8
    assert status == 0
    os.kill(int(out), signal.SIGKILL)  # it was left alone: it is the user's
    wait_until(lambda: not place.left())


def test_a_big_output_is_held_back_by_a_slow_reader_not_kept(place):
    """The node is not let run ahead of us: what it has written is what we read, and a little."""
    seen = 0

    def slow(data: bytes) -> None:
        nonlocal seen
        seen += len(data)
        if seen < 2_000_000:
            time.sleep(0.02)

    # `count` grows as the node's side of the pipe takes blocks.
    command = (
        "i=0; while [ $i -lt 320 ]; do head -c 65536 /dev/zero; i=$((i+1)); echo $i >count; done"
    )
    begun = place.begin(command)
    ahead = []

    def look(data: bytes) -> None:
        slow(data)
        with suppress(ValueError, OSError):
            ahead.append(int((place.home / "count").read_text()) * 65536 - seen)

    assert begun.follow(look, look, Cancel()).status == 0
    assert seen == 320 * 65536
    assert max(ahead) < 8_000_000


@pytest.mark.parametrize("login", ["fish", "tcsh", "zsh", "busybox sh"])
def test_any_login_shell_will_do(make_sandbox, login):
    name, *word = login.split()
    made = make_sandbox(1, setup={"node1": Setup(shell=" ".join([find_program(name), *word]))})
    place = Place(link_to(node_of(made), settings_of(made)), made.node("node1").home)
    env = {"A": "it's !x $HOME `id`\n\\n"}
    assert place.run('printf %s "$A"; echo err >&2; exit 3', env=env) == (
        3,
        env["A"].encode(),
        b"err\n",
    )
    following = Following(place.begin("echo up; sleep 3070 & sleep 3070"))
    following.until(b"up\n").stop.request("SIGTERM")
    assert following.end().stopped == "SIGTERM"
    assert place.left() == {}


# -- what the command finds --------------------------------------------------------------------


def test_values_of_the_environment_arrive_as_they_are(here):
    names = list(ODD_VALUES)
    command = "; ".join(f"printf '%s\\0' \"${name}\"" for name in names)
    status, out, err = here.run(command, env=ODD_VALUES)
    assert (status, err) == (0, b"")
    assert out.split(b"\0")[:-1] == [os.fsencode(value) for value in ODD_VALUES.values()]


def test_values_arrive_over_any_link(place):
    command = "; ".join(f"printf '%s\\0' \"${name}\"" for name in ODD_VALUES)
    status, out, _ = place.run(command, env=ODD_VALUES)
    assert status == 0
    assert out.split(b"\0")[:-1] == [os.fsencode(value) for value in ODD_VALUES.values()]


def test_no_name_of_the_environment_upsets_the_script(here):
    """Variables of ours, and those by which a shell splits words or finds directories."""
    env = {name: f"<{name}>" for name in COMMON_NAMES}
    command = "; ".join(f'printf "%s\\n" "${name}"' for name in env)
    status, out, _ = here.run(command, env=env)
    assert status == 0
    assert out.decode().split("\n")[:-1] == list(env.values())
    odd = {"IFS": "/0123456789s", "CDPATH": "/", "PS4": "x", "ENV": "/nowhere", "TMPDIR": "/no"}
    assert here.run("echo fine", env=odd)[:2] == (0, b"fine\n")


def test_a_run_whose_path_holds_nothing_can_still_be_stopped(here):
    program = shutil.which("sleep")
    following = Following(
        here.begin(f"echo up; {program} 3007 & {program} 3007", env={"PATH": "/nowhere"})
    )
    following.until(b"up\n").stop.request("SIGTERM")
    assert following.end().stopped == "SIGTERM"
    assert here.left() == {}


def test_the_node_and_the_run_are_named_to_the_command(place):
    _, out, _ = place.run("echo $GRIDOPS_NODE $GRIDOPS_RUN_ID $PYTHONUNBUFFERED")
    assert out.decode().split() == [place.link.node.name, place.started[-1], "1"]
    _, out, _ = place.run("echo $PYTHONUNBUFFERED", env={"PYTHONUNBUFFERED": "0"})
    assert out == b"0\n"


def test_env_setup_comes_first_and_may_change_everything(place):
    setup = "export GREETING='hel lo'; cd /  # and a comment"
    assert place.on(env_setup=setup).run("echo $GREETING; pwd")[1] == b"hel lo\n/\n"


@pytest.mark.parametrize(
    "setup", ["source no/such/activate", "false", "exit 3", "echo 'unbalanced", "if true; then"]
)
def test_when_env_setup_fails_the_command_does_not_run(place, setup):
    status, out, err = place.on(env_setup=setup).run("echo ran")
    assert (status, out) == (125, b"")
    assert b"env_setup failed" in err


def test_env_setup_may_be_several_lines(place):
    assert place.on(env_setup="A=1\nB=2\n").run('echo "$A$B"')[1] == b"12\n"


def test_a_commands_own_125_is_its_own(place):
    assert place.on(env_setup="true").run("exit 125") == (125, b"", b"")


def test_a_command_may_be_any_shell_text(place):
    text = "for i in 1 2; do\n  echo \"$i 'x'\"\ndone  # a comment\ncat <<'END'\n$HOME\nEND"
    assert place.run(text)[1] == b"1 'x'\n2 'x'\n$HOME\n"


def test_sigint_is_not_ignored_in_the_command(here):
    """It is for a shell's background jobs, and Python then has no KeyboardInterrupt."""
    program = "import signal; print(signal.getsignal(2) is signal.default_int_handler)"
    assert here.run(f'{sys.executable} -c "{program}"')[1] == b"True\n"


# -- where it runs -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "two words", "qu'o\"te", "-dash", "$HOME", "ü 漢"])
def test_a_directory_may_have_any_name(place, name):
    (place.home / name).mkdir()
    for directory in (f"~/{name}", f"{place.home}/{name}"):
        status, out, _ = place.run("pwd", directory=directory, must_exist=True)
        assert (status, out.decode()) == (0, f"{place.home.resolve()}/{name}\n")


def test_no_directory_is_the_home_directory(place):
    for directory in ("", "~"):
        assert place.run("pwd", directory=directory)[1].decode() == f"{place.home}\n"


def test_a_missing_directory_is_an_error_where_it_must_exist(place):
    status, out, err = place.run("echo ran", directory="~/no such", must_exist=True)
    assert (status, out) == (125, b"")
    assert err == f"gridops: cannot enter the directory {place.home}/no such\n".encode()


def test_else_the_home_directory_serves_and_that_is_said(place):
    status, out, err = place.run("pwd", directory="~/no such")
    assert (status, out.decode()) == (0, f"{place.home}\n")
    assert b"there is no" in err
    assert b"running in the home directory" in err


def test_something_else_in_the_directorys_place_is_an_error(place):
    (place.home / "file").write_text("")
    assert place.run("echo ran", directory="~/file")[:2] == (125, b"")


def test_cdpath_does_not_lead_astray(place, monkeypatch):
    monkeypatch.setenv("CDPATH", "/usr")
    (place.home / ".bashrc").write_text("export CDPATH=/usr\n")
    (place.home / "lib").mkdir()
    assert place.run("pwd", directory="lib") == (0, f"{place.home}/lib\n".encode(), b"")


# -- the end, when it is asked for -------------------------------------------------------------

DAEMON = "setsid sh -c '(setsid sleep 3071 >/dev/null 2>&1 &)'"
# Whose seconds those are tells a failing test what was left.
BRANCHES = (
    "sleep 3072 | sleep 3072 &",
    "setsid sleep 3073 &",
    "nohup sleep 3074 >/dev/null 2>&1 &",
    "(sleep 3075 &)",
    f"{DAEMON} &",
    "env -i sleep 3076 &",
    "sleep 3077 & sleep 0.1; kill -STOP $!",
    "sh -c 'trap \"\" TERM HUP INT; sleep 3078; sleep 3078' &",
    "setsid sh -c 'trap \"\" TERM HUP INT; sleep 3079; sleep 3079' &",
)
TREES = {
    "a command": "sleep 3070",
    "a daemon of its": f"{DAEMON}; sleep 3070",
    "all that it left in the background": "\n".join(BRANCHES) + "\nsleep 3070",
    "one that forks all the time": (
        "trap '' TERM; sleep 3070 & while :; do sleep 0.04 & sleep 0.004; done"
    ),
    "one that ignores TERM": "trap '' TERM; sleep 3070; sleep 3070; sleep 3070",
}


@pytest.mark.parametrize("tree", TREES)
def test_a_stop_ends_the_whole_tree(place, tree):
    following = Following(place.begin(f"echo up; {TREES[tree]}"))
    following.until(b"up\n")
    expected = set(re.findall("307.", TREES[tree]))
    wait_until(lambda: expected == set(place.sleepers().values()))
    following.stop.request("SIGTERM")
    assert following.end().stopped == "SIGTERM"
    assert place.sleepers() == {}
    assert place.left() == {}


def test_a_stop_ends_the_whole_tree_under_any_shell(here):
    program = "sh -c 'trap \"\" TERM; sleep 301; sleep 301' & (sleep 301 &) ; echo up; sleep 301"
    following = Following(here.begin(program))
    following.until(b"up\n").stop.request("SIGTERM")
    assert following.end().stopped == "SIGTERM"
    assert here.left() == {}


@pytest.mark.parametrize("how", ["running", "stopped"])
def test_the_command_is_asked_politely_first(place, how):
    stop = "kill -STOP $$;" if how == "stopped" else ""
    command = f"trap 'echo bye; exit 3' TERM; echo up; {stop} while :; do sleep 0.05; done"
    following = Following(place.begin(command))
    following.until(b"up\n").stop.request("SIGINT")
    assert following.end() == Ended(3, "SIGINT")
    assert following.out.data == b"up\nbye\n"


def test_a_polite_end_takes_no_grace(place, monkeypatch):
    monkeypatch.setattr(foreground, "GRACE", 30)
    following = Following(place.begin("echo up; sleep 3007"))
    following.until(b"up\n").stop.request("SIGINT")
    assert following.end(limit=6).stopped == "SIGINT"


def test_the_time_limit_ends_it(place):
    following = Following(place.begin("echo up; sleep 3007", timeout=0.5))
    assert following.end().stopped == OUT_OF_TIME
    assert place.left() == {}


def test_one_commands_time_limit_is_not_the_others(place):
    """They share the wish to stop; each has a time of its own."""
    following = Following(place.begin("echo up; sleep 3007", timeout=0.3))
    other = place.begin("sleep 1; echo whole", timeout=20)
    out = Collect()
    ended = other.follow(out, out, following.stop)
    assert following.end().stopped == OUT_OF_TIME
    assert (ended, out.data) == (Ended(0), b"whole\n")


def test_a_reader_that_goes_away_ends_it(place):
    def gone(data: bytes) -> None:
        raise BrokenPipeError

    ended = place.begin("while echo line; do sleep 0.01; done").follow(gone, gone, Cancel())
    assert ended.stopped == OUTPUT_CLOSED
    assert place.left() == {}


def test_a_command_that_ends_just_then_keeps_its_status(place):
    stop = Cancel()
    out = Collect()
    begun = place.begin("echo done; exit 4")

    def late(data: bytes) -> None:
        out(data)
        time.sleep(0.3)  # it has ended by now
        stop.request("SIGINT")

    assert begun.follow(late, late, stop).status == 4


CLIENT = """
import sys
from gridops.jobs import foreground
from gridops.model import Node, RunSpec
from gridops.reach import link_to
from gridops.inventory.settings import SshSettings
from gridops.system.signals import Cancel
foreground.GRACE = 0
kind, config, run_id, command = sys.argv[1:]
node = Node("x", "node2", connection=kind)
ssh = SshSettings(config_file=config or None)
spec = RunSpec(command)
begun = foreground.ForegroundCommand(link_to(node, ssh), spec, run_id=run_id, timeout=20)
begun.follow(lambda d: print(d.decode(), end="", flush=True), lambda d: None, Cancel())
"""


@pytest.fixture
def client(place: Place, request: pytest.FixtureRequest) -> Iterator[Callable[[str], object]]:
    """A process of its own that follows a command on `place`."""
    children: list[subprocess.Popen[str]] = []
    kind, config = place.link.node.connection, ""
    if kind == "ssh":
        config = str(request.getfixturevalue("sandbox").ssh_config)

    def start(command: str) -> subprocess.Popen[str]:
        run_id = f"t{time.monotonic_ns()}"
        place.started.append(run_id)
        words = [sys.executable, "-c", CLIENT, kind, config, run_id, command]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout
        assert child.stdout.readline() == "up\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()
        if child.stdout:
            child.stdout.close()


@pytest.mark.parametrize("tree", ["a daemon of its", "one that ignores TERM"])
def test_when_the_client_is_killed_the_node_ends_the_tree(place, client, tree):
    child = client(f"echo up; {TREES[tree]}")
    wait_until(place.left)
    child.kill()
    child.wait()
    wait_until(lambda: not place.left())
    wait_until(lambda: place.sleepers() == {})


def test_a_client_that_leaves_without_waiting_does_not_spare_the_tree(place):
    """As after a second Ctrl-C: also a command that ignores TERM is ended, a little later."""

    class Leave(Exception):
        pass

    def leave(data: bytes) -> None:
        raise Leave

    begun = place.begin("trap '' TERM; echo up; sleep 3007; sleep 3007")
    with pytest.raises(Leave):
        begun.follow(leave, leave, Cancel())
    wait_until(lambda: not place.left())


def test_nothing_secret_is_in_a_command_line_of_the_node(place):
    """Nor of ours: the value travels over the connection, and lands in the environment alone."""
    secret = f"s3cret{time.monotonic_ns()}"
    seen: set[str] = set()
    following = Following(
        place.begin("echo up; sleep 0.5", env={"TOKEN": secret, "PAD": "x" * 50000})
    )
    while following.ended is None:
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and secret.encode() in (entry / "cmdline").read_bytes():
                    seen.add(entry.name)
    assert following.out.data == b"up\n"
    assert seen == set()


# -- what goes wrong ---------------------------------------------------------------------------


def test_a_login_that_runs_something_else_is_an_error_with_its_words(make_sandbox):
    made = make_sandbox(1, options={"ForceCommand": "echo this account is closed; exit 1"})
    link = link_to(node_of(made), settings_of(made))
    begun = ForegroundCommand(link, RunSpec("echo ran"), run_id="x", timeout=20)
    with pytest.raises(NodeError, match="this account is closed"):
        begun.follow(Collect(), Collect(), Cancel())


def test_a_login_that_hangs_is_given_up(make_sandbox, monkeypatch):
    made = make_sandbox(1, options={"ForceCommand": "exec sleep 302"})
    link = link_to(node_of(made), settings_of(made))
    monkeypatch.setattr(foreground, "START_TIMEOUT", 0.5)
    begun = ForegroundCommand(link, RunSpec("echo ran"), run_id="x", timeout=20)
    with pytest.raises(NodeTimeout, match=r"within 0\.5 s"):
        begun.follow(Collect(), Collect(), Cancel())
    monkeypatch.setattr(foreground, "START_TIMEOUT", 60.0)
    monkeypatch.setattr(foreground, "QUICK_START_TIMEOUT", 0.1)
    began = time.monotonic()
    begun = ForegroundCommand(link, RunSpec("echo ran", timeout=0.5), run_id="x", timeout=20)
    with pytest.raises(NodeTimeout):
        begun.follow(Collect(), Collect(), Cancel())
    assert time.monotonic() - began < 10


def test_a_connection_that_breaks_is_said_and_the_tree_ended(make_sandbox):
    made = make_sandbox(1)
    link = link_to(node_of(made), settings_of(made))
    run_id = f"broken{time.monotonic_ns()}"
    begun = ForegroundCommand(link, RunSpec("echo up; sleep 303"), run_id=run_id, timeout=20)
    following = Following(begun)
    following.until(b"up\n")
    end(sshd_sessions(made.node("node1").pid))
    wait_until(lambda: following.error is not None or following.ended is not None)
    assert isinstance(following.error, ConnectionLost), (following.error, following.ended)
    wait_until(lambda: not tagged(run_id))
