"""Provenance of a tree: its commit and uncommitted changes, for people who ask later."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from gridops.errors import SyncError
from gridops.transfers.sync.git import NotGit, ask_git, in_work_tree, overrides

GIT_TIMEOUT = 3.0  # seconds for all that git is asked: a run does not wait for its biography
DIFF_LIMIT = 1024 * 1024  # bytes of uncommitted changes that are kept
# Whatever the user's configuration is, `git apply` is to understand it.
OPTIONS = ("--no-color", "--no-ext-diff", "--no-textconv", "--submodule=short",
           "--ignore-submodules=dirty",  # else git asks in each of them, by its own configuration
           "--src-prefix=a/", "--dst-prefix=b/", "--relative")  # fmt: skip
CUT = b"\n# cut here: it was longer\n"


@dataclass(frozen=True, slots=True)
class Provenance:
    """A tree's commit and uncommitted changes; both are empty where git does not know.

    `diff` is what `git apply` takes, with the names of untracked files above it.
    """

    commit: str = ""
    diff: str = ""

    def state_of_tracked(self) -> tuple[str, ...]:
        """The commit, and the changes of tracked files, line by line."""
        lines = self.diff.splitlines()
        return (self.commit, *(line for line in lines if not line.startswith("# untracked: ")))


def provenance_of(root: Path) -> Provenance:
    """The commit of the work tree at `root`, and the changes since; never raises."""
    if not in_work_tree(root):
        return Provenance()
    end = time.monotonic() + GIT_TIMEOUT
    try:
        commit = _ask(root, ["rev-parse", "--verify", "-q", "HEAD"], end).decode().strip()
        return Provenance(commit, _changes(root, end) if commit else "")
    except (NotGit, SyncError, OSError):
        return Provenance()


def _changes(root: Path, end: float) -> str:
    found = _ask(root, ["ls-files", "-o", "--exclude-standard"], end)
    untracked = b"".join(b"# untracked: " + name + b"\n" for name in found.splitlines())
    settings = _no_filters(root, end)
    if settings is None:
        return ""
    text = untracked + _ask(root, [*settings, "diff", *OPTIONS, "HEAD", "--", "."], end)
    if len(text) > DIFF_LIMIT:  # whole files' changes, so that they still apply
        text = text[:DIFF_LIMIT]
        text = text[: max(text.rfind(b"\ndiff --git "), 0) or text.rfind(b"\n")] + CUT
    return os.fsdecode(text.replace(b"\0", b"?"))


def _no_filters(root: Path, end: float) -> list[str] | None:
    """The words that switch off the filters which the repository itself defines; None: they cannot
    be told from the user's own, or named."""
    done = ask_git(root, ["config", "-z", "--show-scope", "--get-regexp", r"^filter\."], end)
    if done.returncode not in (0, 1):  # 1: there are none; else a git before 2.26
        return None
    fields = done.stdout.decode(errors="surrogateescape").split("\0")
    keys = [
        setting.partition("\n")[0]
        for scope, setting in zip(fields[::2], fields[1::2], strict=False)
        if scope in ("local", "worktree")
    ]
    drivers = dict.fromkeys(key.removeprefix("filter.").rpartition(".")[0] for key in keys)
    if any("=" in driver for driver in drivers):
        return None
    off = {"clean": "", "smudge": "", "process": "", "required": "false"}
    return overrides({f"filter.{name}.{key}": off[key] for name in drivers for key in off})


def missing_parts(diff: bytes) -> str:
    """Parts that a diff of an Origin lacks, in words; "" for none."""
    missing = {
        "files new to git": diff.startswith(b"# untracked: "),
        "binary files": b"\nBinary files " in diff,
        "all after its first MiB": diff.endswith(CUT),
    }
    return ", ".join(words for words, is_so in missing.items() if is_so)


def _ask(root: Path, words: list[str], end: float) -> bytes:
    done = ask_git(root, words, end)
    return done.stdout if done.returncode == 0 else b""
