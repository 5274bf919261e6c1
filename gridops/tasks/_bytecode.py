"""Compiled modules are kept from here on: imported before every other module of the tasks.

Invoke turns that off for the sake of a tasks.py, and each call would compile all of ours again.
"""

from __future__ import annotations

import os
import sys

sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
