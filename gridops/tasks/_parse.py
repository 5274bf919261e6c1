"""Parse flags' texts into values. What makes no sense is a UsageError that says what would."""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.errors import UsageError
from gridops.observe import events

if TYPE_CHECKING:
    from gridops.model import PortForward

PORT_HINT = "ports from 1 to 65535, such as 8080, or 9000:8080 for 9000 of this machine"
VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
OURS = ("GRIDOPS_NODE", "GRIDOPS_RUN_ID")
SHELLS_OWN = ("BASHOPTS", "EUID", "PPID", "SHELLOPTS", "UID")


def seconds(text: str | None, flag: str) -> float | None:
    """A duration in seconds, up to a year: 90, 1.5, 10m, 1h30m; None stays None."""
    if text is None:
        return None
    from gridops.inventory.durations import YEAR, parse_duration

    try:
        value = parse_duration(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"--{flag} {text!r} is not a duration", hint="such as 90, 1.5, 10m, 1h30m")
    if value > YEAR:
        raise UsageError(f"--{flag} {text!r} is longer than a year")
    return value


def count(text: str | None, flag: str) -> int:
    """A whole number, 0 or more; None is 0."""
    if text is not None and not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UsageError(f"--{flag} {text!r} is not a number such as 0, 1, 2")
    return int(text or 0)


def size(text: str | None, flag: str) -> int | None:
    """A number of bytes (4096, 500K, 100M, 2G; 1K is 1024); None stays None."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,15})([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE | re.ASCII)
    value = int(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ") if match else 0
    if value < 1:
        raise UsageError(f"--{flag} {text!r} is not a size", hint="such as 4096, 500K, 100M, 2G")
    return value


def environment(pairs: Iterable[str]) -> dict[str, str]:
    """`--env NAME=VALUE`, several times."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UsageError(f"--env {name!r} is not NAME=VALUE", hint="--env LR=0.1 --env SEED=3")
        if name in OURS:
            raise UsageError(f"--env {name}: gridops sets that")
        if name in SHELLS_OWN:
            raise UsageError(f"--env {name}: shells do not allow to set it")
        if "\0" in value:
            raise UsageError(f"--env {name}: a value cannot hold a NUL byte")
        found[name] = value
    return found


def ports(texts: Iterable[str]) -> tuple[PortForward, ...]:
    """`--port [LOCAL:]REMOTE`, several times."""
    found = tuple(_port(text) for text in texts)
    given = [one.local for one in found if one.local is not None]
    for local in given:
        if given.count(local) > 1:
            raise UsageError(f"--port: {local} can forward to one port only", hint=PORT_HINT)
    return found


def _port(text: str) -> PortForward:
    from gridops.model import PortForward

    numbers = text.split(":")
    valid = [part for part in numbers if re.fullmatch(r"[0-9]{1,5}", part, re.ASCII)]
    if len(numbers) > 2 or valid != numbers or not all(0 < int(part) < 65536 for part in valid):
        raise UsageError(f"--port {text!r} is not [LOCAL:]REMOTE", hint=PORT_HINT)
    local = int(numbers[0]) if len(numbers) == 2 else None
    return PortForward(int(numbers[-1]), local)


def patterns(texts: Iterable[str]) -> tuple[str, ...]:
    """`--fetch PATTERN`, several times."""
    if not (given := tuple(texts)):
        return ()
    from gridops.transfers.fetch import check_patterns

    return check_patterns(given)


def visible_gpus(env: dict[str, str], wanted: str | None) -> dict[str, str]:
    """`env` for a run with `--gpus wanted`: with 0 it sees none, without the flag all."""
    given = [name for name in VISIBLE if name in env]
    if wanted is not None and given:
        raise UsageError(f"both --gpus and --env {given[0]}", hint="leave one out: --gpus sets it")
    return {**env, **dict.fromkeys(VISIBLE, "")} if wanted == "0" else env


def command(cmd: str | None, task: str) -> str:
    """The command's shell text: `--cmd TEXT`, or the words after `--`."""
    words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    if cmd is not None and words:
        raise UsageError("both --cmd and a command after --", hint="give only one")
    # One word is shell text already; several are taken as they are, blanks and quotes too.
    text = cmd if cmd is not None else words[0] if len(words) == 1 else shlex.join(words)
    if not text.strip():
        raise UsageError(
            "no command",
            hint=f'inv {task} --cmd "python train.py", or inv {task} -- python train.py',
        )
    if "\0" in text:
        raise UsageError("a command cannot hold a NUL byte")
    return text


def tree(src: str | None, instead: str) -> str:
    """The directory to sync: `--src`, else this one; / and the home directory only by `--src`."""
    path = Path(src or ".").expanduser()
    if not path.is_dir():
        raise UsageError(f"--src {path}: there is no such directory")
    try:
        path = path.resolve()
    except OSError:
        raise UsageError("this directory is gone", hint="change to an existing directory") from None
    if src is None and path in (Path.home().resolve(), Path("/")):
        raise UsageError(
            f"this would sync all of {path}",
            hint=f"change to the project's directory, or {instead}",
        )
    return str(path)


def amount(text: str | None, flag: str) -> float | None:
    """A number of CPUs or GPUs, also a fraction; None stays None."""
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,6}(\.\d{1,4})?", text, re.ASCII):
        raise UsageError(f"--{flag} {text!r} is not a number", hint="such as 1, 4, 0.5")
    return float(text)


def fresh(wanted: bool, sync: bool) -> bool:
    """True if the run is to have a clean directory. Raises UsageError."""
    if wanted and not sync:
        raise UsageError("--fresh needs a sync", hint="leave out --no-sync")
    return wanted


FETCH = "file, directory or wildcard to fetch at the end; may be repeated"
OVERWRITE = "replace local files even if they are newer"
FETCH_EVENTS = (events.FETCH_PROGRESS, events.FETCH_FINISHED, events.WARNING, events.RETRY)
