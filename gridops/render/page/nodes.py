"""The table of nodes: those with trouble first, then the others in the inventory's order."""

from __future__ import annotations

from collections.abc import Iterator

from gridops.model import Cpu, Gpu, NodeHealth, Space
from gridops.render.overview import Overview
from gridops.render.page import svg
from gridops.render.page.html import Html, element, joined
from gridops.render.trends import Trend, Value, span
from gridops.render.units import duration, percent, size

PARTS = 48  # points of a line; half as many where there are many nodes
MANY = 100
GPUS_DRAWN = 16
TROUBLE = ("unreachable", "degraded", "healthy")
SIGN = {"healthy": "good", "degraded": "warn", "unreachable": "bad"}
SCORE = "0 is idle, 100 is full; a run goes to the lowest"
HEADER = ("Node", "State", "Score", "CPU", "Memory", "GPU memory", "Disk", "Jobs")
LEGEND = "Bars: now. Lines: the last {}; a red foot marks when a node did not answer."


class _Lines:
    """Lines that show one node's trend."""

    def __init__(self, trend: Trend) -> None:
        self._trend = trend
        self._outages = trend.outages()

    def __call__(self, value: Value) -> Html:
        return svg.line(self._trend.means(value), self._outages) if self._trend else Html("")


def nodes(overview: Overview) -> Html:
    """The section of nodes; empty before the first round."""
    if not overview.nodes:
        return Html("")
    count = PARTS if len(overview.nodes) <= MANY else PARTS // 2
    over = span(overview.history, overview.at, count)
    ordered = sorted(overview.nodes, key=lambda health: TROUBLE.index(health.state))
    rows = [
        _row(one, _Lines(Trend(overview.history.get(one.node.name, ()), over))) for one in ordered
    ]
    titles = {"Score": SCORE}
    cells = [
        element("th", name, scope="col", role="columnheader", title=titles.get(name))
        for name in HEADER
    ]
    head = element("thead", element("tr", *cells, role="row"), role="rowgroup")
    body = element("tbody", *rows, role="rowgroup")
    legend = LEGEND.format(_long(over.end - over.start))
    return element(
        "section",
        element("h2", "Nodes", id="nodes"),
        element("table", head, body, class_="nodes", role="table", aria_labelledby="nodes"),
        element("p", legend, class_="legend"),
        class_="card",
    )


