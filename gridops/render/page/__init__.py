"""The status page: one HTML document that needs nothing beside itself.

It asks nobody for anything, except that a live one fetches itself again; it works as a static page
where no scripts run. Its policy (CSP) allows its own style and script alone, by their hashes.
The templates beside this file lay it out; the modules work out what they show.
"""

from __future__ import annotations

import base64
import hashlib
import time
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gridops.render.overview import Overview
from gridops.render.page import nodes, runs, summary, svg
from gridops.render.units import duration, percent
from gridops.system.text import number_of, plain, size

MIN_REFRESH_INTERVAL = 2.0  # seconds: a page is not fetched again earlier
FOLDER = Path(__file__).parent


def render_page(overview: Overview, *, live: bool) -> str:
    """The whole document. A `live` one fetches itself again as often as the grid is probed."""
    return environment().get_template("page.html").render(
        overview=overview,
        nodes=nodes.node_table(overview),
        active=list(runs.active_runs(overview)),
        past=runs.past_runs(overview),
        refresh=max(MIN_REFRESH_INTERVAL, overview.every) if live else None,
        policy=policy(),
        style=part("page.css"),
        script=part("page.js"),
    )  # fmt: skip


@cache
def environment() -> Environment:
    """The templates' environment: what they print is text, escaped, unless it is `safe`.

    Once a process, with the templates that it has compiled.
    """
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_sanitize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    figures = (duration, number_of, percent, size, svg.fill, svg.heat, utc)
    views = (summary.headline, summary.worst, summary.states, summary.totals)
    for function in (*figures, *views, runs.ending, runs.excerpt):
        made.filters[function.__name__] = function
    return made


def _sanitize(value: object) -> object:
    """A value fit to be printed: any text but markup loses its control characters."""
    return value if hasattr(value, "__html__") else plain(str(value))


@cache
def policy() -> str:
    """Value of the Content-Security-Policy header: what the page may do."""
    rules = {
        "default-src": "'none'",
        "style-src": _hash(part("page.css")),
        "script-src": _hash(part("page.js")),
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


@cache
def part(name: str) -> str:
    """The text of a file beside this one."""
    return (FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def utc(at: float, form: str) -> str:
    return time.strftime(form, time.gmtime(at))
