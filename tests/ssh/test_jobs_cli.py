"""`run --detach`, `jobs` and `jobs.*` on real nodes: runs that need nobody here any more."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli import BIN, Inventory, Tell, refusing, run, silent, started
from support.jobs import Place, begun, pids_with, pids_with_environment
from support.nodes import close_masters, end, node_of, settings_of, sshd_sessions, wait_until

from gridops.grid import Grid
from gridops.jobs import client
from gridops.jobs.spec import JobSpec
from gridops.jobs.start import start_job
from gridops.probe.score import rank
from gridops.reach import link_to

ROOT = Path(__file__).parents[2]
ID = re.compile(r"\d{8}-\d{6}-\d{3}[0-9a-f]{5}")
NODES = ("node1", "node2", "node3")


@pytest.fixture(autouse=True)
def no_runs(inventory: Inventory, project: Path) -> Iterator[None]:
    """No node has a run, before and after."""
    _forget(inventory)
    yield
    _forget(inventory)


def _forget(inventory: Inventory) -> None:
    for name in NODES:
        link = place(inventory, name).link
        for job in client.list_jobs(link):
            if job.active:
                client.kill(link, job.id, grace=0)
        client.prune(link, 0)


def place(inventory: Inventory, name: str = "node1") -> Place:
    sandbox = inventory.sandbox
    return Place(link_to(node_of(sandbox, name), settings_of(sandbox)), sandbox.node(name).home)


@pytest.fixture
def detach(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Start a run in the home of node1 (or the one named) and leave it; its id."""
    monkeypatch.chdir("/")  # no project: nothing is said of a missing tree

    def start(command: str, *words: str, on: str = "node1") -> str:
        done = tell("run", "--detach", "--no-sync", "--on", on, *words, "--cmd", command)
        assert done.status == 0, done.err
        return done.out.strip()

    return start


def known(tell: Tell) -> dict[str, dict[str, object]]:
    return {job["id"]: job for job in tell("jobs", "--format=json").document["jobs"]}


# -- run --detach ------------------------------------------------------------------------------


def test_detach_prints_the_id_alone_and_the_run_goes_on_without_us(tell, inventory, project):
    command = "cat hello.txt; sleep 1; echo $GRIDOPS_RUN_ID; pwd; exit 3"
    began = time.monotonic()
    done = run("gridops", "run", "--detach", "--on", "node2", "--cmd", command)
    assert time.monotonic() - began < 5
    assert done.status == 0, done.err
    job_id = done.out.strip()
    assert ID.fullmatch(job_id)
    assert done.out == f"{job_id}\n"
    assert re.search(r"node2: synced 1 file", done.err)
    assert tell("jobs.wait", job_id).status == 3
    where = (inventory.tree("node2") / "project").resolve()
    assert tell("jobs.logs", job_id).out == f"hello\n{job_id}\n{where}\n"


def test_environment_set_up_and_timeout_reach_a_detached_run(tell, inventory, detach):
    inventory(defaults={"env_setup": "export GREETING=hi"})
    job_id = detach('echo "$GREETING $A"; sleep 60', "--env", "A=it's $HOME", "--timeout", "1")
    done = tell("jobs.logs", job_id, "--follow")
    assert (done.status, done.out) == (124, "hi it's $HOME\n")
    assert "it timed out after 1 s" in done.err
    assert known(tell)[job_id]["state"] == "timed out"


