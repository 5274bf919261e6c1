"""State of the cluster, from its dashboard. Runs on the head, with its Python alone.

    wait PORT CLUSTER SECONDS OLD NAME...   until the cluster counts all these nodes alive
    status PORT CLUSTER SECONDS

OLD are ids (ID,ID) that do not count: the cluster learns late that a node has ended, and knows it
for some seconds beside the new one of the same name.

Prints one JSON document: nodes (name, address, id, alive, head, total, ports), with `status` also
used, demand and jobs. Through Ray's dashboard on 127.0.0.1, whose REST API is at
https://docs.ray.io/en/latest/ray-observability/reference/api.html; the rest is what the dashboard's
own page asks for.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

JOIN_INTERVAL = 0.1  # seconds
DASHBOARD_TIMEOUT = 5.0  # seconds that one answer may take
MOST_JOBS = 20


class Dashboard:
    def __init__(self, port: str, cluster: str) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.token = (Path.home() / ".gridops/ray" / cluster / "token").read_text().strip()

    def get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(self.base + path, headers=headers)
        # Not through a proxy that the environment names.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=DASHBOARD_TIMEOUT) as answer:
            return json.load(answer)

    def nodes(self) -> list[dict[str, Any]]:
        """All nodes that the cluster knows, the dead ones too."""
        told = self.get("/api/v0/nodes?limit=10000")["data"]["result"]["result"]
        return [
            {
                "id": node["node_id"],
                "name": node["node_name"],
                "address": node["node_ip"],
                "head": bool(node["is_head_node"]),
                "alive": node["state"] == "ALIVE",
                "why": node.get("state_message") or "",
                "total": node.get("resources_total") or {},
            }
            for node in told
        ]

    def ports(self) -> dict[str, list[int]]:
        """Ports of each live node's raylet that others use, by node id."""
        summary = self.get("/nodes?view=summary")["data"]["summary"]
        raylets = [node["raylet"] for node in summary if node["raylet"].get("state") == "ALIVE"]
        return {
            one["nodeId"]: [int(one["nodeManagerPort"]), int(one["objectManagerPort"])]
            for one in raylets
        }

    def load(self) -> tuple[dict[str, dict[str, float]], list[str]]:
        """Used resources by node id, and the demand not yet placed."""
        told = self.get("/api/cluster_status")["data"]["clusterStatus"] or {}
        report = told.get("loadMetricsReport") or {}
        used = {
            node: {name: pair[0] for name, pair in usage.items()}
            for node, usage in (report.get("usageByNode") or {}).items()
        }
        waiting = [*(report.get("resourceDemand") or []), *(report.get("pgDemand") or [])]
        return used, [in_words(*pair[:2]) for pair in waiting]

    def jobs(self) -> list[dict[str, Any]]:
        told = self.get("/api/jobs/")
        running = [job for job in told if job.get("status") in ("RUNNING", "PENDING")]
        return [
            {
                "id": job.get("submission_id") or job.get("job_id"),
                "status": job["status"],
                "entrypoint": str(job.get("entrypoint") or "")[:200],
            }
            for job in running[:MOST_JOBS]
        ]


def in_words(shape: Any, count: Any) -> str:
    """Format a demand and its count: `3 x CPU 1, GPU 1`."""
    if not isinstance(shape, dict):
        return f"{count} x {shape}"
    wanted = shape.get("bundles") or shape
    if isinstance(wanted, dict):
        wanted = ", ".join(f"{name} {amount:g}" for name, amount in wanted.items())
    return f"{count} x {wanted}"


def patiently(get: Any, end: float) -> Any:
    """Call `get` until it succeeds; its last error is raised after `end`.

    The dashboard takes a moment until it answers everything.
    """
    while True:
        try:
            return get()
        except (OSError, ValueError, KeyError, TypeError):
            if time.monotonic() > end:
                raise
            time.sleep(JOIN_INTERVAL)


def wait(dashboard: Dashboard, end: float, old: str, *names: str) -> dict[str, Any]:
    passed_over = old.split(",")
    while True:
        nodes = [n for n in patiently(dashboard.nodes, end) if n["id"] not in passed_over]
        here = {node["name"] for node in nodes if node["alive"]}
        if here.issuperset(names) or time.monotonic() > end:
            break
        time.sleep(JOIN_INTERVAL)
    return {"nodes": nodes, "ports": patiently(dashboard.ports, end + DASHBOARD_TIMEOUT)}


def status(dashboard: Dashboard, end: float) -> dict[str, Any]:
    nodes = patiently(dashboard.nodes, end)
    used, demand = patiently(dashboard.load, end)
    return {
        "nodes": nodes,
        "used": used,
        "demand": demand,
        "jobs": patiently(dashboard.jobs, end),
    }


ASK_VERBS = {"wait": wait, "status": status}

if __name__ == "__main__":
    verb, port, cluster, seconds, *words = sys.argv[1:]
    end = time.monotonic() + float(seconds)
    print(json.dumps(ASK_VERBS[verb](Dashboard(port, cluster), end, *words)))  # type: ignore[operator]
