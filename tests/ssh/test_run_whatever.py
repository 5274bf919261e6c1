"""What a whole `gridops run` is given and prints, however odd or large."""

from __future__ import annotations

import hashlib
import time

import pytest
from support.cli import left_of, run

ODD = [
    'it\'s "quoted" `not run` $(touch ran) ${HOME} \\ %s !1',
    "two\nlines\n",
    "-n",
    "--",
    "--env",
    "-rf *",
    " \t ",
    "",
    "grüße ☃ 文字",
    "#; | & > <",
]
UP = ("run", "--on", "node1", "--no-sync")


def test_odd_words_and_values_arrive_as_they_are(inventory, project):
    values = {f"V{n}": value for n, value in enumerate(ODD)} | {"id": "i", "state": "s", "tag": "t"}
    flags = [f"--env={name}={value}" for name, value in values.items()]
    show = 'printf "%s\\0" "$@"' + "".join(f' "${name}"' for name in values)
    done = run("gridops", *UP, *flags, "--", "sh", "-c", show, "sh", *ODD)
    assert done.status == 0, done.err
    assert done.stdout.decode().split("\0")[:-1] == [*ODD, *values.values()]
    assert not list(project.rglob("ran"))


def test_an_environment_of_100_kb_arrives_and_is_in_no_command_line(inventory, project):
    value = "".join(chr(33 + n % 90) for n in range(100_000))
    done = run("gridops", *UP, f"--env=BIG={value}", "--cmd", 'printf %s "$BIG" | sha256sum')
    assert done.out.split()[0] == hashlib.sha256(value.encode()).hexdigest()
    many = [f"--env=N{n}={'x' * 100}" for n in range(1000)]
    done = run("gridops", *UP, *many, "--cmd", "env | grep -c '^N[0-9]*=x*$'; echo ${#N999}")
    assert done.out == "1000\n100\n"


@pytest.mark.parametrize("name", ["-tree", "a 'b' \"c\"", "$(touch ran)", "two\nlines", "文字 ☃"])
def test_a_tree_may_have_any_name_and_any_names_in_it(inventory, tmp_path, monkeypatch, name):
    tree = tmp_path / name
    tree.mkdir()
    for odd in (name, "-f", "#x"):
        (tree / odd).write_text(f"of {odd}")
    monkeypatch.chdir(tmp_path)
    done = run(
        "gridops",
        "run",
        "--on",
        "node1",
        f"--src={name}",
        "--cmd",
        'cat "./$N"; pwd',
        f"--env=N={name}",
    )
    assert done.status == 0, done.err
    assert done.out == f"of {name}{inventory.tree('node1').resolve() / name}\n"


def test_a_million_short_lines_are_told_apart(inventory, project):
    done = run("gridops", *UP, "--cmd", "seq 1000000; seq 200000 >&2")
    assert done.stdout == b"".join(b"%d\n" % n for n in range(1, 1_000_001))
    assert done.stderr.endswith(b"".join(b"%d\n" % n for n in range(1, 200_001)))


def test_a_daemon_that_keeps_the_output_open_keeps_nobody(inventory, project, sandbox):
    began = time.monotonic()
    done = run("gridops", *UP, "--cmd", "(setsid sleep 4730 &) ; nohup sleep 4730 & printf hi")
    assert (done.status, done.stdout) == (0, b"hi")
    assert time.monotonic() - began < 15
    assert not left_of(sandbox.root / "node1", "4730", 1)
