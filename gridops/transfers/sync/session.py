"""One sync of one tree to one node: prepare, delete what is gone, transfer; again if it breaks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from gridops.errors import DiskFull, GridError, NodeTimeout, PartialTransfer
from gridops.model import SyncReport
from gridops.observe import events
from gridops.reach.link import Link
from gridops.retry import RetryConfig, attempts
from gridops.system.text import shorten
from gridops.transfers.errors import TransferTarget
from gridops.transfers.names import printable
from gridops.transfers.output import Transfer, throttle
from gridops.transfers.program import NANOSECONDS, PACKING, RsyncCall, rsync_program, transfer
from gridops.transfers.sync.naming import as_new, plain, refuse_blocked, show_names, unreadable_here
from gridops.transfers.sync.record import Doubts, SyncLock, maker, new_token
from gridops.transfers.sync.remote import RemoteTree, sync_owner
from gridops.transfers.sync.tree import Deleted, FileTimes, RemoteState, Tree

if TYPE_CHECKING:
    from gridops.inventory.settings import Settings

EXACT = "--modify-window=-1"  # rsync's option to compare times to the nanosecond
PROBES = 20  # files by which a node is asked whether it can


@dataclass
class SyncSession:
    """A sync of one tree to one node."""

    link: Link
    tree: Tree
    project: str
    settings: Settings
    dry_run: bool
    end: float  # on time.monotonic()
    turn: SyncLock
    own: str | None = None
    exact: bool = False
    done: Transfer = field(default_factory=Transfer)  # in all attempts, as is `deleted`
    deleted: dict[bytes, None] = field(default_factory=dict)
    unlisted: int = 0  # more deletions

    def report(self) -> SyncReport:
        began = time.monotonic()
        name = self.link.node.name
        self._tell(events.SYNC_STARTED, files=len(self.tree.names))
        status = "failure"
        try:
            target = self._try()
            status = "success"
        except GridError as exc:
            exc.node = exc.node or name
            raise
        finally:
            seconds = time.monotonic() - began
            self._tell(
                events.SYNC_FINISHED,
                status=status,
                files=len(set(self.done.files)),
                deleted=len(self.deleted) + self.unlisted,
                fetched=self.tree.fetched,
                bytes=self.done.bytes,
                seconds=seconds,
            )
        return self._report(target, seconds)

    def _tell(self, event: str, **fields: object) -> None:
        if not self.dry_run:
            events.emit(event, node=self.link.node.name, **fields)

    def _report(self, target: str, seconds: float) -> SyncReport:
        folders = {name + b"/" for name in self.tree.empty}
        return SyncReport(
            node=self.link.node,
            source=str(self.tree.origin),
            target=target,
            files=len(set(self.done.files)),
            bytes=self.done.bytes,
            seconds=seconds,
            total_files=len(self.tree.names),
            added=show_names(self.done.added, folders),
            changed=show_names(self.done.changed, folders),
            deleted=tuple(sorted(map(printable, self.deleted))),
            dry_run=self.dry_run,
        )

    def _try(self) -> str:
        """Sync, again if it breaks; return the absolute directory on the node."""
        config = RetryConfig.of(self.settings.retry)
        left = self.end - time.monotonic()
        config = replace(config, max_elapsed=min(left, config.max_elapsed or left))
        target = ""
        for attempt in attempts(config, what=f"sync to {self.link.node.name}"):
            with attempt:
                target = self._once()
        return target

    def _once(self) -> str:
        node = RemoteTree(self.link, self.project, sync_owner(self.tree.origin), self.own)
        token = new_token(maker(node.origin))
        with _meanwhile(self._look) as looked:
            ready = node.prepare(dry_run=self.dry_run, token=token, timeout=self._time_left())
        if ready.previous and ready.previous != node.origin and not (self.own or self.exact):
            self._say_taken_over(ready)
        kept = self._settle(node, ready)
        try:
            self._transfer(node, ready, Doubts(self.turn.last, ready, token), looked())
        except DiskFull:
            with suppress(GridError):  # what has come of a file is not to fill the disk
                node.clean(ready, timeout=self._time_left())
            raise
        if ready.partial and not self.dry_run:
            node.clean(ready, timeout=self._time_left())
        self._say_incomplete(kept)
        return ready.target

    def _look(self) -> FileTimes:
        seen = self.tree.seen
        if seen and seen.at >= self.turn.last.end + 1:
            return seen
        return FileTimes.of(self.tree.root, self.tree.names)

    def _settle(self, node: RemoteTree, ready: RemoteState) -> tuple[bytes, ...]:
        """Delete names that are gone from the tree; return those that could not be deleted."""
        wanted = self.settings.sync.delete and not self.tree.unreadable
        if ready.up_to_date(self.tree, wanted):
            refuse_blocked(ready.blocked)
            return ()
        if not self.dry_run:
            found = node.stage(ready, self.tree, delete=wanted, timeout=self._time_left())
        else:
            found = node.plan(ready, self.tree, timeout=self._time_left())
            found = found if wanted else Deleted(blocked=found.blocked)
        refuse_blocked(found.blocked)
        self.deleted.update(dict.fromkeys(found.names))
        if found.more:
            self.unlisted += found.more
            message = f"{node.node.name}: {found.more} more deletions are not listed"
            events.emit(events.WARNING, message=message)
        return found.kept

    def _transfer(
        self, node: RemoteTree, ready: RemoteState, doubts: Doubts, seen: FileTimes
    ) -> None:
        if self.dry_run and ready.state == "absent":  # rsync has nothing to compare with
            self._add(as_new(self.tree))
            return
        if self.own:
            self._run(node, ready, [*self.tree.names, *self.tree.empty], "--ignore-times")
            return
        if not self.dry_run:
            self.turn.begin(known=doubts.known)
        fine = self._is_fine(node, ready, doubts, seen)
        to_compare = set(self.tree.names) if self.exact else doubts.to_compare(self.tree, seen)
        others = [name for name in self.tree.names if name not in to_compare]
        exact = [EXACT] if rsync_program().version >= NANOSECONDS else []
        self._run(node, ready, [*others, *self.tree.empty], *(exact if fine == "yes" else ()))
        self._run(node, ready, sorted(to_compare), "-c", *exact)
        if not self.dry_run:
            if not doubts.settled:
                node.vouch(ready, doubts.token, timeout=self._time_left())
            last = self.turn.last
            self.turn.finish(last.after(self.tree, seen, token=doubts.token, fine=fine))

    def _is_fine(
        self, node: RemoteTree, ready: RemoteState, doubts: Doubts, seen: FileTimes
    ) -> str:
        """Tell whether times there are kept and compared to the nanosecond: yes, no, ? for unknown.

        An old rsync or a coarse file system there would have every file sent each time. It is asked
        once, about files that are known to be there.
        """
        last = self.turn.last
        if self.dry_run or not doubts.known or last.fine != "?" or last.digest != self.tree.digest:
            return last.fine
        if rsync_program().version < NANOSECONDS:
            return "no"
        every = zip(self.tree.names, seen.files, seen.marks, last.marks, strict=True)
        known = (name for name, one, now, then in every if now == then != 0 and one[0] % 1 > 0)
        names = [name for name in islice(known, PROBES) if name not in self.tree.symlinks]
        if not names:
            return "?"
        said: list[Transfer] = []
        self._run(node, ready, names, "-n", EXACT, record=said.append)
        return "yes" if len({one for each in said for one in each.changed}) < len(names) else "no"

    def _run(
        self,
        node: RemoteTree,
        ready: RemoteState,
        names: Sequence[bytes],
        *options: str,
        record: Callable[[Transfer], None] | None = None,
    ) -> None:
        if not names:
            return
        job = RsyncCall(
            options=[*self._options(node, ready), *options],
            sources=[plain(name) for name in names],
            target=self.link.rsync_target(f"{ready.target}/"),
            place=TransferTarget(node.node.name, node.node.host, str(self.tree.root), ready.target),
            shell=self.link.rsync_shell(),
            cwd=str(self.tree.root),
        )
        try:
            tell = throttle(partial(self._tell, events.SYNC_PROGRESS))
            transfer(job, record or self._add, timeout=self._time_left(), on_progress=tell)
        except PartialTransfer as exc:
            unreadable = [name for name in exc.files if self._unreadable(name)]
            if unreadable:
                raise unreadable_here(unreadable, "cannot be read here") from exc
            if not self._explained(exc):
                raise

    def _add(self, done: Transfer) -> None:
        self.done += done

    def _options(self, node: RemoteTree, ready: RemoteState) -> list[str]:
        """rsync's options: symlinks, permissions and times are kept.

        No directory's times are: jobs write there. The parents of each file are made as they are
        here, no directory is descended into.
        """
        program = rsync_program()
        options = ["-lptORd", *program.literal, *program.lenient]
        if node.node.connection != "local" and program.version >= PACKING:
            options.append("-z")
        return [*options, "-n"] if self.dry_run else [*options, *node.scratch(ready.target)]

    def _time_left(self) -> float:
        left = self.end - time.monotonic()
        if left <= 0:
            raise NodeTimeout(
                f"the sync did not end within {self.settings.sync.timeout:g} s",
                node=self.link.node.name,
                hint="raise sync.timeout",
            )
        return left

    def _say_taken_over(self, ready: RemoteState) -> None:
        message = (
            f"{self.link.node.name}: {ready.target} was last synced from {ready.previous}; what"
            " only that sync brought stays (to keep both, rename one or use another remote_root)"
        )
        events.emit(events.WARNING, message=message)

    def _explained(self, error: PartialTransfer) -> bool:
        """True if the error is only due to a dry run.

        In one a directory is in the way of a file although its own files would go.
        """
        gone = [printable(name) for name in self.deleted]
        freed = [f for f in error.files if any(name.startswith(f"{f}/") for name in gone)]
        self.done += Transfer(changed=tuple(name.encode() for name in freed))
        return self.dry_run and len(freed) == len(error.files)

    def _say_incomplete(self, kept: tuple[bytes, ...]) -> None:
        if kept:
            raise self._partial("could not be deleted there", kept)
        if self.tree.unreadable:
            names = map(printable, self.tree.unreadable)
            raise unreadable_here(names, "cannot be read here, so nothing was deleted there")

    def _partial(self, what: str, paths: Iterable[bytes]) -> PartialTransfer:
        names = [printable(path) for path in paths]
        return PartialTransfer(f"{shorten(names)} {what}", files=names, node=self.link.node.name)

    def _unreadable(self, name: str) -> bool:
        path = self.tree.root / name
        return path.is_file() and not os.access(path, os.R_OK)


@contextmanager
def _meanwhile(work: Callable[[], FileTimes]) -> Iterator[Callable[[], FileTimes]]:
    """Do `work` in a thread beside the block; the yielded function tells its result after it."""
    results: list[FileTimes] = []

    def quietly() -> None:
        with suppress(OSError):  # it will be raised where the result is asked for
            results.append(work())

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    yield lambda: results[0] if results else work()
    thread.join()
