"""The house: a room imports only from the rooms above it, and heavy libraries only where allowed.

Every import counts: at the top of a module, inside a function, under TYPE_CHECKING (a type that
flows upwards is a dependency as well).
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gridops"

# From the foundations up: a room may import from those listed before it, and from itself. A room is
# a file or a folder of that name. The package's own `__init__` is the door above them all: it
# imports the API when that is asked for, and no room imports from it.
ROOMS = (
    "system",
    "errors",
    "model",
    "observe",
    "retry",
    "inventory",
    "reach",
    "probe",
    "transfers",
    "jobs",
    "sandbox",
    "dispatch",
    "ray",
    "grid",
    "render",
    "tasks",
)

# Libraries that take long to import, and the only modules that may do so; `top` also when they are
# imported themselves, `inside` only within a function (or under TYPE_CHECKING).
FABRIC = (
    "gridops.reach.mux",
    "gridops.reach.fabric_compat",
    "gridops.reach.connection",
    "gridops.reach.group",
)
HEAVY: dict[str, dict[str, tuple[str, ...]]] = {
    "fabric": {"top": FABRIC, "inside": ("gridops.reach.*", "gridops.transfers*")},
    "paramiko": {"top": FABRIC, "inside": ("gridops.reach.*",)},
    "pydantic": {
        "top": (
            "gridops.inventory.schema",
            "gridops.inventory.settings",
            "gridops.inventory.types",
            "gridops.inventory.validation",
        ),
        "inside": ("gridops.inventory*",),
    },
    "pydantic_core": {"top": ("gridops.inventory.validation",), "inside": ("gridops.inventory*",)},
    "yaml": {"top": ("gridops.inventory.document",), "inside": ("gridops.inventory*",)},
    "structlog": {"top": (), "inside": ("gridops.observe.*",)},
    "prometheus_client": {"top": (), "inside": ("gridops.observe.*",)},
    "rich": {"top": (), "inside": ("gridops.render*", "gridops.tasks*")},
    "backoff": {"top": (), "inside": ("gridops.retry",)},
    "asyncio": {"top": (), "inside": ()},
    "ray": {"top": (), "inside": ()},
    "ClusterShell": {"top": (), "inside": ("*",)},
    "platformdirs": {"top": (), "inside": ("*",)},
    "dotenv": {"top": (), "inside": ("*",)},
    "sqlite3": {"top": ("gridops.observe.store",), "inside": ("gridops.observe.*",)},
    "cheroot": {"top": ("gridops.observe.exporter", "gridops.observe.connections"), "inside": ()},
    "jinja2": {"top": ("gridops.render.page",), "inside": ()},
    "werkzeug": {"top": ("gridops.observe.exporter",), "inside": ("gridops.observe.*",)},
    "http": {
        "top": ("gridops.observe.exporter", "gridops.tasks._service", "gridops.ray.rest"),
        "inside": ("gridops.observe.*",),
    },
}


@dataclass(frozen=True)
class Import:
    module: str  # who imports
    target: str  # what: a dotted name
    line: int
    kind: str  # "top", "inside" a function, or for "types" only

    def __str__(self) -> str:
        path = self.module.replace(".", "/")
        return f"{path}:{self.line}: imports {self.target}"


def module_name(path: Path, package: Path) -> str:
    parts = [package.name, *path.relative_to(package).with_suffix("").parts]
    return ".".join(parts).removesuffix(".__init__")


def imports_of(source: str, module: str, known: frozenset[str] = frozenset()) -> Iterator[Import]:
    """Every import in `source`; `from x import y` names x.y where that is a module in `known`."""
    for node, kind in _walk(ast.parse(source), "top"):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, kind)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                yield Import(module, deeper if deeper in known else base, node.lineno, kind)
        elif isinstance(node, ast.Call) and _spells(node.func, ("import_module", "__import__")):
            words = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            target = str(words[0]) if words else "something that it computes"
            yield Import(module, target, node.lineno, kind)


def _walk(node: ast.AST, kind: str) -> Iterator[tuple[ast.AST, str]]:
    for child in ast.iter_child_nodes(node):
        inner = kind
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inner = "inside"
        elif isinstance(child, ast.If) and _spells(child.test, ("TYPE_CHECKING",)):
            inner = "types"
        yield child, kind
        yield from _walk(child, inner)


def _spells(node: ast.AST, names: tuple[str, ...]) -> bool:
    return getattr(node, "id", getattr(node, "attr", None)) in names


def all_imports(package: Path = PACKAGE) -> list[Import]:
    files = sorted(package.rglob("*.py"))
    known = frozenset(module_name(path, package) for path in files)
    found: list[Import] = []
    for path in files:
        found += imports_of(path.read_text(), module_name(path, package), known)
    return found


def floor_of(module: str) -> int:
    room = module.split(".")[1] if "." in module else ""
    if room and room not in ROOMS:
        pytest.fail(f"{module} is in no room: say in tests/test_layers.py where {room} stands")
    return ROOMS.index(room) if room else len(ROOMS)


def wrong_ways(imports: list[Import]) -> list[str]:
    return [
        f"{one} (which stands above it)"
        for one in imports
        if one.target.split(".")[0] == "gridops" and floor_of(one.target) > floor_of(one.module)
    ]


def test_a_room_imports_only_from_rooms_above_it():
    assert wrong_ways(all_imports()) == []


def test_no_import_cycles():
    edges: dict[str, set[str]] = {}
    for one in all_imports():
        if one.target.split(".")[0] == "gridops" and one.kind != "types":
            edges.setdefault(one.module, set()).add(one.target)
    assert cycle_in(edges) == []


def test_heavy_libraries_are_imported_only_where_they_may_be():
    found = []
    for one in all_imports():
        rules = HEAVY.get(one.target.split(".")[0])
        if rules is None or one.kind == "types":
            continue
        allowed = rules["top"] + (rules["inside"] if one.kind == "inside" else ())
        if not any(fnmatch(one.module, pattern) for pattern in allowed):
            found.append(f"{one} ({one.kind})")
    assert found == []


def test_listing_the_tasks_loads_nothing_heavy_that_invoke_does_not():
    assert loaded_by("gridops.tasks") & set(HEAVY) <= loaded_by("invoke")


def test_the_package_itself_loads_nothing_before_its_api_is_asked_for():
    loaded = modules_loaded_by("gridops") - modules_loaded_by("sys")
    assert loaded == {"gridops"}


def loaded_by(module: str) -> set[str]:
    return {name.partition(".")[0] for name in modules_loaded_by(module)}


def modules_loaded_by(module: str) -> set[str]:
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split())


def test_imports_are_absolute_and_spelt_out():
    relative = [str(one) for one in all_imports() if one.target.startswith((".", "something"))]
    assert relative == []


def test_every_library_in_use_is_declared():
    """In setup.cfg, so that a fresh installation has it."""
    setup = (PACKAGE.parent / "setup.cfg").read_text()
    declared = setup.split("install_requires =")[1].split("[options.packages.find]")[0].lower()
    spelt = {
        "yaml": "pyyaml",
        "dotenv": "python-dotenv",
        "prometheus_client": "prometheus-client",
        "pydantic_core": "pydantic",
    }
    used = {one.target.split(".")[0] for one in all_imports()} - sys.stdlib_module_names
    missing = {name for name in used if spelt.get(name, name).lower() not in declared}
    assert missing == {"gridops"}


# Calls of the system that have rules of their own, and the one module that may make each.
CRAFT = {
    "signal.signal": "gridops.system.signals",
    "signal.set_wakeup_fd": "gridops.system.signals",
    "fcntl.flock": "gridops.system.locks",
    "fcntl.lockf": "gridops.system.locks",
    "signal.pidfd_send_signal": "gridops.system.processes",
}


def test_the_craft_of_this_machine_is_written_once() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module, tree = module_name(path, PACKAGE), ast.parse(path.read_text())
        for node in ast.walk(tree):
            calls: list[str] = []
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                calls = [f"{node.value.id}.{node.attr}"]
            elif isinstance(node, ast.ImportFrom):
                calls = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [f"{module}: {call}" for call in calls if CRAFT.get(call, module) != module]
    assert found == []


# -- the walker itself --------------------------------------------------------------------------


def cycle_in(edges: dict[str, set[str]]) -> list[str]:
    """One cycle, if there is any."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(edges.get(name, ())):
            if found := visit(target, [*path, name]):
                return found
        done.add(name)
        return []

    for name in sorted(edges):
        if found := visit(name, []):
            return found
    return []


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("import gridops.tasks", "top"),
        ("from gridops import tasks", "top"),
        ("from gridops.tasks import ns", "top"),
        ("def f():\n    def g():\n        from gridops.tasks import ns", "inside"),
        ("class C:\n    import gridops.tasks", "top"),
        ("try:\n    import gridops.tasks\nexcept ImportError: pass", "top"),
        ("if TYPE_CHECKING:\n    import gridops.tasks", "types"),
        ("import typing\nif typing.TYPE_CHECKING:\n    import gridops.tasks", "types"),
        ("f = lambda: __import__('gridops.tasks')", "inside"),
        ("def f():\n    importlib.import_module('gridops.tasks')", "inside"),
    ],
)
def test_the_walker_finds_imports_wherever_they_hide(source, kind):
    found = list(imports_of(source, "gridops.reach.x", frozenset({"gridops.tasks"})))
    assert [(one.kind) for one in found if one.target == "gridops.tasks"] == [kind]
    assert len(wrong_ways(found)) == 1


def test_no_room_imports_from_the_packages_door():
    for source in "import gridops", "def f():\n    from gridops import Grid":
        assert len(wrong_ways(list(imports_of(source, "gridops.tasks.x")))) == 1


def test_a_cycle_is_found():
    assert cycle_in({"a": {"b"}, "b": {"c", "d"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle_in({"a": {"b", "c"}, "b": {"c"}}) == []


def test_what_runs_on_nodes_is_ascii() -> None:
    """Some shells stop at anything else in the C locale, comments too."""
    for path in PACKAGE.rglob("*.sh"):
        assert path.read_bytes().isascii(), path
