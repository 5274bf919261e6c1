"""`--nodes` and `--tags`: from node sets and tags to nodes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from gridops.errors import UnknownNameError, UsageError
from gridops.inventory import Inventory, load
from gridops.inventory.nodeset import expand, fold
from gridops.model import Node

Write = Callable[..., Path]


def names(nodes: tuple[Node, ...]) -> list[str]:
    return [node.name for node in nodes]


@pytest.fixture
def grid(write: Write) -> Inventory:
    return load(
        write(
            'nodes:\n  web: {}\n  "gpu[01-04]": {tags: [gpu, fast]}\n'
            "  gpu10: {tags: [gpu, rack2]}\n"
            "  cpu1: {tags: [rack1]}\n  here: {connection: local, tags: [rack2]}\n"
        )
    )


GPUS = ["gpu01", "gpu02", "gpu03", "gpu04", "gpu10"]


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("web", ["web"]),
        ("here,web", ["web", "here"]),
        (" here , web ", ["web", "here"]),
        ("gpu[01-03]", GPUS[:3]),
        ("gpu[01-03,10]", ["gpu01", "gpu02", "gpu03", "gpu10"]),
        ("gpu[01-04]!gpu03", ["gpu01", "gpu02", "gpu04"]),
        ("gpu[01-04]!gpu[02-03],web", ["web", "gpu01", "gpu04"]),
        ("@gpu", GPUS),
        ("@gpu,web", ["web", *GPUS]),
        ("@gpu!@fast", ["gpu10"]),
        ("@gpu&@rack2", ["gpu10"]),
        ("@gpu^@rack2", ["gpu01", "gpu02", "gpu03", "gpu04", "here"]),
        ("@rack[1-2]", ["gpu10", "cpu1", "here"]),
        ("@*", ["web", *GPUS, "cpu1", "here"]),
        ("@*!@gpu", ["web", "cpu1", "here"]),
        ("!@gpu", ["web", "cpu1", "here"]),
        ("!web,cpu1", [*GPUS, "cpu1", "here"]),
        ("gpu*", GPUS),
        ("gpu0?", GPUS[:4]),
        ("*1", ["gpu01", "cpu1"]),
        ("gpu[01-02],gpu[02-03]", GPUS[:3]),
    ],
)
def test_a_node_set_selects_in_the_order_of_the_inventory(
    grid: Inventory, text: str, selected: list[str]
) -> None:
    assert names(grid.select(text)) == selected


def test_without_conditions_all_nodes_are_selected(grid: Inventory) -> None:
    assert grid.select() == grid.nodes


def test_tags_select_the_nodes_that_have_any_of_them(grid: Inventory) -> None:
    assert names(grid.select(tags="rack1, fast")) == [*GPUS[:4], "cpu1"]


def test_nodes_and_tags_together_select_those_in_both(grid: Inventory) -> None:
    assert names(grid.select("gpu[01-02],cpu1", "gpu")) == ["gpu01", "gpu02"]


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("gpu1", "node", "gpu1"),
        ("gpu[01-16]", "node", "gpu[05-09,11-16]"),
        ("gpu[1-4]", "node", "gpu[1-4]"),
        ("web,wep", "node", "wep"),
        ("@*!gpu3", "node", "gpu3"),
        ("web&wep", "node", "wep"),
        ("tpu*", "node", "tpu*"),
        ("@gpus", "tag", "gpus"),
        ("@gpu!@fsat", "tag", "fsat"),
        ("@other:gpu", "tag", "other:gpu"),
    ],
)
def test_a_name_that_is_not_there_is_an_error_even_where_it_is_excluded(
    grid: Inventory, text: str, kind: str, name: str
) -> None:
    with pytest.raises(UnknownNameError) as caught:
        grid.select(text)
    assert (caught.value.kind, caught.value.name) == (kind, name)
    assert caught.value.exit_status == 2


def test_an_unknown_name_lists_the_valid_ones(grid: Inventory) -> None:
    with pytest.raises(UnknownNameError) as caught:
        grid.select("gpu3")
    assert str(caught.value) == (
        "unknown node 'gpu3' (did you mean gpu03? "
        "valid: web, gpu01, gpu02, gpu03, gpu04, gpu10, cpu1, here)"
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(
        UnknownNameError, match=r"unknown tag 'x' \(valid: fast, gpu, rack1, rack2\)"
    ):
        grid.select(tags="gpu,x")


def test_many_valid_names_are_listed_as_a_node_set(write: Write) -> None:
    grid = load(write('nodes: ["gpu[001-500]"]'))
    with pytest.raises(UnknownNameError) as caught:
        grid.select("gpu42")
    assert str(caught.value).startswith("unknown node 'gpu42' (did you mean gpu")
    assert str(caught.value).endswith("valid: gpu[001-500])")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["gpu[", "gpu[01-", "gpu]", "gpu[a-b]", "web,", "web!", "@", "n[0-99999999]", ",", "@@gpu"],
)
def test_what_is_no_node_set_is_a_usage_error(grid: Inventory, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        grid.select(text)
    assert "\n" not in str(caught.value)


def test_a_selection_of_nothing_is_an_error_that_says_what_was_asked(grid: Inventory) -> None:
    with pytest.raises(UsageError, match=r"--nodes web --tags gpu selects no node \(the nodes"):
        grid.select("web", "gpu")
    with pytest.raises(UsageError, match=r"--nodes web!web selects no node"):
        grid.select("web!web")
    for nodes, tags in (("", None), (" ", None), (None, "")):
        with pytest.raises(UsageError, match="is empty"):
            grid.select(nodes, tags)


def test_one_node_is_found_by_its_name(grid: Inventory) -> None:
    assert grid.node("web").name == "web"
    with pytest.raises(UnknownNameError, match="did you mean web"):
        grid.node("wep")


def test_groups_of_the_machine_play_no_part(
    grid: Inventory, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = home / "clustershell"
    (groups / "groups.d").mkdir(parents=True)
    (groups / "groups.conf").write_text("[Main]\ndefault: local\nautodir: groups.d\n")
    (groups / "groups.d/local.yaml").write_text("local:\n  mine: web\n")
    monkeypatch.setenv("CLUSTERSHELL_CFGDIR", str(groups))
    with pytest.raises(UnknownNameError):
        grid.select("@mine")


def test_folding_and_expanding_are_inverse() -> None:
    for text in ("gpu[01-16]", "a,b[1-3]", "n[098-101]", "r[1-2]n[1-2]", "one"):
        assert fold(expand(text)) == text
    assert fold([]) == ""
    assert fold(["gpu02", "gpu01"]) == "gpu[01-02]"
