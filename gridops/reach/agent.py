"""Check that the ssh agent that the environment names answers.

ssh asks its agent before anything else and waits for ever, whatever ConnectTimeout says, so an
agent that hangs (a dead forwarding, a stopped process) would cost every login its whole time.
"""

from __future__ import annotations

import os
import socket
import struct
import threading

from gridops.observe import events

AGENT_TIMEOUT = 3.0  # seconds; agents before smart cards may need more than one
REQUEST_IDENTITIES = struct.pack(">IB", 1, 11)  # draft-miller-ssh-agent, section 3.5

_lock = threading.Lock()
_verdicts: dict[str, bool] = {}  # by socket path, once a process


def environment() -> dict[str, str]:
    """The environment for ssh: never a prompt, and no agent that does not answer."""
    environment = {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}
    path = environment.get("SSH_AUTH_SOCK")
    if path and not _answers(path):
        del environment["SSH_AUTH_SOCK"]
    return environment


def _answers(path: str) -> bool:
    with _lock:
        if path not in _verdicts:
            _verdicts[path] = _ask(path)
            if not _verdicts[path]:
                events.emit(
                    events.WARNING,
                    message=f"the ssh agent at SSH_AUTH_SOCK={path} did not answer within "
                    f"{AGENT_TIMEOUT:g} s; logging in with key files alone",
                )
        return _verdicts[path]


def _ask(path: str) -> bool:
    """Check that the agent does not hang: ssh itself notices at once that there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.settimeout(AGENT_TIMEOUT)
        try:
            agent.connect(path)
            agent.sendall(REQUEST_IDENTITIES)
            agent.recv(1)
        except (TimeoutError, BlockingIOError):
            return False
        except OSError:
            return True
    return True
