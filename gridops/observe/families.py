"""The metrics: their names, types, labels and buckets. docs/metrics.md describes them."""

from __future__ import annotations

from typing import Literal, NamedTuple

SUBMITTED = "grid_tasks_submitted_total"
COMPLETED = "grid_tasks_completed_total"
SYNCS = "grid_sync_operations_total"
RETRIES = "grid_retries_total"
DURATION = "grid_task_duration_seconds"
SELECTION_DURATION = "grid_node_selection_seconds"
SYNC_DURATION = "grid_sync_duration_seconds"
ACTIVE = "grid_active_tasks"
LAST_ATTEMPT = "grid_task_last_attempt_timestamp_seconds"
LAST_SUCCESS = "grid_task_last_success_timestamp_seconds"

INFINITE = "+Inf"
SUM = "sum"


class Family(NamedTuple):
    name: str
    kind: Literal["counter", "histogram", "gauge"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()

    def bucket(self, value: float) -> str:
        """The histogram bucket that a value is counted in."""
        return next((f"{limit:g}" for limit in self.buckets if value <= limit), INFINITE)


def _by_name(*families: Family) -> dict[str, Family]:
    return {family.name: family for family in families}


# What adds up over processes, in the store's table `totals`.
TOTALS = _by_name(
    Family(SUBMITTED, "counter", ("task_type",), "Tasks that were begun."),
    Family(COMPLETED, "counter", ("task_type", "status"), "Tasks that have ended."),
    Family(SYNCS, "counter", ("node", "status"), "Syncs of a tree to a node."),
    Family(RETRIES, "counter", ("reason",), "Attempts that failed and were made again."),
    Family(
        DURATION, "histogram", ("task_type",), "How long tasks took.",
        (0.1, 1, 5, 10, 30, 60, 300),
    ),
    Family(
        SELECTION_DURATION, "histogram", (), "How long choosing a node took.",
        (0.1, 0.5, 1, 2, 5),
    ),
    Family(
        SYNC_DURATION, "histogram", ("node",), "How long syncs took.",
        (0.5, 1, 2, 5, 10),
    ),
)  # fmt: skip

# Of which the newest value counts, in the store's table `stamps`.
STAMPS = _by_name(
    Family(LAST_ATTEMPT, "gauge", ("task_type",), "When such a task was last begun."),
    Family(LAST_SUCCESS, "gauge", ("task_type",), "When such a task last succeeded."),
)

ACTIVE_TASKS = Family(ACTIVE, "gauge", (), "Tasks under way now, of processes that live.")

# Of each node as it was last seen: the figure's name in `gridops.probe.figures`, and a factor.
NODES: dict[str, tuple[str, float, str]] = {
    "grid_node_probe_latency_seconds": ("latency_ms", 1e-3, "What a round trip to the node takes."),
    "grid_node_cpu_cores": ("cores", 1, "CPU cores."),
    "grid_node_cpu_busy_ratio": ("cpu_percent", 1e-2, "Busy share of all cores."),
    "grid_node_load1": ("load1", 1, "Load average over one minute."),
    "grid_node_load5": ("load5", 1, "Load average over five minutes."),
    "grid_node_load15": ("load15", 1, "Load average over fifteen minutes."),
    "grid_node_memory_size_bytes": ("memory_total_bytes", 1, "Memory."),
    "grid_node_memory_available_bytes": ("memory_available_bytes", 1, "Memory for new processes."),
    "grid_node_disk_size_bytes": ("disk_total_bytes", 1, "Size of the disk under remote_root."),
    "grid_node_disk_available_bytes": ("disk_available_bytes", 1, "What is free of it for us."),
    "grid_node_jobs_running": ("running", 1, "Durable runs that hold a slot."),
    "grid_node_jobs_queued": ("queued", 1, "Durable runs that wait for one."),
    "grid_node_job_slots": ("slots", 1, "How many durable runs the node takes at once."),
}
MIB = float(1 << 20)
GPUS: dict[str, tuple[str, float, str]] = {
    "grid_gpu_memory_size_bytes": ("memory_total_mib", MIB, "The GPU's memory."),
    "grid_gpu_memory_used_bytes": ("memory_used_mib", MIB, "How much of it is in use."),
    "grid_gpu_utilization_ratio": ("utilization_percent", 1e-2, "Share of time it was busy."),
    "grid_gpu_temperature_celsius": ("temperature_c", 1, "The GPU's temperature."),
}
