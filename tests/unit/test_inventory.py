"""From a file to nodes and settings, from node sets and tags to nodes; what bad ones are told."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from gridops import yamlfile
from gridops.errors import InventoryError, UnknownNameError, UsageError
from gridops.inventory import Inventory, load, problems
from gridops.model import Node
from gridops.nodesets import MAX_NAMES, expand, fold

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty directory, with no inventory in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDOPS_INVENTORY", raising=False)
    return tmp_path


@pytest.fixture
def write(cwd: Path) -> Write:
    def write(text: str, name: str = "x.yaml") -> Path:
        path = cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return Path(name)

    return write


def names(nodes: tuple[Node, ...]) -> list[str]:
    return [node.name for node in nodes]


def hosts(inventory: Inventory) -> dict[str, str]:
    return {node.name: node.host for node in inventory.nodes}


# -- nodes ----------------------------------------------------------------------------------------


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


# -- which file -----------------------------------------------------------------------------------


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


# -- variables ------------------------------------------------------------------------------------


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


# -- bad files ------------------------------------------------------------------------------------

BAD = {
    "unknown top key": (
        "nodes: [a]\nhealthcheck: {}\n",
        "x.yaml:2:healthcheck: unknown key (did you mean health_check? valid: nodes, remote_root,",
    ),
    "unknown key of a section": (
        "nodes: [a]\nssh:\n  pool_size: 3\n  persists: 10m\n",
        "x.yaml:4:ssh.persists: unknown key (did you mean persist? valid: pool_size, ",
    ),
    "unknown key of a node": (
        "nodes:\n  a:\n    slot: 2\n",
        "x.yaml:3:nodes.a.slot: unknown key (did you mean slots? valid: ",
    ),
    "unknown key of the defaults": (
        "nodes: [a]\ndefaults:\n  host: x\n",
        "x.yaml:3:defaults.host: unknown key (",
    ),
    "unknown key deep down": (
        "nodes:\n  a:\n    ray:\n      gpus: 2\n",
        "x.yaml:4:nodes.a.ray.gpus: unknown key (did you mean num_gpus? valid: num_cpus,",
    ),
    "a word for a number": (
        "nodes:\n  a:\n    slots: two\n",
        "x.yaml:3:nodes.a.slots: should be a whole number, not 'two'",
    ),
    "a boolean for a number": (
        "nodes: {a: {port: yes}}",
        "x.yaml:1:nodes.a.port: should be a whole number, not 'yes'",
    ),
    "a fraction for a number": (
        "nodes: {a: {slots: 1.5}}",
        "x.yaml:1:nodes.a.slots: should be a whole number, not 1.5",
    ),
    "nothing for a number": (
        "nodes:\n  a:\n    slots:\n",
        "x.yaml:3:nodes.a.slots: should be a whole number, not empty",
    ),
    "a lone tilde for a path": (
        "nodes: {a: {env_setup: ~}}",
        "x.yaml:1:nodes.a.env_setup: should be text, not empty",
    ),
    "a word for a boolean": (
        "nodes: [a]\nsync: {delete: maybe}\n",
        "x.yaml:2:sync.delete: should be true or false, not 'maybe'",
    ),
    "a list for a mapping": (
        "nodes: [a]\nssh: [x]\n",
        "x.yaml:2:ssh: should be a mapping of keys and values, not a list",
    ),
    "a mapping for a list": (
        "nodes: {a: {tags: {x: 1}}}",
        "x.yaml:1:nodes.a.tags: should be a list, not a mapping",
    ),
    "a value for a node": (
        "nodes:\n  a: 10.0.0.1\n",
        "x.yaml:2:nodes.a: should be a mapping of keys and values, not 10.0.0.1",
    ),
    "not one of the choices": (
        "nodes: [a]\nssh: {host_keys: no}\n",
        "x.yaml:2:ssh.host_keys: should be 'strict' or 'accept-new', not 'no'",
    ),
    "port": ("nodes: {a: {port: 65536}}", "x.yaml:1:nodes.a.port: should be less than or equal"),
    "port 0": ("nodes: {a: {port: 0}}", "x.yaml:1:nodes.a.port: should be greater than or equal"),
    "slots": ("nodes: {a: {slots: 0}}", "x.yaml:1:nodes.a.slots: should be greater than or equal"),
    "duration": (
        "nodes: [a]\nssh: {persist: 10 minutes}\n",
        "x.yaml:2:ssh.persist: should be a duration: seconds, or text such as 90s, 10m or 1h30m, "
        "not '10 minutes'",
    ),
    "weights": (
        "nodes: [a]\nhealth_check:\n  cpu_weight: 0\n  gpu_weight: 0\n",
        "x.yaml:2:health_check: cpu_weight and gpu_weight cannot both be 0",
    ),
    "weight": (
        "nodes: [a]\nhealth_check: {cpu_weight: -1}\n",
        "x.yaml:2:health_check.cpu_weight: should be greater than or equal to 0, not -1",
    ),
    "ssh option name": (
        "nodes: [a]\nssh:\n  options:\n    Compression: yes\n    Foo Bar: 1\n",
        "x.yaml:5:ssh.options.Foo Bar: should be the name of an ssh_config(5) option",
    ),
    "ssh option that is ours": (
        "nodes: [a]\nssh:\n  options: {StrictHostKeyChecking: no}\n",
        "x.yaml:3:ssh.options.StrictHostKeyChecking: cannot be set here: use ssh.host_keys",
    ),
    "tag": (
        "nodes:\n  a:\n    tags:\n    - ok\n    - not ok\n",
        "x.yaml:5:nodes.a.tags.1: should be of A-Z",
    ),
    "duplicate key": (
        "nodes: [a]\nssh: {}\nssh: {}\n",
        "x.yaml:3:ssh: duplicate key; the first is in line 2",
    ),
    "duplicate key of a node": (
        "nodes:\n  a:\n    slots: 1\n    slots: 2\n",
        "x.yaml:4:nodes.a.slots: duplicate key; the first is in line 3",
    ),
    "duplicate node": (
        "nodes:\n  a: {}\n  b: {}\n  a: {}\n",
        "x.yaml:4:nodes.a: duplicate key; the first is in line 2",
    ),
    "overlapping node sets": (
        'nodes:\n  "g[1-4]": {}\n  "g[3-5]": {}\n',
        "x.yaml:3:nodes.g[3-5]: duplicate node g[3-4]; the first is in line 2",
    ),
    "duplicate in a list": (
        "nodes:\n- a\n- b\n- a\n",
        "x.yaml:4:nodes.2: duplicate node a; the first is in line 2",
    ),
    "empty": ("", "x.yaml:1: the file is empty (nodes: [alpha, beta] is enough)"),
    "only comments": ("# nothing\n", "x.yaml:1: the file is empty"),
    "text": ("alpha", "x.yaml:1: should be a mapping of keys and values"),
    "a list": ("- alpha\n", "x.yaml:1: should be a mapping of keys and values (nodes: [alpha])"),
    "no nodes": ("ssh: {}\n", "x.yaml:1:nodes: there are no nodes"),
    "an empty mapping of nodes": ("ssh: {}\nnodes: {}\n", "x.yaml:2:nodes: there are no nodes"),
    "a mapping in a list": (
        "nodes:\n- a\n- b: {host: x}\n",
        "x.yaml:3:nodes.1: a list holds names of nodes only",
    ),
    "a tab": ("nodes:\n\ta: {}\n", "x.yaml:2: not valid YAML: a tab in the indentation"),
    "unquoted node set": (
        "nodes:\n  - x\nssh: {options: {A: gpu[01]}}\n",
        "x.yaml:3: not valid YAML: ",
    ),
    "unclosed": ("nodes: {a: {\n", "x.yaml:2: not valid YAML: "),
    "undefined alias": ("nodes: *x\n", "x.yaml:1: not valid YAML: found undefined alias"),
    "two documents": ("nodes: [a]\n---\nnodes: [b]\n", "x.yaml:2: not valid YAML: "),
    "control character": ("nodes: [a]\n# \x01\n", "x.yaml:2: a control character is not YAML"),
    "complex key": ("nodes:\n  ? [a, b]\n  : {}\n", "x.yaml:1:nodes: a key has to be plain text"),
    "tag that runs code": (
        'nodes: !!python/object/apply:os.system ["true"]\n',
        "x.yaml:1:nodes: the YAML tag !!python/object/apply:os.system is not allowed",
    ),
    "own tag": ("nodes: [!x a]\n", "x.yaml:1:nodes.0: the YAML tag !x is not allowed"),
    "merge of text": ("nodes:\n  a: {<<: x}\n", "x.yaml:2:nodes.a.<<: << merges mappings only"),
    "option as a name": (
        'nodes: ["-oProxyCommand=x"]\n',
        "x.yaml:1:nodes.0: the name '-oProxyCommand=x' should be of A-Z",
    ),
    "newline in a key": ('nodes: {"a\\nb": {}}\n', "x.yaml:1:nodes.a\\nb: the name 'a\\nb' should"),
    "option as a host": (
        "nodes:\n  a:\n    host: -oProxyCommand=x\n",
        "x.yaml:3:nodes.a.host: should be a host name",
    ),
    "option among hosts": (
        'nodes:\n  "a[1-2]":\n    host: "-x[1-2]"\n',
        "x.yaml:3:nodes.a[1-2].host: should be a host name",
    ),
    "hosts in another number": (
        'nodes:\n  "a[1-4]": {host: "h[1-3]"}\n',
        "x.yaml:2:nodes.a[1-4]: host names 3 hosts for 4 nodes",
    ),
    "broken node set": ('nodes: ["a[1-"]\n', "x.yaml:1:nodes.0: "),
    "node set without a name": ('nodes: ["a,,b"]\n', "x.yaml:1:nodes.0: a name is missing"),
    "node set of letters": ('nodes: ["a[x]"]\n', "x.yaml:1:nodes.0: "),
    "huge node set": (
        'nodes: ["a[0-9999999999]"]\n',
        f"x.yaml:1:nodes.0: stands for more than {MAX_NAMES} names",
    ),
    "huge product of ranges": (
        'nodes: ["a[0-999]b[0-999]c[0-999]"]\n',
        f"x.yaml:1:nodes.0: stands for more than {MAX_NAMES} names",
    ),
    "group in the file": ('nodes: ["@gpu"]\n', "x.yaml:1:nodes.0: groups and wildcards"),
    "head elsewhere": (
        "nodes: [a]\nray: {head: b}\n",
        "x.yaml:2:ray.head: 'b' is not among the nodes (valid: a)",
    ),
}


@pytest.fixture(params=["libyaml", "pure Python"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both parsers that PyYAML may have."""
    if request.param == "pure Python":
        monkeypatch.setattr(yamlfile, "_LOADER", yaml.SafeLoader)
    return str(request.param)


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_told_its_line_and_key_in_one_line(write: Write, name: str) -> None:
    text, message = BAD[name]
    with pytest.raises(InventoryError) as caught:
        load(write(text))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
            for before, name in zip("abcdefgh", "bcdefghi", strict=True)
        )
        + "nodes: *i\n",
        "nodes: &a [*a]\n",
        "nodes: &a {x: *a}\n",
        "nodes: " + "[" * 2000 + "]" * 2000,
    ],
    ids=["laughs", "list in itself", "mapping in itself", "deep"],
)
def test_files_that_grow_without_end_are_refused_soon(write: Write, text: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(InventoryError, match="deep"):
        load(write(text))
    assert time.perf_counter() - begun < 5


def test_files_that_are_no_text_files_are_refused(write: Write, cwd: Path) -> None:
    with pytest.raises(InventoryError, match="Is a directory"):
        load(cwd)
    with pytest.raises(InventoryError, match="larger than 8 MiB"):
        load("/dev/zero")
    (cwd / "latin1.yaml").write_bytes(b"nodes:\n  - a\xff\n")
    with pytest.raises(InventoryError, match=r"latin1\.yaml:2: not UTF-8"):
        load("latin1.yaml")


def test_a_byte_order_mark_and_dos_line_ends_do_no_harm(cwd: Path) -> None:
    (cwd / "dos.yaml").write_bytes(b"\xef\xbb\xbfnodes:\r\n  a: {slots: 2}\r\n")
    assert load("dos.yaml").nodes[0].slots == 2


def test_all_that_is_wrong_is_listed_by_line(write: Write) -> None:
    path = write(
        "foo: 1\nnodes:\n  a: {slots: 0, port: x}\n  'b[1-2]': {host: 'c[1-3]'}\n"
        "  -x:\nssh: {y: 1}\n"
    )
    found = problems(path)
    assert [error.key for error in found] == [
        "foo",
        "nodes.a.port",
        "nodes.a.slots",
        "nodes.b[1-2]",
        "nodes.-x",
        "ssh.y",
    ]
    with pytest.raises(InventoryError, match=r"x\.yaml:1:foo: unknown key .*; 5 more: inv inv"):
        load(path)
    assert problems(write("nodes: [a]")) == []
    assert problems(write("{"))[0].message.startswith("x.yaml:")


def test_errors_survive_pickling(write: Write) -> None:
    (error,) = problems(write("nodes: {a: {slot: 1}}"))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.line, again.key) == (str(error), 1, "nodes.a.slot")


# -- selection ------------------------------------------------------------------------------------


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
    with pytest.raises(UsageError, match=r"no node is left by --nodes web --tags gpu \(the nodes"):
        grid.select("web", "gpu")
    with pytest.raises(UsageError, match=r"no node is left by --nodes web!web"):
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


# -- cost -----------------------------------------------------------------------------------------


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
