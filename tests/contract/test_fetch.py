"""Results brought home from a run's directory, whatever reaches the node."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.jobs import Place
from support.nodes import node_of, settings_of

from gridops.errors import NodeError, PartialTransfer, UsageError
from gridops.inventory.settings import Settings, SshSettings
from gridops.model import Node
from gridops.reach import link_to
from gridops.reach.link import Link
from gridops.reach.local import LocalLink
from gridops.transfers.fetch import FetchReport, fetch_results, remote
from gridops.transfers.fetch.patterns import parse

ODD_NAMES = (
    b"-dash",
    b"new\nline",
    b"qu'o\"te",
    "ünï cöde".encode(),
    b"bad\xff\xfe",
    b"*",
    b"[x]",
    b"host:colon",
    b"#hash",
    b";semi",
    b"back\\slash",
    b"esc\\#012",
    b" lead and trail ",
    b"tab\there\r",
    b"$(touch evil)",
    b"~tilde",
    b"...",
    bytes(range(0x80, 0xC0)),
    bytes(range(0xC0, 0x100)) + bytes(range(1, 0x2F)),
)


@dataclass
class There:
    """A run's directory on a node, as seen from here, and the place at home."""

    link: Link
    root: Path
    directory: str  # the same, as the node is told
    into: Path
    settings: Settings

    def fetch(self, *patterns: str, **options: object) -> FetchReport:
        options = {"into": self.into, **options}
        return fetch_results(self.link, self.directory, patterns, settings=self.settings, **options)  # type: ignore[arg-type]


@pytest.fixture(params=["local", "ssh"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[There]:
    into = tmp_path / "at home"
    into.mkdir()
    if request.param == "local":
        node, ssh = Node("here", "here", connection="local"), SshSettings()
        root = tmp_path / "run of it"
        directory = str(root)
    else:
        sandbox = request.getfixturevalue("sandbox")
        name = f"fetch-{time.monotonic_ns()}/run of it"
        node, ssh = node_of(sandbox, "node1"), settings_of(sandbox)
        root, directory = sandbox.node("node1").home / name, f"~/{name}"
    root.mkdir(parents=True)
    yield There(link_to(node, ssh), root, directory, into, Settings(ssh=ssh))
    if request.param == "ssh":
        shutil.rmtree(root.parent)


def put(root: Path, *names: str | bytes, text: str = "x", age: float = 0.0) -> None:
    """Files that were written `age` seconds ago."""
    for name in names:
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (time.time() - age,) * 2)


def entries(root: Path) -> set[str]:
    """All files and symlinks below but the record of fetches, and the empty directories with a
    slash."""
    return {
        str(path.relative_to(root)) + ("/" if path.is_dir() and not path.is_symlink() else "")
        for path in root.rglob("*")
        if path.is_symlink() or not path.is_dir() or not any(path.iterdir())
        if not str(path).endswith((".gridops/fetched", ".gridops/.gitignore"))
    }


# -- what patterns name --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.txt", {"a.txt"}),
        ("./a.txt", {"a.txt"}),
        ("out", {"out/1.json", "out/2.json", "out/log", "out/deep/3.json", "out/.h", "out/none/"}),
        ("out/", {"out/1.json", "out/2.json", "out/log", "out/deep/3.json", "out/.h", "out/none/"}),
        ("out/*.json", {"out/1.json", "out/2.json"}),
        ("out//[!1].json", {"out/2.json"}),
        ("*/?.json", {"out/1.json", "out/2.json"}),
        ("out/*", {"out/1.json", "out/2.json", "out/log", "out/deep/3.json", "out/none/"}),
        ("out/.*", {"out/.h"}),
        ("**/*.json", {"out/1.json", "out/2.json", "out/deep/3.json"}),
        ("out/**/3.json", {"out/deep/3.json"}),
        ("**/deep", {"out/deep/3.json"}),
        ("out/deep/**", {"out/deep/3.json"}),
        ("lo\\*g", {"lo*g"}),
        ("two  w*", {"two  words"}),
        ("nothing/*", set()),
        ("a.txt/*", set()),
        (".", {"a.txt", "lo*g", "loog", "two  words", "out/1.json", "out/2.json", "out/log"}
         | {"out/deep/3.json", "out/.h", "out/none/"}),
    ],
)  # fmt: skip
def test_what_a_pattern_names_lands_where_it_lay(there: There, pattern, names):
    put(
        there.root,
        "a.txt",
        "lo*g",
        "loog",
        "two  words",
        "out/1.json",
        "out/2.json",
        "out/log",
        "out/.h",
    )
    put(there.root, "out/deep/3.json", ".gridops/marker", ".git/config")
    (there.root / "out/none").mkdir()
    report = there.fetch(pattern)
    assert entries(there.into) == names
    assert {*report.new} == {name for name in names if not name.endswith("/")}
    assert report.found == bool(names)
    assert report.missing == (() if names else (pattern,))


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_mean_themselves(there: There, name):
    text = os.fsdecode(name)
    put(there.root, name, b"d-" + name + b"/" + name, b"d-" + name + b"/plain", "other")
    report = there.fetch(text, f"d-{text}/*", f"d-{text}/{text}")
    found = entries(there.into)
    assert {text, f"d-{text}/plain", f"d-{text}/{text}"} <= found
    assert found <= entries(there.root)
    assert ("other" in found) == (text == "*")  # a wildcard as well
    assert report.missing == ()
    assert not Path("evil").exists()


