"""`${VAR}` in the values of an inventory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gridops.errors import InventoryError
from gridops.inventory import load
from gridops.model import Node

Write = Callable[..., Path]


def names(nodes: tuple[Node, ...]) -> list[str]:
    return [node.name for node in nodes]


def test_variables_fill_in_values_of_every_type(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "2222")
    monkeypatch.setenv("WHO", "ml")
    monkeypatch.setenv("N", "2")
    monkeypatch.setenv("YES", "no")
    inventory = load(
        write(
            'nodes: {"a[1-2]": {port: "${PORT}", user: "x-${WHO}", host: "h[1-${N}]"}}\n'
            "sync: {delete: '${YES}'}\nssh: {persist: '${N}m'}\n"
        )
    )
    assert [(n.port, n.user, n.host) for n in inventory.nodes] == [
        (2222, "x-ml", "h1"),
        (2222, "x-ml", "h2"),
    ]
    assert inventory.settings.sync.delete is False
    assert inventory.settings.ssh.persist == 120


def test_the_nodes_themselves_may_come_from_a_variable(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRID", "gpu[01-03]")
    assert names(load(write("nodes: ${GRID}")).nodes) == ["gpu01", "gpu02", "gpu03"]
    assert names(load(write('nodes: ["${GRID}", x]')).nodes) == ["gpu01", "gpu02", "gpu03", "x"]


def test_a_default_stands_in_for_an_unset_or_empty_variable(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOPE", raising=False)
    monkeypatch.setenv("EMPTY", "")
    text = "nodes: {a: {user: '${NOPE:-ml}', slots: '${EMPTY:-3}', env_setup: '${NOPE:-}'}}"
    (node,) = load(write(text)).nodes
    assert (node.user, node.slots, node.env_setup) == ("ml", 3, "")


def test_an_unset_variable_is_an_error_with_its_place(write: Write) -> None:
    with pytest.raises(InventoryError) as caught:
        load(write("nodes:\n  a:\n    user: ${GRIDOPS_TEST_NOPE}\n"))
    assert str(caught.value).startswith(
        "x.yaml:3:nodes.a.user: ${GRIDOPS_TEST_NOPE} is not set, neither in the environment"
    )


def test_dollars_stay_what_they_are_without_a_brace_and_two_escape_one(write: Write) -> None:
    (node,) = load(
        write("nodes: {a: {env_setup: 'cd $HOME; echo $$ $5; echo $${X} $$${Y}'}}")
    ).nodes
    assert node.env_setup == "cd $HOME; echo $$ $5; echo ${X} $${Y}"


@pytest.mark.parametrize("text", ["${", "${}", "${1X}", "${A", "${A[0]}", "${A-x}", "${#A}"])
def test_malformed_references_are_errors(write: Write, text: str) -> None:
    with pytest.raises(InventoryError, match=r"x\.yaml:3:nodes\.a\.env_setup: write \$\{NAME\}"):
        load(write(f"nodes:\n  a:\n    env_setup: 'x {text}'\n"))


def test_what_a_variable_holds_never_becomes_structure(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "x\n    slots: 9\n  b: {connection: local}  # ${HOME} &a *a !!python/none"
    monkeypatch.setenv("EVIL", evil)
    (node,) = load(write("nodes:\n  a:\n    env_setup: ${EVIL}\n")).nodes
    assert (node.env_setup, node.slots) == (evil, 1)


def test_env_files_beside_the_inventory_and_here_are_read_in_that_order(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("A", "B", "C"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("A", "environment")
    write("A=beside\nexport B='beside'\n", "sub/.env")
    write("A=here\nB=here\nC=here\n", ".env")
    path = write("nodes: {a: {env_setup: '${A} ${B} ${C}'}}", "sub/x.yaml")
    assert load(path).nodes[0].env_setup == "environment beside here"


def test_env_files_are_not_read_where_nothing_asks_for_them(write: Write, cwd: Path) -> None:
    (cwd / ".env").write_bytes(b"A=\xff\n")
    load(write("nodes: {a: {env_setup: $A}}"))
    with pytest.raises(InventoryError, match=r"\.env: cannot be read: not UTF-8"):
        load(write("nodes: {a: {env_setup: '${GRIDOPS_TEST_NOPE}'}}"))
