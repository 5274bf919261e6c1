"""The head of every script that runs on a node; how a login's shell hands it to `sh`.

A login may put another shell in the place of the `sh` that we ask for, read some of what we send,
or export what changes a shell: a script begins only when it is whole and read by that `sh`, and
the first thing it does is to make the shell its own (preamble.sh).
"""

from __future__ import annotations

import os
import re
import shlex
from functools import cache

from gridops.errors import NodeError
from gridops.system import scripts

BEGIN = "gridops_begin=yes"  # what a script begins with
END_MARK = "#gridops-whole"  # what a script ends with
LOGIN_WORDS_LIMIT = 200  # characters of what a login said that a message quotes

_SWAPPED = "the login replaces sh by another shell; its login shell is $SHELL"
_TAKEN = "the login read part of the script that was sent to sh; its login shell is $SHELL"
_FILES = {
    "bash": "~/.bashrc",
    "zsh": "~/.zshenv",
    "fish": "~/.config/fish/config.fish",
    "tcsh": "~/.tcshrc or ~/.cshrc",
    "csh": "~/.cshrc",
}


@cache
def preamble(again: str) -> str:
    """Shell text that makes the shell ours; `again` is how a bash begins anew."""
    return f"gridops_again='{again}'\n{scripts.script('reach/preamble.sh')}"


def shield() -> str:
    """Shell text of the function `shield`: it puts away what the login exported for tools."""
    return scripts.script("reach/shield.sh")


def become() -> str:
    """Shell text of the function that becomes the user's command."""
    return scripts.script("reach/become.sh")


def error_mark(mark: str) -> str:
    """The marker of stderr. Where the login has merged the streams, it is no end of a prelude."""
    return f"{mark}-stderr"


def script_input(text: str, args: tuple[str, ...], mark: str, *, has_input: bool = True) -> bytes:
    """Input that makes a POSIX sh say its markers and run `text`.

    `has_input`: as `command_for` was told. There is a marker on each stream. That of
    stderr comes first: where the login has merged the streams, both are before the first word of
    `text`. Nothing of `text` is run unless the lines before it, and all of it, have arrived.
    """
    again = 'gridops_begin=${gridops_begin-} exec "$BASH" -p -s "$1"'
    if has_input:
        again = 'exec "$BASH" -p /dev/fd/3 "$1" 3<<GRIDOPS\n$s\nGRIDOPS\n'
    said = f"echo {error_mark(mark)} >&2; echo {mark}"
    return os.fsencode(
        f"{BEGIN}\n"
        f"case $1 in {mark}) ;; *) exec {_refusal(_SWAPPED)} ;; esac\n"
        f"{preamble(again)}"
        f"case ${{gridops_begin-}} in yes)\n{said}\n{with_args(text, args)}\n;;\n"
        f"*) exec {_refusal(_TAKEN)} ;; esac\n{END_MARK}"
    )


def with_args(text: str, args: tuple[str, ...]) -> str:
    """`text` preceded by the line that sets its positional arguments. The one place that quotes."""
    return f"set -- {shlex.join(args)}\n{text}" if args else f"set --\n{text}"


def command_for(script: bytes, mark: str, *, has_input: bool) -> str:
    """The login shell's command line that runs `script` from standard input.

    sh, fish and csh read it alike. Where more input follows the script, sh must not read ahead
    (dash does), so the script is taken off first: in one go, as it comes nearly always, and what
    was not there yet byte by byte. No function or program of the login takes part in that.
    """
    if not has_input:
        return f"exec sh -s {mark}"
    size = len(script)
    take = "$(unset -f dd echo; PATH=/usr/bin:/bin:$PATH; dd bs=%s count=%s 2>/dev/null; echo .)"
    rest = take % (1, f"$(({size + 1} - $(LC_ALL=C; echo ${{#s}})))")
    refuse = f"*) exec {_refusal(_TAKEN, nested=True)} ;; esac"
    is_begun = f'case "{BEGIN}" in "${{s%.}}"*) ;; {refuse}'
    return (
        f"exec sh -c 's={take % (size, 1)};"
        f' case $s in "{BEGIN}"*) ;; *) {is_begun} ;; esac;'
        f' case $s in *"{END_MARK}".) ;; *) s=${{s%.}}{rest} ;; esac;'
        f' case $s in "{BEGIN}"*"{END_MARK}".) s=${{s%.}}; eval "$s" ;; {refuse}\' sh {mark}'
    )


def no_shell(status: int, stdout: bytes, stderr: bytes, node: str | None = None) -> NodeError:
    """The error for a login that ended before the script's first word; it had said this."""
    said = first_words(stderr) or first_words(stdout)
    return NodeError(
        f"could not start a POSIX shell (status {status})" + (f": {said!r}" if said else ""),
        node=node,
        hint=f"the login must run the command it is given: see {login_files(said)} there",
    )


def first_words(said: bytes) -> str:
    """The first words of a login, on one line."""
    return " ".join(said.decode(errors="replace").split())[:LOGIN_WORDS_LIMIT]


def login_files(said: str) -> str:
    """The files that a login reads: of the shell that `said` names, or of all."""
    shell = re.search(r" is \S*/(\w+)$", said)
    known = _FILES.get(shell[1]) if shell else None
    return known or "~/.bashrc, ~/.zshenv, ~/.config/fish/config.fish, ~/.cshrc and the like"


def _refusal(reason: str, *, nested: bool = False) -> str:
    """The words of a command that says why it ends; `nested`: within single quotes."""
    if nested:
        return f'sh -c "echo \\"gridops: {reason}\\" >&2; exit 125"'.replace("$", "\\$")
    return f"sh -c 'echo \"gridops: {reason}\" >&2; exit 125'"
