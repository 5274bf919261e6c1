"""Diagnosis of a failed rsync: its exit status and stderr to the error that says so.

Source: rsync(1), EXIT VALUES; the messages are those of 3.0 to 3.5 under LC_ALL=C. A message about
a file ends in the error number, which holds whatever language the node speaks.
"""

from __future__ import annotations

import errno
import re
from collections import deque
from dataclasses import dataclass

from gridops.errors import (
    DiskFull,
    GridError,
    NoRsync,
    NotWritable,
    PartialTransfer,
    ReachError,
    SyncError,
    TransferLost,
)
from gridops.reach.answers import Limit, Lines
from gridops.reach.diagnosis import diagnose
from gridops.transfers.names import printable, unescape

MAX_FAILED_FILES = 1000  # failed files that are remembered by name
MAX_SHOWN = 3  # failed files that the message names
MAX_LINES = 50  # of stderr that are kept: the first and the last
MAX_LINE_LENGTH = 8192  # characters of one that are looked at
RSYNC_STDERR_LIMIT = Limit(lines=1_000_000, bytes=256 * 1024 * 1024)

NOT_CLEAN, SELECTING, FILE_IO, PARTIAL, VANISHED, NOT_FOUND = 2, 3, 11, 23, 24, 127
TRANSPORT = (10, 12, 30, 35, 255)  # socket, protocol stream and timeout errors, ssh's own failure
FULL = (errno.ENOSPC, errno.EDQUOT, 69)  # 69: EDQUOT on a BSD

_ABOUT_FILE = re.compile(
    r'(?:rsync: )?(?:\[\w+\] )?(?P<what>[^"]*)"(?P<path>.*?)"(?: -> "(?P<to>[^"]*)")?(?: failed)?'
    r": (?P<reason>[^\"]*) \((?P<number>\d{1,9})\)$"
)
_IN_THE_WAY = re.compile(r"could not make way for (?:new )?[\w ]+: (?P<path>.*)$")
_GONE = re.compile(r'file has vanished: "(?P<path>.*)"$')
_UNVERIFIED = re.compile(r"ERROR: (?P<path>.*) failed verification")
_NOT_FOUND = re.compile(r"(rsync|env|exec).*(not found|No such file|cannot execute)", re.IGNORECASE)
_TEMPORARY = re.compile(r"\.?(?P<name>[^/]+)\.[A-Za-z0-9]{6}$")
_CODE = re.compile(r"rsync error: .*\(code (\d{1,3})\)")
_NOISE = re.compile(
    r"rsync error:|rsync: connection unexpectedly closed|\*\*\* Skipping any contents"
    r"|\(see the rsync man|rsync: (\[\w+\] )?(safe_write|write error|writefd).*\(32\)"
)


@dataclass(frozen=True, slots=True)
class TransferTarget:
    """The ends of a transfer, as far as messages need them."""

    node: str  # its name in the inventory
    host: str = ""  # what ssh was told
    source: str = ""  # the two absolute directories that file names in messages begin with
    target: str = ""


class RsyncErrors:
    """A sink for rsync's standard error, bounded in memory."""

    def __init__(self) -> None:
        self._lines = Lines(self._take, RSYNC_STDERR_LIMIT)
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=MAX_LINES)
        self.failed: dict[str, str] = {}  # path as rsync spells it → why
        self.count = 0  # how many complaints were about a file
        self.numbers: set[int] = set()  # the error numbers in them
        self.codes: list[int] = []  # the exit values that either side announced
        self.unheard = False  # not one byte came from the other side

    def __call__(self, data: bytes) -> None:
        self._lines(data)

    @property
    def lines(self) -> list[str]:
        """Lines of stderr, without rsync's usual ones; the middle may be missing."""
        kept = [*self._first, *self._last]
        if rest := self._lines.rest.strip():
            kept.append(printable(unescape(rest[:MAX_LINE_LENGTH])))
        return [line for line in kept if line and not _NOISE.match(line)]

    def _take(self, line: bytes) -> None:
        self._line(printable(unescape(line.strip()[:MAX_LINE_LENGTH])))

    def _line(self, line: str) -> None:
        (self._first if len(self._first) < MAX_LINES else self._last).append(line)
        if match := _CODE.match(line):
            self.codes = [*self.codes[:MAX_LINES], int(match[1])]
        elif "(0 bytes received so far)" in line:
            self.unheard = True
        elif match := _ABOUT_FILE.match(line):
            if len(self.numbers) < MAX_FAILED_FILES:
                self.numbers.add(int(match["number"]))
            path = match["to"] or match["path"]
            temporary = "mkstemp" in match["what"] and _TEMPORARY.search(path)
            self._note_failed(temporary["name"] if temporary else path, match["reason"])
        elif match := _IN_THE_WAY.match(line):
            self._note_failed(match["path"], "a directory with other files is in its place")
        elif match := _GONE.match(line):
            self._note_failed(match["path"], "it was deleted meanwhile")
        elif match := _UNVERIFIED.match(line):
            self._note_failed(match["path"], "it changed during the transfer")

    def _note_failed(self, path: str, reason: str) -> None:
        self.count += path not in self.failed
        if len(self.failed) < MAX_FAILED_FILES:
            self.failed.setdefault(path, reason)


