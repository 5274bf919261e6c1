"""Several trees and one directory on a node: every run has the tree that it was asked for with."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli import Inventory, Tell, started
from support.jobs import Place, begun, start
from support.nodes import node_of, settings_of, wait_until

from gridops.dispatch.staging import deliver
from gridops.grid import Grid
from gridops.jobs import client
from gridops.jobs.spec import Acknowledgement
from gridops.model import Job
from gridops.observe.paths import state_dir
from gridops.reach import link_to
from gridops.transfers.sync import list_tree

NODES = ("node1", "node2", "node3")
Clone = Callable[[str], Path]


def place(inventory: Inventory, name: str = "node1") -> Place:
    sandbox = inventory.sandbox
    return Place(link_to(node_of(sandbox, name), settings_of(sandbox)), sandbox.node(name).home)


def jobs(inventory: Inventory, name: str = "node1") -> tuple[Job, ...]:
    return client.list_jobs(place(inventory, name).link)


def show(inventory: Inventory, job_id: str) -> Job:
    return client.show(place(inventory).link, job_id)


@pytest.fixture(autouse=True)
def no_runs(inventory: Inventory) -> Iterator[None]:
    """No node has a run, before and after."""
    _forget(inventory)
    yield
    _forget(inventory)


def _forget(inventory: Inventory) -> None:
    for name in NODES:
        for job in jobs(inventory, name):
            if job.active:
                client.kill(place(inventory, name).link, job.id, grace=0)
        client.prune(place(inventory, name).link, 0)
    inventory.clean()


@pytest.fixture
def clone(inventory: Inventory, tmp_path: Path) -> Clone:
    """`clone("a")` is a repository of the project, whose code and commit are its own."""

    def make(name: str) -> Path:
        root = tmp_path / name / "demo"
        (root / "code").mkdir(parents=True)
        (root / "code" / "who.txt").write_text(f"{name}\n")
        (root / f"only-{name}.txt").write_text("")
        _git(root, "init", "-q")
        _git(root, "add", ".")
        _git(root, "commit", "-q", "-m", name)
        return root

    return make


def _git(root: Path, *words: str) -> str:
    user = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(
        ["git", *user, *words], cwd=root, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(root: Path) -> str:
    return _git(root, "rev-parse", "HEAD")


def shared(inventory: Inventory, name: str = "node1") -> Path:
    """The project's directory on the node."""
    return inventory.tree(name) / "demo"


