"""`run` on real nodes: where, with what, and how it ends."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import pytest
from support.cli import refusing, started
from support.nodes import close_masters, wait_until

from gridops.probe.score import Ranked, rank

NODES = {"node1", "node2", "node3"}


@pytest.fixture
def by_name(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the nodes ranked by their names, node1 first; `then` is called once they are."""

    def order(then: Callable[[], None] = lambda: None) -> None:
        def ranked(healths: Sequence[object], gpus: int) -> tuple[Ranked, ...]:
            found = sorted(rank(healths, gpus), key=lambda one: one.health.node.name)  # type: ignore[arg-type]
            then()
            return tuple(found)

        monkeypatch.setattr("gridops.probe.score.rank", ranked)

    return order


# -- choose, sync, run -------------------------------------------------------------------------


def test_the_tree_is_synced_and_the_command_runs_in_it(tell, inventory, project):
    done = tell("run", "--cmd", "cat hello.txt; pwd; echo $GRIDOPS_NODE; echo oops >&2; exit 7")
    hello, where, node = done.out.splitlines()
    assert done.status == 7
    assert hello == "hello"
    assert node in NODES
    assert where == str((inventory.tree(node) / "project").resolve())
    lines = done.err.splitlines()
    assert lines[0].startswith(f"gridops: {node}: ")
    assert re.match(rf"gridops: {node}: synced 1 file, .* in .* s", lines[1])
    assert re.fullmatch(rf"gridops: {node}: the run is \d{{8}}-\d{{6}}-[0-9a-f]{{8}}", lines[2])
    assert lines[3:] == ["oops"]
    others = NODES - {node}
    assert not any(inventory.tree(name).exists() for name in others)


def test_on_means_this_node_and_no_other(tell, inventory, project):
    for name in ("node3", "node1"):
        assert tell("run", "--on", name, "--cmd", "echo $GRIDOPS_NODE").out == f"{name}\n"


def test_nodes_and_tags_narrow_the_choice(tell, inventory, project):
    inventory({"node2": {"tags": ["big"]}})
    assert tell("run", "--tags", "big", "--cmd", "echo $GRIDOPS_NODE").out == "node2\n"
    words = ("run", "--nodes", "node[1-3]!node[1-2]", "--no-sync", "--cmd", "echo $GRIDOPS_NODE")
    assert tell(*words).out == "node3\n"


def test_src_names_the_tree(tell, inventory, project, tmp_path):
    other = tmp_path / "other tree"
    other.mkdir()
    (other / "file").write_text("of the other\n")
    done = tell("run", "--on", "node1", "--src", "../other tree", "--cmd", "cat file; pwd")
    assert done.out == f"of the other\n{(inventory.tree('node1') / 'other tree').resolve()}\n"


def test_no_sync_runs_in_what_an_earlier_sync_brought(tell, inventory, project):
    words = ("run", "--on", "node1", "--cmd", "cat hello.txt || pwd")
    done = tell(*words, "--no-sync")
    assert done.out == f"{inventory.sandbox.node('node1').home}\n"
    assert "running in the home directory" in done.err
    assert tell(*words).out == "hello\n"
    (project / "hello.txt").write_text("changed\n")
    done = tell(*words, "--no-sync")
    assert done.out == "hello\n"
    first, second = done.err.splitlines()
    assert first == "gridops: node1: the only node selected"
    assert second.startswith("gridops: node1: the run is ")


def test_no_sync_in_the_root_directory_runs_in_the_home(tell, inventory, monkeypatch):
    monkeypatch.chdir("/")
    done = tell("run", "--on", "node1", "--no-sync", "--cmd", "pwd")
    assert (done.status, done.out) == (0, f"{inventory.sandbox.node('node1').home}\n")


def test_words_after_two_dashes_arrive_as_they_are(tell, inventory, project):
    script = "import sys; print(sys.argv[1:])"
    words = ["--lr", "0.1", "two words", "it's", "$HOME", "*", "--", "-x", ""]
    done = tell("run", "--on", "node1", "--no-sync", "--", "python3", "-c", script, *words)
    assert done.out == f"{words}\n"


