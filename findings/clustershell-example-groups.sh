#!/bin/sh
# Tool: ClusterShell 1.10.1, as pip installs it
# Expected: without any configuration there are no groups; a group that nobody defined, or a pattern
#   that nothing fits, is an error; and `n[1-3]!n*` takes all of n[1-3] away.
# Seen: the package brings groups for an example into the environment's etc/, and they are in force:
#   `@gpu` is four nodes that nobody has. An unknown group and a pattern that fits no node of the
#   example are the empty set without a word, and to exclude by a pattern excludes nothing.
# Output:
#   @gpu: example[156-159]
#   @nosuch: nothing
#   n[1-3]: n[1-3]
#   n*: nothing
#   n[1-3]!n*: n[1-3]

set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM
cd "$work" || exit 2
{ python3 -m venv venv &&
    venv/bin/pip install -q --disable-pip-version-check ClusterShell==1.10.1; } || exit 2
unset CLUSTERSHELL_CFGDIR
export HOME="$work" XDG_CONFIG_HOME="$work"

cat >try.py <<'END'
from ClusterShell.NodeSet import NodeSet

for text in ("@gpu", "@nosuch", "n[1-3]", "n*", "n[1-3]!n*"):
    print(f"{text}: {str(NodeSet(text)) or 'nothing'}")
END
venv/bin/python try.py | tee seen
[ "$(cat seen)" = "@gpu: example[156-159]
@nosuch: nothing
n[1-3]: n[1-3]
n*: nothing
n[1-3]!n*: n[1-3]" ]
