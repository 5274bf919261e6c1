#!/bin/sh
# Tool: invoke 2.2.1
# Expected: `run(..., timeout=1)` returns or raises after about a second.
# Seen: the time-out ends the shell alone. A child that it started in the background lives on with
#   the output pipes, and `run` waits for those: it raises CommandTimedOut, which says "within 1
#   seconds", only when the child has ended by itself.
# Output: of c.run("sleep 5 & sleep 60", timeout=1) and of the same in the foreground
#   with a child in the background: CommandTimedOut, after 5 s
#   a shell that execs its command: CommandTimedOut, after 1 s

set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM
cd "$work" || exit 2
{ python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check invoke==2.2.1; } || exit 2

cat >try.py <<'END'
import time
from invoke import Context

def took(label, command):
    began = time.monotonic()
    try:
        Context().run(command, timeout=1, hide=True, in_stream=False)
        how = "no error"
    except Exception as error:
        how = type(error).__name__
    seconds = time.monotonic() - began
    print(f"{label}: {how}, after {'1 s' if seconds < 4 else '5 s'}")

took("with a child in the background", "sleep 5 & sleep 60")
took("a shell that execs its command", "exec sleep 60")
END
venv/bin/python try.py | tee seen
[ "$(cat seen)" = "with a child in the background: CommandTimedOut, after 5 s
a shell that execs its command: CommandTimedOut, after 1 s" ]