def test_one_word_after_two_dashes_is_shell_text(tell, inventory, project):
    done = tell("run", "--on", "node1", "--no-sync", "--", "echo one; echo two")
    assert done.out == "one\ntwo\n"


def test_the_environment_is_the_commands(tell, inventory, project):
    values = {"A": "it's $HOME", "B": "a\nb", "C": "", "command": "x=y"}
    flags = [word for name, value in values.items() for word in ("--env", f"{name}={value}")]
    names = " ".join(f'"${name}"' for name in values)
    done = tell("run", "--on", "node1", "--no-sync", *flags, "--cmd", f"printf '%s|' {names}")
    assert done.out == "it's $HOME|a\nb||x=y|"


def test_env_setup_goes_before(tell, inventory, project):
    inventory(defaults={"env_setup": "export GREETING=hi"})
    assert tell("run", "--on", "node1", "--cmd", "echo $GREETING").out == "hi\n"


def test_a_timeout_is_124_and_said(tell, inventory, project):
    began = time.monotonic()
    done = tell(
        "run", "--on", "node1", "--no-sync", "--timeout", "0.5", "--cmd", "echo a; sleep 60"
    )
    assert time.monotonic() - began < 15
    assert (done.status, done.out) == (124, "a\n")
    assert (
        done.err.splitlines()[-1] == "gridops: node1: the command was ended after 0.5 s (--timeout)"
    )


@pytest.mark.parametrize(("command", "status"), [("kill -9 $$", 137), ("no-such-thing", 127)])
def test_the_exit_status_is_the_commands(tell, inventory, project, command, status):
    assert tell("run", "--on", "node1", "--no-sync", "--cmd", command).status == status


# -- a dry run ---------------------------------------------------------------------------------


def test_a_dry_run_says_all_and_does_nothing(tell, inventory, project):
    done = tell("run", "--dry-run", "--cmd", "touch made")
    assert done.status == 0
    assert re.fullmatch(r"node[1-3]: \+ hello\.txt\n", done.out)
    for words in (
        "would run on node",
        "would run: touch made",
        "would add 1",
        "if that node cannot",
    ):
        assert words in done.err
    assert not any(inventory.tree(name).exists() for name in NODES)
    done = tell("run", "--dry-run", "--no-sync", "--on", "node1", "--cmd", "touch made")
    assert (done.status, done.out) == (0, "")
    assert not (inventory.sandbox.node("node1").home / "made").exists()


# -- another node, when the best one cannot take it --------------------------------------------


def test_a_tree_that_cannot_go_there_goes_to_the_next(tell, inventory, project, by_name):
    """node1 has a directory of that name which gridops did not make."""
    foreign = inventory.tree("node1") / "project"
    foreign.mkdir(parents=True)
    (foreign / "precious").write_text("mine")
    by_name()
    done = tell("run", "--cmd", "echo $GRIDOPS_NODE")
    assert (done.status, done.out) == (0, "node2\n")
    skipped = next(line for line in done.err.splitlines() if "trying the next best node" in line)
    assert skipped.startswith("gridops: node1: ")
    assert "gridops did not make it" in skipped
    assert (foreign / "precious").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_passed_over(tell, inventory, project, by_name):
    inventory({"node1": {"remote_root": "/proc/none"}, "node2": {"remote_root": "/proc/none"}})
    by_name()
    done = tell("run", "--cmd", "echo $GRIDOPS_NODE")
    assert (done.status, done.out) == (0, "node3\n")
    assert done.err.count("trying the next best node") == 2


def test_a_node_that_dies_after_the_probe_is_passed_over(
    tell, inventory, project, by_name, make_sandbox, monkeypatch, fresh_runtime_dir
):
    made = make_sandbox(2)
    monkeypatch.setenv("GRIDOPS_INVENTORY", str(made.inventory))
    by_name(then=lambda: made.stop("node1"))
    done = tell("run", "--no-sync", "--cmd", "echo $GRIDOPS_NODE")
    assert (done.status, done.out) == (0, "node2\n")
    assert "Connection refused" in done.err
    close_masters(fresh_runtime_dir)


