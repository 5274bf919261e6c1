"""The status page: one HTML document that needs nothing beside itself.

It asks nobody for anything, except that a live one fetches itself again; it works as a static page
where no scripts run. Its policy (CSP) allows its own style and script alone, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from string import Template

from gridops.render.overview import Overview
from gridops.render.page.html import Html, element, joined, markup
from gridops.render.page.nodes import nodes
from gridops.render.page.runs import recent, running
from gridops.render.page.summary import headline, summary, worst

MIN_REFRESH_INTERVAL = 2.0  # seconds: a page is not fetched again earlier
COLOURS = {"good": "%231a7f4b", "warn": "%23b87a00", "bad": "%23c4314b", "none": "%23808890"}
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Ccircle cx='8' cy='8' r='7' fill='{}'/%3E%3C/svg%3E"
)


def render_page(overview: Overview, *, live: bool) -> str:
    """The whole document. A `live` one fetches itself again as often as the grid is probed."""
    style, script = part("page.css"), part("page.js")
    again = max(MIN_REFRESH_INTERVAL, overview.every) if live else None
    return Template(part("page.html")).substitute(
        policy=policy(),
        title=markup(f"{headline(overview)} · {overview.inventory}"),
        icon=ICON.format(COLOURS[worst(overview)]),
        noscript=_noscript(again),
        every="" if again is None else f' data-every="{again:g}"',
        at=f"{overview.at:.0f}",
        style=style,
        script=script,
        grid=joined(
            (_warning(overview), summary(overview), nodes(overview), running(overview),
             recent(overview), _nothing(overview))
        ),
    )  # fmt: skip


def without_commands(overview: Overview) -> Overview:
    """The overview without command lines, which may hold secrets.

    For a page that more people may read than those who ran them.
    """
    return replace(
        overview,
        runs=tuple(run._replace(command="") for run in overview.runs),
        jobs=tuple(replace(job, command="") for job in overview.jobs),
    )


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
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _noscript(again: float | None) -> Html:
    if again is None:
        return Html("")
    return Html(f'<noscript><meta http-equiv="refresh" content="{again:.0f}"></noscript>')


def _warning(overview: Overview) -> Html:
    if not overview.warning:
        return Html("")
    return element("p", overview.warning, class_="warning", role="alert")


def _nothing(overview: Overview) -> Html:
    if overview.runs or overview.jobs or not overview.nodes:
        return Html("")
    return element("p", "No runs have been recorded here yet.", class_="legend")
