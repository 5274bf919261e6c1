"""What git says belongs to a work tree: tracked and untracked files, minus the ignored ones."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

from gridops.errors import SyncError
from gridops.sync.files import Files
from gridops.transfers.output import printable

# What git sets for its hooks and would otherwise believe, wherever it is asked to look.
OWN_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_NAMESPACE",
)


class NotGit(Exception):
    """git has no say in this directory; the text says why, for the user, or is empty."""


def in_work_tree(root: Path) -> bool:
    """Whether `root` or a directory above it has a `.git`."""
    return any((directory / ".git").exists() for directory in (root, *root.parents))


def git_files(root: Path, timeout: float) -> Files:
    """git's files below `root`, those of submodules and of repositories in it included.

    Raises NotGit, and SyncError when git refuses; `timeout` is seconds.
    """
    end = time.monotonic() + timeout
    found = Files(os.fsencode(root), untracked=set())
    _add(found, b"", end)
    if not found.names and ask_git(root, ["check-ignore", "-q", "."], end).returncode == 0:
        raise NotGit("the repository around it ignores it")
    return found


def _add(found: Files, prefix: bytes, end: float) -> None:
    """Add what git lists in the repository at `prefix` (empty, or ending in a slash)."""
    directory = Path(os.fsdecode(found.root + b"/" + prefix))
    done = ask_git(directory, ["ls-files", "-t", "-co", "--exclude-standard", "-z"], end)
    if done.returncode:
        raise _refusal(directory, done.stderr.decode(errors="replace"), nested=bool(prefix))
    for match in re.finditer(rb"could not open directory '(.*?)/?'", done.stderr):
        found.unreadable.append(prefix + match[1])
    for entry in dict.fromkeys(done.stdout.split(b"\0")[:-1]):
        path = prefix + entry[2:].rstrip(b"/")  # behind a tag and a space
        if found.untracked is not None and entry.startswith(b"?"):
            found.untracked.add(path)
        if found.add(path) == "directory" and _is_repository(found.root + b"/" + path):
            _add(found, path + b"/", end)


def _is_repository(path: bytes) -> bool:
    return os.path.lexists(path + b"/.git")


def ask_git(directory: Path, words: list[str], end: float) -> subprocess.CompletedProcess[bytes]:
    """What git says in `directory`, by `end` of the monotonic clock. Raises NotGit, SyncError."""
    environment = {k: v for k, v in os.environ.items() if k not in OWN_VARIABLES}
    try:
        return subprocess.run(
            ["git", *words],
            cwd=directory,
            env={**environment, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=max(0.1, end - time.monotonic()),
            check=False,
        )
    except FileNotFoundError:
        raise NotGit("git is not installed here") from None
    except subprocess.TimeoutExpired as exc:
        raise SyncError(f"git did not answer in {directory} in time") from exc


def _refusal(directory: Path, said: str, nested: bool) -> Exception:
    if "dubious ownership" in said:
        return SyncError(
            f"git refuses to read {directory}: it belongs to another user",
            hint=f"`git config --global --add safe.directory {directory}`, or gitignore: false",
        )
    if not nested and ("not a git repository" in said or "must be run in a work tree" in said):
        return NotGit("its .git is not one that git can use")
    last = printable(said.strip().rpartition("\n")[2].encode()) or "no reason given"
    return SyncError(f"git cannot list the files of {directory}: {last}", hint="try `git status`")
