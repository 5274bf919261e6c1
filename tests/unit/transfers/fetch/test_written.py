"""How finely, and by which clock, the files of a run are told: written.py and times.py."""

from __future__ import annotations

import tracemalloc

import pytest

from gridops.errors import UnreadableAnswer
from gridops.reach.answers import Limit
from gridops.transfers.fetch.times import Times
from gridops.transfers.fetch.written import Chooser, Entry, Window, above, precedes, topmost

B, E = "2026-01-01 10:00:00.500000000 +0000", "2026-01-01 10:00:09.500000000 +0000"


def at(seconds: str) -> str:
    return f"2026-01-01 10:00:{seconds} +0000"


def entry(changed: str, modified: str = "", links: int = 1) -> Entry:
    return Entry(at(changed), at(modified or changed), links, 0o100644)


def read_answer(text: str, mark: str, run: str, size: int = 7) -> tuple[Window | None, list[str]]:
    """The window and the names; `size` is that of the pieces in which the answer comes."""
    found: list[str] = []
    times = Times(mark, run, lambda name, entry, window: found.append(name), Limit(100, 100_000))
    for start in range(0, len(text), size):
        times(text[start : start + size].encode())
    times.finish()
    return times.window, found


@pytest.mark.parametrize(
    ("one", "other", "before"),
    [
        ("00.400000000", "00.500000000", True),
        ("00.500000000", "00.500000000", False),
        ("00.000000000", "00.500000000", False),  # no fraction: the same second
        ("00", "01.500000000", True),
    ],
)
def test_times_are_as_fine_as_the_coarser_of_two(one, other, before):
    assert precedes(at(one), at(other)) is before


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (entry("00.400000000"), "older"),
        (entry("00.600000000"), "written"),
        (entry("05.100000000", "00.100000000"), "written"),
        (entry("05.100000000", "00.100000000", links=2), "written"),
        (entry("15.100000000", "00.100000000"), "older"),
        (entry("15.100000000", "05.100000000"), "written"),
        (entry("15.100000000"), "written"),
        (entry("25.100000000"), "later"),
    ],
)
def test_the_last_to_change_a_file_is_known_by_its_times(found, verdict):
    others = ((at("20.100000000"), None),)
    assert Window(B, E, others).judge(found) == verdict


def test_with_snapshots_of_others_a_link_is_no_change():
    linked = entry("05.100000000", "00.100000000", links=2)
    assert Window(B, E, shared=True).judge(linked) == "older"


@pytest.mark.parametrize(
    ("server", "began"),
    [
        ("03.700000000", "2026-01-01 10:00:03.48"),
        ("00.200000000", "2026-01-01 09:59:59.98"),
        ("00.701000000", "2026-01-01 10:00:00.50"),  # one clock, read twice
    ],
)
def test_a_file_servers_clock_is_the_one_that_counts(server, began):
    text = (
        f"m run {B} id/child\nm run {E} id/exit\nm here {at(server)}\n"
        f"m home {at('00.700000000')}\nm {at('04.100000000')}|{at('04.100000000')}|1|81a4|./a b\n"
        "m done\n"
    )
    window, found = read_answer(text, "m", "id")
    assert window
    assert found == ["a b"]
    assert window.began.startswith(began)


@pytest.mark.parametrize(
    "text", ["", "m done", "m x\nm done\n", f"m run {B} id/child\n", "m |||||\n"]
)
def test_an_answer_that_is_not_whole_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011
        read_answer(text, "m", "id")


NEW, OLD, LATE = at("05.100000000"), at("00.100000000"), at("25.100000000")
WINDOW = Window(B, E, ((at("20.100000000"), None),))


def chosen(names: list[str], *entries: tuple[str, str] | tuple[str, str, str]) -> Chooser:
    """What comes of entries that end with a slash where they are directories."""
    chooser = Chooser(names)
    for path, changed, *modified in entries:
        mode = 0o040755 if path.endswith("/") else 0o100644
        entry = Entry(changed, modified[0] if modified else changed, 1, mode)
        chooser.add(path.rstrip("/"), entry, WINDOW, counts=not path.endswith(".git"))
    return chooser


