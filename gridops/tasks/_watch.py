"""`health --watch`: the nodes again and again, in place on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from gridops.errors import StoreError
from gridops.tasks._terminal import draw_line, make_console, speaks_unicode

if TYPE_CHECKING:
    from rich.live import Live

    from gridops.grid import Grid
    from gridops.model import Node
    from gridops.observe.rows import Sample
    from gridops.render.live import Board

REDRAW_INTERVAL = 0.1  # seconds between two looks at the terminal's size, and two drawings at least


def watch(grid: Grid, nodes: Sequence[Node], every: float, sort: str) -> int:
    """Draw until Ctrl-C; the terminal is restored after that, and after an error too."""
    from rich.live import Live

    from gridops.render.live import Board

    board = Board(nodes, _history(), sort=sort, ascii=not speaks_unicode(sys.stdout))
    screen = make_console(sys.stdout)
    said = "asking the nodes …" if speaks_unicode(sys.stdout) else "asking the nodes ..."
    with suppress(KeyboardInterrupt), Live(console=screen, auto_refresh=False, screen=True) as live:
        _draw(live, board, said)
        while True:
            began = time.monotonic()
            drawn = 0.0
            for health in grid.health(nodes):
                board.add(health, time.time())
                if time.monotonic() - drawn > REDRAW_INTERVAL:
                    _draw(live, board, said)
                    drawn = time.monotonic()
            said = f"{datetime.now():%H:%M:%S}, every {every:g} s, by {sort}, Ctrl-C ends"
            _draw(live, board, said)
            _wait(live, board, said, began + every)
    return 0


def _history() -> dict[str, list[Sample]]:
    from gridops.observe.store import Store
    from gridops.render.live import HISTORY_MAX_AGE

    try:
        return Store().samples(time.time() - HISTORY_MAX_AGE)
    except StoreError:
        return {}


def _draw(live: Live, board: Board, said: str) -> None:
    from rich.console import Group

    size = live.console.size
    lines = board.lines(size.width, size.height, time.time(), said)
    live.update(Group(*(draw_line(one.pieces) for one in lines)), refresh=True)


def _wait(live: Live, board: Board, said: str, until: float) -> None:
    """Wait until the next round; redraw when the terminal's size changes."""
    size = live.console.size
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(REDRAW_INTERVAL, left))
        if live.console.size != size:
            size = live.console.size
            _draw(live, board, said)