def test_where_it_comes_from_and_why_it_is_there_is_kept_with_the_run(tell, inventory, project):
    git = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    (project / "hello.txt").write_text("changed\n")
    (project / "new.txt").write_text("new\n")
    command = f"true # {'x' * 5000}"
    job_id = tell("run", "--detach", "--cmd", command).out.strip()
    record = tell("jobs.show", job_id, "--format=json").document["job"]
    assert (record["commit"], record["command"]) == (head.stdout.strip(), command)
    assert record["why"].startswith("score ")
    home = inventory.sandbox.node(record["node"]).home
    kept = Path(record["diff"].replace("~", str(home))).read_text()
    assert kept.startswith("# untracked: new.txt\ndiff --git ")
    assert "-hello\n+changed\n" in kept
    said = tell("jobs.show", "@last").out
    for text in (job_id, record["node"], head.stdout.strip(), record["why"], command, "--diff"):
        assert text in said
    done = tell("jobs.show", job_id, "--diff")
    assert (done.status, done.out) == (0, kept[:-1])
    assert len(done.stdout) == record["diff_bytes"]
    assert "files new to git" in done.err
    subprocess.run(["git", "checkout", "-q", "."], check=True)
    subprocess.run(["git", "apply"], input=done.stdout, check=True)
    assert (project / "hello.txt").read_text() == "changed\n"
    assert tell("jobs.show", job_id, "--diff", "--format=json").status == 2


def test_changes_that_there_are_not_are_told_from_those_that_are_not_known(tell, detach, inventory):
    unknown = detach("true")
    done = tell("jobs.show", unknown, "--diff")
    assert done.status == 1
    assert done.complaint.endswith("its changes are not known")
    clean = start_job(place(inventory, "node2").link, JobSpec("true", commit="abc")).id
    done = tell("jobs.show", clean, "--diff")
    assert (done.status, done.out) == (0, "")
    assert done.complaint.endswith("nothing was changed")


def test_a_node_that_cannot_take_it_is_passed_over(tell, inventory, project, monkeypatch):
    """node1 has a directory of that name which gridops did not make; node2 has no slot free."""
    by_name = lambda healths, gpus: sorted(rank(healths), key=lambda one: one.health.node.name)  # noqa: E731
    monkeypatch.setattr("gridops.probe.score.rank", by_name)
    foreign = inventory.tree("node1") / "project"
    foreign.mkdir(parents=True)
    (foreign / "precious").write_text("mine")
    busy = start_job(place(inventory, "node2").link, JobSpec(command="sleep 60")).id
    done = tell("run", "--detach", "--cmd", "true")
    assert done.status == 0
    job_id = done.out.strip()
    for _ in range(5):  # node2 knows the id as well, and is not asked first every time
        assert known(tell)[job_id]["node"] == "node3"
        for name in (job_id, job_id[:-1]):
            assert tell("jobs.show", name, "--format=json").document["job"]["node"] == "node3"
    assert tell("jobs.wait", job_id).status == 0
    assert "gridops did not make it" in done.err
    assert re.search(r"node2: all its slots are taken.*trying the next best node", done.err)
    done = tell("run", "--detach", "--no-sync", "--on", "node2", "--cmd", "true")
    assert (done.status, done.out) == (125, "")
    assert known(tell)[busy]["state"] == "running"


def test_a_start_in_doubt_is_never_tried_on_another_node(tell, inventory, project, monkeypatch):
    from gridops.errors import StartUnknown

    asked = []

    def doubtful(link, job):
        asked.append(link.node.name)
        raise StartUnknown("it broke", node=link.node.name, hint=f"`inv jobs.show {job.id}`")

    monkeypatch.setattr("gridops.dispatch.assignment.start_job", doubtful)
    done = tell("run", "--detach", "--no-sync", "--cmd", "true")
    assert (done.status, done.out, len(asked)) == (125, "", 1)
    assert ID.search(done.err.splitlines()[-1])


# -- jobs --------------------------------------------------------------------------------------


def test_jobs_lists_what_all_nodes_know_oldest_first(tell, detach):
    first = detach("exit 4", on="node3")
    tell("jobs.wait", first)
    second = detach("sleep 60\nexit 1", on="node1")
    done = tell("jobs")
    header, one, two = done.out.splitlines()
    assert header.split()[:6] == ["ID", "NODE", "STATE", "STARTED", "TOOK", "STATUS"]
    assert re.match(rf"{first} +node3 +finished +\d{{4}}-.* 4 .*exit 4$", one)
    assert re.match(rf"{second} +node1 +running +\d{{4}}-.*sleep 60 exit 1$", two)
    assert (done.status, done.err) == (0, "")
    record = known(tell)
    assert list(record) == [first, second]
    assert {k: record[first][k] for k in ("node", "state", "status", "exit_status", "gpus")} == {
        "node": "node3", "state": "finished", "status": 4, "exit_status": 4, "gpus": [],
    }  # fmt: skip
    assert record[second]["status"] is None
    assert 0 <= record[second]["duration_s"] < 30
    assert record[second]["user"]
    assert [*known_on(tell, "node1")] == [second]


