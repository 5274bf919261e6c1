"""One fetch: find the matches, bring them to the stage, move them to their places."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gridops.errors import DiskFull, NotWritable, PartialTransfer, SyncError
from gridops.model import FetchReport
from gridops.observe import events
from gridops.reach.link import Link
from gridops.retry import RetryConfig, attempts
from gridops.system.text import shorten
from gridops.transfers.errors import TransferTarget
from gridops.transfers.fetch.apply import Installer
from gridops.transfers.fetch.disk import errors_here, full_here, no_access
from gridops.transfers.fetch.patterns import Group, Pattern
from gridops.transfers.fetch.record import write_record
from gridops.transfers.fetch.remote import Matches, find
from gridops.transfers.fetch.stage import Stage, staging
from gridops.transfers.names import PATTERNS, printable
from gridops.transfers.output import Transfer, throttle
from gridops.transfers.program import NANOSECONDS, PACKING, RsyncCall, rsync_program, transfer
from gridops.transfers.record import STATE_DIR


@dataclass
class FetchSession:
    """A fetch from one node's directory."""

    link: Link
    patterns: Sequence[Pattern]
    into: Path  # absolute, without symlinks
    retry: RetryConfig
    overwrite: bool
    run: str = ""  # only what this run wrote comes
    done: Transfer = field(default_factory=Transfer)
    landings: list[Installer] = field(default_factory=list)
    problems: list[PartialTransfer] = field(default_factory=list)
    private: Sequence[str] = ()  # what is named and never comes
    naming: bool = True  # the node's rsync may be new enough to name what it leaves out (3.1)

    def report(self, directory: str, home_instead: bool) -> FetchReport:
        began, status = time.monotonic(), "failure"
        try:
            found = self._look(directory, home_instead)
            self.private = found.private
            for group in found.groups:
                self._bring(group)
            status = "failure" if self.problems else "success"
        finally:
            seconds = time.monotonic() - began
            self._tell_end(status, seconds)
        report = self._report(found, seconds)
        self._tell(report, directory)
        if self.problems:
            raise self._problem()
        return report

    # -- the work ----------------------------------------------------------------------------

    def _look(self, directory: str, home_instead: bool) -> Matches:
        for attempt in attempts(self.retry, what=f"looking for files on {self._node}"):
            with attempt:
                return find(
                    self.link, directory, self.patterns, home_instead=home_instead, run=self.run
                )
        raise SyncError("there was no attempt", node=self._node)

    def _bring(self, group: Group) -> None:
        with errors_here(self.into):
            self.into.mkdir(parents=True, exist_ok=True)
            with staging(self.into, self.link.node, group.base) as stage:
                self._through(stage, group)

    def _through(self, stage: Stage, group: Group) -> None:
        """Transfer a group, and move it to its places.

        Whatever ends it, what has come whole lands, and of the rest what can be continued is kept.
        """
        resume = True
        try:
            self.problems += self._transfer(stage, group)
            resume = False
        except DiskFull:
            resume = False
            raise
        finally:
            try:
                self._land(stage, group)
            finally:
                if stage.remove(resume=resume):
                    message = f"{self._node}: repeat the fetch to go on where this one ended"
                    events.emit(events.WARNING, message=message)
                self._note(self.landings[-1])  # now that a full disk has some room again

    def _land(self, stage: Stage, group: Group) -> None:
        landing = Installer(str(stage.tree), str(self.into), self.overwrite)
        self.landings.append(landing)
        for name in (*group.names, *group.copied):
            landing.take(name.removesuffix("/"))
        if landing.obstacles:
            self.problems.append(_in_the_way(landing.obstacles))

    def _note(self, landing: Installer) -> None:
        try:
            write_record(landing)
        except OSError as exc:
            self._warn(
                f"cannot record what was fetched into {self.into} ({exc.strerror}): a sync of it"
                " will take these files for your source"
            )

    def _transfer(self, stage: Stage, group: Group) -> list[PartialTransfer]:
        """Transfer a group; return the problems of what could not come, where the rest has."""
        for attempt in attempts(self.retry, what=f"fetch from {self._node}"):
            problems: list[PartialTransfer] = []
            with attempt:
                problems += self._run(stage, group.base, group.names, "-rl", "--safe-links")
                problems += self._run(stage, group.base, group.copied, "-L")
        return problems

    def _run(
        self, stage: Stage, base: str, names: Sequence[str], *options: str
    ) -> list[PartialTransfer]:
        if not names:
            return []
        job = RsyncCall(
            options=[*options, *self._options(stage), f"--files-from={stage.write(names)}"],
            sources=[self.link.rsync_target(f"{base.rstrip('/')}/")],
            target=f"{stage.tree}/",
            place=TransferTarget(self._node, self.link.node.host, base, str(stage.tree)),
            shell=self.link.rsync_shell(),
        )
        tell = throttle(partial(events.emit, events.FETCH_PROGRESS, node=self._node))
        try:
            transfer(job, self._add, timeout=math.inf, on_progress=tell, items=False)
        except PartialTransfer as exc:
            return [exc]
        except DiskFull as exc:  # it is the receiver that says so
            raise full_here(self.into) from exc
        except NotWritable as exc:
            raise no_access(self.into) from exc
        except SyncError as exc:
            if "debug=filter1: unknown option" not in str(exc) or not self.naming:
                raise
            self.naming = False
            return self._run(stage, base, names, *options)
        return []

    def _options(self, stage: Stage) -> list[str]:
        """rsync's options: they keep times, and modes as far as our umask allows.

        What is here already stays away.
        """
        program = rsync_program()
        options = ["-tRO", "--from0", *program.literal, *program.lenient, "--chmod=Du+rwx,Fu+rw"]
        options += [f"--exclude={pattern}" for pattern in PATTERNS]
        options += [f"--compare-dest={self.into}"]
        options += [f"--temp-dir={stage.temporary}", f"--partial-dir={stage.partial}"]
        if self.link.node.connection != "local" and program.version >= PACKING:
            options.append("-z")
        if program.version >= NANOSECONDS:
            options += ["--modify-window=-1", "--info=name1"]  # it names symlinks that lead out
            if self.naming:
                remote = "" if self.link.node.connection == "local" else "-M"
                options += [f"{remote}--debug=filter1"]
        return options

    def _add(self, done: Transfer) -> None:
        self.done += done

    # -- what is said ------------------------------------------------------------------------

    @property
    def _node(self) -> str:
        return self.link.node.name

    def _all(self, pick: Callable[[Installer], Iterable[str]]) -> tuple[str, ...]:
        names = {name for landing in self.landings for name in pick(landing)}
        return tuple(sorted(printable(os.fsencode(name)) for name in names))

    def _tell_end(self, status: str, seconds: float) -> None:
        new, replaced = self._all(lambda one: one.new), self._all(lambda one: one.replaced)
        events.emit(
            events.FETCH_FINISHED,
            node=self._node,
            status=status,
            files=len(new) + len(replaced),
            replaced=len(replaced),
            bytes=self.done.bytes,
            seconds=seconds,
        )

    def _report(self, found: Matches, seconds: float) -> FetchReport:
        left_out = {printable(name) for name in (*self.done.skipped, *self.done.unsafe)}
        return FetchReport(
            node=self.link.node,
            into=str(self.into),
            matched=sum(
                printable(os.fsencode(name)) not in left_out
                for group in found.groups
                for name in (*group.names, *group.copied)
            ),
            new=self._all(lambda one: one.new),
            replaced=self._all(lambda one: one.replaced),
            kept=self._all(lambda one: one.kept),
            skipped=tuple(sorted(left_out)),
            missing=_texts(found.missing),
            unwritten=_texts(found.unwritten),
            older=found.older,
            later=tuple(sorted(printable(os.fsencode(name)) for name in found.later)),
            bytes=self.done.bytes,
            seconds=seconds,
        )

    def _tell(self, report: FetchReport, directory: str) -> None:
        for pattern in report.missing:
            self._warn(f"{pattern} matches nothing{_where(pattern, directory)}{_hint(pattern)}")
        for pattern in report.unwritten:
            where = _where(pattern, directory)
            self._warn(f"{pattern} matches nothing that this run wrote{where}")
        if report.later:
            what = shorten(report.later)
            self._warn(f"not fetched, since a later run has changed them: {what}")
        if report.older and report.found:
            many = f"{report.older} file{'s' * (report.older > 1)}"
            self._warn(f"not fetched, since this run did not write them: {many}")
        if repositories := self._repositories():
            which = f"{len(repositories)}: {shorten(repositories)}"
            self._warn(f"not fetched, since git would start what a repository names, {which}")
        if report.kept:
            self._warn(
                f"kept, since newer here (--overwrite replaces them): {shorten(report.kept)}"
            )
        if self.done.unsafe:
            names = sorted({printable(name) for name in self.done.unsafe})
            which = shorten(names)
            self._warn(f"not fetched, since symlinks that lead nowhere or elsewhere: {which}")
        if self.done.skipped:
            names = sorted({printable(name) for name in self.done.skipped})
            self._warn(f"not fetched, since no regular files: {shorten(names)}")

    def _repositories(self) -> list[str]:
        """Names that did not come, without gridops' own, which nobody has missed."""
        names = {*self.done.hidden, *map(os.fsencode, self.private)}
        names |= {os.fsencode(name) for one in self.landings for name in one.private}
        plain = {name.rstrip(b"/") for name in names}
        return sorted(printable(name) for name in plain if not name.endswith(STATE_DIR))

    def _warn(self, message: str) -> None:
        events.emit(events.WARNING, message=f"{self._node}: {message}")

    def _problem(self) -> PartialTransfer:
        *others, last = self.problems
        for other in others:
            events.emit(events.WARNING, message=str(other))
        return last


def _texts(patterns: Sequence[Pattern]) -> tuple[str, ...]:
    return tuple(printable(os.fsencode(one.text)) for one in patterns)


def _where(pattern: str, directory: str) -> str:
    return "" if pattern.startswith(("/", "~")) else f" in {directory or '~'}"


def _hint(pattern: str) -> str:
    """Hint to quote a tilde: a shell here spells it out before we see it."""
    home = str(Path.home())
    if home != "/" and pattern.startswith(f"{home}/"):
        return f" (quote '~{pattern[len(home) :]}' to mean the node's home)"
    return ""


def _in_the_way(obstacles: dict[str, str]) -> PartialTransfer:
    said = [f"{printable(os.fsencode(name))}: {why}" for name, why in obstacles.items()]
    return PartialTransfer(
        f"fetched but not stored: {shorten(said, separator='; ')}",
        files=[printable(os.fsencode(name)) for name in obstacles],
        hint="move what is in the way, or fetch into another directory",
    )
