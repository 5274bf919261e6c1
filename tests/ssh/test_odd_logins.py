"""Logins that change the shell under our feet: bash, zsh, fish and tcsh, by real sshd.

Each start-up file here is read by the account's login shell before it runs what we send. Every kind
of task works all the same, or says in one line that the login keeps it from running, and runs
nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import Done, Tell
from support.jobs import pids_with

from gridops.sandbox import Sandbox, Setup

FILES = {
    "bash": ".bashrc",
    "zsh": ".zshenv",
    "fish": ".config/fish/config.fish",
    "tcsh": ".tcshrc",
    "posix": ".bashrc",  # bash too, where `sh` is bash as well
}

TOOLS = "~/odd-tools"  # holds programs that are not what their names say
OPTIONS = "allexport:errexit:noclobber:noglob:nounset:verbose:xtrace"
CHANGED = {
    "CDPATH": "/usr:/",
    "IFS": "abc/",
    "PS4": "$(touch ran)+ ",
    "GREP_OPTIONS": "--color=always",
    "LS_COLORS": "broken",
    "TMPDIR": "/nonexistent",
    "POSIXLY_CORRECT": "1",
    "QUOTING_STYLE": "shell-always",
    "TMOUT": "1",
    "GLOBIGNORE": "*",
    "BLOCK_SIZE": "1",
    "ENV": "/nonexistent",
}
# Names that our scripts use as well.
NAMES = ("id", "host", "boot", "base", "self", "mark", "timeout", "wait", "slots", "dir", "command")
LOCALES = {"LANG": "tr_TR.ISO-8859-9", "LC_ALL": "xx_XX.bogus", "LC_NUMERIC": "de_DE.UTF-8"}
SHOW = "; ".join(f'printf "%s\\n" "${{{name}-unset}}"' for name in ("ODD", *NAMES))


def exports(values: dict[str, str]) -> dict[str, str]:
    """The start-up file of each shell that exports `values`."""
    bash = "".join(f"export {name}='{value}'\n" for name, value in values.items())
    fish = "".join(f"set -gx {name} '{value}'\n" for name, value in values.items())
    tcsh = "".join(f"setenv {name} '{value}'\n" for name, value in values.items())
    return {"bash": bash, "zsh": bash, "fish": fish, "tcsh": tcsh}


def same(text: str) -> dict[str, str]:
    return dict.fromkeys(("bash", "zsh", "fish", "tcsh"), text)


LOGINS: dict[str, dict[str, str]] = {
    "prints banners": same("echo 'Welcome to the grid'\n/bin/sh -c 'echo warned >&2'\n"),
    "prints without a line's end": same("printf 'loading %s... ' site\n"),
    "sleeps": same("sleep 0.5\n"),
    "merges the streams": {
        "bash": "exec 2>&1\n",
        "zsh": "exec 2>&1\n",
        "fish": "echo merged >&2\n",
        "tcsh": "/bin/sh -c 'echo merged >&2'\n",
    },
    "ignores signals": {
        "bash": "trap '' TERM INT PIPE HUP CHLD USR1\n",
        "zsh": "trap '' TERM INT PIPE HUP USR1\n",
        "fish": "trap '' TERM INT HUP\n",
        "tcsh": "onintr -\n",
    },
    "exports shell options": {
        **exports({"SHELLOPTS": OPTIONS, "BASHOPTS": "failglob:dotglob"}),
        "bash": "set -a -C -u -f\nexport SHELLOPTS\nshopt -s failglob dotglob\nexport BASHOPTS\n",
    },
    "exports functions": {
        **exports({"BASH_ENV": "/nonexistent"}),
        "bash": "for f in stat sleep cd read test rm ln sed grep dd head tr command; do\n"
        "eval \"$f() { :; }\"; export -f $f; done\nmine() { printf 'mine\\n'; }; export -f mine\n",
    },
    "changes what tools and shells do": exports(CHANGED),
    "has odd locales": exports(LOCALES),
    "exports names of ours": exports({name: f"its {name}" for name in NAMES}),
    "has other programs first in PATH": {
        **same(f'export PATH="{TOOLS}:$PATH"\n'.replace("~", "$HOME")),
        "fish": "set -gx PATH $HOME/odd-tools $PATH\n",
        "tcsh": 'setenv PATH "$HOME/odd-tools:$PATH"\n',
    },
    "has an umask for nobody": same("umask 0777\n"),
    "sets the terminal": same("stty erase '^H' -ixon\n"),
    "is elsewhere": same("cd /usr/lib\n"),
    "limits its processes": {
        **same("ulimit -S -n 64\nulimit -S -c 0\n"),
        "tcsh": "limit descriptors 64\nlimit coredumpsize 0\n",
    },
    "sets options of its own": {
        "bash": "set -eu\nset -o pipefail\nset -x\nshopt -s nullglob extglob expand_aliases\n"
        "alias exec=echo\n".replace("alias exec=echo\n", ""),
        "zsh": "setopt ERR_EXIT NO_UNSET XTRACE SH_WORD_SPLIT NULL_GLOB\n",
        "fish": "set -g fish_trace 1\nset -g fish_features all\n",
        "tcsh": "set echo\nset verbose\nset noglob\nset nonomatch\nalias rm 'rm -i'\n",
    },
}

STUCK = ("becomes fish", "takes all our words")  # nothing is said before the end of our words
LOUD = ("prints banners", "prints without a line's end")

CUT = {  # nothing can be run there
    "becomes zsh": same("exec zsh\n"),
    "becomes bash": same("exec bash\n"),
    "becomes fish": same("exec fish\n"),
    "becomes tcsh": {**same("exec tcsh -f\n")},
    "is closed": {
        **same("echo 'down for maintenance'\nexit 0\n"),
        "fish": "echo 'down for maintenance'\nexec true\n",
        "tcsh": "echo 'down for maintenance'\nexec true\n",
    },
    "takes our words": {
        **same("head -c 100 >/dev/null\n"),
        "bash": "read -r line\n",
        "zsh": "read -r line\n",
    },
    "takes all our words": same("cat >/dev/null\n"),
    "runs nothing": {
        **same("exec true\n"),
        "bash": "set -n\n",
    },
}

SWAPS = [(login, shell) for login in CUT for shell in FILES if f"becomes {shell}" != login]


@pytest.fixture(scope="module")
def nodes(session_dir: Path, _isolated_session: None) -> Iterator[Sandbox]:
    """A node for each shell."""
    own = session_dir / "odd"
    own.mkdir()
    (own / "sh").symlink_to("/bin/bash")
    setup = {
        shell: Setup(shell=shutil.which("bash" if shell == "posix" else shell)) for shell in FILES
    }
    setup["posix"] = Setup(shell="/bin/bash", env_path=f"{own}:{os.environ['PATH']}")
    with Sandbox.up(session_dir / "oddsb", list(FILES), setup=setup) as made:
        yield made


@pytest.fixture
def login(
    nodes: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The node whose login is as the test's parameters say."""
    name, shell = request.param
    home = nodes.node(shell).home
    for found in FILES.values():
        (home / found).parent.mkdir(parents=True, exist_ok=True)
    text = {**LOGINS, **CUT}[name]["bash" if shell == "posix" else shell]
    tools = home / "odd-tools"
    shutil.rmtree(tools, ignore_errors=True)
    tools.mkdir()
    for tool in ("stat", "sleep", "cat", "readlink", "grep", "sed", "head", "dd", "ln", "rm"):
        (tools / tool).write_text("#!/bin/sh\necho 'not what you think'\nexit 3\n")
        (tools / tool).chmod(0o755)
    own = {"bash": "export ODD='kept é'\n", "zsh": "export ODD='kept é'\n"}
    more = {"fish": "set -gx ODD 'kept é'\n", "tcsh": "setenv ODD 'kept é'\n"}
    first = {**own, **more}["bash" if shell == "posix" else shell]
    (home / FILES[shell]).write_text(first + text)
    inventory = tmp_path / "nodes.yaml"
    inventory.write_text(
        json.dumps(
            {
                "nodes": {shell: {}},
                "remote_root": f"~/trees-{tmp_path.name}",
                "ssh": {"config_file": str(nodes.ssh_config)},
                "health_check": {"max_load_per_core": 1000, "max_memory_percent": 100},
                "retry": {"max_retries": 0},
            }
        )
    )
    monkeypatch.setenv("GRIDOPS_INVENTORY", str(inventory))
    yield shell
    (home / FILES[shell]).unlink()


