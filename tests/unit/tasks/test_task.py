"""The one kind of task: flags to values, errors to lines and exit statuses."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from invoke import Collection, Context

from gridops.errors import GridError, NoNode, OutputError, RunTimeout, UsageError
from gridops.observe import events
from gridops.observe.log import shutdown_logging
from gridops.tasks import _parse, ns
from gridops.tasks._progress import Narrator
from gridops.tasks._task import SELECTION, Call, format_flag, grid_task
from gridops.tasks._terminal import say, show, write_bytes, write_file
from gridops.tasks.program import GridProgram

Tell = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("GRIDOPS_DEBUG", "GRIDOPS_LOG_LEVEL", "GRIDOPS_LOG_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    level = logging.getLogger().level
    yield
    shutdown_logging()
    logging.getLogger().setLevel(level)


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tell:
    """`tell(tasks, "name", "--flag")` runs a command line: exit status, stdout, stderr."""

    def tell(tasks: Collection, *words: str) -> tuple[int, str, str]:
        argv = ["gridops", *words]
        monkeypatch.setattr(sys, "argv", argv)
        program = GridProgram(name="gridops", binary="gridops", version="1", namespace=tasks)
        status = 0
        try:
            program.run(argv)
        except SystemExit as exc:
            status = int(exc.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return tell


def only(body: Callable[..., int | None], **options: object) -> Collection:
    """A namespace of one task, `t`."""
    return Collection(grid_task(name="t", **options)(body))  # type: ignore[arg-type]


# -- statuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (1, 1), (7, 7), (130, 130)])
def test_what_a_body_returns_is_the_exit_status(tell, returned, status):
    assert tell(only(lambda call: returned), "t") == (status, "", "")


@pytest.mark.parametrize(
    ("error", "status"),
    [(GridError, 125), (UsageError, 2), (RunTimeout, 124), (NoNode, 125), (OutputError, 125)],
)
def test_an_error_is_one_line_and_its_own_status(tell, error, status):
    def body(call: Call) -> None:
        raise error("it broke", node="n1", hint="mend it")

    assert tell(only(body), "t") == (status, "", "gridops: n1: it broke (mend it)\n")


def test_ctrl_c_is_130_without_a_traceback(tell):
    def body(call: Call) -> None:
        raise KeyboardInterrupt

    assert tell(only(body), "t") == (130, "", "gridops: interrupted\n")


def test_a_reader_that_has_gone_is_141_and_silent(tell, monkeypatch):
    def body(call: Call) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", sys.stdout)  # to have it back
    assert tell(only(body), "t")[0::2] == (141, "")


def test_a_bug_is_not_hidden(tell):
    def body(call: Call) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tell(only(body), "t")


def test_a_traceback_is_to_be_had(tell, monkeypatch):
    def body(call: Call) -> None:
        raise GridError("it broke")

    monkeypatch.setenv("GRIDOPS_DEBUG", "1")
    status, out, err = tell(only(body), "t")
    assert (status, out) == (125, "")
    assert "Traceback" in err
    assert "in body" in err
    assert err.endswith("gridops: it broke\n")


def test_a_task_of_ones_own_can_call_one_of_ours():
    seen: list[object] = []

    def body(call: Call, cmd: str = "") -> int:
        seen.append((cmd, call.inventory))
        return 0

    task = grid_task(flags=SELECTION)(body)
    task(Context(), cmd="x")
    task(Context(), inventory="i.yaml")
    assert seen == [("x", None), ("", "i.yaml")]
    assert task.called


# -- shared flags ------------------------------------------------------------------------------


def test_shared_flags_reach_the_body_as_values(tell, write):
    path = write("nodes: {a: {tags: [x]}, b: {tags: [y]}, c: {}}\n")

    def body(call: Call) -> None:
        show(f"{call.source} {[n.name for n in call.nodes]} {call.format}")

    tasks = only(body, flags=(*SELECTION, *format_flag("table", "json")))
    words = ("t", "--inventory", str(path))
    assert tell(tasks, *words)[1] == "x.yaml ['a', 'b', 'c'] table\n"
    assert tell(tasks, *words, "--nodes", "b,c", "--format=json")[1] == "x.yaml ['b', 'c'] json\n"
    assert tell(tasks, *words, "--tags", "y,x")[1] == "x.yaml ['a', 'b'] table\n"


def test_no_inventory_is_this_machine(tell, cwd):
    def body(call: Call) -> None:
        show(f"{call.source} {[(n.name, n.connection) for n in call.nodes]}")

    out = tell(only(body, flags=SELECTION), "t")[1]
    assert out == "this machine [('localhost', 'local')]\n"


def test_an_unknown_format_is_met_with_the_valid_ones(tell):
    tasks = only(lambda call: show(call.format), flags=format_flag("table", "json"))
    status, out, err = tell(tasks, "t", "--format", "jsn")
    assert (status, out) == (2, "")
    assert err == "gridops: unknown format 'jsn' (did you mean json? valid: table, json)\n"


@pytest.mark.parametrize("flag", ["--log-level=loud", "--log-format=xml"])
def test_a_log_that_does_not_exist_is_met_with_the_valid_ones(tell, flag):
    status, _, err = tell(only(lambda call: 0), "t", flag)
    assert status == 2
    assert err.count("\n") == 1
    assert "valid:" in err


@pytest.mark.parametrize(
    ("words", "logged"),
    [
        ([], False),
        (["--log-level", "info"], True),
        (["--log-level", "warning"], True),
        (["--log-format", "json"], True),
        (["--log-format", "json", "--log-level", "ERROR"], False),
    ],
)
def test_what_the_log_tells_is_not_told_twice(tell, words, logged):
    def body(call: Call) -> None:
        with call.narrate():
            events.emit(events.WARNING, message="careful")

    _, _, err = tell(only(body), "t", *words)
    assert err.count("careful") == 1
    assert ("gridops: warning: careful" in err) is not logged


def test_the_environment_sets_the_log_up_and_flags_win(tell, monkeypatch):
    monkeypatch.setenv("GRIDOPS_LOG_FORMAT", "json")

    def body(call: Call) -> None:
        with call.narrate():
            events.emit(events.WARNING, message="careful")

    assert '"message": "careful"' in tell(only(body), "t")[2]
    assert tell(only(body), "t", "--log-format=human")[2] == "gridops: warning: careful\n"


def test_every_task_and_every_flag_has_help():
    """In a fresh process: invoke hands a task's help out but once."""
    program = """
from gridops.tasks import ns
for name in ns.task_names:
    task = ns[name]
    lacking = [argument.name for argument in task.get_arguments() if not argument.help]
    if lacking or not task.__doc__:
        print(name, lacking)
"""
    done = python(program, '"$PY" -c "$P"')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_tasks_of_one_name_in_two_namespaces_are_two():
    assert ns["pool.status"] != ns["sandbox.status"]
    assert len({ns[name] for name in ns.task_names}) == len(ns.task_names)


