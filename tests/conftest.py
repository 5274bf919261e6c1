"""What every test may use, and the walls around each: nothing of the developer's own set-up gets
in, and nothing a test started outlives the run."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.nodes import close_masters, end, node_of, processes_of, settings_of, ssh_shim
from support.wheels import make_dist

from gridops.inventory.settings import SshSettings
from gridops.model import Node
from gridops.observe import events
from gridops.reach import link_to
from gridops.reach.link import Link
from gridops.sandbox import Sandbox

MakeSandbox = Callable[..., Sandbox]

# Who runs us in the background (`&`, nohup) has signals ignored, and what we start inherits that.
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def session_dir() -> Iterator[Path]:
    """Everything of this run (of this worker) is below here; short, since sockets have short paths.

    Torn down last: whatever process still knows this directory then was left behind by a test.
    """
    base = Path(tempfile.mkdtemp(prefix="g", dir="/tmp"))
    try:
        yield base
        left = processes_of(base, patience=3.0)
        end(left)
        if left:
            shown = "\n  ".join(f"{pid}: {what}" for pid, what in left.items())
            pytest.fail(f"left behind by this run (now ended):\n  {shown}", pytrace=False)
    finally:
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def runtime_dir(session_dir: Path) -> Iterator[Path]:
    """The directory of control sockets; the masters in it are shared by all tests of the run."""
    path = session_dir / "run"
    path.mkdir(mode=0o700)
    yield path
    close_masters(path)


@pytest.fixture(scope="session", autouse=True)
def _signals() -> None:
    """As a terminal has them; nohup and shells' background jobs let their children ignore some."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _isolated_session(session_dir: Path, runtime_dir: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("GRIDOPS_", "INVOKE_"))]:
            patch.delenv(name)
        for name in ("SSH_AUTH_SOCK", "SSH_ASKPASS", "XDG_RUNTIME_DIR", "PYTHONPATH", "NO_COLOR"):
            patch.delenv(name, raising=False)
        patch.setenv("GRIDOPS_RUNTIME_DIR", str(runtime_dir))
        patch.setenv("PATH", f"{ssh_shim(session_dir)}:{os.environ['PATH']}")
        yield


@pytest.fixture(autouse=True)
def home(
    session_dir: Path, monkeypatch: pytest.MonkeyPatch, _numbers: Iterator[int]
) -> Iterator[Path]:
    """A fresh HOME, and fresh state, cache and configuration directories, for each test."""
    path = session_dir / f"home{next(_numbers)}"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(path))
    for name in ("STATE", "DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(path / name.lower()))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def _numbers() -> Iterator[int]:
    return itertools.count(1)


@pytest.fixture
def fresh_runtime_dir(session_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of control sockets for this test alone."""
    path = Path(tempfile.mkdtemp(prefix="r", dir=session_dir))
    monkeypatch.setenv("GRIDOPS_RUNTIME_DIR", str(path))
    yield path
    close_masters(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def sandbox(session_dir: Path, _isolated_session: None) -> Iterator[Sandbox]:
    """Three real nodes, node1 to node3, shared by all tests: leave them running, and clean up in
    their homes."""
    with Sandbox.up(session_dir / "sb", 3) as made:
        yield made


@pytest.fixture(scope="session")
def dist(session_dir: Path) -> Path:
    """What `make dist` makes: a directory with an sdist and a wheel, both checked by twine."""
    return make_dist(session_dir / "checkout/dist")


@pytest.fixture
def make_sandbox(session_dir: Path) -> Iterator[MakeSandbox]:
    """Make nodes of this test's own: `make_sandbox(2, options={…}, setup={"node1": Setup(…)})`."""
    made: list[Sandbox] = []

    def make(nodes: int | list[str] = 1, **options: object) -> Sandbox:
        root = Path(tempfile.mkdtemp(prefix="s", dir=session_dir))
        made.append(Sandbox(root))  # first: a start that fails half-way is cleaned up too
        return Sandbox.up(root, nodes, **options)  # type: ignore[arg-type]

    yield make
    for one in made:
        one.down()


@pytest.fixture
def ssh_settings(sandbox: Sandbox) -> SshSettings:
    """How the nodes of `sandbox` are reached."""
    return settings_of(sandbox)


@pytest.fixture
def node1(sandbox: Sandbox) -> Node:
    return node_of(sandbox, "node1")


@pytest.fixture
def link1(node1: Node, ssh_settings: SshSettings) -> Link:
    """A link to node1 of `sandbox`."""
    return link_to(node1, ssh_settings)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """The messages of WARNING events."""
    said: list[str] = []

    def listen(event: events.Event) -> None:
        if event.name == events.WARNING:
            said.append(event.fields["message"])

    with events.listening(listen):
        yield said


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for 127.0.0.1 and its key, as paths."""
    place = tmp_path_factory.mktemp("tls")
    cert, key = str(place / "cert.pem"), str(place / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return cert, key
