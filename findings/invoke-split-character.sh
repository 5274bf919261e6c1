#!/bin/sh
# Tool: invoke 2.2.1 (Fabric's runners are of it)
# Expected: `result.stdout` is the command's output, decoded.
# Seen: what arrives is decoded read by read: a character of several bytes that a program writes in
#   two goes, or that lies across the 1000 bytes of one read, becomes two replacement characters, in
#   `stdout` and in what is printed, though the output is valid UTF-8.
# Output: for one U+00E9, printed in UTF-8 as 1 write and as 2 writes, and as bytes 1000 and 1001
#   in one write: as it is
#   in two writes: two U+FFFD
#   after 999 letters, in one write: two U+FFFD

set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM
cd "$work" || exit 2
{ python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check invoke==2.2.1; } || exit 2

cat >try.py <<'END'
from invoke import Context

def show(label, command):
    got = Context().run(command, hide=True, in_stream=False, encoding="utf-8").stdout.lstrip("a")
    print(f"{label}: { {chr(0xE9): 'as it is', chr(0xFFFD) * 2: 'two U+FFFD'}.get(got, repr(got)) }")

show("in one write", r"printf '\303\251'")
show("in two writes", r"printf '\303'; sleep 1; printf '\251'")
show("after 999 letters, in one write", r"printf '%0999d\303\251' 0 | tr 0 a")
END
venv/bin/python try.py | tee seen
[ "$(cat seen)" = "in one write: as it is
in two writes: two U+FFFD
after 999 letters, in one write: two U+FFFD" ]
