"""gridops built and installed as its users do it: `from wheels import …`."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
# The libraries are those that run the tests.
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_COMPILE": "1"}


def run(
    *words: str | Path, timeout: float = 250, **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, capture_output=True, text=True, timeout=timeout, check=False, **options
    )


def make_dist(into: Path) -> Path:
    """Put the sdist and the wheel of `make dist` into a directory; both must pass twine's check."""
    environment = {**os.environ, "PYTHON": sys.executable, "COLUMNS": "200"}
    done = run(REPOSITORY / ".ci/dist", into, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2, done.stdout
    return into


class Environment:
    """A virtual environment with pip and what gridops needs, but not gridops.

    Pip is a link to the one that runs the tests, which takes a tenth of the time of installing it.
    """

    def __init__(self, path: Path) -> None:
        venv.create(path, symlinks=True)
        self.bin = path / "bin"
        libraries = Path(sysconfig.get_path("purelib"))
        own = sysconfig.get_path("purelib", vars={"base": str(path)})
        (Path(own) / "pip").symlink_to(libraries / "pip")
        pip = self.bin / "pip"
        pip.write_text(f'#!/bin/sh\nexec "{self.bin}/python" -m pip "$@"\n')
        pip.chmod(0o755)
        self._env = {**os.environ, "PYTHONPATH": str(libraries)}

    def pip(self, *words: str | Path) -> None:
        done = run(self.bin / "pip", *words, "-q", env={**os.environ, **OFFLINE})
        assert done.returncode == 0, done.stderr

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run(self.bin / words[0], *words[1:], env=self._env, cwd=self.bin)
