"""The pieces that a script's way to a node is made of."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from support.jobs import shell_path

from gridops.errors import NodeError
from gridops.reach.preamble import command_for, script_input, with_args
from gridops.reach.pump import Collected, Prelude, marker


@pytest.mark.parametrize("cut", range(1, 14))
def test_what_comes_before_the_marker_is_dropped_however_it_is_cut(cut: int) -> None:
    said = b"noise MARK\nrest MARK\nmore"
    got = bytearray()
    prelude = Prelude(b"MARK", got.extend)
    for piece in (said[:cut], said[cut:]):
        prelude(piece)
    assert prelude.passed
    assert bytes(got) == b"rest MARK\nmore"


def test_without_the_marker_what_was_said_is_kept_for_the_error() -> None:
    got = bytearray()
    prelude = Prelude(b"MARK", got.extend)
    prelude(b"This account is not available.\n")
    assert not prelude.passed
    assert prelude.held == b"This account is not available.\n"
    assert not got


def test_a_shell_that_never_stops_talking_is_an_error() -> None:
    prelude = Prelude(b"MARK", len, limit=100)  # type: ignore[arg-type]
    with pytest.raises(NodeError, match="login shell"):
        prelude(b"x" * 101)


def test_a_collector_takes_its_limit_and_no_more() -> None:
    collected = Collected(limit=10)
    collected(b"12345")
    collected(b"67890")
    assert collected.data == b"1234567890"
    with pytest.raises(NodeError, match="longer than 10 bytes"):
        collected(b"!")


def test_markers_differ() -> None:
    assert marker() != marker()


@pytest.mark.parametrize("args", [(), ("a b", "it's", "", "-x", "$HOME", "two\nlines", "\udcff")])
def test_arguments_are_set_as_they_are(args: tuple[str, ...]) -> None:
    script = os.fsencode(with_args('printf "%s\\0" "$#" "$@"', args))
    done = subprocess.run(["sh", "-s"], input=script, capture_output=True, check=True)
    words = [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]
    assert words == [str(len(args)), *args]


@pytest.mark.parametrize("cuts", [(), (1,), (40,), (40, 41), (-1,)])
@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_the_script_leaves_the_rest_of_the_input_untouched(
    shell: str, cuts: tuple[int, ...], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it arrives."""
    monkeypatch.setenv("PATH", shell_path(shell, home))
    script = script_input("# über\n\n\ncat", ("ä\n",), "MARK")
    words = ["sh", "-c", command_for(script, "MARK", has_input=True)]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(words, **streams) as child:  # type: ignore[call-overload]
        for start, end in pairwise((0, *(cut % len(script) for cut in cuts), len(script))):
            child.stdin.write(script[start:end])
            child.stdin.flush()
            time.sleep(0.1)
        out, err = child.communicate(b"the rest\n", timeout=10)
    assert out == b"MARK\nthe rest\n"
    assert err == b"MARK-stderr\n"


def test_the_way_to_a_link_imports_nothing_heavy() -> None:
    code = (
        "import sys, gridops.reach.ssh, gridops.reach.local, gridops.reach.fanout\n"
        "heavy = {'fabric', 'paramiko', 'invoke', 'asyncio', 'pydantic', 'yaml', 'backoff'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
