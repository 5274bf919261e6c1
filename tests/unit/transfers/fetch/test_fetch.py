"""Bringing results home: where files take their places, whose turn it is, and what is said."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridops.dispatch.results import exit_status_with_results
from gridops.errors import DiskFull, NotWritable, TransferLost, UsageError
from gridops.model import FetchReport, Job, Node
from gridops.observe import events
from gridops.tasks._task import grid_task
from gridops.transfers.fetch import check_patterns
from gridops.transfers.fetch.apply import Installer
from gridops.transfers.fetch.disk import errors_here
from gridops.transfers.fetch.patterns import parse
from gridops.transfers.fetch.stage import staging

NODE = Node("gpu1", "gpu1")


@pytest.fixture
def landing(tmp_path: Path) -> Installer:
    for name in ("stage", "into"):
        (tmp_path / name).mkdir()
    return Installer(str(tmp_path / "stage"), str(tmp_path / "into"))


def staged(landing: Installer, *names: str) -> None:
    for name in names:
        path = Path(landing.stage, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


# -- landing -------------------------------------------------------------------------------------


def test_only_what_was_asked_for_leaves_the_stage(landing):
    """Whatever else a hostile node has made rsync write there."""
    staged(landing, "out/a", "out/b", ".git/hooks/pre-commit", "tasks.py")
    landing.take("out/a")
    landing.take("out/a")
    landing.take("not/there")
    assert landing.new == ["out/a"]
    assert [str(p.relative_to(landing.into)) for p in Path(landing.into).rglob("*")] == [
        "out",
        "out/a",
    ]


def test_nothing_is_taken_through_a_symlink_in_the_stage(landing, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a").write_text("mine")
    Path(landing.stage, "out").symlink_to(tmp_path / "mine")
    landing.take("out/a")
    assert (tmp_path / "mine/a").read_text() == "mine"
    assert list(Path(landing.into).iterdir()) == []


def test_a_file_reaches_another_file_system_in_one_step_too(landing, monkeypatch):
    staged(landing, "out/a")
    replace = os.replace

    def across(source: str, target: str) -> None:
        if source.startswith(landing.stage):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        assert Path(source).read_text() == "out/a"  # whole before it has its name
        replace(source, target)

    monkeypatch.setattr(os, "replace", across)
    landing.take("out")
    assert Path(landing.into, "out/a").read_text() == "out/a"
    assert [path.name for path in Path(landing.into, "out").iterdir()] == ["a"]


def test_a_deep_tree_is_no_trouble(landing):
    deep = "/".join(["d"] * 400)
    os.makedirs(f"{landing.stage}/{deep}")  # noqa: PTH103 - pathlib recurses
    Path(f"{landing.stage}/{deep}/x").write_text("deep")
    landing.take("d")
    assert landing.new == [f"{deep}/x"]


# -- patterns ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "base", "glob"),
    [
        ("a", "", "a"),
        ("./a//b/", "", "a/b"),
        (".", "", "."),
        ("a/**/**/b", "", "a/**/b"),
        ("a/**", "", "a/*"),
        ("a\\*b/c\\d", "", "a[*]b/c\\d"),
        ("/data/out/x", "/data/out", "x"),
        ("/data/*/x", "/data", "*/x"),
        ("/x", "/", "x"),
        ("/*", "/", "*"),
        ("~/x", "~", "x"),
        ("~/a/b/*.c", "~/a/b", "*.c"),
        ("~user/x", "", "~user/x"),
    ],
)
def test_a_pattern_is_a_place_and_what_is_wanted_there(text, base, glob):
    pattern = parse(text)
    assert (pattern.base, pattern.glob) == (base, glob)


def test_a_pattern_given_twice_counts_once():
    assert check_patterns(["a", "b", "a"]) == ("a", "b")
    with pytest.raises(UsageError, match="leads out of the run's directory"):
        check_patterns(["a", "../b"])


# -- the stage -----------------------------------------------------------------------------------


def test_two_fetches_of_the_same_files_take_turns(tmp_path, runtime_dir):
    order: list[str] = []
    inside = threading.Event()

    def second() -> None:
        inside.wait(10)
        with staging(tmp_path, NODE, "/run") as stage:
            order.append("second")
            stage.remove(resume=False)

    thread = threading.Thread(target=second)
    thread.start()
    with staging(tmp_path, NODE, "/run") as stage:
        inside.set()
        time.sleep(0.3)
        with staging(tmp_path, NODE, "/other") as other:  # other files need not wait
            other.remove(resume=False)
        order.append("first")
        stage.remove(resume=False)
    thread.join(10)
    assert order == ["first", "second"]
    assert list(tmp_path.iterdir()) == []
    assert list(runtime_dir.glob("fetch-*")) == []


def test_what_a_killed_fetch_left_is_not_taken_for_results(tmp_path):
    with staging(tmp_path, NODE, "/run") as stage:
        (stage.tree / "old").write_text("of another time")
        (stage.temporary / "big.AbC123").write_text("half")
    with staging(tmp_path, NODE, "/run") as stage:
        assert [*stage.tree.iterdir(), *stage.temporary.iterdir()] == []
        stage.remove(resume=False)


def test_half_a_file_is_kept_only_to_be_continued(tmp_path):
    with staging(tmp_path, NODE, "/run") as stage:
        (stage.tree / "old").write_text("whole")
        stage.partial.mkdir()
        (stage.partial / "big").write_text("half")
        assert stage.remove(resume=True)
    with staging(tmp_path, NODE, "/run") as stage:
        assert (stage.partial / "big").read_text() == "half"
        assert list(stage.tree.iterdir()) == []
        assert not stage.remove(resume=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EACCES, NotWritable),
        (errno.EROFS, NotWritable),
    ],
)
def test_what_the_file_system_here_says_has_its_class(tmp_path, number, kind):
    with pytest.raises(kind, match="here"), errors_here(tmp_path):
        raise OSError(number, os.strerror(number))


# -- the exit status -----------------------------------------------------------------------------


def came(**fields: object) -> FetchReport:
    return FetchReport(NODE, "/here", **fields)  # type: ignore[arg-type]


JOB = Job("a-run", "gpu1", "finished")


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What warnings there were."""
    lines: list[str] = []
    with events.listening(lambda event: lines.append(str(event.fields["message"]))):
        yield lines