def error_of(status: int, said: RsyncErrors, place: TransferTarget) -> GridError:
    """The error for a transfer that ended with `status` (not 0; 128 + n: killed by signal n)."""
    if status in TRANSPORT:  # perhaps only what followed from the other side's own failure
        status = next((code for code in said.codes if code not in TRANSPORT), status)
    return (
        _refused_error(status, said, place)
        or _unclean(status, said, place)
        or _never_began(status, said, place)
        or _incomplete(status, said, place)
        or _broken_error(status, said, place)
    )


def _refused_error(status: int, said: RsyncErrors, place: TransferTarget) -> GridError | None:
    """Error for a node that has no room or takes nothing."""
    where = place.target or "there"
    found = said.numbers
    if found.intersection(FULL):
        cause = "no space left on the disk" if errno.ENOSPC in found else "the quota is used up"
        return DiskFull(f"{cause}: {where}", node=place.node, hint="free some space there")
    if errno.EROFS in found:
        return NotWritable(f"the file system is read-only: {where}", node=place.node)
    if status in (SELECTING, FILE_IO) and errno.EACCES in found:
        return NotWritable(f"permission denied: {where}", node=place.node)
    return None


def _unclean(status: int, said: RsyncErrors, place: TransferTarget) -> GridError | None:
    if status != NOT_CLEAN or not any("is your shell clean" in line for line in said.lines):
        return None
    host = place.host or place.node
    return SyncError(
        "its login shell prints text, which breaks rsync",
        node=place.node,
        hint=f"`ssh {host} true` must print nothing: see ~/.bashrc, ~/.cshrc and the like there",
    )


def _never_began(status: int, said: RsyncErrors, place: TransferTarget) -> GridError | None:
    """Error for a missing rsync or ssh, or a failed ssh login."""
    if any("Failed to exec" in line for line in said.lines):
        return ReachError(
            "there is no `ssh` on this machine", node=place.node, hint="install openssh-client"
        )
    others = [line for line in said.lines if not line.startswith("rsync: ")]
    missing = said.unheard and any(_NOT_FOUND.search(line) for line in others)
    if status == NOT_FOUND or missing:
        return NoRsync("there is no rsync on it", node=place.node, hint="install rsync there")
    if status in TRANSPORT and said.unheard and others and place.host:
        reason = diagnose("\n".join(others), place.node, place.host)
        if type(reason) is not ReachError:  # else nothing that ssh says
            return reason
    return None


def _incomplete(status: int, said: RsyncErrors, place: TransferTarget) -> GridError | None:
    if status not in (PARTIAL, VANISHED):
        return None
    failed = {_relative(path, place): reason for path, reason in said.failed.items()}
    shown = [f"{path} ({reason})" for path, reason in list(failed.items())[:MAX_SHOWN]]
    if said.count > len(shown):
        shown.append(f"and {said.count - len(shown)} more")
    files = "1 file was" if said.count == 1 else f"{said.count or 'some'} files were"
    what = ", ".join(shown) or "; ".join(said.lines[:MAX_SHOWN]) or "rsync does not say which"
    return PartialTransfer(
        f"{files} not transferred: {what}",
        files=failed,
        node=place.node,
        vanished=status == VANISHED,
    )


def _relative(path: str, place: TransferTarget) -> str:
    for base in (place.source, place.target):
        if base and path.startswith(base.rstrip("/") + "/"):
            return path[len(base.rstrip("/")) + 1 :]
    return path


def _broken_error(status: int, said: RsyncErrors, place: TransferTarget) -> GridError:
    last = said.lines[-1].removeprefix("rsync: ") if said.lines else f"rsync's status {status}"
    if status in TRANSPORT:
        return TransferLost(f"the transfer broke off: {last}", node=place.node)
    if status > 128:
        return SyncError(f"rsync here was ended by signal {status - 128}", node=place.node)
    return SyncError(f"rsync failed with status {status}: {last}", node=place.node)
