"""What ssh printed (captured from OpenSSH 9.2) and the error that says what it means."""

from __future__ import annotations

import pytest

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
from gridops.reach.diagnosis import diagnose

CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Offending ED25519 key in /home/u/.ssh/known_hosts:1
Host key for [10.0.0.7]:2222 has changed and you have requested strict checking.
Host key verification failed.
"""
UNPROTECTED = """\
@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @
Permissions 0644 for '/home/u/.ssh/id' are too open.
This private key will be ignored.
u@gpu01: Permission denied (publickey).
"""
CLOSED = "kex_exchange_identification: Connection closed by remote host\n"
PROXIED = f"{CLOSED}Connection closed by UNKNOWN port 65535\n"

CASES = {
    "refused": (
        "ssh: connect to host 10.0.0.7 port 22: Connection refused\n",
        ConnectRefused,
        "connect to host 10.0.0.7 port 22: Connection refused",
    ),
    "no route": ("ssh: connect to host h port 22: No route to host\n", ConnectRefused, "No route"),
    "unresolved": (
        "ssh: Could not resolve hostname gpu01: Name or service not known\n",
        HostUnknown,
        "the host name gpu01 does not resolve",
    ),
    "odd name": ("hostname contains invalid characters\n", HostUnknown, "gpu01.lan"),
    "unknown key": (
        "No ED25519 host key is known for [10.0.0.7]:2222 and you have requested strict checking.\n"
        "Host key verification failed.\n",
        HostKeyUnknown,
        "the host key of [10.0.0.7]:2222 is not known yet (`inv trust --nodes gpu01`",
    ),
    "unknown key of a jump host": (
        f"Host key verification failed.\n{PROXIED}",
        HostKeyUnknown,
        "jump host",
    ),
    "changed key": (CHANGED, HostKeyChanged, "the host key of [10.0.0.7]:2222 is not the one"),
    "no login": (
        "u@gpu01: Permission denied (publickey,password).\n",
        AuthenticationFailed,
        "u@gpu01: Permission denied (publickey,password)",
    ),
    "no login at a jump host": (
        f"u@bastion: Permission denied (publickey).\n{PROXIED}",
        AuthenticationFailed,
        "u@bastion",
    ),
    "too many keys": (
        "Received disconnect from 10.0.0.7 port 22:2: Too many authentication failures\n"
        "Disconnected from 10.0.0.7 port 22\n",
        AuthenticationFailed,
        "Too many authentication failures",
    ),
    "open key file": (UNPROTECTED, AuthenticationFailed, "chmod 600 /home/u/.ssh/id"),
    "silent": ("Connection timed out during banner exchange\n", ConnectTimeout, "banner"),
    "unreachable": (
        "ssh: connect to host h port 22: Connection timed out\n",
        ConnectTimeout,
        "timed out",
    ),
    "dropped": (f"{CLOSED}Connection closed by 10.0.0.7 port 22\n", ConnectDropped, "MaxStartups"),
    "reset": (
        "kex_exchange_identification: read: Connection reset by peer\n",
        ConnectDropped,
        "reset by peer",
    ),
    "refused behind a jump host": (
        "channel 0: open failed: connect failed: Connection refused\n"
        f"stdio forwarding failed\n{PROXIED}",
        ConnectRefused,
        "connect failed: Connection refused",
    ),
    "proxy command that fails": (
        f"/bin/sh: 1: corkscrew: not found\n{PROXIED}",
        ConnectDropped,
        "corkscrew: not found",
    ),
    "bad option": (
        "command-line: line 0: Bad configuration option: foo\n",
        ReachError,
        "Bad configuration option: foo",
    ),
    "no common algorithm": (
        "Unable to negotiate with 10.0.0.7 port 22: no matching host key type found.\n",
        ReachError,
        "no matching host key type",
    ),
    "nothing": ("", ReachError, "ssh said nothing"),
}


@pytest.mark.parametrize(("said", "kind", "words"), CASES.values(), ids=CASES.keys())
def test_each_cause_has_its_class_and_words(said: str, kind: type[ReachError], words: str) -> None:
    error = diagnose(said, "gpu01", "gpu01.lan")
    assert type(error) is kind
    assert words in str(error)
    assert str(error).startswith("gpu01: ")
    assert "\n" not in str(error)
    assert error.hint


@pytest.mark.parametrize(
    ("case", "transient"),
    [
        ("refused", True),
        ("dropped", True),
        ("silent", True),
        ("no login", False),
        ("changed key", False),
        ("unknown key", False),
        ("unresolved", False),
        ("bad option", False),
    ],
)
def test_only_what_may_pass_is_tried_again(case: str, transient: bool) -> None:
    assert diagnose(CASES[case][0], "n", "n").transient is transient


def test_a_servers_words_cannot_steer_the_terminal() -> None:
    said = "\x1b]0;owned\x07\x1b[31mssh: connect to host h: Connection refused\x9b\n"
    assert "\x1b" not in str(diagnose(said, "n", "h"))
    assert "\x9b" not in str(diagnose(said, "n", "h"))


def test_braces_in_what_ssh_says_are_nothing_special() -> None:
    assert "{name}" in str(diagnose("ssh: connect to {name}: Connection refused", "n", "h"))