@pytest.mark.parametrize(("run", "status"), [(0, 125), (3, 3), (124, 124)])
def test_a_success_whose_results_did_not_come_home_is_none(run, status, said):
    def lost() -> FetchReport:
        raise TransferLost("the transfer broke off", node="gpu1")

    succeeded = "" if run else "the run succeeded, but "
    missed = f"gpu1: {succeeded}its results were not fetched (`inv jobs.fetch a-run PATTERN`)"
    assert exit_status_with_results(run, JOB, lost) == status
    assert said == ["gpu1: the transfer broke off", missed]
    said.clear()
    assert exit_status_with_results(run, JOB, lambda: came(missing=("a",))) == status
    assert said == [missed]
    said.clear()
    assert exit_status_with_results(run, JOB, lambda: came(matched=1, missing=("a",))) == run
    assert said == []


def test_ctrl_c_while_results_come_leaves_and_says_how_to_go_on(said):
    def interrupted() -> FetchReport:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exit_status_with_results(0, JOB, interrupted)
    assert said == ["left before all results were fetched (`inv jobs.fetch a-run PATTERN`)"]


def test_a_repeatable_argument_has_every_value():
    seen: list[object] = []
    task = grid_task(name="t", repeatable=["word"])(lambda call, word: seen.append(word))
    (argument, *_) = task.get_arguments()
    assert argument.positional
    assert argument.value is None
    for value in ("a", "b"):
        argument.value = value
    assert argument.value == ["a", "b"]


# -- private names -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [".git", ".GIT", ".gIt", ".git.", ".git ", "GIT~1", ".g\u200cit", ".git::$INDEX"]
)
def test_whatever_a_file_system_makes_of_it_a_repository_does_not_land(landing, name):
    staged(landing, f"out/{name}/config", "out/a", f"{name}/config")
    landing.take("out")
    landing.take(f"{name}/config")
    assert landing.new == ["out/a"]
    assert sorted(landing.private) == sorted([name, f"out/{name}"])


@pytest.mark.parametrize("name", [".gitignore", ".gitattributes", "git", "x.git", ".github", ".gi"])
def test_names_that_only_begin_alike_do(landing, name):
    staged(landing, f"out/{name}")
    landing.take("out")
    assert landing.new == [f"out/{name}"]
