"""Real sshd nodes on this machine, for demo, tests and benchmarks.

Every node has an sshd of its own on 127.0.0.1, with its own host key, port and HOME; a client key,
an ssh_config and an inventory that know them all lie beside. All of it runs as the user who made
it, root or not, and only that user's fresh key is let in. `down` leaves nothing behind.

A `shared` sandbox has one sshd for all its nodes, which are addresses from 127.0.0.2 on: for
benchmarks with hundreds of nodes. sshd takes at most 16 addresses, so that one listens on all of
the machine's; whoever can reach the machine can reach it, though only the fresh key logs in.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType

from gridops.errors import GridError, SandboxError, UnknownNameError, UsageError
from gridops.sandbox import files
from gridops.sandbox import server as sshd
from gridops.sandbox.server import Setup
from gridops.sandbox.state import RESERVED, SandboxNode, State, lock_root

__all__ = ["Sandbox", "SandboxNode", "Setup"]

LOGIN_TIMEOUT = 20  # seconds for the first login
MASTERS_GRACE = 0.5  # seconds for masters to notice; others may have nodes of the same names
SANDBOX_TIMEOUT = 60.0  # seconds for another process that changes the same sandbox


class Sandbox:
    """The sandbox in the directory `root`; what it consists of is read from there every time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inventory = root / "inventory.yaml"
        self.ssh_config = root / "ssh_config"

    @classmethod
    def up(
        cls,
        root: Path | str | None = None,
        nodes: int | Sequence[str] = 3,
        *,
        shared: bool = False,
        options: Mapping[str, str] | None = None,
        setup: Mapping[str, Setup] | None = None,
    ) -> Sandbox:
        """Have at least these nodes running in `root` (default: `default_root()`).

        `nodes` is how many (node1, node2, …) or their names; `options` go into the sshd_config of
        every node made now, `setup` says what is special about single ones. Calling it again is
        harmless: what runs stays as it is, what died starts, what is missing is added.
        Raises SandboxError, or UsageError for a root or names that cannot be used.
        """
        names = _names(nodes)
        sandbox = cls(files.usable(Path(root) if root is not None else default_root()))
        with sandbox._lock(create=True):
            known = State.read(sandbox.root)
            state = known or State.fresh(sandbox.root, shared=shared)
            if state.shared != shared:
                raise UsageError(
                    f"the sandbox in {sandbox.root} was made with another value of `shared`"
                )
            try:
                state.add(names, options or {}, setup or {})
                state.write()  # whatever happens from here on, `down` knows what to look for
                state.start_all()
            finally:
                state.write()
            if not known and not options and not setup:
                sandbox._prove(state)
        return sandbox

    @classmethod
    def load(cls, root: Path | str | None = None) -> Sandbox:
        """The sandbox that is in `root`, running or not. Raises SandboxError when there is none."""
        sandbox = cls(files.usable(Path(root) if root is not None else default_root()))
        sandbox._state()
        return sandbox

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.down()

    @property
    def nodes(self) -> tuple[SandboxNode, ...]:
        """All its nodes as they are now."""
        return self._state().nodes()

    def status(self) -> tuple[SandboxNode, ...]:
        return self.nodes

    def node(self, name: str) -> SandboxNode:
        """The node called `name`. Raises UnknownNameError."""
        nodes = {node.name: node for node in self.nodes}
        if name not in nodes:
            raise UnknownNameError("sandbox node", name, nodes)
        return nodes[name]

    def stop(self, name: str) -> None:
        """Stop a node: its sshd and all that runs in its sessions. Its files stay."""
        with self._lock():
            sshd.stop([self._state().single(name)])

    def start(self, name: str) -> SandboxNode:
        """Start a node again, on the same port. Raises SandboxError when that is taken."""
        with self._lock():
            state = self._state()
            state.servers[name] = sshd.start(state.single(name))
            state.write()
        return self.node(name)

    def down(self) -> bool:
        """End every process of the sandbox and remove its files; True if there was one.

        Raises SandboxError when a process would not end; then the files stay, for another try.
        """
        if not self.root.is_dir():
            return False
        with self._lock():
            state = State.read(self.root)
            if state is None:
                return False
            sshd.stop(state.servers.values())
            state.remove()
        _forget_masters(set(state.hosts))
        return True

    def _prove(self, state: State) -> None:
        """Log in once: an account that sshd refuses is reported now and in sshd's words."""
        name = next(iter(state.hosts))
        command = [files.tool("ssh", "openssh-client"), "-F", str(self.ssh_config)]
        command += ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={LOGIN_TIMEOUT}", name, "true"]
        with suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LOGIN_TIMEOUT,
                check=False,
            )
            if done.returncode == 0:
                return
        log = sshd.last_words(state.server_of(name).directory / "log")
        sshd.stop(state.servers.values())
        state.remove()
        raise SandboxError(
            f"sshd runs but does not let {files.user()} in: {log}",
            hint="the account needs a shell that can log in",
        )

    def _state(self) -> State:
        state = State.read(self.root)
        if state is None:
            raise SandboxError(f"there is no sandbox in {self.root}", hint="`inv sandbox.up`")
        return state

    def _lock(self, create: bool = False) -> AbstractContextManager[None]:
        return lock_root(self.root, create=create, patience=SANDBOX_TIMEOUT)


def _forget_masters(names: set[str]) -> None:
    """Have gridops' pool clear away the masters of nodes just ended."""
    from gridops.reach import pool

    end = time.monotonic() + MASTERS_GRACE
    with suppress(GridError, OSError):
        while any(master.node in names for master in pool.status()) and time.monotonic() < end:
            time.sleep(0.02)


def default_root() -> Path:
    """The directory of a sandbox by default.

    `.sandbox` here, or among the user's state files when this directory is not writable.
    """
    if os.access(Path.cwd(), os.W_OK):
        return Path.cwd() / ".sandbox"
    import platformdirs

    return platformdirs.user_state_path("gridops") / "sandbox"


def _names(nodes: int | Sequence[str]) -> list[str]:
    if isinstance(nodes, int):
        if nodes < 1:
            raise UsageError("a sandbox has at least one node")
        return [f"node{number}" for number in range(1, nodes + 1)]
    for name in nodes:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name in RESERVED:
            raise UsageError(f"a sandbox node cannot be called {name!r}")
    return list(nodes)
