"""From a file to nodes and settings; and which file."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gridops.errors import InventoryError, UsageError
from gridops.inventory import Inventory, load
from gridops.model import Node

Write = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("cwd")


def names(nodes: tuple[Node, ...]) -> list[str]:
    return [node.name for node in nodes]


def hosts(inventory: Inventory) -> dict[str, str]:
    return {node.name: node.host for node in inventory.nodes}


def test_a_list_of_names_is_an_inventory(write: Write) -> None:
    inventory = load(write("nodes: [alpha, beta]"))
    assert inventory.nodes == (Node("alpha", "alpha"), Node("beta", "beta"))
    assert inventory.path == Path("x.yaml")


def test_the_inventory_of_the_design_loads_as_it_stands(write: Write) -> None:
    inventory = load(
        write(
            """
nodes:                                # a list of names also works: nodes: [alpha, beta]
  "gpu[01-04]": {tags: [gpu], slots: 2}
  cpu1: {host: 10.0.0.7, user: root, port: 2222}
  here: {connection: local}
defaults: {user: ml, env_setup: "source ~/venv/bin/activate"}
remote_root: ~/gridops                # project trees go to <remote_root>/<project>
health_check: {timeout: 10, max_workers: 64, cpu_weight: 0.5, gpu_weight: 0.5}
ssh: {pool_size: 64, connect_timeout: 5, persist: 10m, host_keys: strict, options: {}}
sync: {exclude_patterns: [], gitignore: true, delete: true}
retry: {max_retries: 3, initial_delay: 1.0, max_delay: 60, exponential_base: 2, jitter: true}
ray: {version: 2.60.0, head: gpu01, port: 6379}
"""
        )
    )
    assert names(inventory.nodes) == ["gpu01", "gpu02", "gpu03", "gpu04", "cpu1", "here"]
    gpu, cpu, here = inventory.nodes[0], inventory.nodes[4], inventory.nodes[5]
    assert (gpu.user, gpu.port, gpu.tags, gpu.slots) == ("ml", None, ("gpu",), 2)
    assert (cpu.host, cpu.user, cpu.port, cpu.slots) == ("10.0.0.7", "root", 2222, 1)
    assert here.connection == "local"
    assert {node.env_setup for node in inventory.nodes} == {"source ~/venv/bin/activate"}
    assert inventory.settings.ssh.persist == 600
    assert inventory.settings.ray.version == "2.60.0"


def test_a_node_without_anything_particular_needs_no_braces(write: Write) -> None:
    assert names(load(write("nodes:\n  alpha:\n  beta:\n")).nodes) == ["alpha", "beta"]


def test_a_text_of_names_is_as_good_as_a_list(write: Write) -> None:
    assert names(load(write("nodes: 'a, n[2-3]'")).nodes) == ["a", "n2", "n3"]


def test_names_are_taken_as_written_even_where_yaml_sees_numbers_and_booleans(write: Write) -> None:
    inventory = load(write("nodes: {on: {}, 1: {}, 010: {}, 1e3: {}, no: {}}"))
    assert names(inventory.nodes) == ["on", "1", "010", "1e3", "no"]
    assert names(load(write("nodes: [yes, 7]")).nodes) == ["yes", "7"]


def test_values_are_taken_as_written_where_text_is_wanted(write: Write) -> None:
    ray = load(write("nodes: [a]\nray: {python: 3.10, version: 2.50}")).settings.ray
    assert (ray.python, ray.version) == ("3.10", "2.50")


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("gpu[01-03]", ["gpu01", "gpu02", "gpu03"]),
        ("gpu[8-11]", ["gpu8", "gpu9", "gpu10", "gpu11"]),
        ("gpu[08-11]", ["gpu08", "gpu09", "gpu10", "gpu11"]),
        ("gpu[098-101]", ["gpu098", "gpu099", "gpu100", "gpu101"]),
        ("gpu[3,1-2]", ["gpu3", "gpu1", "gpu2"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("a,b", ["a", "b"]),
        ("b, a", ["b", "a"]),
        ("gpu[1-8]!gpu3", ["gpu1", "gpu2", "gpu4", "gpu5", "gpu6", "gpu7", "gpu8"]),
        ("gpu[0-8/4]", ["gpu0", "gpu4", "gpu8"]),
        ("gpu[1-2].example.org", ["gpu1.example.org", "gpu2.example.org"]),
        ("plain", ["plain"]),
    ],
)
def test_a_node_set_in_the_file_makes_its_nodes_in_the_order_written(
    write: Write, text: str, expanded: list[str]
) -> None:
    assert names(load(write(f'nodes: {{"{text}": {{}}}}')).nodes) == expanded


def test_names_that_differ_in_their_zeros_are_different_nodes(write: Write) -> None:
    inventory = load(write('nodes: ["n[1-2]", "n[01-02]"]'))
    assert names(inventory.nodes) == ["n1", "n2", "n01", "n02"]
    assert names(inventory.select("n[01-02]")) == ["n01", "n02"]


def test_hosts_of_a_node_set_are_paired_in_the_order_written(write: Write) -> None:
    made = load(write('nodes: {"n[1-3]": {host: "10.0.0.[9,7-8]"}}'))
    assert hosts(made) == {"n1": "10.0.0.9", "n2": "10.0.0.7", "n3": "10.0.0.8"}
    made = load(write('nodes: {"n[1-2]": {host: "alpha,beta.example.org"}}'))
    assert hosts(made) == {"n1": "alpha", "n2": "beta.example.org"}


def test_one_host_serves_all_nodes_of_a_set(write: Write) -> None:
    made = load(write('nodes: {"n[1-2]": {host: 127.0.0.1, port: 22}}'))
    assert hosts(made) == {"n1": "127.0.0.1", "n2": "127.0.0.1"}


def test_an_ipv6_host_is_no_node_set(write: Write) -> None:
    assert hosts(load(write('nodes: {a: {host: "[::1]"}, b: {host: "fe80::1%eth0"}}'))) == {
        "a": "::1",
        "b": "fe80::1%eth0",
    }


def test_a_node_says_otherwise_than_the_defaults_key_by_key(write: Write) -> None:
    inventory = load(
        write(
            """
