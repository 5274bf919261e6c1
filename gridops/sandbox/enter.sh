#!/bin/sh
# What sshd runs for every session of a sandbox node: it gives the session the node's own home,
# shell and PATH, then does what was asked for. $1 is the directory of the node's sshd.

dir=$1
# shellcheck source=/dev/null
. "$dir/env" # NODE_SHELL, and whatever the node's sessions are to have in their environment

if [ -d "$dir/homes" ]; then # one sshd for many nodes: the address tells which one was called
    # shellcheck disable=SC2086 # four words: client address and port, server address and port
    set -- $SSH_CONNECTION
    HOME=$dir/homes/$3
else
    HOME=$dir/home
fi
SHELL=${NODE_SHELL%% *}
export HOME SHELL
cd "$HOME" || exit 1

if [ -n "${SSH_ORIGINAL_COMMAND+x}" ]; then
    set -- -c "$SSH_ORIGINAL_COMMAND"
else
    set -- -l
fi
shell=$NODE_SHELL
unset SSH_ORIGINAL_COMMAND NODE_SHELL SHLVL OLDPWD
# shellcheck disable=SC2086 # may be two words: busybox sh
exec $shell "$@"
