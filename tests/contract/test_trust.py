"""Places on a node that other accounts may write to are not taken for ours."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.jobs import Place, done

from gridops.errors import NotStarted, UnsafeTarget
from gridops.inventory.settings import Settings
from gridops.jobs.spec import JobSpec
from gridops.jobs.start import start_job
from gridops.model import Node
from gridops.reach.local import LocalLink
from gridops.reach.preamble import with_args
from gridops.system.scripts import script
from gridops.transfers.sync import remote as node_side
from gridops.transfers.sync import sync_tree

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a second account needs root")

OTHER = 54321  # an account that nobody has
SECOND = 54322
AS = (str(shutil.which("setpriv")),)
SHELL = {"dash": ["dash"], "bash": ["bash"], "busybox": [str(shutil.which("busybox")), "sh"]}
SHELLS = tuple(SHELL)


@pytest.fixture
def src(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    (path / "a").write_text("a")
    return path


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory where everybody may make his own, such as /tmp, and which others can reach."""
    path = Path(f"/tmp/gridops-shared-{os.getpid()}")
    path.mkdir()
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


def sync(root: Path, src: Path, *, dry_run: bool = False) -> str:
    there = Node("here", "here", connection="local", remote_root=str(root))
    return sync_tree(LocalLink(there), src, Settings(), dry_run=dry_run).target


def given(path: Path, owner: int = OTHER, mode: int = 0o755, *, file: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch() if file else path.mkdir(exist_ok=True)
    path.chmod(mode)
    os.chown(path, owner, owner)
    return path


def marked(target: Path) -> None:
    (target / ".gridops").mkdir(parents=True, mode=0o700)
    (target / ".gridops/marker").touch()


# -- what is not trusted ---------------------------------------------------------------------------


def a_target_of_anothers(target: Path) -> Path:
    marked(target)
    (target / "train.py").write_text("his")
    for path in (target, target / ".gridops", target / ".gridops/marker", target / "train.py"):
        os.chown(path, OTHER, OTHER)
    return target


def an_empty_target_of_anothers(target: Path) -> Path:
    return given(target)


def a_state_of_anothers(target: Path) -> Path:
    marked(target)
    os.chown(target / ".gridops", OTHER, OTHER)
    return target / ".gridops"


def a_marker_of_anothers(target: Path) -> Path:
    marked(target)
    os.chown(target / ".gridops/marker", OTHER, OTHER)
    return target / ".gridops/marker"


def a_root_of_anothers(target: Path) -> Path:
    return given(target.parent, mode=0o1777)


def a_root_of_anothers_with_our_target(target: Path) -> Path:
    given(target.parent, mode=0o1777)
    marked(target)
    return target.parent


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    "prepare",
    [
        a_target_of_anothers,
        an_empty_target_of_anothers,
        a_state_of_anothers,
        a_marker_of_anothers,
        a_root_of_anothers,
        a_root_of_anothers_with_our_target,
    ],
)
def test_what_another_account_has_made_is_refused_and_it_is_named(
    shared: Path, src: Path, prepare: Callable[[Path], Path], dry_run: bool
) -> None:
    target = shared / "root/project"
    guilty = prepare(target)
    with pytest.raises(UnsafeTarget, match=f"{guilty} belongs to UNKNOWN") as caught:
        sync(shared / "root", src, dry_run=dry_run)
    assert "move remote_root to a directory of yours" in str(caught.value)
    assert caught.value.exit_status == 125
    assert not (target / "a").exists()


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o2777])
@pytest.mark.parametrize("where", [".", ".gridops", ".gridops/marker"])
def test_what_others_may_write_to_is_refused(
    shared: Path, src: Path, mode: int, where: str
) -> None:
    target = shared / "project"
    marked(target)
    (target / where).chmod(mode)
    with pytest.raises(UnsafeTarget, match=r"can be written by others.*chmod go-w"):
        sync(shared, src)
    (target / where).chmod(0o700)
    sync(shared, src)


@pytest.mark.parametrize("mode", [0o777, 0o707, 0o2777])
def test_a_parent_in_which_others_may_swap_our_directory_is_refused(
    shared: Path, src: Path, mode: int
) -> None:
    shared.chmod(mode)
    for root in (shared, shared / "deeper/root"):
        with pytest.raises(UnsafeTarget, match=rf"{shared} can be written by others.*chmod \+t"):
            sync(root, src)
    assert not list(shared.iterdir())


def test_a_sticky_parent_is_fine(shared: Path, src: Path) -> None:
    assert sync(shared, src) == str(shared / "project")
    assert sync(shared / "deeper/root", src) == str(shared / "deeper/root/project")
    for path in (shared / "deeper", shared / "deeper/root", shared / "deeper/root/project"):
        assert path.stat().st_mode & 0o777 == 0o700


def test_a_symlink_leads_to_no_place_of_anothers(shared: Path, src: Path) -> None:
    a_target_of_anothers(shared / "his/project")
    (shared / "root").symlink_to(shared / "his")
    with pytest.raises(UnsafeTarget, match="belongs to"):
        sync(shared / "root", src)


