"""Ask every node how it is, all at once, and judge what it says."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.errors import (
    ConnectDropped,
    ConnectionLost,
    ConnectRefused,
    GridError,
    ProbeError,
    SessionRefused,
)
from gridops.model import Jobs, Node, NodeHealth, Outcome, Reply
from gridops.observe import events
from gridops.observe.figures import figures as figures_of
from gridops.probe.answer import clean
from gridops.probe.parse import Figures, parse
from gridops.probe.samples import Samples
from gridops.probe.score import cpu_load, score
from gridops.reach import link_to
from gridops.reach.fanout import fan_out
from gridops.retry import RetryConfig, attempts

if TYPE_CHECKING:
    from gridops.settings import HealthSettings, Settings

WINDOW = 0.1  # seconds to watch the CPUs: ten clock ticks a core
GPU_LIMIT = 5.0  # seconds for nvidia-smi and the like, but at most half of the node's time
GRACE = 0.5  # seconds after a node's time until we stop to wait for its thread
# What may pass if one asks again. Not ConnectTimeout: that node has had all its patience already.
PASSING = (ConnectRefused, ConnectDropped, ConnectionLost, SessionRefused)


def check(
    nodes: Sequence[Node],
    settings: Settings,
    *,
    deadline: float | None = None,
    patient: bool = True,
) -> Iterator[NodeHealth]:
    """Probe all `nodes` at once; each one's health comes as it is there, exactly one a node.

    A node gets `health_check.timeout` seconds, all together `deadline` (default: that of the
    settings); whatever goes wrong with a node is in its NodeHealth. With `patient`, a node that
    cannot be reached is tried again within its time, as `settings.retry` says.
    """
    health = settings.health_check
    samples = Samples()
    outcomes = fan_out(
        nodes,
        lambda node: _probe(node, settings, patient, samples),
        max_workers=health.max_workers,
        timeout=health.timeout + GRACE,
        deadline=health.deadline if deadline is None else deadline,
    )
    try:
        for outcome in outcomes:
            found = outcome.value or _unreachable(outcome)
            events.emit(
                events.NODE_PROBED,
                node=found.node.name,
                state=found.state,
                score=found.score,
                seconds=outcome.seconds,
                error=found.error,
                figures=figures_of(found),
            )
            yield found
    finally:
        samples.save()


def _probe(node: Node, settings: Settings, patient: bool, samples: Samples) -> NodeHealth:
    """Raises GridError: unreachable, or an answer that makes no sense."""
    reply = _ask(node, settings, patient, samples.recent(node, WINDOW))
    figures = parse(reply.stdout, node.remote_root)
    samples.add(node, figures.cpu_times)
    latency = None if reply.latency is None else reply.latency * 1000
    return judge(node, figures, settings.health_check, latency_ms=latency)


def _ask(node: Node, settings: Settings, patient: bool, cpu_times: str) -> Reply:
    link = link_to(node, settings.ssh)
    limit = settings.health_check.timeout
    end = time.monotonic() + limit
    words = (node.remote_root, f"{WINDOW:g}", f"{min(GPU_LIMIT, limit / 2):g}", cpu_times)
    retries = _retries(settings) if patient else RetryConfig(max_retries=0)
    for attempt in attempts(retries, PASSING, what=f"reaching {node.name}"):
        with attempt:
            left = round(max(0.0, end - time.monotonic()), 2)
            reply = link.script(probe_script(), *words, timeout=left)
    if reply.status:
        raise ProbeError(f"the probe failed with status {reply.status}{_last(reply.stderr)}")
    return reply


def _retries(settings: Settings) -> RetryConfig:
    """The settings' retries, as far as an attempt still has the time that connecting may take."""
    config = RetryConfig.of(settings.retry)
    room = max(0.0, settings.health_check.timeout - settings.ssh.connect_timeout)
    longest = room if config.max_elapsed is None else min(room, config.max_elapsed)
    return replace(config, max_elapsed=longest)


@cache
def probe_script() -> str:
    """The text of probe.sh."""
    return Path(__file__).with_name("probe.sh").read_text(encoding="utf-8")


def _last(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    said = clean(lines[-1]) if lines else ""
    return f": {said}" if said else ""


def _unreachable(outcome: Outcome[NodeHealth]) -> NodeHealth:
    error = outcome.error or ProbeError("no answer")
    return NodeHealth(outcome.node, "unreachable", error=_said(error))


def _said(error: GridError) -> str:
    """The error without the node's name, which the row has already."""
    return f"{error.message} ({error.hint})" if error.hint else error.message


# -- judging ---------------------------------------------------------------------------------------


def judge(
    node: Node, figures: Figures, settings: HealthSettings, *, latency_ms: float | None = None
) -> NodeHealth:
    """The node's health: degraded with reasons where a threshold is passed, else healthy."""
    reasons = tuple(_reasons(node, figures, settings))
    return NodeHealth(
        node=node,
        state="degraded" if reasons else "healthy",
        score=score(figures.cpu, figures.gpus, settings),
        reasons=reasons,
        latency_ms=latency_ms,
        cpu=figures.cpu,
        memory=figures.memory,
        disk=figures.disk,
        gpus=figures.gpus,
        gpu_error=figures.gpu_error,
        jobs=Jobs(figures.running, node.slots, figures.queued),
        uptime_s=figures.uptime_s,
        users=figures.users,
        ray=figures.ray,
    )


def _reasons(node: Node, figures: Figures, settings: HealthSettings) -> Iterator[str]:
    """One for each threshold that is passed.

    For the CPUs it is the load of score.py, not the busy share of a moment: a short burst (our own
    login is one) does not make a node degraded.
    """
    yield from _over("CPU load", cpu_load(figures.cpu), settings.max_cpu_percent, " %")
    cores = figures.cpu.cores
    if figures.cpu.load1 > settings.max_load_per_core * cores:
        yield (
            f"load {figures.cpu.load1:.0f} on {cores} core{'s' * (cores != 1)}"
            f" (limit {settings.max_load_per_core:g} per core)"
        )
    yield from _over("memory", figures.memory.percent, settings.max_memory_percent, " % used")
    if figures.disk is None:
        yield f"the disk of {node.remote_root} could not be read"
    else:
        name = f"disk of {node.remote_root}"
        yield from _over(name, figures.disk.percent, settings.max_disk_percent, " % full")
    if figures.unwritable:
        yield f"{node.remote_root} cannot be written ({figures.unwritable} is read-only for us)"
    for gpu in figures.gpus:
        heat, limit = gpu.temperature_c, settings.max_gpu_temperature_c
        if heat is not None and heat > limit:
            yield f"GPU {gpu.index} at {heat:.0f} °C (limit {limit:g} °C)"
    if figures.gpu_error:
        yield figures.gpu_error


def _over(name: str, percent: float, limit: float, unit: str) -> Iterator[str]:
    if percent > limit:
        yield f"{name} {math.ceil(percent)}{unit} (limit {limit:g} %)"
