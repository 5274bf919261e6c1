#!/usr/bin/env python3
"""Train a small neural network that tells two interleaved moons apart.

Needs Python 3.8 or later and nothing else. Prints a line an epoch; writes what it learned to
outputs/model.json and how it went to outputs/metrics.json.
"""

import argparse
import json
import math
import operator
import random
import socket
import sys
import time
from pathlib import Path


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


class Network:
    """Two inputs, one hidden layer of tanh units, one sigmoid output."""

    def __init__(self, hidden, rng):
        self.into = [[rng.gauss(0, 1), rng.gauss(0, 1), 0.0] for _ in range(hidden)]
        self.out = [rng.gauss(0, hidden**-0.5) for _ in range(hidden)]
        self.bias = 0.0

    def forward(self, x, y):
        """The hidden activations and the probability of label 1."""
        hidden = [math.tanh(a * x + b * y + c) for a, b, c in self.into]
        total = self.bias + sum(map(operator.mul, self.out, hidden))
        return hidden, 1 / (1 + math.exp(-max(-60.0, min(60.0, total))))

    def learn(self, x, y, label, rate):
        """One step of gradient descent on one point; returns its loss (cross entropy)."""
        hidden, guess = self.forward(x, y)
        error = guess - label
        for unit, h in enumerate(hidden):
            back = rate * error * self.out[unit] * (1 - h * h)
            weights = self.into[unit]
            weights[0] -= back * x
            weights[1] -= back * y
            weights[2] -= back
            self.out[unit] -= rate * error * h
        self.bias -= rate * error
        return -math.log(max(1e-12, guess if label else 1 - guess))

    def accuracy(self, points):
        right = sum((self.forward(x, y)[1] > 0.5) == bool(label) for x, y, label in points)
        return right / len(points)


def train(options):
    """Train as the options say; returns the network and one record an epoch."""
    rng = random.Random(options.seed)
    training = moons(options.points, 0.15, rng)
    held_out = moons(1000, 0.15, rng)
    network = Network(options.hidden, rng)
    history = []
    for epoch in range(1, options.epochs + 1):
        began = time.time()
        rng.shuffle(training)
        loss = sum(network.learn(x, y, label, options.lr) for x, y, label in training)
        record = {
            "epoch": epoch,
            "loss": round(loss / len(training), 4),
            "accuracy": round(network.accuracy(held_out), 4),
            "seconds": round(time.time() - began, 3),
        }
        history.append(record)
        print(
            f"epoch {epoch:3d}/{options.epochs}  loss {record['loss']:.4f}  "
            f"accuracy {record['accuracy']:.1%}  {record['seconds']:.2f} s",
            flush=True,
        )
    return network, history


def save(path, content):
    """Write JSON so that a reader never sees half of it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(content, indent=1))
    fresh.replace(path)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=10, help="default 10")
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate (default 0.05)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed, the same result")
    parser.add_argument("--hidden", type=int, default=16, help="hidden units (default 16)")
    parser.add_argument("--points", type=int, default=20000, help="training points (default 20000)")
    parser.add_argument("--out", type=Path, default="outputs", help="directory of the results")
    options = parser.parse_args()
    if min(options.epochs, options.hidden, options.points) < 1 or options.lr <= 0:
        parser.error("--epochs, --hidden, --points and --lr must be positive")
    return options


def main():
    options = arguments()
    print(
        f"training on {socket.gethostname()} with Python {sys.version.split()[0]}: "
        f"{options.points} points, {options.epochs} epochs, learning rate {options.lr}",
        flush=True,
    )
    network, history = train(options)
    options.out.mkdir(parents=True, exist_ok=True)
    save(options.out / "model.json", vars(network))
    accuracy = history[-1]["accuracy"]
    metrics = {"accuracy": accuracy, "epochs": options.epochs, "lr": options.lr,
               "seed": options.seed, "history": history}  # fmt: skip
    save(options.out / "metrics.json", metrics)
    print(f"wrote {options.out}/model.json and {options.out}/metrics.json", flush=True)


if __name__ == "__main__":
    main()
