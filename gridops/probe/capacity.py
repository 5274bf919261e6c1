"""Room for a run on a node: a free slot, and the GPUs that it needs.

The rules are those by which the node itself gives them away, see gridops/jobs/lease.sh and gpu.sh.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gridops.model import Gpu, Jobs, NodeHealth

Fits = Literal["now", "later", "never"]
ORDER: tuple[Fits, ...] = ("now", "later", "never")


def fit(health: NodeHealth, gpus: int = 0) -> Fits:
    """Tell when a run that needs so many GPUs would begin there.

    "now", or "later" where it would have to wait; "never" where the node has fewer GPUs, and
    certainly so: not where they could not be read.
    """
    there = usable(health.gpus)
    if len(there) < gpus:
        return "later" if health.gpu_error or health.state == "unreachable" else "never"
    if health.state == "unreachable" or (health.jobs and health.jobs.full):
        return "later"
    return "now" if _free(there) >= gpus else "later"


def usable(gpus: Sequence[Gpu]) -> Sequence[Gpu]:
    """The GPUs that runs are given: AMD's only where there is none of NVIDIA's."""
    return [gpu for gpu in gpus if gpu.vendor == "nvidia"] or gpus


def _free(gpus: Sequence[Gpu]) -> int:
    return sum(gpu.free for gpu in gpus)


def explain(health: NodeHealth, gpus: int) -> list[str]:
    """The node's slots and GPUs in words, as far as they matter."""
    said = []
    there = usable(health.gpus)
    many, needed = len(there), f"{gpus} {'is' if gpus == 1 else 'are'} needed"
    if many >= gpus > 0:
        said.append(f"{_free(there)} of {many} GPU{'s' * (many != 1)} free, {needed}")
    elif gpus and not health.gpu_error:  # else its reasons say enough
        said.append(f"has {many or 'no'} GPU{'s' * (many > 1)}, {needed}")
    if health.jobs and (health.jobs.running or health.jobs.queued):
        said.append(slots(health.jobs))
    return said


def slots(jobs: Jobs) -> str:
    """Slots taken and runs that wait, in words: `1 of 2 slots taken, 3 runs wait`."""
    taken = f"{jobs.running} of {jobs.slots} slots taken"
    waiting = f", {jobs.queued} {'run waits' if jobs.queued == 1 else 'runs wait'}"
    return taken + waiting if jobs.queued else taken
