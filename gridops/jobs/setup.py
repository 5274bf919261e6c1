"""A node's `env_setup`: shell text of the inventory that must succeed before each command.

It runs in the shell that the command runs in, and may do there what it likes: leave the shell,
replace it, not even be shell text. So no exit status tells whether the command began. What does is
a file, the record, that this shell makes between the two; who started the shell looks for it.
"""

from __future__ import annotations

import shlex

BESIDE = '"${0%/*}/begun"'  # the record, in the directory of the script that the shell reads


def guarded(setup: str, record: str = BESIDE) -> str:
    """One line of shell text that guards a command by `setup`.

    The line runs `setup`, and goes on only where that succeeded. `record` is the shell word that
    names the record. It is read as a whole before `setup` runs, so that no alias or option of that
    one changes it, and `setup` is a text of its own, whose open quotes and here-documents end with
    it. attached.sh has its like.
    """
    go_on = f"case $? in 0) >|{record} ;; *) exit ;; esac || exit 125"
    return f"{{ eval {shlex.quote(setup)}; {go_on}; }}"
