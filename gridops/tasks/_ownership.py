"""One line instead of a traceback where another project has overwritten this package.

Imported before everything else of the tasks that imports from the rest of it.
"""

from __future__ import annotations

import sys

try:
    import gridops.ownership  # noqa: F401
except ImportError as exc:
    sys.stderr.write(f"gridops: {exc}\n")
    raise SystemExit(125) from None