def _long(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 100 else f"{round(minutes / 60)} hours"


def _row(health: NodeHealth, lines: _Lines) -> Html:
    return element(
        "tr",
        _name(health),
        _state(health),
        *_figures(health, lines),
        role="row",
        class_=health.state,
        id=f"node-{health.node.name}",
        data_node=health.node.name,
        data_state=health.state,
    )


def _figures(health: NodeHealth, lines: _Lines) -> Iterator[Html]:
    """The cells that come after the state."""
    if health.state == "unreachable":
        yield _lost(health, lines)
        return
    yield _score(health, lines)
    yield _cpu(health.cpu, lines)
    yield _memory(health.memory, lines)
    yield _gpus(health, lines)
    yield _disk(health.disk)
    yield _jobs(health)


def _cell(label: str, *children: str, class_: str = "", span: int | None = None) -> Html:
    return element(
        "td", *children, role="cell", data_label=label, class_=class_ or None, colspan=span
    )


def _figure(value: str, detail: str = "") -> Html:
    small = element("small", detail) if detail else ""
    return element("span", element("b", value), " " if small else "", small, class_="figure")


def _name(health: NodeHealth) -> Html:
    node = health.node
    facts = [node.host if node.host != node.name else "", *node.tags]
    below = " · ".join(fact for fact in facts if fact)
    more = element("dl", *_facts(health))
    details = element("details", element("summary", "details"), more) if more != "<dl></dl>" else ""
    return element(
        "th",
        element("span", node.name, class_="name"),
        element("span", below, class_="below") if below else "",
        details,
        scope="row",
        role="rowheader",
    )


def _facts(health: NodeHealth) -> Iterator[Html]:
    """Facts that do not fit into the row."""
    if health.cpu:
        loads = (health.cpu.load1, health.cpu.load5, health.cpu.load15)
        yield _fact("load", " ".join(f"{load:.2f}" for load in loads))
    if health.latency_ms is not None:
        yield _fact("latency", f"{health.latency_ms:.0f} ms")
    if health.uptime_s is not None:
        yield _fact("up for", duration(health.uptime_s))
    if health.users:
        yield _fact("logged in", ", ".join(health.users))
    for gpu in health.gpus:
        yield _fact(f"GPU {gpu.index}", _gpu_words(gpu))


def _fact(name: str, text: str) -> Html:
    return joined((element("dt", name), element("dd", text)))


def _gpu_words(gpu: Gpu) -> str:
    parts = [gpu.name, f"{percent(_gpu_load(gpu))} of its memory"]
    if gpu.utilization_percent is not None:
        parts.append(f"{gpu.utilization_percent:.0f}% busy")
    if gpu.temperature_c is not None:
        parts.append(f"{gpu.temperature_c:.0f} °C")
    if gpu.processes:
        others = f", {gpu.other_processes} of others" if gpu.other_processes else ""
        parts.append(f"{gpu.processes} processes{others}")
    return ", ".join(parts)


def _state(health: NodeHealth) -> Html:
    said = element("span", svg.sign(SIGN[health.state]), health.state, class_="state")
    reasons = [*health.reasons]
    below = element("ul", *(element("li", reason) for reason in reasons)) if reasons else ""
    return _cell("State", said, below)


def _lost(health: NodeHealth, lines: _Lines) -> Html:
    """Cell for a node that did not answer, in place of figures."""
    why = element("p", health.error or "it did not answer", class_="error")
    return _cell("Score", why, lines(lambda sample: sample.score), class_="lost", span=6)


def _score(health: NodeHealth, lines: _Lines) -> Html:
    value = "–" if health.score is None else f"{health.score:.1f}"
    return _cell("Score", _figure(value), lines(lambda sample: sample.score))


def _cpu(cpu: Cpu | None, lines: _Lines) -> Html:
    if cpu is None:
        return _cell("CPU", "–")
    cores = f"of {cpu.cores} core{'s' * (cpu.cores != 1)}"
    trend = lines(lambda sample: sample.cpu_percent)
    return _cell("CPU", _figure(percent(cpu.percent), cores), svg.bar(cpu.percent), trend)


def _memory(memory: Space | None, lines: _Lines) -> Html:
    if memory is None:
        return _cell("Memory", "–")
    figure = _figure(percent(memory.percent), f"of {size(memory.total_bytes)}")
    trend = lines(lambda sample: sample.memory_percent)
    return _cell("Memory", figure, svg.bar(memory.percent), trend)


def _disk(disk: Space | None) -> Html:
    if disk is None:
        return _cell("Disk", "–")
    figure = _figure(percent(disk.percent), f"of {size(disk.total_bytes)}")
    return _cell("Disk", figure, svg.bar(disk.percent))


def _gpus(health: NodeHealth, lines: _Lines) -> Html:
    if not health.gpus:
        return _cell("GPU memory", "unreadable" if health.gpu_error else "–", class_="absent")
    loads = [_gpu_load(gpu) for gpu in health.gpus]
    known = [load for load in loads if load is not None]
    mean = sum(known) / len(known) if known else None
    heats = [gpu.temperature_c for gpu in health.gpus if gpu.temperature_c is not None]
    detail = f"of {len(loads)} GPU{'s' * (len(loads) != 1)}"
    warmth = f" · {max(heats):.0f} °C" if heats else ""
    figure = _figure(percent(mean), detail + warmth)
    trend = lines(lambda sample: sample.gpu_memory_percent)
    if not 1 < len(loads) <= GPUS_DRAWN:
        return _cell("GPU memory", figure, svg.bar(mean), trend)
    return _cell("GPU memory", figure, element("div", svg.columns(loads), trend, class_="beside"))


def _gpu_load(gpu: Gpu) -> float | None:
    if not gpu.memory_total_mib or gpu.memory_used_mib is None:
        return None
    return min(100.0, 100 * gpu.memory_used_mib / gpu.memory_total_mib)


def _jobs(health: NodeHealth) -> Html:
    jobs = health.jobs
    if jobs is None:
        return _cell("Jobs", "–")
    figure = _figure(str(jobs.running), f"of {jobs.slots} slot{'s' * (jobs.slots != 1)}")
    waiting = getattr(jobs, "queued", 0)
    more = element("span", f"{waiting} waiting", class_="below") if waiting else ""
    return _cell("Jobs", figure, more)