def known_on(tell: Tell, nodes: str) -> list[str]:
    found = tell("jobs", "--nodes", nodes, "--format=json").document["jobs"]
    return [job["id"] for job in found]


def test_a_dead_node_does_not_hide_the_others_and_its_runs_are_not_called_failed(
    tell, inventory, detach
):
    job_id = detach("sleep 60", on="node2")
    with refusing() as port, silent() as mute:
        inventory(
            {
                "node1": {"host": "127.0.0.1", "port": port},
                "mute": {"host": "127.0.0.1", "port": mute},
            },
            ssh={"connect_timeout": 1},
        )
        began = time.monotonic()
        done = tell("jobs", "--format=json")
        assert time.monotonic() - began < 10
        assert done.status == 0
        assert [job["id"] for job in done.document["jobs"]] == [job_id]
        assert [one["name"] for one in done.document["unreachable"]] == ["node1", "mute"]
        assert "gridops: node1: " in done.err
        assert "failed" not in done.out
        began = time.monotonic()
        assert tell("jobs.logs", job_id).status == 0  # an id in full waits for nobody else
        assert time.monotonic() - began < 1
        done = tell("jobs.show", "20200101-000000-000abcde")
        assert done.status == 125
        assert re.search(r"have no run .*, and mute, node1 cannot be reached", done.complaint)
        for task in ("wait", "logs", "show", "kill", "fetch"):  # a newer one may be there
            done = tell(f"jobs.{task}", "@last", *(["x"] if task == "fetch" else []))
            assert done.status == 125
            assert re.search("a newer run may be there: .+", done.complaint)
            assert done.complaint.endswith(f"(the newest known one is {job_id} on node2)")
        done = tell("jobs.show", job_id[:-2])
        assert (done.status, done.out[:40].split()[1]) == (0, job_id)
        assert re.search(f"may also match a run there: .*; going on with {job_id}", done.err)
        done = tell("jobs.kill", job_id[:-2])
        assert done.status == 125
        assert done.complaint.endswith(f"give its full id: {job_id})")
        assert known(tell)[job_id]["state"] == "running"
        done = tell("jobs", "--nodes", "node1")
        assert (done.status, done.out) == (125, "")
        assert "Connection refused" in done.err
        assert tell("jobs.kill", job_id).status == 0


def test_a_run_whose_node_dies_is_unreachable_not_failed(
    tell, make_sandbox, monkeypatch, fresh_runtime_dir
):
    made = make_sandbox(1)
    monkeypatch.setenv("GRIDOPS_INVENTORY", str(made.inventory))
    command = "echo up; sleep 60"
    job_id = tell("run", "--detach", "--no-sync", "--cmd", command).out.strip()
    close_masters(fresh_runtime_dir)
    listener = made.node("node1").pid
    assert listener
    end([listener, *sshd_sessions(listener)])
    for task in ("jobs.logs", "jobs.kill", "jobs.show"):
        done = tell(task, job_id)
        assert done.status == 125
        assert "cannot be reached" in done.complaint
    done = tell("jobs.wait", job_id, "--timeout", "1")
    assert (done.status, done.out) == (124, "")
    assert re.fullmatch(
        r"gridops: warning: node1 cannot be reached: [^\n]+; trying again\n"
        r"gridops: no node that has [^\n]+ within 1 s \([^\n]+\)\n",
        done.err,
    )
    with (
        started("jobs.wait", job_id, "--timeout", "30", until=b"") as waiting,
        started("jobs.logs", job_id, "-f", until=b"") as following,
    ):
        for child in (waiting, following):
            assert child.stderr
            assert b"cannot be reached" in child.stderr.readline()
        made.start("node1")
        assert following.stdout
        assert following.stdout.read(3) == b"up\n"
        assert known(tell)[job_id]["state"] == "running"
        assert tell("jobs.kill", job_id).status == 0
        assert (waiting.wait(30), following.wait(30)) == (143, 143)
    close_masters(fresh_runtime_dir)


