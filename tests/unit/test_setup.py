""".ci/system: what the machine lacks is installed, or asked for in one line."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SYSTEM = REPOSITORY / ".ci" / "system"
TOOLS = ("sh", "sort", "tr", "sleep", "cat")


class Machine:
    """A PATH with a few tools, a package manager that only notes what it is asked, and a user."""

    def __init__(self, path: Path, *, manager: str | None, sudo: bool) -> None:
        self.bin = path
        self.notes = path / "notes"
        for tool in TOOLS:
            (path / tool).symlink_to(str(shutil.which(tool)))
        self.program("id", "echo 1000")
        self.program("tee", "cat >/dev/null")
        self.program("chmod", "exit 0")
        if manager:
            self.program(manager, f'echo "{manager} $*" >>"{self.notes}"')
        if sudo:
            self.program("sudo", f'shift; echo "sudo $1" >>"{self.notes}"; "$@"')
            self.program("true", "exit 0")
            self.program("rm", "exit 0")

    def program(self, name: str, body: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.bin / name).chmod(0o755)

    def lacks(self, *pairs: str) -> subprocess.CompletedProcess[str]:
        # The script looks in the system's sbin directories as well: there is no such program.
        return subprocess.run(
            ["/bin/sh", str(SYSTEM), *pairs],
            env={**os.environ, "PATH": str(self.bin), "POLICY_RC_D": str(self.bin / "policy")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def asked(self) -> str:
        return self.notes.read_text() if self.notes.exists() else ""


@pytest.fixture
def machine(tmp_path):
    def make(manager: str | None = "apt-get", sudo: bool = True) -> Machine:
        return Machine(tmp_path, manager=manager, sudo=sudo)

    return make


def test_what_is_there_is_left_alone_without_a_word(machine):
    one = machine()
    done = one.lacks("sort=coreutils", "/bin/sh=dash")
    assert (done.returncode, done.stdout, done.stderr, one.asked) == (0, "", "", "")


def test_without_rights_one_line_says_all_that_is_to_be_installed(machine):
    done = machine(sudo=False).lacks("no-sshd=openssh-server", "sort=coreutils", "no-rsync=rsync")
    assert done.returncode == 1
    assert done.stderr == (
        "gridops set-up: this needs an administrator, once: "
        "sudo apt-get install -y --no-install-recommends openssh-server rsync\n"
    )


def test_with_sudo_it_is_installed_and_looked_at_again(machine):
    one = machine()
    done = one.lacks("no-sshd=openssh-server", "no-ssh=openssh-client", "no-scp=openssh-client")
    packages = "openssh-client openssh-server"
    assert "apt-get update -qq\n" in one.asked
    assert f"apt-get install -y --no-install-recommends {packages}\n" in one.asked
    assert done.returncode == 1
    assert "still missing after the installation: openssh-client" in done.stderr


def test_no_service_is_started_by_the_installation(machine):
    one = machine()
    one.lacks("no-sshd=openssh-server")
    asked = one.asked.splitlines()
    before, install, after = (
        asked.index("sudo tee"),
        asked.index("apt-get install -y --no-install-recommends openssh-server"),
        asked.index("sudo rm"),
    )
    assert before < install < after


def test_no_service_is_started_at_the_next_boot(machine):
    one = machine()
    one.program("systemctl", f'echo "systemctl $*" >>"{one.notes}"')
    one.lacks("no-sshd=openssh-server", "no-promtool=prometheus", "no-git=git")
    disabled = [line for line in one.asked.splitlines() if line.startswith("systemctl")]
    assert disabled == [
        "systemctl disable ssh.service ssh.socket",
        "systemctl disable prometheus.service",
    ]


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("dnf", "dnf install -y ShellCheck openssh-clients openssh-server"),
        ("apk", "apk add openssh-client-default openssh-server shellcheck"),
        ("pacman", "pacman -S --needed --noconfirm openssh shellcheck"),
        ("zypper", "zypper --non-interactive install ShellCheck openssh-clients openssh-server"),
    ],
)
def test_other_package_managers_have_their_own_words(machine, manager, command):
    done = machine(manager, sudo=False).lacks(
        "no-ssh=openssh-client", "no-sshd=openssh-server", "no-shellcheck=shellcheck"
    )
    assert done.stderr.endswith(f"once: sudo {command}\n")


def test_a_package_manager_that_it_does_not_know_leaves_it_to_the_user(machine):
    done = machine(manager=None).lacks("no-sshd=openssh-server")
    assert done.returncode == 1
    assert done.stderr == "gridops set-up: please install what brings: openssh-server\n"


def test_without_rights_make_test_says_all_that_the_tests_need_in_one_line(machine):
    """As on a bare machine with Python: .ci/setup asks .ci/system for all of it at once."""
    one = machine(sudo=False)
    (one.bin / "dirname").symlink_to(str(shutil.which("dirname")))
    (one.bin / "python3").symlink_to(sys.executable)
    ci = one.bin / "checkout/.ci"
    shutil.copytree(SYSTEM.parent, ci)
    text = SYSTEM.read_text()
    assert ":/usr/sbin:" in text
    (ci / "system").write_text(text.replace("PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin\n", ""))
    done = subprocess.run(
        [ci / "setup", "test"],
        env={"PATH": str(one.bin)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    said, _, packages = line.partition(" --no-install-recommends ")
    assert said == "gridops set-up: this needs an administrator, once: sudo apt-get install -y"
    assert set(packages.split()) >= {
        *(
            "busybox",
            "chromium",
            "dash",
            "dropbear-bin",
            "fish",
            "git",
            "iproute2",
            "openssh-client",
        ),
        *("openssh-server", "openssl", "procps", "prometheus", "rsync", "shellcheck", "systemd"),
        *("tcsh", "zsh"),
    }


def skips_without(path: Path) -> list[str]:
    """Where a test is skipped because `which` found nothing."""
    tree = ast.parse(path.read_text())
    looked = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and "which(" in ast.unparse(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and any(
            "pytest.skip(" in ast.unparse(one) for one in node.body
        ):
            asked = node.test
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("skipif"):
            asked = node
        else:
            continue
        names = {one.id for one in ast.walk(asked) if isinstance(one, ast.Name)}
        if "which(" in ast.unparse(asked) or names & looked:
            found.append(f"{path.name}:{node.lineno}")
    return found


def test_no_test_skips_for_want_of_a_program(tmp_path):
    """`make test` installs what can be installed: nodes.find_program fails where it has not."""
    (tmp_path / "test_x.py").write_text(
        "@pytest.mark.skipif(not shutil.which('x'), reason='')\n"
        "def test_x():\n    found = which('y')\n    if found is None:\n        pytest.skip('y')\n"
    )
    assert skips_without(tmp_path / "test_x.py") == ["test_x.py:4", "test_x.py:1"]
    assert [
        one for path in (REPOSITORY / "tests").rglob("*.py") for one in skips_without(path)
    ] == []


def test_make_tells_what_it_can_do():
    done = subprocess.run(
        ["make", "--no-print-directory"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    named = [line.split()[1] for line in done.stdout.splitlines()]
    assert named == [
        *("help", "install", "dev", "demo", "test", "ray", "machines", "soak", "fuzz", "scale"),
        *("lint", "format", "bench", "house", "findings", "dist", "clean"),
    ]