# -- seen by an ordinary account -------------------------------------------------------------------


def as_user(user: int, group: int, shell: str, text: str, *args: str, home: Path) -> str:
    """What the script prints that an account without any right of root's runs."""
    tools = home / shell
    path = os.environ["PATH"]
    if shell == "busybox":  # its own applets alone
        if not tools.exists():
            tools.mkdir()
            subprocess.run(["busybox", "--install", "-s", str(tools)], check=True)
        path = str(tools)
    done = subprocess.run(
        [*AS, f"--reuid={user}", f"--regid={group}", "--clear-groups", *SHELL[shell]],
        input=with_args(text, args),
        env={**os.environ, "PATH": path, "HOME": str(home)},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_an_ordinary_account_trusts_itself_and_root_alone(shared: Path, shell: str) -> None:
    home = given(shared / "home", SECOND, 0o755)
    ask = 'if ours_alone "$1"; then echo ours; else echo "$trouble"; fi'
    text = f"{script('reach/trust.sh')}\n{ask}\n"

    def verdict(path: Path) -> str:
        return as_user(SECOND, SECOND, shell, text, str(path), home=home).strip()

    assert verdict(given(home / "ours", SECOND, 0o700)) == "ours"
    assert "belongs to UNKNOWN" in verdict(given(home / "his", OTHER, 0o755))
    assert "belongs to root" in verdict(given(home / "roots", 0, 0o755))
    assert "written by the group" in verdict(given(home / "group", SECOND, 0o775))
    assert "written by others" in verdict(given(home / "all", SECOND, 0o777))
    assert verdict(given(given(shared / "sticky", 0, 0o1777) / "ours", SECOND, 0o700)) == "ours"
    assert "belongs to" in verdict(given(given(shared / "h", OTHER, 0o1777) / "o", SECOND, 0o700))
    odd = given(home / "new\nline $(x) `y` *", SECOND, 0o700)
    assert verdict(odd) == "ours"


@pytest.mark.parametrize("shell", SHELLS)
def test_an_ordinary_accounts_sync_refuses_the_directory_of_another(
    shared: Path, shell: str
) -> None:
    home = given(shared / "home", SECOND, 0o755)
    a_target_of_anothers(shared / "root/project")
    os.chown(shared / "root", 0, 0)
    args = ("prepare", str(shared / "root"), "project", "id", "origin", "key", "no", "me", "me.1")
    said = as_user(SECOND, SECOND, shell, node_side._script(), *args, home=home)
    assert said.startswith("unsafe\0")
    assert "belongs to" in said


PASSWD = "me:x:{0}:{0}::/:/bin/sh\n"


@pytest.mark.parametrize(
    ("members", "mode", "ours"),
    [("", 0o770, True), ("me", 0o775, True), ("me,other", 0o770, False), ("", 0o777, False)],
)
def test_a_group_of_the_users_own_may_write(
    shared: Path, members: str, mode: int, ours: bool, tmp_path: Path
) -> None:
    """As umask 002 of Debian, Ubuntu and Red Hat lets it: nobody else is in it."""
    home = given(shared / "home", SECOND, 0o755)
    place = given(home / "place", SECOND, mode)
    tools = shared / "tools"
    tools.mkdir()
    (tools / "getent").write_text(f"#!/bin/sh\necho me:x:{SECOND}:{members}\n")
    (tools / "id").write_text(f"#!/bin/sh\ncase $1 in -g) echo {SECOND} ;; *) echo me ;; esac\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    text = f'PATH={tools}:$PATH\n{script("reach/trust.sh")}\nours_alone "$1" && echo ours\n:\n'
    assert (as_user(SECOND, SECOND, "dash", text, str(place), home=home) == "ours\n") == ours


# -- runs ----------------------------------------------------------------------------------------


@pytest.fixture
def place(home: Path) -> Place:
    return Place(LocalLink(Node("here", "localhost", connection="local")), home)


def test_no_run_begins_in_the_directory_of_another(
    place: Place, shared: Path, tmp_path: Path
) -> None:
    """`run --no-sync` in what looks like an earlier target."""
    target = a_target_of_anothers(shared / "root/project")
    spec = JobSpec(command=f"touch {tmp_path}/ran", directory=str(target))
    start_job(place.link, spec)
    assert done(place, spec.id).status == 125
    assert "belongs to" in (place.home / f".gridops/jobs/{spec.id}/err").read_text()
    assert not (tmp_path / "ran").exists()


def test_no_snapshot_is_taken_of_the_directory_of_another(
    place: Place, shared: Path, tmp_path: Path
) -> None:
    target = a_target_of_anothers(shared / "root/project")
    spec = JobSpec(command=f"touch {tmp_path}/ran", directory=str(target), isolate=True)
    with pytest.raises(NotStarted, match="belongs to"):
        start_job(place.link, spec)
    assert not (tmp_path / "ran").exists()
