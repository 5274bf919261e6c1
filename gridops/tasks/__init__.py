"""All tasks as one invoke namespace, `ns`.

Your own tasks.py gets them with `from gridops.tasks import ns` and may add to it.
"""

from __future__ import annotations

from invoke import Collection

from gridops.tasks import (
    _first,  # see there
    cluster,
    cluster_jobs,
    health,
    history,
    inventory,
    jobs,
    metrics,
    pool,
    report,
    run,
    sandbox,
)

ns = Collection(health.health, health.best, run.run, run.exec_, run.sync, inventory.trust)
ns.add_task(history.history)
ns.add_task(report.report)
ns.add_collection(Collection("inventory", inventory.check, inventory.list_, inventory.schema))
ns.add_collection(
    Collection(
        "jobs",
        jobs.list_,
        jobs.logs,
        jobs.wait,
        jobs.fetch,
        jobs.kill,
        jobs.show_,
        jobs.prune,
    )
)
ns.add_collection(Collection("metrics", metrics.show_, metrics.serve, metrics.push))
ns.add_collection(
    Collection(
        "cluster",
        cluster.install,
        cluster.start,
        cluster.stop,
        cluster.status,
        cluster_jobs.submit,
        cluster_jobs.jobs_,
        cluster_jobs.logs,
        cluster_jobs.stop_job,
        cluster_jobs.dashboard,
    )
)
ns.add_collection(Collection("pool", pool.open_, pool.close, pool.status))
ns.add_collection(Collection("sandbox", sandbox.up, sandbox.down, sandbox.status))

__all__ = ["_first", "ns"]
