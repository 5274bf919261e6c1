"""`python -m bench [WORKLOAD ...] [--nodes N] [--rounds N]`: measure, print, write RESULTS.md.

Of single workloads the sections are renewed, if the rest is of the same day, machine and tools.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import venv
from datetime import date
from shutil import which

from bench.common import HERE, PEERS, Claim, Measured
from bench.observing import metrics
from bench.workloads import all_workloads, run_in_scratch


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("workloads", nargs="*")
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    known = {
        **all_workloads(options.nodes, options.rounds),
        "metrics": lambda work: metrics(work, options.nodes),
    }
    chosen = options.workloads or list(known)
    if unknown := set(chosen).difference(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    if {"health", "few", "thousand", "defaults", "far"} & set(chosen):
        install_peers()
    measured: list[Measured] = []
    for name in chosen:
        print(f"{name} …", file=sys.stderr)
        measured += run_in_scratch(known[name])
    text = report(measured, options.rounds)
    print(text)
    results = HERE / "RESULTS.md"
    results.write_text(renewed(results.read_text(), text) if options.workloads else text)
    return 0 if all(claim.holds for _, claims in measured for claim in claims) else 1


def renewed(old: str, new: str) -> str:
    """`old` with the sections that `new` has, if both begin alike."""
    (head, *sections), (other, *fresh) = (text.split("\n## ") for text in (old, new))
    if head != other:
        return old
    by_title = {section.partition("\n")[0]: section for section in (*sections, *fresh)}
    parts = [section.strip("\n") for section in by_title.values()]
    return "\n\n## ".join([head.strip("\n"), *parts]) + "\n"


def install_peers() -> None:
    """A venv with the other tools, made once, and those of the system where we may install them."""
    system = [str(HERE.parent / ".ci" / "system"), "pdsh=pdsh", "parallel=parallel"]
    subprocess.run(system, check=False)
    if not all((PEERS / name).exists() for name in ("pyinfra", "ansible", "clush", "fab")):
        venv.create(PEERS.parent, with_pip=True)
        pip = [str(PEERS / "python"), "-m", "pip", "install", "-q", "-r", str(HERE / "peers.txt")]
        subprocess.run(pip, check=True)


def report(measured: list[Measured], rounds: int) -> str:
    lines = [
        "# Results",
        "",
        f"{date.today()}, {os.cpu_count()} cores ({platform.machine()}), which the nodes share;"
        f" Python {platform.python_version()}, {version(['ssh', '-V'])},"
        f" {version(['rsync', '--version'])}; {versions_of_peers()}. The contenders take"
        f" turns, {rounds} rounds after a warm-up; figures are medians. Made by `make bench`.",
    ]
    for result, claims in measured:
        lines += [
            "",
            f"## {result.title}",
            "",
            "| | wall s | CPU s | peak MiB |",
            "|---|---|---|---|",
        ]
        for name, samples in result.samples.items():
            middle = sorted(samples, key=lambda s: s.seconds)[len(samples) // 2]
            lines.append(
                f"| {name} | {middle.seconds:.3f} | {middle.cpu:.2f} | {middle.peak_mib:.0f} |"
            )
        lines.append("")
        for claim in claims:
            lines.append(f"- {claim.text}: {claim.value:.3g} {claim.unit}{verdict(claim)}")
    return "\n".join(lines) + "\n"


def verdict(claim: Claim) -> str:
    if claim.limit is None:
        return ""
    bound = "least" if claim.at_least else "most"
    return f" (at {bound} {claim.limit:g}): {'holds' if claim.holds else 'MISSED'}"


def version(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return " ".join((done.stdout or done.stderr).split("\n")[0].split()[:3]).rstrip(",")


def versions_of_peers() -> str:
    if not (PEERS / "python").exists():
        return "no peers installed"
    listed = subprocess.run(
        [str(PEERS / "python"), "-m", "pip", "list", "--format=freeze"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    wanted = ("pyinfra==", "parallel-ssh==", "ansible-core==", "ClusterShell==", "fabric==")
    found = [line.replace("==", " ") for line in listed.split() if line.startswith(wanted)]
    return ", ".join(
        [*found, *(version([one, "-V"]) for one in ("pdsh", "parallel") if which(one))]
    )


if __name__ == "__main__":
    sys.exit(main())
