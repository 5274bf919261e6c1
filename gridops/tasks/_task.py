"""The one kind of task that all of gridops' tasks are: parse, call Grid, render, exit.

A body takes a `Call` and its own flags, and returns the exit status (None is 0). The flags that
many tasks share are declared here once and reach the body through the `Call`. What goes wrong on
purpose (GridError) becomes one line on stderr and the error's exit status.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from invoke import Argument, Context, Exit, Task

from gridops.errors import GridError, UnknownNameError
from gridops.observe import events
from gridops.observe.paths import recording_enabled
from gridops.observe.recorder import Recorder
from gridops.system.text import printable_lines
from gridops.tasks._positional import Word, Words
from gridops.tasks._terminal import open_streams, say, settle_streams, translate_write_errors, write

if TYPE_CHECKING:
    from gridops.grid import Grid
    from gridops.model import Node

Body = Callable[..., int | None]


@dataclass(frozen=True, slots=True)
class Flag:
    name: str
    default: str | None
    help: str


INVENTORY = (Flag("inventory", None, "inventory file (else GRIDOPS_INVENTORY, inventories/…)"),)
SELECTION = (
    *INVENTORY,
    Flag("nodes", None, "node set: gpu[01-04], a,b, @tag, gpu[1-8]!gpu3 (default: all)"),
    Flag("tags", None, "select nodes with one of these tags: a,b"),
)
LOG = (
    Flag("log_level", None, "DEBUG, INFO, WARNING or ERROR (else GRIDOPS_LOG_LEVEL)"),
    Flag("log_format", None, "auto, human or json, on stderr (else GRIDOPS_LOG_FORMAT)"),
)


def format_flag(*formats: str) -> tuple[Flag, ...]:
    return (Flag("format", formats[0], " | ".join(formats)),)


class Call:
    """The shared flags of a call, given to the task's body.

    Most are made into values when first asked for.
    """

    def __init__(
        self, shared: dict[str, str | None], formats: Sequence[str], log_level: int
    ) -> None:
        self._shared = shared
        self.format = shared.get("format") or ""  # checked first: before anything takes time
        if self.format not in (formats or ("",)):
            raise UnknownNameError("format", self.format, formats)
        self.log_level = log_level  # as logging counts

    @cached_property
    def grid(self) -> Grid:
        from gridops.grid import Grid

        return Grid.load(self.inventory)

    @property
    def inventory(self) -> str | None:
        """The file the user named."""
        return self._shared["inventory"]

    @property
    def source(self) -> str:
        """The inventory's path, or `this machine`."""
        path = self.grid.inventory.path
        return str(path) if path else "this machine"

    @contextmanager
    def narrate(self, only: Sequence[str] = ()) -> Iterator[None]:
        """Tell events on stderr, unless the log tells them already."""
        if self.log_level <= logging.INFO:
            yield
            return
        from gridops.tasks._progress import Narrator

        with events.listening(Narrator(only, self.log_level)):
            yield

    @property
    def narrowed(self) -> bool:
        """True if the user selected nodes."""
        return any(self._shared.get(flag) is not None for flag in ("nodes", "tags"))

    @property
    def selected_by(self) -> tuple[str | None, str | None]:
        """--nodes and --tags as the user gave them."""
        return self._shared["nodes"], self._shared["tags"]

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The selected nodes, in the inventory's order."""
        return self.grid.select(self._shared["nodes"], self._shared["tags"])


