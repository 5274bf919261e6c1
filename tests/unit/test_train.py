"""examples/train: what the demo and the README run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = Path(__file__).parents[2] / "examples" / "train" / "train.py"
SMALL = ("--points", "400", "--epochs", "3")


def train(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TRAIN), *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_prints_a_line_an_epoch_and_writes_its_results(tmp_path):
    done = train(tmp_path, *SMALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch ") == 3
    metrics = json.loads((tmp_path / "outputs" / "metrics.json").read_text())
    assert [record["epoch"] for record in metrics["history"]] == [1, 2, 3]
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == [
        "metrics.json",
        "model.json",
    ]


def test_it_really_learns(tmp_path):
    train(tmp_path, "--points", "2000", "--epochs", "5")
    metrics = json.loads((tmp_path / "outputs" / "metrics.json").read_text())
    assert metrics["accuracy"] > 0.95
    assert metrics["history"][-1]["loss"] < metrics["history"][0]["loss"]


def test_the_same_seed_gives_the_same_model(tmp_path):
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        train(tmp_path, *SMALL, "--seed", seed, "--out", out)
    models = [(tmp_path / out / "model.json").read_text() for out in "abc"]
    assert models[0] == models[1] != models[2]


@pytest.mark.parametrize("words", [("--epochs", "0"), ("--lr", "0"), ("--lr", "x")])
def test_what_makes_no_sense_is_refused(tmp_path, words):
    done = train(tmp_path, *words)
    assert done.returncode == 2
    assert not (tmp_path / "outputs").exists()
