"""Files of a work tree, as git lists them: tracked and untracked, minus the ignored ones."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from gridops.errors import SyncError
from gridops.transfers.names import printable
from gridops.transfers.sync.walk import Files

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

# A repository's configuration names programs, and it may be another's word: a repository that was
# copied into the tree. Nothing that git is asked here needs any of them. What has no fixed name
# (filters) or comes with one command alone (diff drivers) is up to whoever asks.
SETTINGS = {
    "core.fsmonitor": "",  # the word that every version of git understands
    "core.hooksPath": os.devnull,
    "core.pager": "cat",
    "core.editor": "false",
    "core.sshCommand": "false",
    "core.gitProxy": "",
    "core.askPass": "false",
    "core.alternateRefsCommand": "false",
    "credential.helper": "",
    "gpg.program": "false",
    "protocol.allow": "never",
    "submodule.recurse": "false",
    "safe.bareRepository": "explicit",  # a directory that only looks like one is no repository
}
# Nor may it go and get what a partial clone lacks: that starts what `remote.*` names.
VARIABLES = {
    "LC_ALL": "C",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_TERMINAL_PROMPT": "0",
}
# What no git writes into an index: names that lead out of the tree or to a repository's own files.
_ASTRAY = re.compile(rb"(?:\A|/)(?:\.{0,2}|\.[gG][iI][tT])(?:/|\Z)")
NO_WORK_TREE = ("not a git repository", "must be run in a work tree", "cannot use bare repository")


class NotGit(Exception):
    """Error for a directory that git has no say in; the text says why, for users, or is empty."""


def in_work_tree(root: Path) -> bool:
    """True if `root` or a directory above it has a `.git`."""
    return any((directory / ".git").exists() for directory in (root, *root.parents))


def git_files(root: Path, timeout: float) -> Files:
    """git's files below `root`, with those of submodules and nested repositories.

    Raises NotGit, and SyncError when git refuses; `timeout` is seconds.
    """
    end = time.monotonic() + timeout
    found = Files(os.fsencode(root), untracked=set())
    _add(found, b"", end)
    if not found.names and ask_git(root, ["check-ignore", "-q", "."], end).returncode == 0:
        raise NotGit("the repository around it ignores it")
    return found


def _add(found: Files, prefix: bytes, end: float) -> None:
    """Add git's files in the repository at `prefix`; that is empty, or ends in a slash."""
    directory = Path(os.fsdecode(found.root + b"/" + prefix))
    done = ask_git(directory, ["ls-files", "-t", "-co", "--exclude-standard", "-z"], end)
    if done.returncode:
        raise _refusal(directory, done.stderr.decode(errors="replace"), nested=bool(prefix))
    for match in re.finditer(rb"could not open directory '(.*?)/?'", done.stderr):
        found.unreadable.append(prefix + match[1])
    for entry in dict.fromkeys(done.stdout.split(b"\0")[:-1]):
        path = prefix + entry[2:].rstrip(b"/")  # behind a tag and a space
        if _ASTRAY.search(path):
            continue
        if found.untracked is not None and entry.startswith(b"?"):
            found.untracked.add(path)
        if found.add(path) == "directory" and _is_repository(found.root + b"/" + path):
            _add(found, path + b"/", end)


def _is_repository(path: bytes) -> bool:
    return os.path.lexists(path + b"/.git")


def overrides(settings: Mapping[str, str]) -> list[str]:
    """The words that put `settings` above every configuration file."""
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def ask_git(
    directory: Path, words: Sequence[str], end: float
) -> subprocess.CompletedProcess[bytes]:
    """Ask git in `directory`; all that a repository's configuration can start is switched off.

    `end` is on the monotonic clock. Raises NotGit, SyncError.
    """
    environment = {k: v for k, v in os.environ.items() if k not in OWN_VARIABLES}
    try:
        return subprocess.run(
            ["git", "--no-pager", *overrides(SETTINGS), *words],
            cwd=directory,
            env={**environment, **VARIABLES},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=max(0.1, end - time.monotonic()),
            check=False,
        )
    except FileNotFoundError:
        raise NotGit("git is not installed here") from None
    except subprocess.TimeoutExpired as exc:
        raise SyncError(f"git did not answer in time in {directory}") from exc


def _refusal(directory: Path, said: str, nested: bool) -> Exception:
    if "dubious ownership" in said:
        return SyncError(
            f"git refuses to read {directory}: it belongs to another user",
            hint=f"`git config --global --add safe.directory {directory}`, or gitignore: false",
        )
    if not nested and any(words in said for words in NO_WORK_TREE):
        return NotGit("git cannot use its .git")
    last = printable(said.strip().rpartition("\n")[2].encode()) or "no reason given"
    return SyncError(f"git cannot list the files of {directory}: {last}", hint="run `git status`")