def each(logins: dict[str, dict[str, str]]) -> pytest.MarkDecorator:
    pairs = [(name, shell) for name in logins for shell in FILES if (name, shell) in GOOD]
    # For that end half a minute is waited: one shell stands for all.
    pairs = [pair for pair in pairs if pair[0] not in STUCK or pair[1] == "bash"]
    return pytest.mark.parametrize(
        "login",
        pairs,
        ids=[f"{shell}-{name}".replace(" ", "_") for name, shell in pairs],
        indirect=True,
    )


GOOD = {(name, shell) for name in LOGINS for shell in FILES} | set(SWAPS)


def ran(done: Done, status: int, out: str) -> None:
    assert (done.status, done.out) == (status, out), done.err


def expected(login: str, name: str) -> str:
    values = {one: f"its {one}" for one in NAMES} if name == "exports names of ours" else {}
    return "\n".join(["kept é", *(values.get(one, "unset") for one in NAMES), ""])


@each(LOGINS)
def test_every_kind_of_task_works_whatever_the_login_does(
    login: str, tell: Tell, project: Path, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["login"][0]
    seen = expected(login, name)
    health = tell("health", "--format=json")
    assert health.status == 0, health.out
    show = f"{SHOW}; echo to stderr >&2; exit 3"
    done = tell("exec", "--cmd", show)
    if name == "merges the streams" and login in ("bash", "zsh", "posix"):
        ran(done, 3, f"{seen}to stderr\n")
    else:
        ran(done, 3, seen)
    assert "gridops-" not in done.err
    if name in LOUD:
        refused = tell("sync")
        assert refused.status == 125
        assert "its login shell prints text, which breaks rsync" in refused.err
        run_id = tell("run", "--detach", "--no-sync", "--cmd", f"{SHOW}; exit 5").out.strip()
        ran(tell("jobs.logs", run_id, "--follow"), 5, seen)
        ran(tell("run", "--no-sync", "--cmd", f"{SHOW}; exit 4"), 4, seen)
        return
    made = 'echo "$(<hello.txt)"; mkdir -p results; chmod 700 results; echo r >results/r'
    ran(
        tell("run", "--cmd", f"{made}; chmod 600 results/r; {SHOW}; exit 4", "--fetch", "results"),
        4,
        f"hello\n{seen}",
    )
    assert (project / "results" / "r").read_text() == "r\n"
    run_id = tell("run", "--detach", "--no-sync", "--cmd", f"{SHOW}; exit 5").out.strip()
    ran(tell("jobs.logs", run_id, "--follow"), 5, seen)
    (project / "hello.txt").write_text("hello again\n")
    done = tell("sync")
    assert done.status == 0, done.err
    ran(tell("run", "--no-sync", "--cmd", 'echo "$(<hello.txt)"'), 0, "hello again\n")
    assert tell("jobs", "--all").status == 0


@each(CUT)
def test_where_the_login_lets_nothing_run_nothing_is_and_that_is_said(
    login: str, tell: Tell, project: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    mark = tmp_path / "ran"
    waits = request.node.callspec.params["login"][0] in STUCK
    health = tell("health", "--format=json")
    assert health.status == 1
    assert health.document["nodes"][0]["state"] == "unreachable"
    for words in (
        ("exec", "--timeout", "2", "--cmd", f"touch {mark}"),
        ("run", "--no-sync", "--cmd", f"touch {mark}"),
        ("run", "--no-sync", "--detach", "--cmd", f"touch {mark}"),
        ("run", "--cmd", f"touch {mark}"),
    )[: 2 if waits else 4]:
        done = tell(*words)
        assert (done.status, done.out) == (125, ""), done.err
        assert f"{login}: " in done.err
        assert "disk" not in done.err
    assert tell("sync").status == 125
    assert not mark.exists()


@pytest.mark.parametrize(
    "login", [("is closed", shell) for shell in FILES], ids=list(FILES), indirect=True
)
def test_the_first_words_of_such_a_login_are_quoted_with_the_files_to_look_at(
    login: str, tell: Tell, project: Path
) -> None:
    for words in ("exec", "--cmd", "true"), ("run", "--no-sync", "--cmd", "true"):
        done = tell(*words)
        assert "could not start a POSIX shell (status 0): 'down for maintenance'" in done.err
        assert "~/.bashrc" in done.err


@pytest.mark.parametrize(
    "login", [("becomes zsh", shell) for shell in FILES if shell != "zsh"], indirect=True
)
def test_a_login_that_becomes_another_shell_is_named_with_its_own_file(
    login: str, tell: Tell, project: Path
) -> None:
    own = "bash" if login == "posix" else login
    for words in ("exec", "--cmd", "true"), ("run", "--no-sync", "--cmd", "true"):
        said = tell(*words).err
        assert "the login replaces sh by another shell; its login shell is /" in said
        assert FILES[own].removeprefix(".config/") in said


@pytest.mark.parametrize("login", [("ignores signals", "bash")], indirect=True)
def test_a_command_that_must_not_go_on_is_ended_where_the_login_ignores_signals(
    login: str, tell: Tell, project: Path
) -> None:
    began = time.monotonic()
    assert tell("exec", "--timeout", "1", "--cmd", "exec sleep 4740").status == 124
    assert tell("run", "--no-sync", "--timeout", "1", "--cmd", "exec sleep 4740").status == 124
    assert time.monotonic() - began < 60
    assert not pids_with("4740")
    done = tell(
        "exec", "--cmd", "sleep 4741 >/dev/null 2>&1 &"
    )  # the command has ended: it may stay
    assert done.status == 0
    time.sleep(0.5)
    left = pids_with("4741")
    assert left
    for pid in left:
        os.kill(pid, signal.SIGKILL)
