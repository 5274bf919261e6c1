"""What metrics cost: recording, being scraped, and looking at the grid again and again."""

from __future__ import annotations

import gzip
import os
import re
import resource
import statistics
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

from bench.common import Claim, Measured, close_pool, inv
from bench.many import KEX
from bench.measure import Contender, Result, Sample, compare
from gridops.model import Cpu, Gpu, Jobs, Node, NodeHealth, Space
from gridops.observe.exporter import Exporter, Page, Request
from gridops.observe.negotiation import prefers_openmetrics
from gridops.observe.rows import Batch
from gridops.observe.scrape import Rounds, Scrape
from gridops.observe.store import Store
from gridops.probe.figures import record_of
from gridops.sandbox import Sandbox, Setup

RECORDINGS = 40  # pairs of runs: the difference is small against what a machine does by the way
NODES, GPUS, SCRAPES = 1000, 2, 20
ROUNDS, WARM = 500, 100  # rounds of probing, and those after which memory is held to stay
EVERY = 15.0  # seconds between two rounds in real life


def recording(work: Path) -> Measured:
    """The same run with recording and without, in turn."""
    inventory = work / "here.yaml"
    inventory.write_text("nodes: {here: {connection: local}}\n")
    words = inv("run", "--no-sync", "--cmd", "true", "--inventory", str(inventory))
    kept = {"GRIDOPS_STATE_DIR": str(work / "state")}
    result = compare(
        "a run on this machine, recorded and not",
        [
            Contender("not recorded", words, env={**kept, "GRIDOPS_METRICS": "off"}),
            Contender("recorded", words, env=kept),
        ],
        RECORDINGS,
    )
    # The lower quartile: what both take when the machine has nothing else to do.
    quartiles = {
        name: statistics.quantiles([sample.seconds for sample in samples])[0]
        for name, samples in result.samples.items()
    }
    cost = (quartiles["recorded"] - quartiles["not recorded"]) * 1000
    return result, [Claim("recording costs a task", cost, 10, "ms")]


def scraping(work: Path) -> Measured:
    """Scrapes of many nodes over HTTP; before every second one a process has added something."""
    store = Store(work / "scraped.db")
    batch = Batch()
    for number in range(NODES):
        batch.count("grid_sync_operations_total", f"node{number}", "success")
        for part in ("1", "sum"):
            batch.count("grid_sync_duration_seconds", f"node{number}", part=part)
    store.write(batch)
    scrape = Scrape(store)
    scrape.publish([record_of(busy_node(n), time.time()) for n in range(NODES)], ROUND)
    found: dict[str, list[Sample]] = {"nothing new": [], "new sums": []}
    with Exporter(("127.0.0.1", 0), {"/metrics": lambda request: page(scrape, request)}) as server:
        for _ in range(SCRAPES):
            more = Batch()
            more.count("grid_tasks_submitted_total", "run")
            store.write(more)
            found["new sums"].append(scraped(server.url))
            found["nothing new"].append(scraped(server.url))
    result = Result(f"a scrape of {NODES} nodes with {GPUS} GPUs each, all of them synced", found)
    return result, [
        Claim(name, result.median(name) * 1000, 100, "ms") for name in ("nothing new", "new sums")
    ]


ROUND = Rounds(1, 1.0, time.time(), True)


def page(scrape: Scrape, request: Request) -> Page:
    return Page(scrape.text(openmetrics=prefers_openmetrics(request.accept)))


def busy_node(number: int) -> NodeHealth:
    gpus = tuple(
        Gpu(index, f"GPU-{number}-{index}", "NVIDIA H200", 143771, 1000, 50.0, 60.0)
        for index in range(GPUS)
    )
    return NodeHealth(
        Node(f"node{number}", f"node{number}"), "healthy", 12.3, latency_ms=8.1,
        cpu=Cpu(64, 3.1, 2.8, 2.0, 4.8), memory=Space(540 << 30, 500 << 30, 7.4),
        disk=Space(900 << 30, 500 << 30, 44.4, "~/gridops"), gpus=gpus, jobs=Jobs(1, 2),
    )  # fmt: skip


def scraped(url: str) -> Sample:
    """One scrape as Prometheus makes it; this process is both ends of it."""
    headers = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
    request = urllib.request.Request(f"{url}metrics", headers=headers)
    cpu, began = time.process_time(), time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as answer:
        packed = answer.read()
    seconds = time.perf_counter() - began
    text = gzip.decompress(packed)
    if text.count(b"grid_node_up{") != NODES or not text.endswith(b"# EOF\n"):
        raise RuntimeError(f"{len(text)} bytes that are no exposition")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Sample(seconds, time.process_time() - cpu, peak)


def watching(work: Path, nodes: int) -> Measured:
    """An exporter of real nodes, whose rounds follow each other at once rather than every 15 s."""
    plain = {"shared": Setup(shell="/bin/sh")}
    environment = {**os.environ, "GRIDOPS_STATE_DIR": str(work / "watched")}
    with Sandbox.up(work / "watch", nodes, shared=True, options=KEX, setup=plain) as sandbox:
        words = ("metrics.serve", "--port", "0", "--every", "0.5")
        child = subprocess.Popen(
            inv(*words, "--inventory", str(sandbox.inventory)),
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        try:
            url = first_url(child)
            begin = figures(url, at_least=WARM)
            done = figures(url, at_least=ROUNDS)
        finally:
            child.terminate()
            child.wait(30)
        close_pool(sandbox.inventory)
    rounds = done["grid_exporter_rounds_total"] - begin["grid_exporter_rounds_total"]
    cpu = (done["process_cpu_seconds_total"] - begin["process_cpu_seconds_total"]) / rounds
    memory = [one["process_resident_memory_bytes"] / (1 << 20) for one in (begin, done)]
    taken = done["grid_exporter_round_duration_seconds"]
    result = Result(
        f"an exporter of {nodes} nodes: one round of {ROUNDS}",
        {"metrics.serve": [Sample(taken, cpu, memory[1])]},
    )
    return result, [
        Claim(f"share of a core at {EVERY:g} s", 100 * cpu / EVERY, 10, "%"),
        Claim(f"memory after {ROUNDS} rounds against {WARM}", memory[1] / memory[0], 1.05),
    ]


def first_url(child: subprocess.Popen[str]) -> str:
    said = ""
    while child.stderr and (line := child.stderr.readline()):
        said += line
        if found := re.search(r"http://\S+/", line):
            threading.Thread(target=child.stderr.read, daemon=True).start()
            return found[0]
    raise RuntimeError(f"metrics.serve ended: {said}")


def figures(url: str, at_least: int) -> dict[str, float]:
    """What the exporter says of itself, once it has made so many rounds."""
    while True:
        with urllib.request.urlopen(f"{url}metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        found = {
            line.split()[0]: float(line.split()[1])
            for line in lines
            if line.startswith(("grid_exporter_", "process_"))
        }
        if found["grid_exporter_rounds_total"] >= at_least:
            return found
        time.sleep(2)


def metrics(work: Path, nodes: int) -> list[Measured]:
    return [recording(work), scraping(work), watching(work, nodes)]