# -- jobs.logs ---------------------------------------------------------------------------------

ODD = "printf 'a\\0b\\377\\n'; printf 'e\\0\\376' >&2; "


def test_logs_are_byte_for_byte_while_it_runs_and_after(tell, detach, inventory):
    fifo = inventory.sandbox.root / "go"
    os.mkfifo(fifo)
    try:
        job_id = detach(f"{ODD} read x <{fifo}; printf 'late, no newline'; exit 7")
        words = ("jobs.logs", job_id, "--follow")
        with started(*words, until=b"a\0b\377\n") as child:
            done = tell("jobs.logs", job_id)
            assert (done.status, done.stdout, done.stderr) == (0, b"a\0b\377\n", b"e\0\376")
            assert child.poll() is None
            fifo.write_text("\n")
            out, err = child.communicate(timeout=20)
            assert (child.returncode, out, err) == (7, b"late, no newline", b"e\0\376")
    finally:
        fifo.unlink()
    full = b"a\0b\377\nlate, no newline"
    done = tell(*words)
    assert (done.status, done.stdout, done.stderr) == (7, full, b"e\0\376")
    done = tell("jobs.logs", job_id)
    assert (done.status, done.stdout, done.stderr) == (0, full, b"e\0\376")


def test_logs_take_the_tail_of_each_stream_or_stderr_alone(tell, detach):
    job_id = detach("seq 20; seq 101 120 >&2; exit 1")
    tell("jobs.wait", job_id)
    done = tell("jobs.logs", job_id, "--tail", "2")
    assert (done.status, done.out, done.err) == (0, "19\n20\n", "119\n120\n")
    done = tell("jobs.logs", job_id, "--tail=1", "--stderr", "--follow")
    assert (done.status, done.out, done.err) == (1, "120\n", "")
    assert tell("jobs.logs", job_id, "--tail", "0").out == ""
    done = tell("jobs.logs", job_id, "--tail", "-1")
    assert (done.status, done.out) == (2, "")


def test_logs_of_a_run_that_never_pauses_come_to_an_end(home):
    """Whenever somebody looks how much there is, there is more."""
    env = {"PATH": os.environ["PATH"], "HOME": str(home)}
    command = "while :; do echo x; done"
    job_id = run("gridops", "run", "--detach", "--no-sync", "--cmd", command, env=env).out.strip()
    try:
        wait_until(lambda: (home / ".gridops" / "jobs" / job_id / "out").stat().st_size > 0)
        done = run("gridops", "jobs.logs", job_id, env=env, timeout=15)
        assert (done.status, set(done.out.split())) == (0, {"x"})
    finally:
        assert run("gridops", "jobs.kill", job_id, env=env).status == 0


def test_logs_of_a_run_that_waits_for_its_turn_are_empty(tell, detach, inventory):
    job_id = detach("sleep 60")
    queued = start_job(place(inventory).link, JobSpec(command="true", wait=60)).id
    assert known(tell)[queued]["state"] == "queued"
    for words in (), ("--tail", "3"):
        done = tell("jobs.logs", queued, *words)
        assert (done.status, done.out, done.err) == (0, "", "")
    assert tell("jobs.kill", queued).status == 0
    assert known(tell)[job_id]["state"] == "running"
    done = tell("jobs.wait", queued)
    assert done.status == 125
    assert "before it began" in done.err


