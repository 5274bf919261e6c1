#!/bin/sh
# gridops in a minute: three real sshd nodes on this machine, probed, ranked, synced to, and a
# training run on the best. Leaves nothing behind.

set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
export PATH
command -v inv >/dev/null || {
    echo "gridops is not installed here; \`make demo\` does that" >&2
    exit 1
}

# All of the demo's traces are in one directory: nodes, connections, history.
work=$(mktemp -d /tmp/gridops-demo.XXXXXX)
GRIDOPS_RUNTIME_DIR=$work/run
GRIDOPS_INVENTORY=$work/nodes/inventory.yaml
XDG_STATE_HOME=$work/state
export GRIDOPS_RUNTIME_DIR GRIDOPS_INVENTORY XDG_STATE_HOME

clean_up() {
    trap - EXIT
    inv pool.close >/dev/null 2>&1 || true
    inv sandbox.down --dir "$work/nodes" || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

title() { printf '\n# %s\n' "$*"; }

step() {
    printf '$ inv'
    for word in "$@"; do
        case $word in
        *" "*) printf ' "%s"' "$word" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
    printf '\n'
    inv "$@" </dev/null
}

title "Three real sshd nodes, as yourself, on loopback ports"
step sandbox.up --nodes 3 --dir "$work/nodes"

title "All of them probed in parallel"
step health || {
    [ $? = 1 ]
    echo "(exit status 1: a node is not healthy; they are all this machine, which is busy)"
}

title "Which is the best, and why"
step best --explain

cd examples/train
title "This project, brought to the nodes (again: only what changed)"
step sync
step sync

title "A training run on the best node, its output as it comes"
step run --cmd "python3 train.py --epochs 5"

title "A run that needs nobody here: left with its id, and come back to"
step run --detach --cmd "python3 train.py --epochs 3"
step jobs.logs @last --follow

title "The same command everywhere, identical answers folded"
step exec --cmd "uname -s"

cat <<'END'

# It works. Next:
#   . .venv/bin/activate                 then `inv --list` shows all tasks
#   inv sandbox.up --nodes 3             nodes to play with; `inv sandbox.down` ends them
#   inventories/example.yaml             every key of an inventory, explained
#   inv health --inventory FILE          your own machines: any that `ssh NAME` reaches

# Taking the demo down
END