@pytest.mark.parametrize(
    "words", [["nonsense"], ["t", "--nonsense"], ["t", "--format"], ["--nonsense", "t"]]
)
def test_a_command_line_that_cannot_be_parsed_is_usage(tell, words):
    tasks = only(lambda call: 0, flags=format_flag("table", "json"))
    status, out, err = tell(tasks, *words)
    assert (status, out) == (2, "")
    assert err.startswith("gridops: ")
    assert err.count("\n") == 1


# -- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [(None, None), ("90", 90), ("1.5", 1.5), ("10m", 600), ("1h30m", 5400), ("500ms", 0.5)],
)
def test_a_duration_is_seconds(text, value):
    assert _parse.seconds(text, "timeout") == value


@pytest.mark.parametrize("text", ["", "0", "-1", "soon", "nan", "inf", "1e999", "5 parsecs", "0s"])
def test_what_is_no_duration_is_said(text):
    with pytest.raises(UsageError, match=r"--timeout .* is not a duration"):
        _parse.seconds(text, "timeout")


def test_an_environment_is_pairs():
    pairs = ["A=1", "B=", "_c9=x=y", "D= blank ", "E=a\nb", "A=2"]
    assert _parse.environment(pairs) == {
        "A": "2",
        "B": "",
        "_c9": "x=y",
        "D": " blank ",
        "E": "a\nb",
    }


@pytest.mark.parametrize("pair", ["A", "=x", "9A=x", "A-B=x", "A B=x", "ü=x", "", "A\n=x"])
def test_what_is_no_pair_is_said(pair):
    with pytest.raises(UsageError, match="is not NAME=VALUE"):
        _parse.environment([pair])


@pytest.mark.parametrize("pair", ["A=x\0y", "UID=5", "PPID=1", "SHELLOPTS=x"])
def test_what_no_shell_takes_is_said(pair):
    with pytest.raises(UsageError, match="--env"):
        _parse.environment([pair])