nodes:
  a:
  b:
    {user: null, port: 23, tags: [x], slots: 1, env_setup: "", remote_root: /b, ray: {num_cpus: 1}}
  c: {connection: ssh}
defaults:
  {user: u, port: 22, connection: local, tags: [d], slots: 4, env_setup: e, ray: {num_gpus: 2}}
remote_root: /r
"""
        )
    )
    a, b, c = inventory.nodes
    assert (a.user, a.port, a.connection, a.tags, a.slots) == ("u", 22, "local", ("d",), 4)
    assert (a.env_setup, a.remote_root, a.ray) == ("e", "/r", {"num_gpus": 2})
    assert (b.user, b.port, b.connection, b.tags, b.slots) == (None, 23, "local", ("x",), 1)
    assert (b.env_setup, b.remote_root, b.ray) == ("", "/b", {"num_cpus": 1})
    assert c.connection == "ssh"


def test_the_remote_root_of_the_defaults_goes_before_the_top_one(write: Write) -> None:
    made = load(
        write("nodes: {a: , b: {remote_root: /b}}\ndefaults: {remote_root: /d}\nremote_root: /r")
    )
    assert [node.remote_root for node in made.nodes] == ["/d", "/b"]


def test_empty_sections_are_as_good_as_none(write: Write) -> None:
    assert load(write("nodes: [a]\nssh:\ndefaults:\nray:\n")).settings == Inventory(()).settings


def test_anchors_and_merges_share_values(write: Write) -> None:
    text = "nodes:\n  a: &big {slots: 8, tags: [big]}\n  b: {<<: *big, slots: 4}\n  c: *big\n"
    a, b, c = load(write(text)).nodes
    assert (a.slots, b.slots, c.slots) == (8, 4, 8)
    assert b.tags == ("big",)


def test_a_config_file_starts_at_the_inventory(write: Write, cwd: Path) -> None:
    path = write("nodes: [a]\nssh: {config_file: ssh_config}", "sub/x.yaml")
    assert load(path).settings.ssh.config_file == cwd / "sub/ssh_config"
    path = write("nodes: [a]\nssh: {config_file: ~/c}", "sub/x.yaml")
    assert load(path).settings.ssh.config_file == Path.home() / "c"


def test_nodes_can_be_hashed_and_pickled(write: Write) -> None:
    nodes = load(write("nodes: {a: {ray: {labels: {x: y}}}}")).nodes
    assert set(nodes) == {pickle.loads(pickle.dumps(nodes[0]))}


# -- which file ------------------------------------------------------------------------------------


def test_without_any_file_there_is_this_machine_without_ssh() -> None:
    inventory = load()
    assert inventory.nodes == (Node("localhost", "localhost", connection="local"),)
    assert inventory.path is None


def test_the_files_are_looked_for_in_order(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("nodes: [local]", "inventories/local.yaml")
    assert names(load().nodes) == ["local"]
    write("nodes: [default]", "inventories/default.yaml")
    assert names(load().nodes) == ["default"]
    monkeypatch.setenv("GRIDOPS_INVENTORY", str(write("nodes: [variable]", "v.yaml")))
    assert names(load().nodes) == ["variable"]
    assert names(load(write("nodes: [flag]", "f.yaml")).nodes) == ["flag"]
    monkeypatch.setenv("GRIDOPS_INVENTORY", "")
    assert names(load().nodes) == ["default"]


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_a_file_that_was_named_has_to_be_there(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDOPS_INVENTORY", "no.yaml")
    with pytest.raises(InventoryError, match=r"no\.yaml: there is no such file") as caught:
        load("no.yaml" if how == "flag" else None)
    assert ("GRIDOPS_INVENTORY" in str(caught.value)) == (how == "variable")


def test_a_default_file_that_cannot_be_read_is_not_passed_over(cwd: Path) -> None:
    (cwd / "inventories").mkdir()
    (cwd / "inventories/default.yaml").symlink_to("gone")
    with pytest.raises(InventoryError, match="no such file"):
        load()


def test_an_empty_flag_is_not_taken_for_no_flag() -> None:
    with pytest.raises(UsageError, match="--inventory is empty"):
        load("")


# -- cost ------------------------------------------------------------------------------------------


def test_a_thousand_nodes_load_and_select_at_once(write: Write) -> None:
    path = write('nodes: {"n[0001-1000]": {host: "10.0.[0-9].[1-100]", tags: [a]}}')
    load(path)  # the imports
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        inventory = load(path)
        assert len(inventory.select("@a!n0500")) == 999
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.1


def test_loading_imports_nothing_that_it_does_not_use(write: Write) -> None:
    write("nodes: [a, b]")
    code = (
        "import sys; from gridops.inventory import load; load('x.yaml').select('a,b');"
        "print([m for m in ('ClusterShell', 'dotenv', 'rich', 'structlog', 'paramiko', 'fabric',"
        " 'backoff', 'asyncio', 'difflib', 'pydantic.v1') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")
