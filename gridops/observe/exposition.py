"""Prometheus and OpenMetrics text exposition of all that is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gridops.observe.families import (
    ACTIVE_TASKS,
    GPUS,
    INFINITE,
    NODES,
    STAMPS,
    SUM,
    TOTALS,
    Family,
)
from gridops.observe.rows import NodeRecord
from gridops.system.ownership import PACKAGE_VERSION
from gridops.system.text import printable_lines

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.core import GaugeMetricFamily

    from gridops.observe.store import Store

EOF_LINE = "# EOF\n"  # of OpenMetrics

Totals = Iterable[tuple[str, str, str, float]]
Stamps = Iterable[tuple[str, str, float]]


def generate(metrics: Iterable[Metric], *, openmetrics: bool = False, end: bool = True) -> str:
    """The exposition; `end` False leaves out OpenMetrics' last line, so that more may follow."""
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(metrics))
    text = _encoder(openmetrics)[0](registry).decode()
    return text if end else text.removesuffix(EOF_LINE)


def content_type(*, openmetrics: bool = False) -> str:
    """Content-Type of the exposition."""
    return _encoder(openmetrics)[1]


def _encoder(openmetrics: bool) -> tuple[Callable[[Any], bytes], str]:
    from prometheus_client.exposition import choose_encoder

    return choose_encoder("application/openmetrics-text" if openmetrics else "")


class _Collector:
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def of_store(store: Store) -> Iterator[Metric]:
    """All metrics in the store. Raises StoreError."""
    yield from of_processes(store.totals(), store.stamps(), store.active())
    yield from of_nodes(store.node_records())


def of_processes(totals: Totals, stamps: Stamps, active: int) -> Iterator[Metric]:
    """Sums over processes, and the gauges of `of_now`."""
    for name, series in group_totals(totals).items():
        sums = {_values(labels): parts for labels, parts in series.items()}
        yield build_metric(TOTALS[name], sums)
    yield from of_now(stamps, active)


def group_totals(totals: Totals) -> dict[str, dict[str, dict[str, float]]]:
    """Totals by family, labels (JSON) and part; every known family is there, and no other."""
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in TOTALS}
    for name, labels, part, value in totals:
        if name in found:
            series = found[name].setdefault(labels, {})
            series[part] = series.get(part, 0.0) + value
    return found


def build_metric(family: Family, of: Mapping[tuple[str, ...], Mapping[str, float]]) -> Metric:
    return _histogram(family, of) if family.kind == "histogram" else _counter(family, of)


def lines_of(family: Family, labels: str, parts: Mapping[str, float]) -> str:
    """The lines of one series, which are the same in both formats."""
    text = generate([build_metric(family, {_values(labels): parts})])
    return "".join(line for line in text.splitlines(keepends=True) if line[0] != "#")


def head_of(family: Family, *, openmetrics: bool) -> str:
    """The HELP and TYPE lines that stand above the family's samples."""
    text = generate([build_metric(family, {})], openmetrics=openmetrics, end=False)
    return "".join(line for line in text.splitlines(keepends=True) if line[0] == "#")


def of_now(stamps: Stamps, active: int) -> Iterator[Metric]:
    """Gauges of the newest timestamps and of the tasks under way."""
    newest: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in STAMPS}
    for name, labels, at in stamps:
        if name in newest:
            key = _values(labels)
            newest[name][key] = max(at, newest[name].get(key, 0.0))
    for name, times in newest.items():
        gauge = _gauge(name, STAMPS[name].help, STAMPS[name].labels)
        for key, at in times.items():
            gauge.add_metric(key, at)
        yield gauge
    yield single(ACTIVE_TASKS.name, ACTIVE_TASKS.help, active)
    build = _gauge("grid_build_info", "The gridops that says this.", ("version",))
    build.add_metric((PACKAGE_VERSION,), 1)
    yield build


def _values(labels: str) -> tuple[str, ...]:
    return tuple(map(_label, json.loads(labels)))


def _label(value: object) -> str:
    """A label's value as text that every encoder and every reader takes.

    Half a surrogate pair cannot be encoded, and a NUL ends the file for some readers; the encoder
    itself escapes line ends.
    """
    return printable_lines(str(value))


def _counter(family: Family, of: Mapping[tuple[str, ...], Mapping[str, float]]) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    counter = CounterMetricFamily(family.name, family.help, labels=family.labels)
    for labels, parts in of.items():
        counter.add_metric(labels, parts.get("", 0.0))
    return counter


def _histogram(family: Family, of: Mapping[tuple[str, ...], Mapping[str, float]]) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    for labels, parts in of.items() if of or family.labels else (((), {}),):
        count, buckets = 0.0, []
        for limit in (*family.buckets, INFINITE):
            name = limit if isinstance(limit, str) else f"{limit:g}"
            count += parts.get(name, 0.0)
            buckets.append((name if name == INFINITE else str(float(name)), count))
        histogram.add_metric(labels, buckets, parts.get(SUM, 0.0))
    return histogram


def _gauge(name: str, help: str, labels: Sequence[str]) -> GaugeMetricFamily:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, help, labels=labels)


def single(name: str, help: str, value: float) -> Metric:
    """A gauge without labels."""
    gauge = _gauge(name, help, ())
    gauge.add_metric((), value)
    return gauge


def of_nodes(records: Iterable[NodeRecord]) -> Iterator[Metric]:
    """Gauges of each node as it was last seen. What is not known of a node has no sample."""
    found = tuple(records)
    score = _gauge("grid_node_health_score", "0 idle to 100 full.", ("node",))
    up = _gauge("grid_node_up", "Whether the node answered.", ("node",))
    healthy = _gauge("grid_node_healthy", "Whether no threshold was passed.", ("node",))
    seen = _gauge("grid_node_last_probe_timestamp_seconds", "When it was asked last.", ("node",))
    for one in found:
        node = (_label(one.node),)
        if one.score is not None:
            score.add_metric(node, one.score)
        up.add_metric(node, one.state != "unreachable")
        healthy.add_metric(node, one.state == "healthy")
        seen.add_metric(node, one.at)
    yield from (score, up, healthy, seen)
    for name, (figure, factor, help) in NODES.items():
        gauge = _gauge(name, help, ("node",))
        for one in found:
            _add(gauge, (_label(one.node),), one.figures.get(figure), factor)
        yield gauge
    yield from _of_gpus(found)


def _of_gpus(records: Sequence[NodeRecord]) -> Iterator[Metric]:
    gpus = [
        ((_label(one.node), _label(gpu.get("index", ""))), gpu)
        for one in records
        for gpu in one.figures.get("gpus", ())
    ]
    about = ("uuid", "name", "vendor")
    info = _gauge("grid_gpu_info", "What the GPU is.", ("node", "gpu", *about))
    for labels, gpu in gpus:
        info.add_metric((*labels, *(_label(gpu.get(name, "")) for name in about)), 1)
    yield info
    for name, (figure, factor, help) in GPUS.items():
        gauge = _gauge(name, help, ("node", "gpu"))
        for labels, gpu in gpus:
            _add(gauge, labels, gpu.get(figure), factor)
        yield gauge


def _add(gauge: GaugeMetricFamily, labels: Sequence[str], value: Any, factor: float) -> None:
    if isinstance(value, int | float):
        gauge.add_metric(labels, round(value * factor, 9))
