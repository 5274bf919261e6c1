#!/bin/sh
# Tool: setuptools 80.9.0, with pip 25.3
# Expected: a wheel holds the files of the source tree that it was built from.
# Seen: a module that was deleted since the last build of the same tree is in the new wheel as well:
#   `pip wheel .` builds in the tree, leaves `build/lib` there, and the next build adds to it.
# Output: unzip -l of the second wheel, built after `rm pkg/old.py`, lists
#   pkg/__init__.py
#   pkg/old.py

set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM
cd "$work" || exit 2
{ python3 -m venv venv && venv/bin/pip install -q pip==25.3 setuptools==80.9.0; } || exit 2

mkdir -p tree/pkg
touch tree/pkg/__init__.py tree/pkg/old.py
cat >tree/pyproject.toml <<'END'
[build-system]
requires = ["setuptools==80.9.0"]
build-backend = "setuptools.build_meta"
[project]
name = "pkg"
version = "1"
[tool.setuptools]
packages = ["pkg"]
END
wheel() { venv/bin/pip wheel -q --no-build-isolation --no-deps -w "$1" ./tree; }
wheel first || exit 1
rm tree/pkg/old.py
wheel second || exit 1

names=$(venv/bin/python -m zipfile -l second/*.whl | sed -n 's/^\(pkg\/[^ ]*\) .*/\1/p')
printf '%s\n' "$names"
[ "$names" = "pkg/__init__.py
pkg/old.py" ]
