"""What a bad inventory is told: one line with file, line, key and what would be right."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from gridops.errors import InventoryError
from gridops.inventory import document, load, problems
from gridops.inventory.nodeset import MAX_NODES

Write = Callable[..., Path]


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
        f"x.yaml:1:nodes.0: expands to more than {MAX_NODES} names",
    ),
    "huge product of ranges": (
        'nodes: ["a[0-999]b[0-999]c[0-999]"]\n',
        f"x.yaml:1:nodes.0: expands to more than {MAX_NODES} names",
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
        monkeypatch.setattr(document, "_LOADER", yaml.SafeLoader)
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
    with pytest.raises(
        InventoryError, match=r"x\.yaml:1:foo: unknown key .*; 5 more: see `inv inv"
    ):
        load(path)
    assert problems(write("nodes: [a]")) == []
    assert problems(write("{"))[0].message.startswith("x.yaml:")


def test_errors_survive_pickling(write: Write) -> None:
    (error,) = problems(write("nodes: {a: {slot: 1}}"))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.line, again.key) == (str(error), 1, "nodes.a.slot")
