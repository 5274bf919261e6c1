"""What OpenSSH's last words mean: its stderr to the error class that says so."""

from __future__ import annotations

import re

from gridops.errors import (
    AuthenticationFailed,
    ConnectDropped,
    ConnectRefused,
    ConnectTimeout,
    HostKeyChanged,
    HostKeyUnknown,
    HostUnknown,
    ReachError,
)

# The first pattern that matches decides, so the more telling ones come first.
CAUSES: tuple[tuple[str, type[ReachError], str, str], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key .* has changed",
        HostKeyChanged,
        "its host key is not the one in known_hosts",
        "if the machine was reinstalled: `inv trust --nodes {name} --replace`; else stop",
    ),
    (
        r"Host key verification failed|No \S+ host key is known",
        HostKeyUnknown,
        "its host key is not known yet",
        "`inv trust --nodes {name}` shows and adds it",
    ),
    (
        r"Could not resolve hostname|Name or service not known|nodename nor servname",
        HostUnknown,
        "the host name {host} does not resolve",
        "check `host:` in the inventory, or ~/.ssh/config",
    ),
    (
        r"Permission denied|Too many authentication failures|no more authentication methods",
        AuthenticationFailed,
        "the login was refused: {last}",
        "`ssh {host}` must work without a password: check the user, ssh-add, ssh-copy-id",
    ),
    (
        r"timed out|Timeout, server|Timeout before",
        ConnectTimeout,
        "no answer to the connection attempt: {last}",
        "is it up, and the port open to you?",
    ),
    (
        r"Connection refused|No route to host|(Network|Host) is (unreachable|down)",
        ConnectRefused,
        "{last}",
        "is it up, and sshd running on that port?",
    ),
    (
        r"Connection (closed|reset)|kex_exchange_identification|Broken pipe|Not allowed at this"
        r"|banner exchange|Exceeded MaxStartups",
        ConnectDropped,
        "it closed the connection during the handshake: {last}",
        "too many logins at once (sshd's MaxStartups), or not an SSH server",
    ),
)


def diagnose(said: str, name: str, host: str) -> ReachError:
    """The error for what ssh printed when it could not log in to `host`, known as `name`."""
    lines = [_plain(line) for line in said.splitlines() if line.strip()]
    last = lines[-1].removeprefix("ssh: ").rstrip(".") if lines else "ssh failed without a word"
    for pattern, cause, message, hint in CAUSES:
        if re.search(pattern, said, re.IGNORECASE):
            words = {"name": name, "host": host, "last": last}
            return cause(message.format(**words), node=name, hint=hint.format(**words))
    return ReachError(f"ssh could not connect: {last}", node=name, hint=f"try `ssh -v {host}`")


def _plain(line: str) -> str:
    """Without control characters: a server's banner is not to steer our terminal."""
    return "".join(char for char in line.strip() if char.isprintable())[:300]