@pytest.mark.parametrize(
    ("entries", "names", "older", "later"),
    [
        ([("d/", NEW), ("d/a", NEW), ("d/b", NEW)], ["d"], 0, []),
        ([("d/", NEW), ("d/a", NEW), ("d/b", OLD)], ["d/a"], 1, []),
        ([("d/", NEW), ("d/a", NEW), ("d/b", LATE)], ["d/a"], 0, ["d/b"]),
        ([("d/", OLD), ("d/a", OLD)], [], 1, []),
        ([("d/", NEW), ("d/e/", NEW), ("d/b", OLD)], ["d/e"], 1, []),  # an empty directory
        ([("d/", NEW), ("d/e/", OLD), ("d/b", NEW)], ["d/b"], 0, []),
        ([("d/", NEW), ("d/e/", NEW), ("d/e/.git", NEW), ("d/b", NEW)], ["d"], 0, []),
        ([("d/", NEW)], ["d"], 0, []),
        ([("d/", NEW, OLD), ("d/a", OLD), ("d/e/", OLD), ("d/e/a", OLD)], ["d"], 0, []),  # moved
        ([("d/", NEW), ("d/e/", NEW, OLD), ("d/e/a", OLD), ("d/z", OLD)], ["d/e/a"], 1, []),
    ],
)
def test_what_a_run_wrote_is_chosen_as_the_names_come(entries, names, older, later):
    choice = chosen(["d"], *entries).choice()
    assert choice.names == {"d": names}
    assert (choice.older, choice.later) == (older, later)


def test_a_name_below_another_is_asked_for_once_and_counts_for_both():
    names = ["a", "a/b/c", "x/y/", "a/b"]
    assert topmost(names) == ["a", "x/y/"]
    assert sorted(above(topmost(names))) == ["x"]
    assert topmost([".", "a"]) == ["."]
    entries = [("x/", OLD), ("a/", NEW), ("a/b/", NEW), ("a/b/c", NEW), ("a/z", OLD), ("x/y/", OLD)]
    choice = chosen(names, *entries, ("x/y/z", NEW), ("x/y/old", OLD)).choice()
    assert choice.names == {"a": ["a/b/c"], "a/b/c": ["a/b/c"], "a/b": ["a/b"], "x/y/": ["x/y/"]}


def test_a_directory_above_that_the_run_moved_brings_what_is_in_it():
    entries = [("x/", NEW, OLD), ("x/y/", OLD), ("x/y/d/", OLD), ("x/y/d/a", OLD)]
    assert chosen(["x/y/d"], *entries).choice().names == {"x/y/d": ["x/y/d"]}


@pytest.mark.parametrize("kind", ["file", "directory", "endless record", "nested"])
def test_a_million_names_that_the_run_did_not_write_take_no_memory(kind):
    chooser = Chooser(["d"])
    times = Times("m" * 12, "id", chooser.add, Limit(2_000_000, 1 << 30))
    times(f"{'m' * 12} run {B} id/child\n{'m' * 12} run {E} id/exit".encode())
    mode = "81a4" if kind == "file" else "41ed"
    deep = kind == "nested"
    lines = [
        f"\n{'m' * 12} {OLD}|{OLD}|1|{mode}|./d/{'n/' * (number if deep else 1)}{number}"
        for number in range(500)
    ]
    chunk = ("x" if kind == "endless record" else "".join(lines)).encode()
    chunk *= 65536 // len(chunk) or 1
    tracemalloc.start()
    try:
        for _ in range(200):
            times(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


def test_an_answer_that_does_not_end_is_refused():
    with pytest.raises(UnreadableAnswer):
        read_answer("m x" * 50_000, "m", "id", 1000)
