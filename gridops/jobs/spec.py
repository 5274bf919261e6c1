"""Specification of a durable run, and the run file for its node.

The run file is shell text that job.sh reads on the node: a comment with what others may want to
know of the run (JSON), and the functions settings, environment and unpack. It travels on standard
input and is kept 0600, so neither the command nor its environment is ever in a command line. The
values of the environment are in it alone, and it is removed when the run has ended; what unpack
wrote from it stays, the comment and the settings among that.
"""

from __future__ import annotations

import getpass
import json
import math
import os
import re
import secrets
import shlex
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gridops.errors import UsageError
from gridops.jobs.paths import check_id

HEAD = b"exit 125\n"  # job.sh looks for it
LISTED_COMMAND_LIMIT = 4000  # characters of the command that a listing carries
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The record that `env_setup` has succeeded, in the directory of the script that the shell reads.
BESIDE = '"${0%/*}/begun"'
FIXED = {"BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"}  # read-only in a shell


StartState = Literal["started", "held", "queued", "exists"]


def new_id() -> str:
    """Make an id, sortable by time (to the millisecond) and unique: 20261124-153012-3455f3a9."""
    now = time.time()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    return f"{stamp}-{int(now * 1000) % 1000:03d}{secrets.token_hex(3)[:5]}"


def whoami() -> str:
    """user@machine, as the node is told for starts and kills."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A command for one node. Times in seconds."""

    command: str  # shell text, run by bash where the node has it, else sh
    id: str = field(default_factory=new_id)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_setup: str = ""  # shell text that must succeed first
    directory: str = ""  # where it runs; "": the home directory
    must_exist: bool = False  # else the home directory serves where that one is missing
    slots: int = 1  # how many runs the node takes at once
    gpus: int = 0  # how many GPUs it needs that nobody's processes are on
    wait: float = 0.0  # how long it may wait for a slot; 0: it is refused on a full node
    hold: float = (
        0.0  # once it has its slot, it waits so long for `client.confirm`; 0: begins at once
    )
    timeout: float | None = None  # how long the command may take
    grace: int = 10  # whole seconds between TERM and KILL
    log_cap: int | None = None  # bytes of each stream that are kept, in steps of 512
    keep: bool = False  # processes that the command leaves behind stay
    fetch: bool = False  # what it writes is to be told from what was there, to the second at least
    isolate: bool = False  # it runs in a snapshot of `directory`
    forget: float | None = None  # how long after its end the node may forget it
    fresh: bool = False  # a directory of its own begins empty
    user: str = field(default_factory=whoami)
    tree: str = ""
    commit: str = ""
    diff: str = ""  # the uncommitted changes, kept with the run
    why: str = ""  # why this node

    def __post_init__(self) -> None:
        check_id(self.id)
        for name in self.env:
            if not NAME.fullmatch(name) or name in FIXED or name == "GRIDOPS_RUN_ID":
                raise UsageError(f"{name!r} cannot be set as an environment variable")
        texts = (self.command, self.env_setup, self.directory, self.diff, *self.env.values())
        if any("\0" in text for text in texts):
            raise UsageError("a command, a variable or a path cannot hold a NUL character")
        if self.slots < 1 or self.gpus < 0 or min(self.grace, self.wait, self.hold) < 0:
            raise UsageError("slots must be positive; gpus, grace, wait and hold not negative")
        if self.timeout is not None and not 0 < self.timeout < math.inf:
            raise UsageError("a timeout must be positive")

    def upload(self, node: str) -> bytes:
        """Input of the script for the run: `run_file`, after a line that shows that none is lost.

        Another shell that a login has put in the place of the script's ends at that line.
        """
        return HEAD + self.run_file(node)

    def run_file(self, node: str) -> bytes:
        """Run file for the node called `node`."""
        lines = [f"# {self._about(node)}", "settings() {", *_assignments(self._settings()), "}"]
        record = "\n".join(lines)
        env = {**self.env, "GRIDOPS_NODE": node}
        lines += ["environment() {", 'export "PYTHONUNBUFFERED=${PYTHONUNBUFFERED-1}"']
        lines += [f"export {shlex.quote(f'{name}={value}')}" for name, value in env.items()]
        lines += ["}", "unpack() {", _print_to(record, "run"), _print_to(self.command, "command")]
        lines += [_print_to(self._setup(), "setup")] if self.env_setup else []
        lines += [_print_to(self.diff, "diff")] if self.diff else []
        lines += [] if self.forget is None else [_print_to(str(round(self.forget)), "forget")]
        return os.fsencode("\n".join([*lines, "}", ""]))

    def _about(self, node: str) -> str:
        return json.dumps(
            {
                "id": self.id,
                "node": node,
                "command": self.command[:LISTED_COMMAND_LIMIT],
                "env": sorted(self.env),
                "user": self.user,
                "cwd": self.directory,
                "tree": self.tree,
                "commit": self.commit,
                "why": self.why,
                "timeout": self.timeout,
                "gpus": self.gpus,
                "isolate": self.isolate,
            }
        )

    def _settings(self) -> dict[str, str]:
        timeout = "0" if self.timeout is None else f"{max(self.timeout, 0.01):.2f}"
        return {
            "directory": self.directory,
            "missing": "fail" if self.must_exist else "home",
            "slots": str(self.slots),
            "gpus": str(self.gpus),
            "wait": str(math.ceil(self.wait * 100)),
            "hold": str(math.ceil(self.hold * 100)),
            "timeout": timeout,
            "grace": str(self.grace),
            "log_cap": str(math.ceil((self.log_cap or 0) / 512)),
            "keep": "yes" if self.keep else "",
            "isolate": "yes" if self.isolate else "",
            "fresh": "yes" if self.fresh else "",
            "fetch": "yes" if self.fetch else "",
            "secret": "yes" if self.env else "",
            "setup": "yes" if self.env_setup else "",
        }

    def _setup(self) -> str:
        """The script that the shell reads in place of the command's own."""
        return f'{guard_by_setup(self.env_setup)}\n. "${{0%/*}}/command"'


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Answer of a node to a start.

    `state`: started or held (it has its slot), queued, or exists (an earlier attempt came).
    `users` are the other runs that use its directory, as a node tells that holds a slot for it.
    """

    id: str
    state: StartState
    users: tuple[str, ...] = ()


def _assignments(values: Mapping[str, str]) -> list[str]:
    return [f"{name}={shlex.quote(value)}" for name, value in values.items()]


def _print_to(text: str, name: str) -> str:
    return f"printf '%s\\n' {shlex.quote(text)} >\"$1/{name}\" || return"


def guard_by_setup(setup: str, record: str = BESIDE) -> str:
    """One line of shell text that guards a command by `setup`.

    A node's `env_setup` runs in the shell that the command runs in, and may do there what it likes:
    leave the shell, replace it, not even be shell text. So no exit status tells whether the command
    began. What does is a file, the record, that this shell makes between the two; who started the
    shell looks for it.

    The line runs `setup`, and goes on only where that succeeded. `record` is the shell word that
    names the record. It is read as a whole before `setup` runs, so that no alias or option of that
    one changes it, and `setup` is a text of its own, whose open quotes and here-documents end with
    it. attached.sh has its like.
    """
    go_on = f"case $? in 0) >|{record} ;; *) exit ;; esac || exit 125"
    return f"{{ eval {shlex.quote(setup)}; {go_on}; }}"
