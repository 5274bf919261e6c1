"""fetch/written.py: by which clock, and how finely, a run's files are told from others."""

from __future__ import annotations

import pytest

from gridops.fetch.written import Entry, Window, precedes, read_answer

B, E = "2026-01-01 10:00:00.500000000 +0000", "2026-01-01 10:00:09.500000000 +0000"


def at(seconds: str) -> str:
    return f"2026-01-01 10:00:{seconds} +0000"


def entry(changed: str, modified: str = "", links: int = 1) -> Entry:
    return Entry(at(changed), at(modified or changed), links, 0o100644)


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
    assert [name for name, _ in found] == ["a b"]
    assert window.began.startswith(began)


@pytest.mark.parametrize(
    "text", ["", "m done", "m x\nm done\n", f"m run {B} id/child\n", "m |||||\n"]
)
def test_an_answer_that_is_not_whole_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011
        read_answer(text, "m", "id")