def test_when_no_node_can_take_it_every_reason_is_said_once(tell, inventory, project):
    inventory({name: {"remote_root": "/proc/none"} for name in sorted(NODES)})
    done = tell("run", "--cmd", "echo ran")
    assert (done.status, done.out) == (125, "")
    assert done.err.count("trying the next best node") == 2
    last = done.err.splitlines()[-1]
    assert last.startswith("gridops: none of the 3 nodes that were tried could take the run (")
    assert all(f"{name}: " in last for name in NODES)


def test_a_command_that_fails_is_not_tried_elsewhere(tell, inventory, project, tmp_path):
    marks = tmp_path / "marks"
    assert tell("run", "--cmd", f"echo ran >>{marks}; exit 1").status == 1
    assert marks.read_text() == "ran\n"


def test_one_node_that_cannot_says_its_own_reason_alone(tell, inventory, project):
    with refusing() as port:
        inventory({"dead": {"host": "127.0.0.1", "port": port}})
        done = tell("run", "--on", "dead", "--cmd", "true")
    assert done.status == 125
    said = done.err.splitlines()
    assert said[0] == "gridops: dead: the only node selected"
    assert len(said) == 2
    assert said[1].startswith("gridops: dead: ")
    assert "Connection refused" in said[1]


def test_no_node_that_can_be_reached_is_125_and_says_why_of_each(tell, inventory, project):
    with refusing() as port:
        there = {"host": "127.0.0.1", "port": port}
        inventory({"dead1": there, "dead2": there})
        done = tell("run", "--nodes", "dead[1-2]", "--cmd", "true")
    assert done.status == 125
    assert done.complaint.startswith("none of the 2 selected nodes can be reached (dead")
    assert done.err.count("Connection refused") == 2


def test_a_dead_node_does_not_keep_a_run_waiting(tell, inventory, project):
    with refusing() as port:
        inventory(
            {"dead": {"host": "127.0.0.1", "port": port}},
            retry={"max_retries": 50, "initial_delay": 1},
        )
        began = time.monotonic()
        assert tell("run", "--no-sync", "--cmd", "true").status == 0
    assert time.monotonic() - began < 8  # not the ten seconds of its retries


def test_a_degraded_node_is_taken_with_a_warning(tell, inventory, project):
    inventory({"node1": None}, health_check={"max_memory_percent": 0.001})
    done = tell("run", "--no-sync", "--cmd", "echo $GRIDOPS_NODE")
    assert done.status == 0
    assert "warning: no healthy node; taking the least loaded: node" in done.err


# -- ports and results -------------------------------------------------------------------------


def test_a_port_leads_to_the_node_while_the_run_is_attached(inventory, project):
    serve = "exec python3 -m http.server --bind 127.0.0.1 $PORT"
    with free_ports(2) as (there, here):
        command = f"PORT={there}; echo up; {serve}"
    words = ("run", "--on", "node1", "--port", f"{here}:{there}", "--cmd", command)
    with started(*words) as child:
        wait_until(lambda: b"hello" in got(here))
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
        said = child.stderr.read().decode()
    assert f"node1: http://127.0.0.1:{here} leads to port {there} there" in said
    socket.create_server(("127.0.0.1", here)).close()


def test_a_port_that_cannot_be_had_is_said_before_anything_runs(tell, inventory, project, tmp_path):
    command = f"touch {tmp_path}/ran"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = tell("run", "--on", "node1", "--port", f"{port}:80", "--cmd", command)
        assert (done.status, done.out) == (2, "")
        assert str(port) in done.err.splitlines()[-1]
    for bad in ("0", "70000", "a:b", "1:2:3", ""):
        done = tell("run", "--on", "node1", "--port", bad, "--cmd", command)
        assert done.status == 2
        assert f"--port {bad!r}" in done.complaint
    assert tell("run", "--detach", "--port", "80", "--cmd", command).status == 2
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("command", "status"),
    [("true", 0), ("exit 7", 7), ("kill -9 $$", 137), ("sleep 60", 124)],
)
def test_results_come_home_however_the_run_ends(tell, inventory, project, command, status):
    make = "mkdir -p out; echo 0.9 >out/accuracy; echo big >out/model.bin"
    words = ("--fetch", "out/*", "--timeout", "2", "--cmd", f"{make}; {command}")
    done = tell("run", "--on", "node1", *words)
    assert done.status == status, done.err
    assert (project / "out/accuracy").read_text() == "0.9\n"
    assert (project / "out/model.bin").read_text() == "big\n"


