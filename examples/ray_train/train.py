#!/usr/bin/env python3
"""Train one small neural network on all nodes of a Ray cluster at once, data-parallel.

One worker a node, each with points of its own of two interleaved moons. In every step each worker
computes the gradient on its next batch, and their mean moves the network that all of them share.
Needs Ray and nothing else. Prints where it runs and a line an epoch. --out: the network.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import ray

UNIT = 4  # numbers that make a hidden unit: two weights in, their bias, the weight out


def moons(count, noise, rng):
    """Points of two half circles that reach into each other: [(x, y, label 0 or 1)]."""
    points = []
    for number in range(count):
        label = number % 2
        angle = math.pi * rng.random()
        x = math.cos(angle) if label == 0 else 1 - math.cos(angle)
        y = math.sin(angle) if label == 0 else 0.5 - math.sin(angle)
        points.append((x + rng.gauss(0, noise), y + rng.gauss(0, noise), label))
    return points


def fresh(hidden, rng):
    """A network of tanh units as one list of numbers: UNIT for each unit, then the last bias."""
    units = [(rng.gauss(0, 1), rng.gauss(0, 1), 0.0, rng.gauss(0, 0.3)) for _ in range(hidden)]
    return [number for unit in units for number in unit] + [0.0]


def forward(network, x, y):
    """The hidden activations and the probability of label 1."""
    starts = range(0, len(network) - 1, UNIT)
    hidden = [math.tanh(network[i] * x + network[i + 1] * y + network[i + 2]) for i in starts]
    total = network[-1] + sum(h * network[i + 3] for h, i in zip(hidden, starts, strict=True))
    return hidden, 1 / (1 + math.exp(-max(-60.0, min(60.0, total))))


def gradient(network, points):
    """The mean gradient of the loss (cross entropy) over the points, and the mean loss."""
    total, loss = [0.0] * len(network), 0.0
    for x, y, label in points:
        hidden, guess = forward(network, x, y)
        error = guess - label
        for unit, h in enumerate(hidden):
            i = unit * UNIT
            back = error * network[i + 3] * (1 - h * h)
            total[i] += back * x
            total[i + 1] += back * y
            total[i + 2] += back
            total[i + 3] += error * h
        total[-1] += error
        loss -= math.log(max(1e-12, guess if label else 1 - guess))
    return [number / len(points) for number in total], loss / len(points)


@ray.remote(num_cpus=1)
class Worker:
    """One node's share of the points."""

    def __init__(self, rank, points, batch):
        rng = random.Random(1000 + rank)
        self.points = moons(points, 0.15, rng)
        rng.shuffle(self.points)
        self.batch = batch
        self.at = 0

    def where(self):
        return ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address()

    def step(self, network):
        batch = self.points[self.at : self.at + self.batch]
        self.at = (self.at + self.batch) % len(self.points)
        return gradient(network, batch)


def hire(options):
    """The workers, spread over the nodes, and the addresses of those."""
    count = options.workers or sum(
        1 for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
    )
    spread = Worker.options(scheduling_strategy="SPREAD")
    workers = [spread.remote(rank, options.points, options.batch) for rank in range(count)]
    waiting = [worker.where.remote() for worker in workers]
    there, missing = ray.wait(waiting, num_returns=count, timeout=options.patience)
    if missing:
        raise SystemExit(f"only {len(there)} of {count} workers found a free CPU: --workers")
    for rank, (_, address) in enumerate(ray.get(waiting)):
        print(f"worker {rank} on {address}", flush=True)
    return workers, {node for node, _ in ray.get(waiting)}


def train(options, workers):
    rng = random.Random(options.seed)
    network, held_out = fresh(options.hidden, rng), moons(1000, 0.15, rng)
    for epoch in range(1, options.epochs + 1):
        began, losses = time.time(), []
        for _ in range(max(1, options.points // options.batch)):
            shared = ray.put(network)
            found = ray.get([worker.step.remote(shared) for worker in workers])
            losses += [loss for _, loss in found]
            rate = options.lr / len(workers)
            sums = map(sum, zip(*(one for one, _ in found), strict=True))
            network = [number - rate * total for number, total in zip(network, sums, strict=True)]
        right = sum((forward(network, x, y)[1] > 0.5) == bool(label) for x, y, label in held_out)
        print(
            f"epoch {epoch:3d}/{options.epochs}  loss {sum(losses) / len(losses):.4f}  "
            f"accuracy {right / len(held_out):.1%}  {time.time() - began:.2f} s",
            flush=True,
        )
    return network


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=10, help="default 10")
    parser.add_argument("--lr", type=float, default=1.0, help="learning rate (default 1.0)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed, the same start")
    parser.add_argument("--hidden", type=int, default=16, help="hidden units (default 16)")
    parser.add_argument("--points", type=int, default=4000, help="a worker (default 4000)")
    parser.add_argument("--batch", type=int, default=100, help="points a step (default 100)")
    parser.add_argument("--workers", type=int, default=0, help="default: one a node")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for CPUs")
    parser.add_argument("--out", type=Path, help="write the network to this file")
    options = parser.parse_args()
    numbers = (options.epochs, options.hidden, options.points, options.batch)
    if min(numbers) < 1 or options.lr <= 0 or options.workers < 0:
        parser.error("--epochs, --hidden, --points, --batch and --lr must be positive")
    return options


def main():
    options = arguments()
    ray.init(log_to_driver=False, logging_level="WARNING")
    workers, nodes = hire(options)
    network = train(options, workers)
    print(f"trained by {len(workers)} workers on {len(nodes)} nodes", flush=True)
    if options.out:
        options.out.write_text(json.dumps(network))


if __name__ == "__main__":
    main()