def test_ctrl_c_in_follow_leaves_and_the_run_goes_on(tell, detach):
    job_id = detach("echo up; sleep 60")
    for words, until in (("jobs.logs", job_id, "--follow"), b"up\n"), (("jobs.wait", job_id), b""):
        with started(*words, until=until) as child:
            if not until:
                time.sleep(1.5)
            os.killpg(child.pid, signal.SIGINT)
            _, err = child.communicate(timeout=20)
            assert child.returncode == 130
            assert re.fullmatch(
                rf"gridops: node1: left; the run {job_id} goes on .*\n", err.decode()
            )
        assert known(tell)[job_id]["state"] == "running"


def test_a_reader_that_leaves_ends_the_logs_not_the_run(tell, detach):
    job_id = detach("while :; do echo x; sleep 0.01; done")
    line = f"{BIN}/gridops jobs.logs {job_id} --follow | head -n 3; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("x\nx\nx\n141\n", "")
    assert known(tell)[job_id]["state"] == "running"


def test_a_follower_comes_through_a_broken_connection(
    tell, make_sandbox, monkeypatch, fresh_runtime_dir
):
    made = make_sandbox(1)
    monkeypatch.setenv("GRIDOPS_INVENTORY", str(made.inventory))
    command = "echo up; sleep 3; echo on; exit 5"
    job_id = tell("run", "--detach", "--no-sync", "--cmd", command).out.strip()
    with started("jobs.logs", job_id, "--follow") as child:
        for pid in pids_with(str(fresh_runtime_dir)):
            if pid != child.pid:
                os.kill(pid, signal.SIGKILL)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (5, b"on\n")
    assert b"the connection is lost" in err
    assert b"connected again" in err
    close_masters(fresh_runtime_dir)


# -- jobs.wait, jobs.kill, jobs.prune ----------------------------------------------------------


def test_wait_ends_with_the_runs_status_and_prints_nothing(tell, detach):
    job_id = detach("echo out; echo err >&2; sleep 0.5; exit 9")
    done = tell("jobs.wait", job_id)
    assert (done.status, done.out, done.err) == (9, "", "")
    job_id = detach("kill -9 $$")
    assert tell("jobs.wait", job_id).status == 137


def test_wait_has_a_limit_of_its_own(tell, detach):
    job_id = detach("sleep 60")
    began = time.monotonic()
    done = tell("jobs.wait", job_id, "--timeout", "0.5")
    assert time.monotonic() - began < 5
    assert done.status == 124
    assert "has not ended within 0.5 s; it goes on" in done.complaint
    assert known(tell)[job_id]["state"] == "running"


def test_kill_ends_the_whole_tree_and_says_so(tell, detach, inventory):
    mark = f"mark-{time.monotonic_ns()}"
    job_id = detach(f"export M={mark}; sleep 71 & (setsid sleep 72 &) ; sleep 73")
    begun(place(inventory), job_id)
    wait_until(lambda: len(pids_with_environment(f"M={mark}")) >= 3)
    done = tell("jobs.kill", "@last")
    assert (done.status, done.out) == (0, "")
    assert re.fullmatch(rf"node1: the run {job_id}: it was killed by .+@.+", done.complaint)
    assert pids_with_environment(f"M={mark}") == []
    assert known(tell)[job_id]["state"] == "killed"
    done = tell("jobs.wait", job_id)
    assert done.status == 143
    assert "it was killed by" in done.err
    assert "had ended already" in tell("jobs.kill", job_id).complaint


def test_a_run_that_was_killed_is_no_success_however_it_ends(tell, detach):
    job_id = detach("trap 'exit 0' TERM; echo up; sleep 60 & wait")
    wait_until(lambda: tell("jobs.logs", job_id).out == "up\n")
    assert tell("jobs.kill", job_id).status == 0
    assert known(tell)[job_id]["status"] == 0
    assert tell("jobs.wait", job_id).status == 143