def test_a_success_without_its_results_is_none(tell, inventory, project):
    done = tell("run", "--on", "node1", "--fetch", "nothing/*", "--cmd", "echo ran")
    assert (done.status, done.out) == (125, "ran\n")
    assert "node1: the run succeeded, but its results were not fetched" in done.err
    assert tell("run", "--on", "node1", "--fetch", "nothing/*", "--cmd", "exit 3").status == 3
    assert tell("run", "--detach", "--fetch", "x", "--cmd", "true").status == 2


def test_results_of_an_isolated_run_come_from_its_snapshot(tell, inventory, project):
    command = "echo mine >result; pwd"
    done = tell("run", "--on", "node1", "--isolate", "--fetch", "result", "--cmd", command)
    assert done.status == 0, done.err
    assert (project / "result").read_text() == "mine\n"
    assert "/.gridops/jobs/" in done.out
    assert not (inventory.tree("node1") / "project/result").exists()


@contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Ports that nothing listens on; taken until the block ends."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        yield [one.getsockname()[1] for one in taken]


def got(port: int) -> bytes:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as there:
        there.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: there.recv(65536), b""))
    return b""


# -- a node whose env_setup fails ----------------------------------------------------------------

BROKEN = {"env_setup": "echo no such module >&2; exit 0"}


@pytest.mark.parametrize("flags", [(), ("--detach",)])
def test_a_node_whose_env_setup_fails_is_passed_over(tell, inventory, project, by_name, flags):
    by_name()
    inventory({"node1": BROKEN})
    done = tell("run", *flags, "--cmd", "echo $GRIDOPS_NODE")
    if flags:
        done = tell("jobs.logs", done.out.strip(), "--follow")
        assert (done.status, done.out) == (0, "node2\n")
        return
    assert (done.status, done.out) == (0, "node2\n")
    assert "node1: its env_setup failed: no such module" in done.err


@pytest.mark.parametrize("flags", [(), ("--detach",)])
def test_an_env_setup_that_fails_everywhere_is_125_and_why(tell, inventory, project, flags):
    inventory({"node1": BROKEN})
    done = tell("run", "--on", "node1", *flags, "--cmd", "echo ran")
    assert (done.status, done.out) == (125, "")
    assert "gridops: node1: its env_setup failed: no such module (the command" in done.err
    waited = tell("jobs.wait", "@last")
    assert waited.status == 125
    assert "it never began: the node's env_setup failed" in waited.err
    assert "refused" in tell("jobs").out


def test_health_and_best_say_that_env_setup_fails_and_exec_can_do_without(tell, inventory, project):
    broken = {"env_setup": "nonsense-here"}
    inventory({"node1": broken, "node3": None})
    done = tell("health", "--format", "json")
    by_name = {node["name"]: node for node in done.document["nodes"]}
    assert done.status == 1
    assert by_name["node2"]["state"] == "healthy"
    assert by_name["node1"]["state"] == "degraded"
    (reason,) = by_name["node1"]["reasons"]
    assert reason.startswith("env_setup fails: ")
    assert "nonsense-here" in reason
    assert tell("best").out == "node2\n"
    done = tell("exec", "--nodes", "node1", "--cmd", "echo ran")
    assert (done.status, done.out) == (125, "")
    done = tell("exec", "--nodes", "node1", "--bare", "--cmd", "echo ran")
    assert (done.status, done.out) == (0, "ran\n")


def test_exec_on_nodes_that_are_one_machine_runs_each_ones_env_setup(tell, inventory, project):
    inventory(defaults={"env_setup": "A=$GRIDOPS_NODE"})
    done = tell("exec", "--cmd", "echo $A; sleep 0.3")
    assert done.status == 0
    assert set(done.out.split()) >= NODES
