"""Scripts for nodes, read in one place."""

from __future__ import annotations

import ast
from pathlib import Path

import gridops
from gridops.system.scripts import script, source

PACKAGE = Path(gridops.__file__).parent
READERS = {"system/scripts.py", "system/ownership.py", "render/page/__init__.py"}  # the last: HTML
MODULES = {"importlib.resources", "importlib_resources", "pkgutil"}


def test_comments_stay_at_home():
    text = (PACKAGE / "jobs/job.sh").read_text()
    sent = script("jobs/job.sh")
    kept = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert [line for line in sent.splitlines() if line] == kept
    assert len(sent) < len(text)


def test_a_source_is_whole():
    path = next(PACKAGE.glob("ray/*_ask.py"))
    assert source(f"ray/{path.name}") == path.read_text()


def test_no_other_module_looks_for_files_beside_itself():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = {alias.name for alias in getattr(node, "names", ()) if hasattr(alias, "name")}
            module = getattr(node, "module", None) or ""
            names |= {f"{module}.{name}" for name in names} | {module}
            if getattr(node, "id", "") == "__file__" or names & MODULES:
                found.add(str(path.relative_to(PACKAGE)))
    assert found == READERS
