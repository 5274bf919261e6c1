"""Command lines in tests: `inv` and `gridops` as processes, or the same program in this one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.nodes import end, processes_of

from gridops.observe.log import shutdown_logging
from gridops.sandbox import Sandbox
from gridops.tasks import ns
from gridops.tasks.program import GridProgram

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Done:
    """What came of a command line."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        return self.stdout.decode()

    @property
    def err(self) -> str:
        return self.stderr.decode()

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)

    @property
    def complaint(self) -> str:
        """The one line on stderr, without our name; fails when there is more or less."""
        assert self.stdout == b"", self
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("gridops: "), self.err
        return self.err.removeprefix("gridops: ").rstrip("\n")


Tell = Callable[..., Done]


def teller(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tell]:
    """`tell("health", "--format=json")` is `gridops health --format=json` in this process."""

    def tell(*words: str) -> Done:
        argv = ["gridops", *words]
        monkeypatch.setattr(sys, "argv", argv)
        capfdbinary.readouterr()
        status = 0
        try:
            GridProgram(name="gridops", binary="gridops", version="1", namespace=ns).run(argv)
        except SystemExit as exc:
            status = int(exc.code or 0)
        said = capfdbinary.readouterr()
        return Done(status, said.out, said.err)

    yield tell
    shutdown_logging()


def run(program: str, *words: str, timeout: float = 60, **options: Any) -> Done:
    """`inv` or `gridops` as a process of its own; nothing on its stdin."""
    done = subprocess.run(
        [str(BIN / program), *words],
        **{"stdin": subprocess.DEVNULL, "capture_output": True, **options},
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout or b"", done.stderr or b"")


@contextmanager
def started(
    *words: str, until: bytes = b"up\n", **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """`gridops WORDS` as a process, once it has printed `until`; ended when the block is left.

    Unlike a shell's background job it has its signals as a terminal's has them.
    """
    child = subprocess.Popen(
        [str(BIN / "gridops"), *words],
        **{
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "start_new_session": True,
            **options,
        },
    )
    try:
        if until:
            assert child.stdout
            said = child.stdout.read(len(until))
            if said != until:
                child.kill()
                raise AssertionError((said, child.communicate()))
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for stream in (child.stdout, child.stderr):
            if stream:
                stream.close()


def left_of(where: Path, what: str, patience: float) -> dict[int, str]:
    """The processes with `what` in their command line that know `where`, after `patience`."""
    return {pid: line for pid, line in processes_of(where, patience).items() if what in line}


def clear(where: Path, what: str) -> None:
    """End them; again, while one of them starts another."""
    while found := left_of(where, what, 0):
        end(found)


class Inventory:
    """Writes the inventory of a sandbox's nodes, which share a remote_root of the test's own."""

    def __init__(self, sandbox: Sandbox, path: Path) -> None:
        self.sandbox = sandbox
        self.path = path
        self.root = f"cli-{time.monotonic_ns()}"  # below each node's home

    def __call__(self, nodes: dict[str, Any] | None = None, **sections: Any) -> Path:
        """`nodes` come after the sandbox's own, which they may change (None: leave out)."""
        own: dict[str, Any] = {node.name: {} for node in self.sandbox.nodes}
        entries = {
            name: entry for name, entry in {**own, **(nodes or {})}.items() if entry is not None
        }
        ssh = {"config_file": str(self.sandbox.ssh_config), **sections.pop("ssh", {})}
        found = {
            "nodes": entries,
            "remote_root": f"~/{self.root}",
            "ssh": ssh,
            "health_check": {"max_load_per_core": 1000, "max_memory_percent": 100},
            "retry": {"max_retries": 0},
            **sections,
        }
        self.path.write_text(json.dumps(found))
        return self.path

    def tree(self, name: str) -> Path:
        """Where a node has its project trees, as seen from here."""
        return self.sandbox.node(name).home / self.root

    def clean(self) -> None:
        for node in self.sandbox.nodes:
            shutil.rmtree(node.home / self.root, ignore_errors=True)


@contextmanager
def refusing() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def silent() -> Iterator[int]:
    """A port at which somebody takes the connection and never speaks."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


# -- fixtures; a conftest.py that imports them offers them -----------------------------------------


@pytest.fixture
def tell(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tell]:
    """`tell("health", "--format=json")`: the command line in this process."""
    yield from teller(capfdbinary, monkeypatch)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a small project."""
    path = tmp_path / "project"
    path.mkdir()
    (path / "hello.txt").write_text("hello\n")
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def inventory(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Inventory]:
    """An inventory of the three nodes of `sandbox`, in the environment; call it to change it."""
    made = Inventory(sandbox, tmp_path / "nodes.yaml")
    monkeypatch.setenv("GRIDOPS_INVENTORY", str(made()))
    yield made
    made.clean()