def test_prune_forgets_what_has_ended_never_what_runs(tell, detach):
    ended = detach("echo out; exit 2", on="node2")
    assert tell("jobs.wait", ended).status == 2
    running = detach("sleep 60")
    done = tell("jobs.prune", "--older-than", "7d")
    assert (done.status, done.out) == (0, "")
    time.sleep(1.1)  # the node's clock counts whole seconds
    done = tell("jobs.prune", "--older-than", "0.4")
    assert (done.status, done.out) == (0, f"{ended}\n")
    assert list(known(tell)) == [running]
    done = tell("jobs.logs", ended, "--follow")  # its end is remembered
    assert (done.status, done.out) == (2, "")
    assert "was pruned" in done.err
    assert tell("jobs.show", ended).status == 0
    assert tell("jobs.prune", "--older-than", "soon").status == 2


def test_the_inventory_says_how_long_a_run_is_kept(tell, detach, inventory):
    for keep, told in ("2h", "7200\n"), (None, None):
        inventory(jobs={"keep": keep})
        kept = place(inventory).job(detach("true")) / "spec" / "forget"
        assert (kept.read_text() if kept.exists() else None) == told
        tell("jobs.wait", "@last")
    inventory(jobs={"keep": 0})
    done = tell("jobs")
    assert done.status == 2
    assert "jobs.keep" in done.complaint


def test_a_run_whose_supervisor_was_killed_is_lost(tell, detach, inventory):
    from support.jobs import supervisor

    job_id = detach("sleep 60")
    begun(place(inventory), job_id)
    os.kill(supervisor(place(inventory), job_id), signal.SIGKILL)
    done = tell("jobs.wait", job_id)
    assert done.status == 125
    assert "it is lost: its supervisor was killed" in done.err
    assert known(tell)[job_id]["state"] == "lost"


# -- which run is meant ------------------------------------------------------------------------


def test_a_prefix_names_a_run_when_only_one_begins_so(tell, detach, inventory):
    there = place(inventory)
    for name in ("train-a1", "train-a", "other"):
        start_job(there.link, JobSpec(command=f"echo {name}", id=name))
        tell("jobs.wait", name)
    assert tell("jobs.logs", "oth").out == "other\n"
    assert tell("jobs.logs", "train-a").out == "train-a\n"  # a whole id, although another begins so
    for task in ("logs", "wait", "kill", "show"):
        done = tell(f"jobs.{task}", "train")
        assert done.status == 2
        assert "'train' matches 2 runs" in done.complaint
        assert "train-a on node1" in done.complaint
        assert "train-a1 on node1" in done.complaint
        done = tell(f"jobs.{task}", "nothing")
        assert done.status == 2
        assert "has a run 'nothing'" in done.complaint
        assert "train-a1 on node1" in done.complaint
    mine = detach("echo mine", on="node3")
    assert tell("jobs.wait", mine[:-2]).status == 0
    assert tell("jobs.logs", mine[:-2]).out == "mine\n"
    assert tell("jobs.logs", "@last").out == "mine\n"
    assert tell("jobs.logs", "@last", "--nodes", "node2").status == 2
    assert tell("jobs.show", "20200101-000000-000abcde").status == 2
    for odd in ("", "two words", "../x", "$(x)"):
        for task in ("logs", "wait", "kill", "show"):
            done = tell(f"jobs.{task}", "--id", odd)
            assert done.status == 2
            assert "is not the id of a run" in done.complaint


def test_an_end_names_a_run_and_a_beginning_that_says_little_kills_none(tell, detach):
    job_id = detach("sleep 60")
    assert tell("jobs.show", job_id[-4:]).status == 0
    assert tell("jobs.show", job_id[-3:]).status == 2
    for short in (job_id[:1], job_id[:7]):
        done = tell("jobs.kill", short)
        assert done.status == 2
        assert "is too short to name the run" in done.complaint
        assert job_id in done.complaint
    assert known(tell)[job_id]["state"] == "running"
    assert tell("jobs.kill", job_id[-4:]).status == 0


