"""OpenSSH control masters: opened on demand, shared by every process, replaced when stale.

One endpoint has masters numbered from 0; a further one is opened only when sshd refuses one more
session on those before it (MaxSessions). `runtime_dir()` holds, for each, the socket KEY.NUMBER, a
note for `gridops.reach.pool` (.json) and a lock file (.lock), which makes processes that want the
same master agree on who opens it.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from gridops.errors import (
    ConnectDropped,
    ConnectionLost,
    ConnectTimeout,
    GridError,
    NodeError,
    NodeTimeout,
    ReachError,
    SessionRefused,
)
from gridops.observe import events
from gridops.reach.control import Control
from gridops.reach.endpoint import Endpoint, proxy_of
from gridops.reach.link import runtime_dir, too_many_files_error
from gridops.system.locks import acquire_lock

T = TypeVar("T")

MASTERS = 32  # how many masters one endpoint may have when sshd refuses further sessions
HANDSHAKE_TRIES = 6  # a node that drops us unheard is asked again (sshd's MaxStartups)
MAX_LOGINS = 10  # logins through one jump host, by one process
BEHIND_A_PROXY = "UNKNOWN port"  # how ssh names a peer that it reaches through another program
RETIRE_TIMEOUT = 0.5  # seconds for a master that may hang to hear that it is retired

_slots: dict[str, threading.BoundedSemaphore] = {}  # of each jump host
_slots_lock = threading.Lock()


def connect(endpoint: Endpoint, *, index: int = 0, timeout: float) -> tuple[Control, bool]:
    """Connect to the endpoint's master number `index`; it is opened first where there is none.

    Returns it and whether the master is new. `timeout` is seconds for all of it.
    Raises a ReachError that says why the node cannot be reached.
    """
    path = _socket(endpoint, index)
    try:
        control = _attach(path)
        if control:
            return control, False
        end = time.monotonic() + timeout
        with lock_socket(path, endpoint.name, end):
            control = _attach(path)  # another process may have been quicker
            if control:
                return control, False
            return _open(endpoint, path, end), True
    except OSError as exc:
        if exc.errno in (errno.EMFILE, errno.ENFILE):
            raise too_many_files_error() from exc
        raise ReachError(f"cannot open a connection: {exc}", node=endpoint.name) from exc


def with_master(
    endpoint: Endpoint,
    index: int,
    ask: Callable[[Control, float], T],
    end: float | None = None,
) -> tuple[T, bool]:
    """Call `ask(control, seconds)` on the endpoint's master `index`.

    Returns its result and whether the master is new. A master that was there already and does not
    answer within the connect timeout, or hangs up, is replaced and the new one asked. The control
    is closed when `ask` raises. `end` is on time.monotonic(); None: as long as a login may take.
    Raises what `ask` does, a ReachError, or a NodeError where sshd grants no session at all.
    """
    if end is None:
        end = time.monotonic() + endpoint.login_timeout
    control, new = connect(endpoint, index=index, timeout=time_left(end))
    if not new:
        try:
            return _ask(ask, control, min(time_left(end), endpoint.connect_timeout)), False
        except (NodeTimeout, ConnectionLost) as exc:
            retire(endpoint, index, control, exc.message)
        control, _ = connect(endpoint, index=index, timeout=time_left(end))
    try:
        return _ask(ask, control, time_left(end)), True
    except SessionRefused as exc:  # nobody else uses this one, so another one would not help
        raise no_sessions(endpoint.name) from exc


def ensure_master(control: Control, seconds: float) -> None:
    """Check that the master is there, without using it; an `ask` for `with_master`."""
    with closing(control):
        control.alive(seconds)


def _ask(ask: Callable[[Control, float], T], control: Control, seconds: float) -> T:
    try:
        return ask(control, seconds)
    except BaseException:
        control.close()
        raise


def no_sessions(node: str) -> NodeError:
    return NodeError(
        "it accepts the login but refuses a session",
        node=node,
        hint="check MaxSessions and ForceCommand in its sshd_config",
    )


def time_left(end: float) -> float:
    """Seconds until `end` on time.monotonic(). Raises NodeTimeout when there are none."""
    left = end - time.monotonic()
    if left <= 0:
        raise NodeTimeout("no answer in time")
    return left


def retire(endpoint: Endpoint, index: int, control: Control, reason: str) -> None:
    """Take the master that `control` leads to out of use; what still runs over it may finish.

    It ends with the last of that, or when its network is dead. Harmless when it was replaced
    already.
    """
    path = _socket(endpoint, index)
    with lock_socket(path, endpoint.name, time.monotonic() + endpoint.connect_timeout):
        if not control.is_current():
            return
        with suppress(OSError, GridError), closing(Control(str(path))) as master:
            master.stop_listening(RETIRE_TIMEOUT)
        path.unlink(missing_ok=True)
    events.emit(events.CONNECTION_REPLACED, node=endpoint.name, reason=reason)


def socket_path(endpoint: Endpoint, index: int = 0) -> str:
    return str(_socket(endpoint, index))


def _socket(endpoint: Endpoint, index: int) -> Path:
    return runtime_dir() / f"{endpoint.key}.{index}"


def _attach(path: Path) -> Control | None:
    """A connection to the master at `path`; None when there is none."""
    try:
        return Control(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except TimeoutError:  # so many wait for it already that it must be stuck
        return None


def _open(endpoint: Endpoint, path: Path, end: float) -> Control:
    """Open the master at `path`.

    Runs ssh until it has logged in and gone to the background, then publishes its socket.
    """
    # Here, since whoever finds a master open does not need it.
    from gridops.retry import RetryConfig, attempts

    began = time.monotonic()
    # A master removes the socket name it was given when it ends. A name of its own, renamed,
    # keeps one that was retired from removing its successor's.
    given = path.with_name(os.urandom(8).hex())
    patience = RetryConfig(HANDSHAKE_TRIES - 1, 0.2, 2.0, max_elapsed=max(0.0, end - began))
    for attempt in attempts(patience, ConnectDropped, what=f"log in to {endpoint.name}"):
        with attempt, login_slot(endpoint, end):
            log_in(endpoint, str(given), end)
    try:
        control = Control(str(given))
        pid = control.alive()
        _describe(endpoint, path, pid, given.name)
        given.replace(path)
    except (OSError, GridError) as exc:
        given.unlink(missing_ok=True)
        raise ReachError(f"the control master ended at once: {exc}", node=endpoint.name) from exc
    control.path = str(path)
    events.emit(events.CONNECTION_OPENED, node=endpoint.name, seconds=time.monotonic() - began)
    return control


@contextmanager
def login_slot(endpoint: Endpoint, end: float) -> Iterator[None]:
    """Our turn to log in on the endpoint's way; waits until `end` (on time.monotonic()) at most.

    sshd drops whoever comes while ten have not logged in yet (MaxStartups 10:30:100).

    Raises ConnectTimeout when it does not come, a ReachError for a configuration ssh cannot read.
    """
    way = proxy_of(endpoint)
    if way is None:
        yield
        return
    with _slots_lock:
        free = _slots.setdefault(way, threading.BoundedSemaphore(MAX_LOGINS))
    if not free.acquire(timeout=max(0.0, end - time.monotonic())):
        raise ConnectTimeout(
            f"too many logins at once through the jump host {way}",
            node=endpoint.name,
            hint=f"{MAX_LOGINS} go at once; give more time, or run `inv pool.open` first",
        )
    try:
        yield
    finally:
        free.release()


def log_in(endpoint: Endpoint, socket: str, end: float) -> None:
    """Open a master at `socket`: run its ssh until it has logged in or `end`.

    Raises a ReachError that says why it could not.
    """
    from gridops.reach.command import run_tool
    from gridops.reach.diagnosis import diagnose

    done = run_tool(
        endpoint.master(socket),
        name=endpoint.name,
        timeout=max(0.1, min(endpoint.login_timeout, end - time.monotonic())),
        late="the SSH login did not finish",
        hint=f"it accepts connections but does not answer; try `ssh -v {endpoint.host}`",
    )
    if done.status:
        error = diagnose(done.err, endpoint.name, endpoint.host)
        if isinstance(error, ConnectDropped) and BEHIND_A_PROXY in done.err:
            error = _on_the_way(endpoint, error, end)
        raise error


def _on_the_way(endpoint: Endpoint, error: ReachError, end: float) -> ReachError:
    """The error of a jump host or ProxyCommand.

    ssh hides what they said when it opens a lasting master.
    """
    from gridops.reach.command import run_tool
    from gridops.reach.diagnosis import diagnose

    left = min(2 * endpoint.connect_timeout, end - time.monotonic())
    if left <= 0:
        return error
    done = run_tool(endpoint.probe_login(), name=endpoint.name, timeout=left)
    # OpenSSH 10 no longer says the first of these
    if "kex_exchange_identification" not in done.err and BEHIND_A_PROXY not in done.err:
        return error  # this time the way was free
    return diagnose(done.err, endpoint.name, endpoint.host)


@contextmanager
def lock_socket(path: Path, name: str, end: float) -> Iterator[None]:
    """Hold the lock file of the master at `path`; waits for it until `end`."""
    try:
        lock = acquire_lock(f"{path}.lock", end)
    except TimeoutError as exc:
        raise ConnectTimeout("another process is still connecting to it", node=name) from exc
    try:
        yield
    finally:
        os.close(lock)


def _describe(endpoint: Endpoint, path: Path, pid: int, bound: str) -> None:
    """Leave a note beside the socket for `gridops.reach.pool`."""
    from gridops.system.files import write_atomic

    note = {
        "node": endpoint.name,
        "target": endpoint.target,
        "pid": pid,
        "opened": time.time(),
        "bound": bound,  # the socket's first name, by which the kernel and ssh's title know it
    }
    write_atomic(Path(f"{path}.json"), json.dumps(note).encode())
