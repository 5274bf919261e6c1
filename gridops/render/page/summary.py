"""The page's head: how the grid is in one sentence, and its totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from gridops.model import NodeHealth
from gridops.render.overview import Overview
from gridops.render.page import svg
from gridops.render.page.html import Html, element, joined
from gridops.render.page.runs import moment
from gridops.render.units import percent, size

STATES = (("healthy", "good"), ("degraded", "warn"), ("unreachable", "bad"))


def headline(overview: Overview) -> str:
    """State of the grid in one sentence: `3 of 3 nodes healthy`."""
    count = len(overview.nodes)
    good = sum(health.state == "healthy" for health in overview.nodes)
    if not count:
        return "no node has been asked yet" if not overview.at else "no nodes"
    return f"{good} of {count} node{'s' * (count != 1)} healthy"


def worst(overview: Overview) -> str:
    """The gravest state that a node has: good, warn, bad; none without nodes."""
    states = {health.state for health in overview.nodes}
    return next((kind for state, kind in reversed(STATES) if state in states), "none")


def summary(overview: Overview) -> Html:
    counts = Counter[str](health.state for health in overview.nodes)
    return element(
        "header",
        element(
            "div",
            element("h1", svg.sign(worst(overview)), headline(overview)),
            element("p", *_source(overview), class_="source"),
        ),
        _states(counts) if overview.nodes else "",
        element("dl", *_totals(overview.nodes), class_="totals") if overview.nodes else "",
    )


def _source(overview: Overview) -> Iterator[str]:
    yield element("span", overview.inventory, class_="inventory")
    if overview.at:
        yield joined((" · as of ", moment(overview.at)))
    if overview.every:
        yield f" · every {overview.every:g} s"
    yield element("span", "", id="age", role="status")


def _states(counts: Counter[str]) -> Html:
    """Number of nodes in each state: a bar, and in words."""
    drawn = svg.split([(kind, counts[state]) for state, kind in STATES])
    said = [
        element("li", svg.sign(kind), f"{counts[state]} {state}")
        for state, kind in STATES
        if counts[state]
    ]
    return element("div", drawn, element("ul", *said), class_="states")


def _totals(nodes: Sequence[NodeHealth]) -> Iterator[Html]:
    cpus = [health.cpu for health in nodes if health.cpu]
    if cpus:
        cores = sum(cpu.cores for cpu in cpus)
        busy = sum(cpu.percent * cpu.cores for cpu in cpus) / cores if cores else None
        yield _total("CPU", percent(busy), f"of {cores} cores", busy)
    spaces = [health.memory for health in nodes if health.memory]
    if spaces:
        total = sum(space.total_bytes for space in spaces)
        used = 100 * (1 - sum(space.available_bytes for space in spaces) / total) if total else None
        yield _total("Memory", percent(used), f"of {size(total)}", used)
    gpus = [gpu for health in nodes for gpu in health.gpus]
    if gpus:
        taken = sum(gpu.processes > 0 for gpu in gpus)
        yield _total(
            "GPUs in use", str(taken), f"of {len(gpus)}", 100 * taken / len(gpus), calm=True
        )
    jobs = [health.jobs for health in nodes if health.jobs]
    if jobs:
        running, slots = sum(one.running for one in jobs), sum(one.slots for one in jobs)
        share = 100 * running / slots if slots else None
        yield _total("Jobs", str(running), f"of {slots} slots", share, calm=True)


def _total(name: str, value: str, detail: str, share: float | None, *, calm: bool = False) -> Html:
    figure = joined((element("b", value), " ", element("small", detail)))
    return element("div", element("dt", name), element("dd", figure, svg.bar(share, calm=calm)))
