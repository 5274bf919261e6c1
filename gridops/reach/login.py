"""One login: run the ssh that becomes a control master, and understand why it could not."""

from __future__ import annotations

import time

from gridops.errors import ConnectDropped, ReachError
from gridops.reach.command import run_tool
from gridops.reach.diagnosis import diagnose
from gridops.reach.endpoint import Endpoint

BEHIND_A_PROXY = "UNKNOWN port"  # how ssh names a peer that it reaches through another program


def log_in(endpoint: Endpoint, socket: str, end: float) -> None:
    """Open a master at `socket`: run its ssh until it has logged in or `end`.

    Raises a ReachError that says why it could not.
    """
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
    left = min(2 * endpoint.connect_timeout, end - time.monotonic())
    if left <= 0:
        return error
    done = run_tool(endpoint.probe_login(), name=endpoint.name, timeout=left)
    # OpenSSH 10 no longer says the first of these
    if "kex_exchange_identification" not in done.err and BEHIND_A_PROXY not in done.err:
        return error  # this time the way was free
    return diagnose(done.err, endpoint.name, endpoint.host)
