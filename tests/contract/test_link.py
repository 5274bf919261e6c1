"""What every Link promises, whatever reaches the node."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.nodes import find_program, node_of, settings_of, wait_until

from gridops.errors import NodeError, NodeTimeout
from gridops.model import Node
from gridops.reach import link_to
from gridops.reach.link import Link
from gridops.reach.local import LocalLink
from gridops.reach.pump import REPLY_LIMIT, pump
from gridops.sandbox import Sandbox, Setup

ODD_WORDS = (
    "a b",
    "",
    "-n",
    "--",
    "it's",
    'say "hi"',
    "$HOME `id` \\ !bang",
    "two\nlines",
    "*",
    "ünï→",
    "bad\udcff",
    "~",
    "#no comment",
    "%s",
)

SHELLS = ("dash", "bash", "busybox sh", "zsh", "fish", "tcsh")


@pytest.fixture(params=["local", "ssh"])
def link(request: pytest.FixtureRequest) -> Link:
    if request.param == "local":
        return LocalLink(Node("here", "localhost", connection="local"))
    sandbox = request.getfixturevalue("sandbox")
    return link_to(node_of(sandbox), settings_of(sandbox))


class TestScript:
    def test_both_streams_come_back_apart(self, link: Link) -> None:
        reply = link.script("echo out; echo err >&2", timeout=20)
        assert (reply.status, reply.stdout, reply.stderr) == (0, b"out\n", b"err\n")

    @pytest.mark.parametrize("status", [0, 1, 7, 125, 255])
    def test_the_exit_status_is_the_scripts(self, link: Link, status: int) -> None:
        assert link.script(f"exit {status}", timeout=20).status == status

    def test_bytes_come_back_as_they_are(self, link: Link) -> None:
        everything = bytes(range(256)) * 3
        reply = link.script("cat; cat /dev/null >&2", timeout=20, stdin=everything)
        assert reply.stdout == everything
        assert reply.stderr == b""

    def test_output_without_a_final_newline_stays_without(self, link: Link) -> None:
        assert link.script("printf x", timeout=20).stdout == b"x"

    def test_megabytes_on_both_streams_at_once_come_back_whole(self, link: Link) -> None:
        text = "head -c $1 /dev/zero & head -c $1 /dev/zero >&2; wait"
        reply = link.script(text, "3000000", timeout=30)
        assert (len(reply.stdout), len(reply.stderr)) == (3_000_000, 3_000_000)

    def test_more_than_a_reply_may_hold_is_an_error(self, link: Link) -> None:
        with pytest.raises(NodeError, match="longer than") as caught:
            link.script("head -c $1 /dev/zero", str(REPLY_LIMIT + 1), timeout=30)
        assert caught.value.node == link.node.name

    def test_megabytes_of_input_arrive_whole(self, link: Link) -> None:
        data = os.urandom(2_000_000)
        reply = link.script("sha256sum", timeout=30, stdin=data)
        assert reply.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()

    def test_input_that_nobody_reads_holds_nobody(self, link: Link) -> None:
        reply = link.script("exit 3", timeout=20, stdin=b"x" * 2_000_000)
        assert reply.status == 3

    def test_without_input_a_script_that_reads_finds_its_end(self, link: Link) -> None:
        assert link.script("cat; echo end", timeout=20).stdout == b"end\n"

    def test_arguments_arrive_as_they_are(self, link: Link) -> None:
        reply = link.script("printf '%s\\0' \"$@\"", *ODD_WORDS, timeout=20)
        assert reply.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in ODD_WORDS]

    def test_without_arguments_there_are_none(self, link: Link) -> None:
        assert link.script("echo $#", timeout=20).stdout == b"0\n"

    def test_it_begins_in_the_home_directory(self, link: Link) -> None:
        reply = link.script('[ "$PWD" = "$HOME" ] && echo home', timeout=20)
        assert reply.stdout == b"home\n"

    def test_an_unfinished_script_fails_and_does_not_hang(self, link: Link) -> None:
        with pytest.raises(NodeError, match="could not start a POSIX shell"):
            link.script("echo never; if true; then echo", timeout=20)

    def test_a_killed_process_is_an_error_not_an_exit_status(self, link: Link) -> None:
        with pytest.raises(NodeError, match="killed") as caught:
            link.script("kill -9 $$", timeout=20)
        assert not isinstance(caught.value, NodeTimeout)

    def test_a_script_that_hangs_is_given_up_in_time(self, link: Link) -> None:
        began = time.monotonic()
        with pytest.raises(NodeTimeout, match=r"0\.5 s") as caught:
            link.script("echo early; exec sleep 30", timeout=0.5)
        assert time.monotonic() - began < 3
        assert caught.value.node == link.node.name

    def test_a_background_child_that_keeps_the_streams_open_does_not_hold_us(
        self, link: Link
    ) -> None:
        began = time.monotonic()
        reply = link.script("sleep 20 & echo $!", timeout=15)
        assert time.monotonic() - began < 5
        assert reply.status == 0
        link.script("kill $1", reply.stdout.decode().strip(), timeout=20)

    def test_output_that_comes_late_is_not_lost(self, link: Link) -> None:
        reply = link.script("echo one; sleep 1.5; echo two", timeout=20)
        assert reply.stdout == b"one\ntwo\n"


class TestStart:
    def test_output_comes_while_the_command_runs(self, link: Link) -> None:
        process = link.start("echo first; sleep 20", timeout=20)
        try:
            began = time.monotonic()
            assert os.read(process.stdout, 100) == b"first\n"
            assert time.monotonic() - began < 5
        finally:
            process.close()

    def test_waiting_has_a_limit(self, link: Link) -> None:
        process = link.start("sleep 20", timeout=20)
        try:
            with pytest.raises(NodeTimeout):
                process.wait(0.1)
        finally:
            process.close()

    def test_the_exit_status_can_be_asked_for_twice(self, link: Link) -> None:
        process = link.start("exit 5", timeout=20)
        assert (process.wait(20), process.wait(0)) == (5, 5)
        process.close()

    def test_closing_the_input_is_what_a_reader_sees(self, link: Link) -> None:
        process = link.start("cat; echo ended", timeout=20)
        os.write(process.stdin, b"x")
        process.close_stdin()
        process.close_stdin()
        seen = bytearray()
        status = pump(
            process, keep_stdin=True, on_stdout=seen.extend, on_stderr=seen.extend, timeout=20
        )
        process.close()
        assert (status, bytes(seen)) == (0, b"xended\n")

    def test_close_ends_a_reader_and_twice_is_harmless(self, link: Link, tmp_path: Path) -> None:
        gone = tmp_path / "gone"
        process = link.start(f"sh -c 'cat; touch {gone}'", timeout=20)
        process.close()
        process.close()
        if isinstance(link, LocalLink):  # its whole session was ended
            return
        wait_until(gone.exists)

    def test_a_sink_that_is_slow_holds_the_command_back(self, link: Link, tmp_path: Path) -> None:
        """Memory stays bounded: what the command writes waits in pipes, not in us."""
        done = tmp_path / "done"
        process = link.start(f"head -c 60000000 /dev/zero; touch {done}", timeout=20)
        seen = 0

        def slow(data: bytes) -> None:
            nonlocal seen
            if seen == 0:
                time.sleep(0.7)
                assert not done.exists()
            seen += len(data)

        try:
            assert pump(process, on_stdout=slow, on_stderr=slow, timeout=60) == 0
        finally:
            process.close()
        assert seen == 60_000_000

    def test_what_a_tick_raises_ends_the_pump(self, link: Link) -> None:
        class Enough(Exception):
            pass

        def tick() -> None:
            raise Enough

        process = link.start("sleep 20", timeout=20)
        try:
            with pytest.raises(Enough):
                pump(process, on_stdout=len, on_stderr=len, timeout=None, tick=tick)  # type: ignore[arg-type]
        finally:
            process.close()


@pytest.mark.parametrize("shell", SHELLS)
def test_any_login_shell_will_do(shells: Sandbox, shell: str) -> None:
    name = shell.partition(" ")[0]
    link = link_to(node_of(shells, name), settings_of(shells))
    reply = link.script("cat; printf '%s\\0' \"$@\"; exit 9", *ODD_WORDS, timeout=20, stdin=b"in")
    assert reply.status == 9
    assert reply.stdout[2:].split(b"\0")[:-1] == [os.fsencode(word) for word in ODD_WORDS]


def test_what_a_chatty_login_shell_says_first_is_dropped(shells: Sandbox) -> None:
    home = shells.node("chatty").home
    (home / "noise").write_text("echo welcome; echo warning >&2; printf 'no newline'\n")
    link = link_to(node_of(shells, "chatty"), settings_of(shells))
    reply = link.script("echo out; echo err >&2", timeout=20)
    assert (reply.stdout, reply.stderr) == (b"out\n", b"err\n")


def test_a_login_shell_that_runs_nothing_is_said_in_its_own_words(shells: Sandbox) -> None:
    link = link_to(node_of(shells, "closed"), settings_of(shells))
    with pytest.raises(NodeError, match="POSIX shell"):
        link.script("echo hi", timeout=20)


@pytest.fixture(scope="module")
def shells(session_dir: Path, _isolated_session: None) -> Iterator[Sandbox]:
    """A node for each login shell, and two odd ones."""
    root = session_dir / "shells"
    setup = {
        "chatty": Setup(shell="/bin/bash", env={"BASH_ENV": str(root / "chatty/home/noise")}),
        "closed": Setup(shell="/bin/false"),
    }
    for words in SHELLS:
        name, _, rest = words.partition(" ")
        setup[name] = Setup(shell=f"{find_program(name)} {rest}".strip())
    with Sandbox.up(root, list(setup), setup=setup) as made:
        yield made
