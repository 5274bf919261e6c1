"""Figures of the house: size, depth and words of the package (`make house`, `ARGS=--list`).

    python bench/house.py [--list] [--no-run] [PACKAGE]

Reads PACKAGE (default: gridops beside this directory) by ast, and profiles one run of it. `--list`
names all that a figure counts. tests/test_words.py holds the figures to their limits.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parents[1] / "gridops"
Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
KINDS: dict[str, tuple[type[Documented], ...]] = {
    "modules": (ast.Module,),
    "classes": (ast.ClassDef,),
    "functions": (ast.FunctionDef, ast.AsyncFunctionDef),
}

QUESTION = re.compile(r"(What|Whether|Where|Which|How|Who|Whose|When|That|Why)(ever)?\b")
TIME = ("TIMEOUT", "INTERVAL", "GRACE", "LEASE", "DELAY", "AGE")
SECONDS = re.compile(r"^([A-Z][A-Z0-9_]*)(?:: \w+)? = [0-9._ */+-]+ +#.*\bseconds?\b", re.MULTILINE)

# A function is named by a participle when the first word of its name is one (told, kept_files) and
# not a verb as well (run, set), and when it is no predicate: one that returns a bool. Properties
# are values, named as fields are, and do not count; nor do factories of errors and results, which
# are named after what they make (lost_error, cancelled_result).
IRREGULAR = re.compile(
    r"(been|begun|bound|brought|bought|built|caught|done|drawn|driven|fallen|felt|found|given|gone"
    r"|grown|heard|held|kept|known|laid|led|left|lent|lost|made|meant|met|paid|said|seen|sent|shown"
    r"|spent|stood|stuck|sworn|taken|taught|thought|told|torn|understood|woken|won|worn|written)"
)
REGULAR = re.compile(r"\w{2,}(ed|en)")
NO_PARTICIPLE = re.compile(
    r"(children|embed|even|exceed|feed|heed|keygen|listen|need|open|proceed|screen|seed|seven|shed"
    r"|shorten|speed|succeed|then|token|when)"
)


class Found(NamedTuple):
    """A figure with its offenders, each as module:line: name."""

    value: float
    of: int
    names: list[str]

    @property
    def percent(self) -> float:
        return 100 * self.value / self.of if self.of else 0.0


class Module(NamedTuple):
    name: str  # dotted, without .__init__
    text: str
    tree: ast.Module

    def at(self, node: ast.AST, name: str) -> str:
        return f"{self.name}:{getattr(node, 'lineno', 1)}: {name}"


class House:
    """A package's sources, read once."""

    def __init__(self, package: Path = PACKAGE) -> None:
        self.package = package
        paths = sorted(package.rglob("*.py"))
        texts = [path.read_text() for path in paths]
        self.modules = [
            Module(self._name(path), text, ast.parse(text))
            for path, text in zip(paths, texts, strict=True)
        ]

    def _name(self, path: Path) -> str:
        parts = [self.package.name, *path.relative_to(self.package).with_suffix("").parts]
        return ".".join(parts).removesuffix(".__init__")

    def rooms(self) -> Found:
        """Modules and packages at the top of the package, without its own __init__."""
        names = sorted({one.name.split(".")[1] for one in self.modules if "." in one.name})
        return Found(len(names), len(names), names)

    def import_depth(self) -> Found:
        """The longest chain of imports, in modules: every import counts, lazy and typing ones too.

        `from a import b` leads to a.b where that is a module, else to a; the packages that a dotted
        name passes through do not count. A cycle counts as one module.
        """
        known = {one.name for one in self.modules}
        edges = {one.name: set(_imported(one.tree, known)) - {one.name} for one in self.modules}
        chains = _longest_chains(edges)
        longest = max(chains.values(), key=len)
        return Found(len(longest), len(known), longest)

    @cached_property
    def functions(self) -> list[tuple[Module, Function]]:
        """Every function: methods and nested ones as well."""
        return [
            (one, node)
            for one in self.modules
            for node in ast.walk(one.tree)
            if isinstance(node, Function)
        ]

    def questions(self, *kinds: type[Documented]) -> Found:
        """Docstrings of these kinds of things that open with a question word."""
        texts = [
            (one, node, text)
            for one in self.modules
            for node in ast.walk(one.tree)
            if isinstance(node, kinds) and (text := ast.get_docstring(node))
        ]
        names = [
            one.at(node, f"{getattr(node, 'name', 'module')}: {text.splitlines()[0]}")
            for one, node, text in texts
            if QUESTION.match(text)
        ]
        return Found(len(names), len(texts), names)

    def participles(self) -> Found:
        names = [
            one.at(node, node.name)
            for one, node in self.functions
            if _is_participle(node.name) and not _is_value(node)
        ]
        return Found(len(names), len(self.functions), names)

    def times(self) -> Found:
        """Constants of seconds (their comment says so) without a word of time at their end."""
        found = [(one, hit[1]) for one in self.modules for hit in SECONDS.finditer(one.text)]
        names = [f"{one.name}: {name}" for one, name in found if not name.endswith(TIME)]
        return Found(len(names), len(found), names)

    def function_lines(self) -> list[tuple[int, str]]:
        """Lines of each function from `def` to its end, longest first."""
        return sorted(
            (
                ((node.end_lineno or 0) - node.lineno + 1, one.at(node, node.name))
                for one, node in self.functions
            ),
            reverse=True,
        )

    def ninetieth(self) -> int:
        """The 90th percentile of the lines of functions."""
        lines = self.function_lines()
        return lines[len(lines) // 10][0]

    def module_lines(self) -> list[tuple[int, str]]:
        return sorted(
            ((len(one.text.splitlines()), one.name) for one in self.modules), reverse=True
        )

    def twice(self) -> Found:
        """Names of classes that stand at the top of two modules."""
        places: dict[str, list[str]] = {}
        for one in self.modules:
            for node in one.tree.body:
                if isinstance(node, ast.ClassDef):
                    places.setdefault(node.name, []).append(one.name)
        return _in_several(places)

    def meanings(self) -> Found:
        """Names of constants that have different values in two modules."""
        values: dict[str, dict[str, str]] = {}
        for one in self.modules:
            for name, value in _constants(one.tree):
                values.setdefault(name, {}).setdefault(ast.dump(value), one.name)
        return _in_several({name: list(given.values()) for name, given in values.items()})


def _in_several(places: dict[str, list[str]]) -> Found:
    names = [f"{name}: {', '.join(at)}" for name, at in sorted(places.items()) if len(at) > 1]
    return Found(len(names), len(places), names)


def _constants(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and target.id.isupper() and value is not None:
                yield target.id, value


def _is_participle(name: str) -> bool:
    word = name.strip("_").lower().partition("_")[0]
    regular = REGULAR.fullmatch(word) and not NO_PARTICIPLE.fullmatch(word)
    is_factory = name.endswith(("_error", "_result"))
    return bool(regular or IRREGULAR.fullmatch(word)) and not is_factory


def _is_value(node: Function) -> bool:
    """True for predicates and properties, which participles may name."""
    returned = ast.unparse(node.returns) if node.returns else ""
    marks = {ast.unparse(one).split(".")[-1] for one in node.decorator_list}
    return returned == "bool" or bool(marks & {"property", "cached_property"})


def _imported(tree: ast.Module, known: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                yield deeper if deeper in known else node.module


def _longest_chains(edges: dict[str, set[str]]) -> dict[str, list[str]]:
    """The longest chain of imports from each module, the modules of a cycle counted as one."""
    folded = _cycles(edges)
    onward = {
        home: {folded[to] for one in edges if folded[one] == home for to in edges[one]} - {home}
        for home in set(folded.values())
    }
    chains: dict[str, list[str]] = {}

    def chain(name: str) -> list[str]:
        if name not in chains:
            below = max((chain(to) for to in sorted(onward[name])), key=len, default=[])
            chains[name] = [name, *below]
        return chains[name]

    for name in sorted(onward):
        chain(name)
    return chains


def _cycles(edges: dict[str, set[str]]) -> dict[str, str]:
    """For each module the first name of those that it reaches and that reach it."""

    def reached(name: str) -> set[str]:
        seen, todo = {name}, [name]
        while todo:
            fresh = edges[todo.pop()] - seen
            seen |= fresh
            todo += fresh
        return seen

    reach = {name: reached(name) for name in edges}
    return {name: min(to for to in reach[name] if name in reach[to]) for name in edges}


# -- one run --------------------------------------------------------------------------------------

# In a process of its own: which functions of the package `gridops run --cmd true` enters.
PROFILED = """
import json, sys, threading
package, answer = sys.argv[1:3]
entered = set()

def profile(frame, event, _arg):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(package):
        entered.add(code)

threading.setprofile(profile)
sys.setprofile(profile)
sys.argv = ["gridops", "run", "--cmd", "true"]
from gridops.tasks.program import main
try:
    main()
finally:
    sys.setprofile(None)
    threading.setprofile(None)
    NEWLOCALS = 2  # a function's code has it, that of a module or a class body has not
    with open(answer, "w") as file:
        json.dump([(code.co_filename[len(package):], code.co_firstlineno, code.co_name,
                    bool(code.co_flags & NEWLOCALS)) for code in entered], file)
"""


class Entered(NamedTuple):
    """A piece of our code that a run went through."""

    file: str  # below the package
    line: int
    name: str
    function: bool  # else the body of a class


def entered_by_a_run(package: Path = PACKAGE) -> list[Entered]:
    """Own code that a first `gridops run --cmd true` on this machine enters.

    Bodies of modules and comprehensions are left out. Raises RuntimeError when the run fails.
    """
    with tempfile.TemporaryDirectory(prefix="g", dir="/tmp") as scratch:
        home, work, answer = (Path(scratch, name) for name in ("home", "work", "answer"))
        home.mkdir(mode=0o700)
        work.mkdir()
        kept = {name: value for name, value in os.environ.items() if not _steers(name)}
        state = {f"XDG_{one}_HOME": f"{home}/{one.lower()}" for one in ("STATE", "CACHE", "CONFIG")}
        paths = {"HOME": str(home), "GRIDOPS_RUNTIME_DIR": f"{home}/run"}
        done = subprocess.run(
            [sys.executable, "-c", PROFILED, f"{package}/", str(answer)],
            cwd=work,
            env={**kept, **state, **paths, "PYTHONPATH": str(package.parent)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(
                f"gridops run --cmd true ended with {done.returncode}: {done.stderr}"
            )
        entered = [Entered(*one) for one in json.loads(answer.read_text())]
    return [one for one in sorted(entered) if not one.name.startswith("<") or "lambda" in one.name]


def _steers(name: str) -> bool:
    return name.startswith(("GRIDOPS_", "INVOKE_", "XDG_", "PYTHON"))


# -- printing -------------------------------------------------------------------------------------


def figures(house: House) -> Iterator[tuple[str, str, list[str]]]:
    """Each figure: its title, its value, its offenders."""
    rooms, depth, participles = house.rooms(), house.import_depth(), house.participles()
    yield "rooms at the top of the package", f"{rooms.value}", rooms.names
    yield "import depth, in modules", f"{depth.value}", depth.names
    for title, kinds in KINDS.items():
        found = house.questions(*kinds)
        yield f"docstrings that open with a question: {title}", _share(found), found.names
    yield "functions named by a participle", _share(participles), participles.names
    times = house.times()
    yield "constants of seconds without a word of time", f"{times.value}", times.names
    lines = house.function_lines()
    ninetieth = house.ninetieth()
    longest = [f"{name}, {count} lines" for count, name in lines[:10]]
    yield "function lines, 90th percentile / longest", f"{ninetieth} / {lines[0][0]}", longest
    modules = house.module_lines()
    yield "module lines, longest", f"{modules[0][0]}", [f"{n}, {c} lines" for c, n in modules[:10]]
    twice, meanings = house.twice(), house.meanings()
    yield "class names defined in two modules", f"{twice.value} of {twice.of}", twice.names
    yield "constants with two meanings", f"{meanings.value} of {meanings.of}", meanings.names


def _share(found: Found) -> str:
    return f"{found.percent:.1f} % ({found.value} of {found.of})"


def run_figures(package: Path) -> Iterator[tuple[str, str, list[str]]]:
    with_classes = entered_by_a_run(package)
    functions = [one for one in with_classes if one.function]
    for kind, entered in ("functions", functions), ("functions and classes", with_classes):
        names = [f"{one.file}:{one.line}: {one.name}" for one in entered]
        files = {one.file for one in entered}
        yield f"`gridops run --cmd true`: files / {kind}", f"{len(files)} / {len(entered)}", names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", nargs="?", type=Path, default=PACKAGE)
    parser.add_argument("--list", action="store_true", help="name all that a figure counts")
    parser.add_argument("--no-run", action="store_true", help="profile no run")
    options = parser.parse_args()
    package = options.package.resolve()
    found = list(figures(House(package)))
    if not options.no_run:
        found += run_figures(package)
    for title, value, names in found:
        print(f"{title:<60} {value}")
        if options.list:
            print(*(f"    {name}" for name in names), sep="\n")


if __name__ == "__main__":
    main()