def test_a_thousand_names_of_many_patterns_come_at_once(there: There):
    put(there.root, *(f"d{number % 7}/{'long ' * 20}{number}" for number in range(1000)))
    report = there.fetch("d0", "d1/*", *(f"d{number}/**" for number in range(2, 7)))
    assert report.files == 1000
    assert there.fetch("*").files == 0


def test_any_place_of_the_node_lands_by_its_own_name(there: There, tmp_path):
    elsewhere = there.root.parent / "else where"
    put(elsewhere, "data/a/x.csv", "data/b/x.csv", "data/b/y")
    report = there.fetch(f"{elsewhere}/data/*/x.csv", f"{elsewhere}/data/b")
    assert entries(there.into) == {"a/x.csv", "b/x.csv", "b/y"}
    assert report.missing == ()
    shutil.rmtree(elsewhere)


def test_a_tilde_is_the_nodes_home(there: There, home):
    base = home if there.link.node.connection == "local" else there.root.parents[1]
    name = f"tilde-{time.monotonic_ns()}"
    put(base, f"{name}/x")
    assert there.fetch(f"~/{name}/*", f"~/{name}").new == (f"{name}/x", "x")
    shutil.rmtree(base / name)


# -- what is here already ------------------------------------------------------------------------


def test_a_second_fetch_brings_nothing(there: There):
    put(there.root, "out/a", "out/b", age=100)
    there.fetch("out")

    def state() -> dict[Path, tuple[int, int]]:
        found = [(path, path.stat()) for path in there.into.rglob("[!.]*")]
        return {path: (info.st_ino, info.st_ctime_ns) for path, info in found}

    before = state()
    report = there.fetch("out", "out/*")
    assert (report.files, report.kept, report.found) == (0, (), True)
    assert state() == before


def test_of_a_changed_file_the_change_alone_travels(there: There):
    if there.link.node.connection == "local":
        pytest.skip("on one machine rsync copies whole files")
    data = os.urandom(4_000_000)
    (there.root / "big").write_bytes(data)
    assert there.fetch("big").bytes > 4_000_000
    (there.root / "big").write_bytes(data[:2_000_000] + b"new" + data[2_000_000:])
    report = there.fetch("big")
    assert report.replaced == ("big",)
    assert report.bytes < 400_000
    assert (there.into / "big").read_bytes() == (there.root / "big").read_bytes()


def test_a_file_rewritten_within_a_second_at_the_same_size_is_seen(there: There):
    path = there.root / "step"
    path.write_text("1")
    os.utime(path, ns=(10**18, 10**18 + 1000))
    there.fetch("step")
    path.write_text("2")
    os.utime(path, ns=(10**18, 10**18 + 900_000_000))
    assert there.fetch("step").replaced == ("step",)
    assert (there.into / "step").read_text() == "2"


