"""Diagnosis of a failed login: OpenSSH's stderr to the error class that says so."""

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

# The first pattern that matches decides, so the more telling ones come first: a jump host's cause
# is followed by a "Connection closed" of the connection that was to go through it.
# {line} is the line that matched, {named} what its group caught, {key} whose key that makes it,
# {name} and {host} the node's.
CAUSES: tuple[tuple[str, type[ReachError], str, str], ...] = (
    (
        r"(?s:REMOTE HOST IDENTIFICATION HAS CHANGED(?:.*Host key for (\S+) has changed)?)",
        HostKeyChanged,
        "{key} is not the one in known_hosts",
        "only if that machine was reinstalled: `inv trust --nodes {name} --replace`",
    ),
    (
        # the second line: up to OpenSSH 9, since 10
        r"Host key verification failed[^\n]*\n[^\n]*(?:kex_exchange_identification|UNKNOWN port)",
        HostKeyUnknown,
        "the host key of a jump host before it is not known yet",
        "log in to the jump host once with `ssh`, and check its fingerprint",
    ),
    (
        r"No \S+ host key is known for (\S+)|Host key verification failed",
        HostKeyUnknown,
        "{key} is not known yet",
        "`inv trust --nodes {name}` shows and adds it",
    ),
    (
        r"Could not resolve hostname (\S+?):|Name or service not known|nodename nor servname"
        r"|hostname contains invalid characters",
        HostUnknown,
        "the host name {named} does not resolve",
        "check `host:` in the inventory, or ~/.ssh/config",
    ),
    (
        r"Bad configuration option|Bad owner or permissions|jumphost loop|terminating, \d+ bad",
        ReachError,
        "ssh refuses its configuration: {line}",
        "check ~/.ssh/config and `ssh:` in the inventory",
    ),
    (
        r"Permissions \d+ for '(.+)' are too open",
        AuthenticationFailed,
        "ssh ignores the key {named}, because others may read it",
        "`chmod 600 {named}`",
    ),
    (
        r"Permission denied|Too many authentication failures|no more authentication methods",
        AuthenticationFailed,
        "the login was refused: {line}",
        "`ssh {host}` must work without a password: check the user, ssh-add, ssh-copy-id",
    ),
    (
        r"timed out|Timeout, server|Timeout before",
        ConnectTimeout,
        "no answer to the connection attempt: {line}",
        "is it up, and does its firewall let you in?",
    ),
    (
        r"Connection refused|No route to host|(?:Network|Host) is (?:unreachable|down)",
        ConnectRefused,
        "{line}",
        "is it up, and sshd running on that port?",
    ),
    (
        r"Connection (?:closed|reset)|kex_exchange_identification|Broken pipe|Not allowed at this"
        r"|banner exchange|Exceeded MaxStartups",
        ConnectDropped,
        "the connection was closed during the handshake: {first}",
        "too many logins at once (see sshd's MaxStartups), or not an SSH server",
    ),
)


def diagnose(said: str, name: str, host: str) -> ReachError:
    """The error for a failed login to `host`, known as `name`; `said` is what ssh printed."""
    lines = [plain(line) for line in said.splitlines() if line.strip()] or ["ssh said nothing"]
    text = "\n".join(lines)
    for pattern, cause, message, hint in CAUSES:
        found = re.search(pattern, text, re.IGNORECASE)
        if found:
            named = next((group for group in found.groups() if group), None)
            its = named in (None, name, host)
            words = {
                "name": name,
                "host": host,
                "line": _line_at(text, found.start()),
                "first": lines[0],
                "named": named or host,
                "key": "its host key" if its else f"the host key of {named}",
            }
            return cause(message.format(**words), node=name, hint=hint.format(**words))
    return ReachError(f"ssh could not connect: {lines[-1]}", node=name, hint=f"try `ssh -v {host}`")


def _line_at(text: str, position: int) -> str:
    start = text.rfind("\n", 0, position) + 1
    return text[start:].partition("\n")[0].removeprefix("ssh: ").rstrip(".")


def plain(line: str) -> str:
    """A line without control characters: a server's banner is not to steer our terminal."""
    return "".join(char for char in line.strip() if char.isprintable())[:300]