def command(monkeypatch: pytest.MonkeyPatch, cmd: str | None, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["inv", "run", *words])
    return _parse.command(cmd, "run")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["python", "train.py"], "python train.py"),
        (["python", "a b.py", "--name", "it's"], """python 'a b.py' --name 'it'"'"'s'"""),
        (["echo", "$HOME", "*"], "echo '$HOME' '*'"),
        (["echo", ""], "echo ''"),
        (["make", "--", "x"], "make -- x"),
        (["cd /tmp && ls *"], "cd /tmp && ls *"),  # one word is shell text already
        (["nvidia-smi"], "nvidia-smi"),
    ],
)
def test_words_after_two_dashes_are_the_command(monkeypatch, words, text):
    assert command(monkeypatch, None, "--", *words) == text


def test_cmd_is_shell_text(monkeypatch):
    assert command(monkeypatch, "a && b | c") == "a && b | c"


@pytest.mark.parametrize(
    ("cmd", "words"),
    [(None, []), ("", []), ("  \n", []), (None, ["--"]), (None, ["--", ""]), ("a", ["--", "b"])],
)
def test_no_command_or_two_is_usage(monkeypatch, cmd, words):
    with pytest.raises(UsageError):
        command(monkeypatch, cmd, *words)


def test_a_command_holds_no_nul(monkeypatch):
    with pytest.raises(UsageError, match="NUL"):
        command(monkeypatch, "echo a\0b")


def test_the_tree_is_this_directory_unless_named(cwd):
    (cwd / "sub").mkdir()
    assert _parse.tree(None, "x") == str(cwd.resolve())
    assert _parse.tree("sub", "x") == str(cwd.resolve() / "sub")


@pytest.mark.parametrize("where", ["home", "root"])
def test_nobody_means_to_send_all_of_this(where, home, monkeypatch):
    monkeypatch.chdir(home if where == "home" else "/")
    with pytest.raises(
        UsageError, match=r"all of .*\(change to the project's directory, or name it"
    ):
        _parse.tree(None, "name it")


def test_who_names_it_means_it(home, monkeypatch):
    monkeypatch.chdir("/")
    assert _parse.tree("~", "x") == str(home)


@pytest.mark.parametrize("src", ["no/such", "file"])
def test_a_tree_is_a_directory(cwd, src):
    (cwd / "file").write_text("")
    with pytest.raises(UsageError, match="no such directory"):
        _parse.tree(src, "x")


# -- what the user sees ------------------------------------------------------------------------


class Broken:
    """A stream whose reader has gone, or whose disk is full."""

    encoding = "utf-8"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def write(self, text: str) -> None:
        raise self.error

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(5, "EIO"), ValueError("closed"), RuntimeError("reentrant")]
)
def test_saying_something_never_breaks_the_work(monkeypatch, error):
    monkeypatch.setattr(sys, "stderr", Broken(error))
    say("hello")
    with events.listening(Narrator()):
        events.emit(events.WARNING, message="careful")


def test_output_that_cannot_be_written_is_an_error_that_says_why(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match="cannot write the output: No space left on device"):
        show("hello")


def test_a_terminal_that_is_gone_is_a_reader_that_has_gone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(OSError(5, "Input/output error")))
    with pytest.raises(BrokenPipeError):
        show("hello")


def test_bytes_that_cannot_be_written_are_an_error_that_says_why():
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OutputError, match="spa"):
        write_bytes(full.fileno())(b"x")


PRELUDE = """
import os, sys
from gridops.tasks._task import exit_status_of
from gridops.tasks._terminal import open_streams, say, show, write_bytes
"""


