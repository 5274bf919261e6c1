"""The `gridops` command: the same tasks as `inv`, from any directory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from invoke import Program
from invoke.exceptions import ParseError

from gridops.system.ownership import PACKAGE_VERSION, neighbour
from gridops.tasks import ns
from gridops.tasks._positional import Words
from gridops.tasks._task import exit_status_of
from gridops.tasks._terminal import open_streams, say


class GridProgram(Program):
    """An invoke Program that exits with 2 on usage errors.

    gridops' own errors of usage do so as well.
    """

    def print_version(self) -> None:
        super().print_version()
        if other := neighbour():
            say(other)

    def parse_core(self, argv: list[str] | None) -> None:
        with _usage():
            super().parse_core(argv)

    def parse_tasks(self) -> None:
        with _usage():
            super().parse_tasks()


@contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except ParseError as exc:
        say(f"{exc} ({_further(exc)}`gridops --list`, `gridops --help TASK`)")
        sys.exit(2)


def _further(exc: ParseError) -> str:
    """Hint for an argument that takes several values."""
    arguments = exc.context.args.values() if exc.context else ()
    names = [argument.name for argument in arguments if isinstance(argument, Words)]
    return f"more than one: --{names[0]} A --{names[0]} B; " if names else ""


def main() -> None:
    """Console script `gridops`."""
    program = GridProgram(name="gridops", binary="gridops", version=PACKAGE_VERSION, namespace=ns)

    def run() -> int:
        open_streams()
        program.run()
        sys.stdout.flush()
        return 0

    sys.exit(exit_status_of(run))