def test_a_flag_is_not_taken_for_an_id(inventory):
    inventory({"gone": {"host": "127.0.0.1", "port": 1}})  # would be asked, and named
    for words, said in (
        (("jobs.logs", "--help"), "`inv --help jobs.logs` shows the flags"),
        (("jobs.kill", "-h"), "`inv --help jobs.kill` shows the flags"),
        (
            ("jobs.wait", "--follow", "@last"),
            "--follow is not a flag of jobs.wait: `inv --help jobs.",
        ),
        (("jobs.fetch", "@last", "--all"), "--all is not a flag of jobs.fetch: `inv --help jobs."),
    ):
        for program in ("inv", "gridops"):
            done = run(program, *words, cwd=ROOT)
            assert done.status == 2
            assert done.complaint.startswith(said)
    done = run("gridops", "jobs.fetch", "@last", "a", "b")
    assert (done.status, done.out) == (2, "")
    assert "more than one: --pattern A --pattern B" in done.err


def test_attempts_that_another_node_or_the_line_took_over_are_no_runs(tell, detach, inventory):
    busy = detach("sleep 60")
    done = tell("run", "--no-sync", "--on", "node1", "--cmd", "true")
    assert done.status == 125
    assert busy in tell("jobs").out
    assert len(tell("jobs").out.splitlines()) == 2
    assert f"id         {busy}\n" in tell("jobs.show", "@last").out
    (attempt,) = (job_id for job_id, job in known(tell).items() if job["state"] == "refused")
    assert attempt in tell("jobs", "--all").out
    assert attempt in tell("jobs", "--state", "refused").out
    assert tell("jobs.show", attempt).status == 0


def test_the_list_has_what_has_not_ended_and_the_newest_of_the_rest(tell, detach):
    ids = [detach(f"exit {n}") for n in range(3) if not tell("jobs").status]
    tell("jobs.wait", ids[-1])
    active = detach("sleep 60")

    def shown(*words: str) -> list[str]:
        return [line.split()[0] for line in tell("jobs", *words).out.splitlines()[1:]]

    assert shown() == shown("--all") == [*ids, active]
    assert shown("--limit", "1") == [ids[2], active]
    assert shown("--limit", "0") == [active]
    assert shown("--state", "finished", "--limit", "2") == ids[1:]
    assert shown("--state", "running,queued") == [active]
    assert list(known(tell)) == [*ids, active]
    for wrong in (("--state", "runing"), ("--limit", "-1"), ("--limit", "1", "--all")):
        assert tell("jobs", *wrong).status == 2


def test_a_shared_home_shows_each_run_once(tell, inventory, detach):
    inventory({"alias": {"host": "node1"}})
    job_id = detach("true")
    tell("jobs.wait", job_id)
    assert list(known(tell)) == [job_id]
    assert len(tell("jobs").out.splitlines()) == 2
    assert tell("jobs.show", job_id[:12]).status == 0


# -- from Python, and without ssh ----------------------------------------------------------------


def test_the_grid_does_the_same_for_python(inventory, project):
    from gridops.model import RunSpec
    from gridops.reach.pump import Sinks

    grid = Grid.load()
    detached = grid.detach(RunSpec("echo hi; exit 6", src=str(project)), grid.select("node2"))
    assert (detached.node.name, detached.sync and detached.sync.files) == ("node2", 1)
    job = grid.wait(grid.find_job("@last"))
    assert (job.id, job.status) == (detached.id, 6)
    kept = bytearray()
    assert grid.logs(job, Sinks(kept.extend, kept.extend)).status == 6
    assert kept == b"hi\n"


def test_this_machine_alone_has_runs_too(home, project):
    env = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = run("gridops", "run", "--detach", "--cmd", "cat hello.txt; exit 3", env=env)
    assert done.status == 0, done.err
    done = run("gridops", "jobs.logs", done.out.strip(), "--follow", env=env)
    assert (done.status, done.out, done.err) == (3, "hello\n", "")
    done = run("gridops", "jobs", "--format=json", env=env)
    assert json.loads(done.out)["jobs"][0]["node"] == "localhost"
