"""Ray on three machines of a machine: each with its own address, process table and home.

Everything real, and slow; so the machines, their environments and the cluster are shared by all
tests of this directory, which belong to one worker (`xdist_group`). A test may do with the cluster
what it likes: `cluster` repairs it for the next one.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.cli import Done, run
from support.namespaces import Machine, Machines, machines, why_not

RAY = "2.60.0"
PYTHONS = ((3, 10), (3, 13))  # the first and the last that this Ray is made for
DOWNLOAD = 600.0  # seconds, on the first run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(DOWNLOAD))


@pytest.fixture(scope="session")
def base_python() -> str:
    """The interpreter that this one's environment was made with."""
    version = sys.version_info[:2]
    if not PYTHONS[0] <= version <= PYTHONS[1]:
        pytest.skip(f"there is no Ray {RAY} for Python {version[0]}.{version[1]}")
    return str(Path(sys.base_prefix) / "bin" / f"python{version[0]}.{version[1]}")


@pytest.fixture(scope="session")
def wheels(base_python: str) -> Path:
    """Ray and all it needs, as wheels; got from the package index once and kept.

    In TEST_RAY_WHEELS, else in the cache directory of whoever runs the tests.
    """
    given = os.environ.get("TEST_RAY_WHEELS")
    version = "{}{}".format(*sys.version_info[:2])
    cache = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache" / "gridops-tests"
    target = Path(given) if given else cache / f"ray-{RAY}-cp{version}"
    if given or (target / "complete").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    with (target / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / "complete").exists():
            command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:"]
            done = subprocess.run(
                [*command, "-d", str(target), f"ray[default]=={RAY}"],
                capture_output=True, text=True, timeout=DOWNLOAD, check=False,
            )  # fmt: skip
            if done.returncode:
                pytest.fail(f"cannot download Ray's wheels: {done.stderr[-500:]}")
            (target / "complete").touch()
    return target


@pytest.fixture(scope="session")
def three(session_dir: Path, _isolated_session: None) -> Iterator[Machines]:
    """n1, n2 and n3, without Ray."""
    if reason := why_not():
        pytest.skip(reason)
    with machines(session_dir / "ray") as made:
        yield made


@dataclass
class RayNodes:
    """The machines, an inventory of them, and gridops for it."""

    machines: Machines
    wheels: Path
    inventory: Path
    ray: dict[str, Any]
    env: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    @property
    def all(self) -> list[Machine]:
        return list(self.machines.nodes.values())

    def variant(self, path: Path, nodes: dict[str, Any] | None = None, **ray: Any) -> Path:
        """Another inventory of the same machines."""
        return self.machines.inventory(path, {**self.ray, **ray}, **(nodes or {}))

    def __call__(self, *words: str, inventory: Path | None = None, **options: Any) -> Done:
        """`gridops WORDS`, as a process."""
        env = {**os.environ, "GRIDOPS_INVENTORY": str(inventory or self.inventory)}
        return run("gridops", *words, **{"timeout": 300, "env": {**env, **self.env}, **options})


@pytest.fixture(scope="session")
def bare(three: Machines, wheels: Path, base_python: str, session_dir: Path) -> RayNodes:
    """The machines with an inventory; Ray need not be installed."""
    # One installation serves all three, as with homes on a file server: what costs is the writing.
    for one in three.nodes.values():
        (one.home / "gridops").mkdir()
        (one.home / "gridops/.ray").symlink_to(three.root / "environments")
    (three.root / "environments").mkdir()
    # Compiling all of Ray takes longer than compiling what is used of it.
    ray = {"version": RAY, "python": base_python, "pip_args": ["--no-compile"]}
    path = three.inventory(session_dir / "ray.yaml", ray)
    return RayNodes(three, wheels, path, ray)


@pytest.fixture(scope="session")
def installed(bare: RayNodes, session_dir: Path) -> RayNodes:
    """The same, with Ray installed on all."""
    home = session_dir / "rayhome"
    home.mkdir(exist_ok=True)
    env = {**os.environ, "HOME": str(home), "GRIDOPS_INVENTORY": str(bare.inventory)}
    env = {name: text for name, text in env.items() if not name.startswith("XDG_")}
    done = bare("cluster.install", f"--wheelhouse={bare.wheels}", env=env)
    assert done.status == 0, done.err
    return bare


@pytest.fixture
def raynodes(installed: RayNodes, monkeypatch: pytest.MonkeyPatch) -> RayNodes:
    """Three nodes with Ray, whose cluster may run or not; GRIDOPS_INVENTORY names them."""
    monkeypatch.setenv("GRIDOPS_INVENTORY", str(installed.inventory))
    return installed


@pytest.fixture
def cluster(raynodes: RayNodes) -> RayNodes:
    """The same, the cluster whole."""
    done = raynodes("cluster.start")
    if done.status:  # Ray gives a node 30 seconds, which a busy machine may not have
        done = raynodes("cluster.start")
    assert done.status == 0, done.err
    return raynodes


@pytest.fixture
def stopped(raynodes: RayNodes) -> RayNodes:
    """The same, nothing of it running."""
    done = raynodes("cluster.stop")
    assert done.status == 0, done.err
    return raynodes


@pytest.fixture(scope="session", autouse=True)
def _tidy(session_dir: Path) -> Iterator[None]:
    yield
    shutil.rmtree(session_dir / "rayhome", ignore_errors=True)
