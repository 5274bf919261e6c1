"""The node's side of a sync: its directory, the manifest of our files, and deleting by it.

All of it is `node.sh`, sent over a link; the protocol is described there.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import pwd
import re
import socket
from functools import cache
from pathlib import Path

from gridops.errors import (
    DiskFull,
    GridError,
    NoRsync,
    NotWritable,
    SyncError,
    UnmarkedTarget,
    UnsafeTarget,
)
from gridops.model import Node, Reply
from gridops.reach.answers import whole
from gridops.reach.link import Link
from gridops.reach.trust import DANGER
from gridops.system import scripts
from gridops.transfers.names import printable
from gridops.transfers.record import STATE_NAME
from gridops.transfers.sync.tree import Deleted, RemoteState, Tree

GZIP_FROM = 16 * 1024  # bytes of a manifest
MAX_DELETIONS = 25_000  # node.sh sends fewer
_PRINTF_ESCAPE = re.compile(rb"\\0([0-7]{3})")

Refusals = tuple[tuple[str, type[SyncError], str], ...]
REFUSALS: Refusals = (
    ("No space left|quota exceeded", DiskFull, "free some space there, or move remote_root"),
    ("Read-only file system", NotWritable, "move remote_root"),
    ("Permission denied|not permitted", NotWritable, "move remote_root, or `chmod u+w` it"),
)


def sync_owner(root: Path) -> str:
    """Origin of a sync: the trees that share it may delete each other's files on a node.

    GRIDOPS_ORIGIN, else user@host:directory; machines of a CI system, which change names from one
    job to the next, all count as `ci`.
    """
    chosen = os.environ.get("GRIDOPS_ORIGIN")
    if chosen:
        return printable(os.fsencode(chosen))
    who = "ci" if os.environ.get("CI") else f"{_user()}@{socket.gethostname()}"
    return f"{who}:{printable(os.fsencode(root))}"


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


class RemoteTree:
    """The directory of one project on one node, for one origin."""

    def __init__(self, link: Link, project: str, origin: str, own: str | None = None) -> None:
        """`own` is a directory besides, with another name."""
        self._link = link
        self._root, _, self._project = (
            own.rpartition("/") if own else (link.node.remote_root, "", project)
        )
        self.origin = origin
        self.id = _short(origin)
        self._key = _short(link.node.name)

    @property
    def node(self) -> Node:
        return self._link.node

    def prepare(self, *, dry_run: bool, token: str, timeout: float) -> RemoteState:
        """Make the directory ours where that is allowed (a dry run: only look).

        Whoever else has synced to it is told by that when he comes again: his token is gone. Where
        nothing was before, `token` takes effect.

        Raises UnmarkedTarget, UnsafeTarget, NotWritable, DiskFull, NoRsync or a ReachError.
        """
        dry, maker = "yes" if dry_run else "no", token.partition(".")[0]
        args = (self._root, self._project, self.id, self.origin, self._key, dry, maker, token)
        reply = self._ask("prepare", *args, timeout=timeout)
        fields = _fields(reply, 9, self.node)
        state, target, head, previous, partial, rsync, packs, known, blocked = fields
        if state == "unsafe":  # the words are in these fields then
            raise UnsafeTarget(f"{head}: {DANGER}", node=self.node.name, hint=previous)
        if not target.startswith("/"):
            raise _not_understood(self.node)
        if state == "unmarked":
            raise UnmarkedTarget(
                f"{target} is not empty and gridops did not make it",
                node=self.node.name,
                hint="rename the project or move remote_root; to let a sync overwrite it run there:"
                f" `mkdir -p {target}/{STATE_NAME} && touch {target}/{STATE_NAME}/marker`",
            )
        if rsync != "yes":
            raise NoRsync(
                "there is no rsync on it", node=self.node.name, hint="install rsync there"
            )
        digest, _, how = head.partition(" ")
        return RemoteState(
            state,
            target,
            digest,
            how == "exact",
            previous,
            partial == "yes",
            packs == "yes",
            known,
            _names(blocked),
        )

    def scratch(self, target: str) -> list[str]:
        """rsync's options that keep its unfinished files among our own."""
        state = f"{STATE_NAME}/{self.id}/{self._key}"
        return [f"--temp-dir={state}.tmp", f"--partial-dir={target}/{state}.partial"]

    def plan(self, ready: RemoteState, tree: Tree, *, timeout: float) -> Deleted:
        """Names that `stage` would delete."""
        if ready.state != "marked":
            return Deleted()
        return self._deletions(ready, tree, "plan", timeout=timeout)

    def stage(self, ready: RemoteState, tree: Tree, *, delete: bool, timeout: float) -> Deleted:
        """Make the tree's manifest the node's; with `delete`, delete what the old one had more.

        The manifest always names at least what is there of ours, whenever this is interrupted.
        """
        args = (self._key, tree.digest, "yes" if delete else "no")
        return self._deletions(ready, tree, "stage", *args, timeout=timeout)

    def clean(self, ready: RemoteState, *, timeout: float) -> None:
        """Drop the half-received files that the transfer has made no use of."""
        self._ask("clean", ready.target, self.id, self._key, timeout=timeout)

    def vouch(self, ready: RemoteState, token: str, *, timeout: float) -> None:
        """Have the node know that all of the tree is there; others may have synced before."""
        args = (ready.target, self.id, self._key, self.origin, token)
        self._ask("vouch", *args, timeout=timeout)

    def _deletions(
        self, ready: RemoteState, tree: Tree, verb: str, *args: str, timeout: float
    ) -> Deleted:
        manifest = tree.manifest
        pack = ready.packs and len(manifest) > GZIP_FROM
        head = (ready.target, self.id, str(len(manifest)), "yes" if pack else "no")
        sent = gzip.compress(manifest, 1) if pack else manifest
        reply = self._ask(verb, *head, *args, timeout=timeout, stdin=sent)
        count, _, names, kept, blocked = _fields(reply, 5, self.node)
        try:
            total, deleted = whole(count), _names(names)
        except ValueError:
            raise _not_understood(self.node) from None
        more = max(0, total - len(deleted))
        return Deleted(deleted, more, _names(kept), _names(blocked))

    def _ask(self, verb: str, *args: str, timeout: float, stdin: bytes = b"") -> Reply:
        reply = self._link.script(_script(), verb, *args, timeout=timeout, stdin=stdin)
        if reply.status:
            raise self._refusal(reply)
        return reply

    def _refusal(self, reply: Reply) -> GridError:
        said = printable(reply.stderr.strip().rpartition(b"\n")[2]) or f"status {reply.status}"
        for pattern, cause, hint in REFUSALS:
            if re.search(pattern, said, re.IGNORECASE):
                return cause(f"cannot write there: {said}", node=self.node.name, hint=hint)
        return SyncError(f"cannot prepare {self.node.remote_root}: {said}", node=self.node.name)


def _fields(reply: Reply, count: int, node: Node) -> list[str]:
    fields = reply.stdout.split(b"\0")
    if len(fields) != count + 1:
        raise _not_understood(node)
    return [os.fsdecode(field) for field in fields[:count]]


def _not_understood(node: Node) -> SyncError:
    return SyncError("its answer is not valid", node=node.name)


def _names(lines: str) -> tuple[bytes, ...]:
    """Parse names. Raises ValueError when there are more than we asked for."""
    if lines.count("\n") > MAX_DELETIONS:
        raise ValueError("too many names")
    return tuple(
        _PRINTF_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), line)
        for line in os.fsencode(lines).split(b"\n")
        if line
    )


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


@cache
def _script() -> str:
    return scripts.script("reach/trust.sh") + scripts.script("transfers/sync/node.sh")