def test_a_newer_file_here_is_kept_and_that_is_said(there: There, warnings):
    put(there.root, "out/a", "out/b", "out/c", text="there", age=100)
    put(there.into, "out/a", text="mine", age=10)
    put(there.into, "out/b", text="older", age=1000)
    put(there.into, "out/c", text="there", age=10)  # newer, but the same
    report = there.fetch("out")
    assert (report.kept, report.replaced, report.new) == (("out/a",), ("out/b",), ())
    assert (there.into / "out/a").read_text() == "mine"
    assert (there.into / "out/b").read_text() == "there"
    name = there.link.node.name
    assert warnings == [f"{name}: kept, since newer here (--overwrite replaces them): out/a"]


def test_overwrite_replaces_a_newer_file(there: There, warnings):
    put(there.root, "a", text="there", age=100)
    put(there.into, "a", text="mine")
    assert there.fetch("a", overwrite=True).replaced == ("a",)
    assert (there.into / "a").read_text() == "there"
    assert warnings == []


def test_times_stay_and_modes_as_far_as_the_umask_allows(there: There):
    put(there.root, "script", "secret", age=1000)
    (there.root / "script").chmod(0o6777)
    (there.root / "secret").chmod(0o600)
    before = os.umask(0o027)
    try:
        there.fetch("*")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in there.into.glob("s*")}
    assert modes == {"script": 0o750, "secret": 0o600}
    written = (there.root / "script").stat().st_mtime_ns
    assert (there.into / "script").stat().st_mtime_ns == written


# -- symlinks ------------------------------------------------------------------------------------


def test_symlinks_stay_symlinks_and_those_that_lead_out_stay_there(there: There, warnings):
    put(there.root, "out/step-9", "kept/data")
    for name, to in (
        ("latest", "step-9"),
        ("across", "../kept/data"),
        ("gone", "nowhere"),
        ("passwd", "/etc/passwd"),
        ("up", "../../up"),
    ):
        (there.root / "out" / name).symlink_to(to)
    report = there.fetch("out", "out/l*")
    to = [str((there.into / "out" / name).readlink()) for name in ("latest", "across", "gone")]
    assert to == ["step-9", "../kept/data", "nowhere"]
    assert entries(there.into) == {"out/step-9", "out/latest", "out/across", "out/gone"}
    assert report.skipped == ("out/passwd", "out/up")
    (said,) = warnings
    assert said.endswith(
        "not fetched, since symlinks that lead nowhere or elsewhere: out/passwd, out/up"
    )


def test_what_a_pattern_names_outright_comes_itself(there: There, tmp_path):
    elsewhere = there.root.parent / "scratch"
    put(elsewhere, "big/1", "big/2", text="scratch")
    put(there.root, "out/step-9", text="nine")
    (there.root / "best").symlink_to("out/step-9")
    (there.root / "far").symlink_to(elsewhere / "big/1")
    (there.root / "results").symlink_to(elsewhere / "big")
    there.fetch("best", "far", "results")
    assert entries(there.into) == {"best", "far", "results/1", "results/2"}
    assert [(there.into / name).read_text() for name in ("best", "far")] == ["nine", "scratch"]
    assert not any(path.is_symlink() for path in there.into.rglob("*"))
    assert there.fetch("best", "far", "results", "results/*").files == 0
    shutil.rmtree(elsewhere)


def test_a_link_and_what_is_behind_it_may_both_be_asked_for(there: There):
    put(there.root, "out/d/x")
    (there.root / "out/l").symlink_to("d")
    there.fetch("out", "out/*/x")
    assert (there.into / "out/l/x").read_text() == "x"
    assert (there.into / "out/d/x").read_text() == "x"


# -- what cannot be ------------------------------------------------------------------------------