def python(program: str, shell: str) -> subprocess.CompletedProcess[str]:
    """Run `program` as `$P` in a shell line."""
    return subprocess.run(
        ["bash", "-c", shell],
        env={"P": PRELUDE + program, "PY": sys.executable, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_stream_that_was_closed_does_not_become_the_next_file():
    program = """
open_streams()
fd = os.open("/etc/passwd", os.O_RDONLY)
assert fd > 2, fd
print("lost"); show("lost"); say("lost"); write_bytes(1)(b"lost")
os.write(int(os.environ["BACK"]), b"fine")
"""
    line = 'BACK=9 "$PY" -c "$P" 9>&1 <&- >&- 2>&-'
    done = python(program, line)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine", "")


def test_a_reader_that_leaves_gets_no_traceback():
    program = """
def work():
    for i in range(100000):
        show("line")
    return 0
sys.exit(exit_status_of(work))
"""
    done = python(program, 'set -o pipefail; "$PY" -c "$P" | head -1')
    assert (done.returncode, done.stdout, done.stderr) == (141, "line\n", "")


def test_nor_does_one_that_left_before_anything_was_flushed():
    program = """
def work():
    sys.stdout.write("x" * 100)
    os.close(0)
    show("line")
    return 0
sys.exit(exit_status_of(work))
"""
    done = python(program, 'set -o pipefail; (sleep 0.3; "$PY" -c "$P") | true')
    assert (done.returncode, done.stdout, done.stderr) == (141, "", "")


def test_a_pipe_that_does_not_block_is_waited_for():
    program = """
os.set_blocking(1, False)
write_bytes(1)(b"x" * 3_000_000)
"""
    done = python(program, '"$PY" -c "$P" | (sleep 0.3; wc -c)')
    assert (done.stdout.strip(), done.stderr) == ("3000000", "")


def test_what_the_locale_cannot_spell_is_escaped():
    done = python('show("grün 漢"); say("grün 漢")', 'PYTHONIOENCODING=ascii "$PY" -c "$P"')
    assert done.stdout == "gr\\xfcn \\u6f22\n"
    assert done.stderr == "gridops: gr\\xfcn \\u6f22\n"


def test_the_narrator_tells_what_it_has_words_for(capsys):
    with events.listening(Narrator()):
        events.emit(events.NODE_SELECTED, node="a", score=1, reason="idle", degraded=False)
        events.emit(events.NODE_SELECTED, node="b", score=1, reason="full", degraded=True)
        events.emit(events.NODE_SKIPPED, node="a", reason="a: refused")
        events.emit(
            events.SYNC_FINISHED, node="a", status="success", files=2, bytes=1200, seconds=0.26
        )
        told = {"node": "a", "status": "success", "bytes": 1200, "seconds": 0.26}
        events.emit(events.SYNC_FINISHED, files=1, deleted=3, fetched=4, **told)
        events.emit(
            events.SYNC_FINISHED, node="a", status="failure", files=2, bytes=1200, seconds=0.26
        )
        events.emit(events.SYNC_PROGRESS, node="a", percent=10, bytes=5)
        events.emit(events.RETRY, what="sync to a", attempt=1, delay=1.25, error="lost")
        events.emit(events.TASK_STARTED, task="run")
    assert capsys.readouterr().err == (
        "gridops: a: idle\n"
        "gridops: warning: no healthy node; taking the least loaded: b (full)\n"
        "gridops: a: refused; trying the next best node\n"
        "gridops: a: synced 2 files, 1.2 kB in 0.3 s\n"
        "gridops: a: synced 1 file, deleted 3, 1.2 kB in 0.3 s (without 4 fetched)\n"
        "gridops: sync to a: attempt 1 failed: lost; again in 1.2 s\n"
    )


def test_the_narrator_can_be_told_what_to_tell(capsys):
    with events.listening(Narrator(only=(events.WARNING,))):
        events.emit(events.NODE_SKIPPED, node="a", reason="a: refused")
        events.emit(events.WARNING, message="careful")
    assert capsys.readouterr().err == "gridops: warning: careful\n"


# -- streams that are gone at the end --------------------------------------------------------------


def dead_terminal() -> int:
    ours, theirs = os.openpty()
    os.close(ours)
    return theirs


def dead_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


HELD_BACK = """
import sys
from gridops.errors import GridError
from gridops.tasks._task import exit_status_of
def work():
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=False, write_through=False)
        stream.write("held back")
    {ending}
sys.exit(exit_status_of(work))
"""


@pytest.mark.parametrize("gone", [dead_terminal, dead_pipe, full_disk])
@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("return 7", 7),
        ("raise SystemExit(129)", 129),
        ("raise KeyboardInterrupt", 130),
        ("raise GridError('no')", 125),
        ("return 0", {"dead_terminal": 141, "dead_pipe": 141, "full_disk": 125}),
    ],
)
def test_streams_that_are_gone_do_not_change_the_status(gone, ending, status):
    fd = gone()
    try:
        done = subprocess.run(
            [sys.executable, "-c", HELD_BACK.format(ending=ending)],
            stdin=subprocess.DEVNULL,
            stdout=fd,
            stderr=fd,
            timeout=30,
            check=False,
        )
    finally:
        os.close(fd)
    assert done.returncode == (status[gone.__name__] if isinstance(status, dict) else status)


def test_a_file_for_the_user_may_be_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "gridops.prom"
    write_file(str(path), "as it is now \udcff\n")
    assert path.read_text() == "as it is now ?\n"
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*: No such file or directory"):
        write_file(str(tmp_path / "no" / "file.prom"), "text")