def contents(directory: Path) -> dict[str, str]:
    """Everything below it, gridops' own state too."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        + str(path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file()
    }


def own_trees(inventory: Inventory, name: str = "node1") -> list[Path]:
    return list((place(inventory, name).home / ".gridops" / "jobs").glob("*/*tree*"))


def reading(go: Path) -> str:
    """A command that says whose code it sees, again and again until `go` exists."""
    return f"until [ -e {go} ]; do cat code/who.txt; sleep 0.05; done; cat code/who.txt; ls"


def seen_by(inventory: Inventory, job_id: str) -> set[str]:
    return set((place(inventory).job(job_id) / "out").read_text().split())


def waits(inventory: Inventory, count: int, name: str = "node1") -> None:
    """Until so many runs wait there, each with its tree."""

    def there() -> bool:
        queued = [job for job in jobs(inventory, name) if job.state == "queued"]
        home = place(inventory, name)
        return len([job for job in queued if (home.job(job.id) / "go").is_symlink()]) == count

    wait_until(there, 30)


# -- one directory, three clones ---------------------------------------------------------------


def test_each_of_three_clones_in_line_runs_its_own_code_and_commit(
    tell: Tell, inventory: Inventory, clone: Clone, tmp_path: Path
) -> None:
    a, b, c = clone("a"), clone("b"), clone("c")
    go = tmp_path / "go"
    first = tell("run", "--detach", "--src", str(a), "--on", "node1", "--cmd", reading(go))
    first_id = first.out.strip()
    begun(place(inventory), first_id)
    before = contents(shared(inventory))
    words = ("run", "--on", "node1", "--wait", "1m", "--cmd", "cat code/who.txt; ls", "--src")
    with started(*words, str(b), until=b"") as second:
        waits(inventory, 1)
        third = tell(*words, str(c), "--detach")
        assert third.status == 0, third.err
        waits(inventory, 2)
        (b / "code" / "who.txt").write_text("edited\n")
        (c / "code" / "who.txt").write_text("edited\n")
        assert contents(shared(inventory)) == before
        go.touch()
        assert second.wait(60) == 0, second.stderr.read()
        assert set(second.stdout.read().decode().split()) == {
            "b",
            "code",
            "only-a.txt",
            "only-b.txt",
        }
    assert tell("jobs.wait", third.out.strip()).status == 0
    assert seen_by(inventory, first_id) == {"a", "code", "only-a.txt"}
    assert seen_by(inventory, third.out.strip()) == {"c", "code", "only-a.txt", "only-c.txt"}
    commits = {job.commit: job.id for job in jobs(inventory)}
    assert commits[commit(a)] == first_id
    assert commits[commit(c)] == third.out.strip()
    assert commit(b) in commits


def test_a_refused_run_has_changed_nothing(tell: Tell, inventory: Inventory, clone: Clone) -> None:
    tell("run", "--on", "node1", "--src", str(clone("a")), "--cmd", "true")
    start(place(inventory), "sleep 600")
    before = contents(shared(inventory))
    b = str(clone("b"))
    for words in ((), ("--detach",), ("--wait", "1"), ("--gpus", "1"), ("--isolate",)):
        done = tell("run", *words, "--on", "node1", "--src", b, "--cmd", "echo never")
        assert (done.status, done.out) == (125, ""), (words, done)
        assert contents(shared(inventory)) == before, words
    assert own_trees(inventory) == []


def test_what_waits_is_recorded_with_the_changes_that_it_runs_with(
    tell: Tell, inventory: Inventory, clone: Clone
) -> None:
    a = clone("a")
    holder = start(place(inventory), "sleep 600")
    (a / "code" / "who.txt").write_text("uncommitted\n")
    words = ("run", "--detach", "--wait", "1m", "--on", "node1", "--src", str(a))
    job_id = tell(*words, "--cmd", "cat code/who.txt").out.strip()
    (a / "code" / "who.txt").write_text("later\n")
    _git(a, "commit", "-q", "-a", "-m", "later")
    assert not shared(inventory).exists()
    client.kill(place(inventory).link, holder, grace=0)
    assert tell("jobs.wait", job_id).status == 0
    assert tell("jobs.logs", job_id).out == "uncommitted\n"
    assert "+uncommitted" in tell("jobs.show", job_id, "--diff").out
    assert own_trees(inventory) != []
    assert job_id in client.prune(place(inventory).link, 0)
    assert own_trees(inventory) == []


def test_what_waits_sees_what_lies_on_the_node_and_no_write_of_others_to_its_code(
    tell: Tell, inventory: Inventory, clone: Clone
) -> None:
    a = clone("a")
    tell("run", "--on", "node1", "--src", str(a), "--cmd", "mkdir data; echo 42 >data/set")
    holder = start(place(inventory), "sleep 600")
    words = ("run", "--detach", "--wait", "1m", "--on", "node1", "--src", str(a))
    command = "cat data/set code/who.txt; echo mine >result"
    job_id = tell(*words, "--cmd", command).out.strip()
    with (shared(inventory) / "code" / "who.txt").open("a") as file:
        file.write("written in place\n")
    client.kill(place(inventory).link, holder, grace=0)
    assert tell("jobs.wait", job_id).status == 0
    assert tell("jobs.logs", job_id).out == "42\na\n"
    assert not (shared(inventory) / "result").exists()
    assert tell("jobs.fetch", job_id, "result", "--into", str(a)).status == 0
    assert (a / "result").read_text() == "mine\n"


# -- more than one slot ------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["another clone", "the same one, edited"])
@pytest.mark.parametrize("how", [(), ("--detach",), ("--isolate",)])
def test_no_run_changes_the_tree_that_another_uses(
    tell: Tell, inventory: Inventory, clone: Clone, tmp_path: Path, other: str, how: tuple[str, ...]
) -> None:
    inventory({name: {"slots": 2} for name in NODES})
    a = clone("a")
    go = tmp_path / "go"
    first = tell("run", "--detach", "--on", "node1", "--src", str(a), "--cmd", reading(go))
    begun(place(inventory), first.out.strip())
    if other == "another clone":
        a = clone("b")
    (a / "code" / "who.txt").write_text("b\n")
    before = contents(shared(inventory))
    done = tell("run", *how, "--on", "node1", "--src", str(a), "--cmd", "cat code/who.txt")
    second = done.out.strip() if how == ("--detach",) else show(inventory, _newest(inventory)).id
    assert tell("jobs.wait", second).status == 0
    assert contents(shared(inventory)) == before
    assert seen_by(inventory, second) == {"b"}
    said = rf"node1: the run {first.out.strip()} uses \S+/demo, which this tree would change"
    assert re.search(said, done.err)
    assert show(inventory, second).isolated
    go.touch()
    assert tell("jobs.wait", first.out.strip()).status == 0
    assert "b" not in seen_by(inventory, first.out.strip())


def _newest(inventory: Inventory) -> str:
    return jobs(inventory)[-1].id


def test_runs_of_one_tree_that_has_not_changed_share_its_directory(
    tell: Tell, inventory: Inventory, clone: Clone
) -> None:
    inventory({name: {"slots": 2} for name in NODES})
    a = str(clone("a"))
    tell("run", "--detach", "--on", "node1", "--src", a, "--cmd", "sleep 600")
    done = tell("run", "--on", "node1", "--src", a, "--cmd", "pwd")
    assert done.out == f"{shared(inventory)}\n"
    assert "directory of its own" not in done.err
    assert own_trees(inventory) == []


# -- what does not begin -----------------------------------------------------------------------


def kept_trees() -> list[Path]:
    """A file of each tree that is kept here for a run in line."""
    return list((state_dir() / "trees").glob("*/tree/code/who.txt"))


@pytest.mark.parametrize("nodes", ["node1", "node[1-3]"])
def test_ctrl_c_in_line_leaves_no_tree_behind(
    inventory: Inventory, clone: Clone, nodes: str
) -> None:
    a = str(clone("a"))
    for name in NODES:
        start(place(inventory, name), "sleep 600")
    words = ("run", "--nodes", nodes, "--src", a, "--wait", "1m", "--cmd", "echo never")
    with started(*words, until=b"") as child:
        if nodes == "node1":
            waits(inventory, 1)
        else:
            wait_until(kept_trees)  # and then it joins the lines
            wait_until(lambda: any(job.state == "queued" for job in jobs(inventory)))
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
    for name in NODES:
        wait_until(lambda name=name: not any(j.state == "queued" for j in jobs(inventory, name)))
        assert own_trees(inventory, name) == []
        assert not shared(inventory, name).exists()
    assert not list((state_dir() / "trees").glob("*"))


def test_the_tree_of_a_client_that_was_killed_in_line_is_removed_by_the_next(
    tell: Tell, inventory: Inventory, clone: Clone
) -> None:
    a = clone("a")
    for name in NODES:
        start(place(inventory, name), "sleep 600")
    words = ("run", "--src", str(a), "--wait", "1m", "--cmd", "echo never")
    with started(*words, until=b"") as child:
        wait_until(kept_trees)
        wait_until(lambda: any(job.state == "queued" for job in jobs(inventory)))
        child.kill()
        child.wait(10)
    (orphan,) = kept_trees()
    assert orphan.read_text() == "a\n"
    tell("run", "--src", str(a), "--wait", "1", "--cmd", "echo never")
    assert not list((state_dir() / "trees").iterdir())


def test_a_tree_that_cannot_be_brought_gives_the_slot_back_at_once(
    tell: Tell, inventory: Inventory, clone: Clone
) -> None:
    shared(inventory).mkdir(parents=True)
    (shared(inventory) / "somebody's").write_text("")
    a = str(clone("a"))
    done = tell("run", "--on", "node1", "--src", a, "--cmd", "echo never")
    assert (done.status, done.out) == (125, "")
    assert "is not empty and gridops did not make it" in done.err
    assert not any(job.active for job in jobs(inventory))
    assert tell("run", "--on", "node1", "--no-sync", "--cmd", "true").status == 0


# -- again -------------------------------------------------------------------------------------


def test_a_lost_run_is_run_again_with_the_tree_of_the_first_time(
    tell: Tell, inventory: Inventory, clone: Clone, tmp_path: Path
) -> None:
    a, marks = clone("a"), tmp_path / "marks"
    edit = f"echo edited >{a}/code/who.txt; kill -9 $PPID; sleep 60"
    command = f"cat code/who.txt >>{marks}; [ $(wc -l <{marks}) = 2 ] || {{ {edit}; }}"
    done = tell("run", "--restart-lost", "--on", "node1", "--src", str(a), "--cmd", command)
    assert done.status == 0, done.err
    assert marks.read_text() == "a\na\n"
    assert not list((state_dir() / "trees").iterdir())


def test_a_start_whose_acknowledgement_got_lost_still_brings_the_tree_first(
    inventory: Inventory, clone: Clone
) -> None:
    """As after a broken connection: the node says only that it has the run."""
    a = clone("a")
    settings = Grid.load(inventory.path).settings
    link = place(inventory).link
    tree = list_tree(a, settings.sync)
    job_id = start(place(inventory), "true", hold=30.0)
    report = deliver(link, Acknowledgement(job_id, "exists"), tree, settings)
    assert report.files == 2
    begun_not = show(inventory, job_id)
    assert (begun_not.state, begun_not.began) == ("held", False)
    assert client.confirm(link, job_id)
    wait_until(lambda: not show(inventory, job_id).active)
    waiting = start(place(inventory), "sleep 600")
    job_id = start(place(inventory), "true", hold=30.0, wait=60.0)
    report = deliver(link, Acknowledgement(job_id, "exists"), tree, settings)
    assert report.target.endswith(f"{job_id}/tree")
    client.kill(link, waiting, grace=0)


def test_a_waiting_client_that_brings_no_tree_is_given_up(inventory: Inventory) -> None:
    start(place(inventory), "sleep 600")
    job_id = start(place(inventory), "echo never", hold=0.5, wait=60.0)
    wait_until(lambda: show(inventory, job_id).state == "refused")
    assert not client.confirm(place(inventory).link, job_id, queued=True)


def test_a_run_that_waits_keeps_the_env_setup_and_variables_of_its_start(
    tell: Tell, inventory: Inventory, clone: Clone
) -> None:
    a = str(clone("a"))
    inventory({name: {"env_setup": "SETUP=first"} for name in NODES})
    holder = start(place(inventory), "sleep 600")
    words = ("run", "--detach", "--wait", "1m", "--on", "node1", "--src", a, "--env", "TOKEN=t1")
    job_id = tell(*words, "--cmd", 'echo "$SETUP $TOKEN"').out.strip()
    inventory({name: {"env_setup": "SETUP=second"} for name in NODES})
    client.kill(place(inventory).link, holder, grace=0)
    assert tell("jobs.wait", job_id).status == 0
    assert tell("jobs.logs", job_id).out == "first t1\n"
    assert re.search(r"variables +TOKEN\n", tell("jobs.show", job_id).out)


def test_a_run_without_a_sync_goes_on_from_what_the_one_before_it_left(
    tell: Tell, inventory: Inventory, clone: Clone, tmp_path: Path
) -> None:
    a, go = str(clone("a")), tmp_path / "go"
    first = f"until [ -e {go} ]; do sleep 0.05; done; echo 42 >made"
    tell("run", "--detach", "--on", "node1", "--src", a, "--cmd", first)
    words = ("run", "--detach", "--on", "node1", "--src", a, "--wait", "1m")
    job_id = tell(*words, "--no-sync", "--cmd", "cat made").out.strip()
    go.touch()
    assert tell("jobs.wait", job_id).status == 0
    assert tell("jobs.logs", job_id).out == "42\n"


@pytest.mark.parametrize("edited", ["code/who.txt", "new.txt"])
def test_a_tree_that_changes_while_it_is_brought_is_not_run_under_another_s_record(
    inventory: Inventory, clone: Clone, tell: Tell, monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    root = clone("a")

    def deliver_late(*args: object, **more: object) -> object:
        (root / edited).write_text("edited meanwhile\n")
        return deliver(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("gridops.dispatch.assignment.deliver", deliver_late)
    monkeypatch.setattr("gridops.dispatch.assignment.EDIT_GRACE", 0.0)
    done = tell("run", "--on", "node1", "--src", str(root), "--cmd", "cat code/who.txt")
    if edited == "new.txt":  # git does not know it, and it did not travel
        assert (done.status, done.out) == (0, "a\n"), done.err
        return
    assert (done.status, done.out) == (125, ""), done.err
    assert "changed while it was copied" in done.err
    assert not any(job.active or job.began for job in jobs(inventory))


def test_isolate_where_no_tree_is_runs_in_the_home_directory_and_says_so(
    inventory: Inventory, clone: Clone, tell: Tell
) -> None:
    words = ("run", "--on", "node1", "--src", str(clone("never")), "--no-sync", "--isolate")
    done = tell(*words, "--cmd", "pwd")
    home = inventory.sandbox.node("node1").home
    assert (done.status, done.out) == (0, f"{home}\n"), done.err
    assert "running in the home directory" in done.err