class GridTask(Task):  # type: ignore[type-arg]
    """An invoke Task; its body takes a Call in place of the Context."""

    def __init__(
        self, body: Body, *, flags: Iterable[Flag] = (), help: dict[str, str] | None = None,
        repeatable: Iterable[str] = (), short: Mapping[str, str] | None = None, **options: Any,
    ) -> None:  # fmt: skip
        """`repeatable`: positional arguments that may come again as flags; the body gets lists.

        `short`: the letters that stand for some flags.
        """
        self.repeatable = tuple(repeatable)
        self.short = dict(short or {})
        self.flags = (*flags, *LOG)
        self.formats = next((f.help.split(" | ") for f in self.flags if f.name == "format"), [])
        described = {flag.name: flag.help for flag in self.flags}
        options.setdefault("auto_shortflags", False)
        super().__init__(body, help={**(help or {}), **described}, **options)

    def argspec(self, body: Body) -> inspect.Signature:
        own = super().argspec(body)
        shared = [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default)
            for f in self.flags
        ]
        return own.replace(parameters=[*own.parameters.values(), *shared])

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        arguments = super().get_arguments(ignore_unknown_help)
        for argument in arguments:
            if letter := self.short.get(argument.name or ""):
                argument.names = (*argument.names, letter)
        return [self._shape(argument) for argument in arguments]

    def _shape(self, argument: Argument) -> Argument:
        if not argument.positional:
            return argument
        kind = Words if argument.name in self.repeatable else Word
        return kind.of(argument, self.name)

    # Two tasks of one name in two namespaces are two tasks (invoke compares their code).
    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = Task.__hash__

    def __call__(self, context: Context, *args: Any, **kwargs: Any) -> None:
        from gridops.system.signals import exit_on_signals

        open_streams()
        shared = {flag.name: kwargs.pop(flag.name, flag.default) for flag in self.flags}
        with exit_on_signals():
            status = exit_status_of(lambda: self._run(shared, args, kwargs))
        self.times_called += 1
        if status:
            raise Exit(code=status)

    def _run(
        self, shared: dict[str, str | None], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> int:
        log_level = _set_up_log(shared["log_level"], shared["log_format"])
        with _record(log_level):
            return self.body(Call(shared, self.formats, log_level), *args, **kwargs) or 0


@contextmanager
def _record(log_level: int) -> Iterator[None]:
    """Record metrics and history of the block; a failure to keep them is a warning."""
    if not recording_enabled():
        yield
        return
    recorder = Recorder()
    try:
        with events.listening(recorder):
            yield
    finally:
        if trouble := recorder.close():
            from gridops.tasks._progress import Narrator

            with events.listening(Narrator((events.WARNING,), log_level)):
                events.emit(events.WARNING, message=trouble)


def _set_up_log(level: str | None, form: str | None) -> int:
    """Set the log up as flags and environment say; returns its level."""
    from gridops.observe.log import setup_logging

    form = form or os.environ.get("GRIDOPS_LOG_FORMAT") or "auto"
    level = level or os.environ.get("GRIDOPS_LOG_LEVEL") or ("INFO" if form == "json" else "ERROR")
    setup_logging(level, format=form)
    return logging.getLogger("gridops").level


def grid_task(*, flags: Iterable[Flag] = (), **options: Any) -> Callable[[Body], GridTask]:
    """Make a body into a GridTask; `options` are invoke's (help, iterable, default, name)."""
    return lambda body: GridTask(body, flags=flags, **options)


def exit_status_of(work: Callable[[], int]) -> int:
    """Exit status of `work`; an error that it raises on purpose is said in one line."""
    try:
        status = work()
        if not status and sys.stdout:
            with translate_write_errors():  # what is still held back belongs to the success
                sys.stdout.flush()
        return status
    except GridError as exc:
        if debugging():
            write(sys.stderr, printable_lines(traceback.format_exc()))
        say(str(exc))
        return exc.exit_status
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except BrokenPipeError:  # whoever read our output has gone: `inv health | head -1`
        return 141
    finally:
        settle_streams()


def debugging() -> bool:
    """True if the user asked for tracebacks: `--debug` (invoke's own flag) or GRIDOPS_DEBUG.

    invoke heeds the flag only before the task's name.
    """
    if os.environ.get("GRIDOPS_DEBUG") or logging.getLogger().level == logging.DEBUG:
        return True
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    return "--debug" in sys.argv[:end]
