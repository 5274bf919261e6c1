"""Health checks: ask all nodes at once, and judge their answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gridops.errors import ConnectTimeout, GridError, ProbeError
from gridops.model import Node, NodeHealth, Outcome, Reply
from gridops.observe import events
from gridops.probe.cpu_times import Samples
from gridops.probe.figures import figures as figures_of
from gridops.probe.protocol import clean
from gridops.reach import link_to
from gridops.reach.fanout import fan_out
from gridops.retry import RetryConfig, attempts
from gridops.system import scripts

if TYPE_CHECKING:
    from gridops.inventory.settings import Settings

SAMPLE_INTERVAL = 0.1  # seconds to watch the CPUs: ten clock ticks a core
GPU_TIMEOUT = 5.0  # seconds for nvidia-smi and the like, but at most half of the node's time
THREAD_GRACE = 0.5  # seconds after a node's time until we stop to wait for its thread


def check(
    nodes: Sequence[Node],
    settings: Settings,
    *,
    deadline: float | None = None,
    patient: bool = True,
) -> Iterator[NodeHealth]:
    """Probe all `nodes` at once; yield the health of each as it comes, exactly one a node.

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
        timeout=health.timeout + THREAD_GRACE,
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
    """Probe one node. Raises GridError: unreachable, or an answer that makes no sense."""
    reply = _ask(node, settings, patient, samples.recent(node, SAMPLE_INTERVAL))
    # Here, since the nodes are at work by now: importing these does not keep them waiting.
    from gridops.probe.parse import parse
    from gridops.probe.thresholds import judge

    figures = parse(reply.stdout, node.remote_root)
    samples.add(node, figures.cpu_times)
    latency = None if reply.latency is None else reply.latency * 1000
    return judge(node, figures, settings.health_check, latency_ms=latency)


def _ask(node: Node, settings: Settings, patient: bool, cpu_times: str) -> Reply:
    link = link_to(node, settings.ssh)
    limit = settings.health_check.timeout
    end = time.monotonic() + limit
    words: tuple[str, ...] = (
        node.remote_root,
        f"{SAMPLE_INTERVAL:g}",
        f"{min(GPU_TIMEOUT, limit / 2):g}",
        cpu_times,
    )
    script = probe_script()
    if node.env_setup:
        script, words = setup_script() + script, (*words, node.env_setup, node.name)
    retries = _retries(settings) if patient else RetryConfig(max_retries=0)
    # A node that let a connection time out has had all its time already.
    for attempt in attempts(retries, unless=ConnectTimeout, what=f"reaching {node.name}"):
        with attempt:
            left = round(max(0.0, end - time.monotonic()), 2)
            reply = link.script(script, *words, timeout=left)
    if reply.status:
        raise ProbeError(f"the probe failed with status {reply.status}{_last(reply.stderr)}")
    return reply


def _retries(settings: Settings) -> RetryConfig:
    """The settings' retries within the node's time.

    An attempt begins only while it still has the time that connecting may take.
    """
    config = RetryConfig.of(settings.retry)
    room = max(0.0, settings.health_check.timeout - settings.ssh.connect_timeout)
    longest = room if config.max_elapsed is None else min(room, config.max_elapsed)
    return replace(config, max_elapsed=longest)


def probe_script() -> str:
    """The text of probe.sh."""
    return scripts.script("probe/probe.sh")


def setup_script() -> str:
    """The text that goes before probe.sh where a node has an env_setup."""
    return scripts.script("probe/setup.sh")


def _last(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    said = clean(lines[-1]) if lines else ""
    return f": {said}" if said else ""


def _unreachable(outcome: Outcome[NodeHealth]) -> NodeHealth:
    error = outcome.error or ProbeError("no answer")
    return NodeHealth(outcome.node, "unreachable", error=_bare_message(error))


def _bare_message(error: GridError) -> str:
    """The error without the node's name, which the row has already."""
    return f"{error.message} ({error.hint})" if error.hint else error.message