def test_nothing_is_written_through_a_symlink_that_leads_out(there: There, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    put(there.root, "out/a", "inner/b", "plain")
    (there.into / "out").symlink_to(outside)
    (there.into / "real").mkdir()
    (there.into / "inner").symlink_to("real")
    with pytest.raises(PartialTransfer, match="out: a symlink") as caught:
        there.fetch(".")
    assert caught.value.files == ("out",)
    assert list(outside.iterdir()) == []
    assert (there.into / "real/b").exists()  # that one leads to a place within
    assert (there.into / "plain").exists()


def test_a_symlink_in_a_files_place_is_replaced_and_not_followed(there: There, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    put(there.root, "a", text="there")
    (there.into / "a").symlink_to(precious)
    os.utime(there.into / "a", (1, 1), follow_symlinks=False)
    assert there.fetch("a").replaced == ("a",)
    assert precious.read_text() == "mine"
    assert not (there.into / "a").is_symlink()


def test_what_is_in_the_way_is_named_and_the_rest_comes(there: There):
    put(there.root, "one", "two/x", "three")
    put(there.into, "one/mine", "two")
    os.mkfifo(there.into / "three")
    put(there.root, "four")
    with pytest.raises(PartialTransfer, match="fetched but not stored") as caught:
        there.fetch("*")
    assert {*caught.value.files} == {"one", "two", "three"}
    assert "one: a directory is in its place here" in str(caught.value)
    assert "two: what is in its place here is not a directory" in str(caught.value)
    assert entries(there.into) == {"one/mine", "two", "three", "four"}


def test_a_pattern_that_matches_nothing_is_named(there: There, warnings):
    put(there.root, "a")
    report = there.fetch("a", "plots/*.png", "b")
    assert report.found
    assert report.missing == ("plots/*.png", "b")
    assert [said.partition(" in ")[0] for said in warnings] == [
        f"{there.link.node.name}: plots/*.png matches nothing",
        f"{there.link.node.name}: b matches nothing",
    ]
    report = there.fetch("b", into=there.into / "new")
    assert not report.found
    assert not (there.into / "new").exists()


def test_a_home_that_the_shell_here_spelt_out_has_a_hint(there: There, home, warnings):
    there.fetch(f"{home}/no/such")
    assert warnings[0].endswith("matches nothing (quote '~/no/such' to mean the node's home)")


def test_sockets_and_pipes_stay_there_and_are_named(there: There, warnings):
    put(there.root, "out/a")
    os.mkfifo(there.root / "out/pipe")
    assert there.fetch("out").skipped == ("out/pipe",)
    assert warnings[0].endswith("not fetched, since no regular files: out/pipe")


@pytest.mark.parametrize(
    "pattern", ["", "../x", "a/../../x", "/a/../b", "/", "~", ".git", ".gridops/x", "a\0b"]
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(there: There, pattern):
    with pytest.raises(UsageError):
        there.fetch("a", pattern)


def test_a_directory_that_is_gone_is_an_error_or_the_home_is_meant(there: There, home, warnings):
    shutil.rmtree(there.root)
    with pytest.raises(NodeError, match=r"the run's directory .* does not exist"):
        there.fetch("*")
    base = home if there.link.node.connection == "local" else there.root.parents[1]
    name = f"home-{time.monotonic_ns()}"
    put(base, name)
    assert there.fetch(name, home_instead=True).new == (name,)
    assert "searching the home directory" in warnings[0]
    (base / name).unlink()
    there.root.mkdir(parents=True)


def test_a_place_at_home_within_the_runs_own_directory_ends_nowhere_deep(there: There):
    """The run was on this machine, in the home directory perhaps."""
    put(there.root, "a", "here/b")
    there.fetch(".", into=there.root / "here")
    assert entries(there.root) - {"here/here/.gridops/"} == {"a", "here/a", "here/b", "here/here/b"}


def test_nothing_of_ours_stays_behind(there: There):
    put(there.root, "out/a")
    there.fetch("out")
    left = sorted(path.name for path in (there.into / ".gridops").iterdir())
    assert left == [".gitignore", "fetched"]
    put(there.into, ".gridops/marker")  # somebody's
    put(there.root, "out/b")
    there.fetch("out")
    assert entries(there.into) == {"out/a", "out/b", ".gridops/marker"}


# -- the node's word -----------------------------------------------------------------------------


def test_names_are_found_by_every_shell_that_a_node_may_have(place: Place):
    root = place.home / f"find-{time.monotonic_ns()}"
    for name in ODD_NAMES:
        put(root, b"d/" + name, b"d/e-" + name + b"/x")
    put(root, "d/.hidden", "d/.e/x")
    (root / "d/loop").symlink_to(".")
    found = remote.find(place.link, str(root), [parse("d/*"), parse("**/x"), parse("d/.h*")])
    names = {os.fsencode(name) for name in found.groups[0].names}
    plain = [name for name in ODD_NAMES if not name.startswith(b".")]
    wanted = {b"d/loop", *(b"d/" + name for name in plain)} | {b"d/e-" + name for name in ODD_NAMES}
    assert names == wanted | {b"d/e-" + name + b"/x" for name in ODD_NAMES} | {b"d/.hidden"}
    for name in ODD_NAMES:
        found = remote.find(place.link, str(root), [parse("d/" + os.fsdecode(name))])
        assert b"d/" + name in {os.fsencode(one) for one in found.groups[0].names}
    shutil.rmtree(root)


@pytest.mark.parametrize(
    "name",
    ["../evil", "/evil", "out/../../evil", "other", "out", "out/a/b", "out//a", "", "out/.."],
)
def test_a_node_that_names_what_was_not_asked_for_gets_nothing_brought(name, home, monkeypatch):
    """A careless or hostile one: what it says is held to what the pattern can mean."""
    answer = f"printf 'b/tmp\\0m%s\\0.\\0' '{name}'\n"
    monkeypatch.setattr(remote, "_script", lambda: answer)
    link = LocalLink(Node("here", "here", connection="local"))
    found = remote.find(link, "/tmp", [parse("out/*")])
    assert found.groups == ()
    assert len(found.missing) == 1


@pytest.mark.parametrize(
    "answer", ["", "printf 'b/tmp\\0mout/a\\0'", "printf 'nonsense'", "exit 3"]
)
def test_an_answer_that_is_cut_short_is_an_error(home, monkeypatch, answer):
    monkeypatch.setattr(remote, "_script", lambda: answer)
    link = LocalLink(Node("here", "here", connection="local"))
    with pytest.raises(NodeError, match="its answer is not valid"):
        remote.find(link, "/tmp", [parse("out/*")])


# -- what never comes ------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["results", "results/*", "results/**/.*", "."])
def test_no_repository_comes_home_and_that_is_said(there: There, warnings, pattern):
    """git here would start the programs that its configuration names."""
    put(there.root, "results/a", "results/deep/b", "results/.gitignore", "results/my.git/c")
    put(there.root, "results/.git/config", "results/deep/.GIT/config", "results/deep/er/.Git")
    put(there.root, "results/deep/.gridops/fetched")
    there.fetch(pattern)
    found = {name.lower() for name in entries(there.into)}
    assert found
    assert not [name for name in found if "/.git/" in name or name.endswith(("/.git", "fetched"))]
    assert found <= {"results/a", "results/deep/b", "results/.gitignore", "results/my.git/c"} | {
        "results/deep/er/"
    }
    (said,) = [line for line in warnings if "git would start what a repository names" in line]
    assert ("names, 3: " in said) == (pattern != "results/*")  # a * matches no leading dot
    assert "results/deep/.GIT, results/deep/er/.Git" in said


@pytest.mark.parametrize(
    "pattern", ["results/.git", "results/.GIT/config", "a/.Git/hooks/*", "/x/.git", "x/.gridops/y"]
)
def test_to_ask_for_a_repository_is_refused(there: There, pattern):
    put(there.root, "results/.git/config")
    with pytest.raises(UsageError, match="cannot be fetched"):
        there.fetch(pattern)


def test_a_directory_that_git_would_take_for_a_repository_does_not_come(there: There, warnings):
    put(there.root, *(f"results/bare/{name}" for name in ("HEAD", "config", "objects/x", "refs/y")))
    put(there.root, "results/linked/HEAD", "results/linked/commondir", "results/HEAD")
    there.fetch("results")
    assert entries(there.into) == {"results/HEAD", "results/bare/config", "results/linked/"}
    assert "names, 5: " in "".join(warnings)


def test_nor_does_it_come_in_pieces(there: There):
    put(there.root, "results/HEAD", "results/objects/x")
    there.fetch("results/*")
    put(there.root, "results/refs/y", "results/config")
    there.fetch("results/refs")
    assert not (there.into / "results/refs").exists()


def test_no_symlink_that_came_home_leads_into_our_repository(there: There):
    """What an earlier run has left as `out -> .git` is a directory with files in this one."""
    put(there.into, ".git/config", text="ours")
    (there.root / "out").symlink_to(".git")
    there.fetch("o*")
    assert (there.into / "out").is_symlink()
    (there.root / "out").unlink()
    put(there.root, "out/config", text="theirs")
    with pytest.raises(PartialTransfer, match="into a repository or"):
        there.fetch("out/*", overwrite=True)
    assert (there.into / ".git/config").read_text() == "ours"
