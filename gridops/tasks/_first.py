"""Interpreter set-up and ownership check, imported before every other tasks module.

Compiled modules are kept from here on: Invoke turns that off for the sake of a tasks.py, and each
call would compile all of ours again. And where another project has overwritten this package, that
is said in one line, 125, before anything of it is used (gridops.system.ownership).
"""

from __future__ import annotations

import os
import sys

sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))

if getattr(sys.modules["gridops"], "DISTRIBUTION", "") != "gridops-ssh":
    try:
        import gridops.system.ownership  # noqa: F401
    except ImportError as exc:
        sys.stderr.write(f"gridops: {exc}\n")
        raise SystemExit(125) from None
