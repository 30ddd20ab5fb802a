"""The rooms and floors of the package, read from the import statements themselves.

A module imports from its own room and from floors below; rooms of one floor do not import each other. The rooms for
files and patients never see JAX, the rooms for networks never see those, and what costs time or may be missing
(SimpleITK, nibabel, matplotlib) is imported where it is used.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FLOOR = {
    "config": 0, "schema": 0, "settings": 0, "volume": 0,
    "imaging": 1,
    "data": 2, "discs": 2, "reports": 2, "networks": 2,
    "commands": 3, "learning": 3,
    "model": 4,
    "training": 5, "inference": 5,
    "evaluation": 6, "review": 6,
    "cli": 7,
    "__main__": 8, "train": 8, "infer": 8, "evaluate": 8, "cross_validate": 8,
}  # fmt: skip
HOST = {"imaging", "data", "discs", "reports"}
GRAPH = {"networks", "learning"}
GRAPH_LIBRARIES = {"jax", "jaxlib", "flax", "optax", "orbax", "tensorstore"}
LAZY = {"SimpleITK", "nibabel", "matplotlib", "tensorboardX", "pydicom", "highdicom", "PIL"}


@dataclass(frozen=True)
class Import:
    """One imported module, and whether the import runs as soon as the file is imported."""

    module: str
    at_import: bool
    line: int


def imports_of(source: str) -> list[Import]:
    return list(_walk(ast.parse(source), at_import=True))


def _walk(node: ast.AST, at_import: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, at_import, child.lineno)
        elif isinstance(child, ast.ImportFrom):
            if child.level:
                yield Import("." * child.level + (child.module or ""), at_import, child.lineno)
            elif child.module == "ivdjax":  # `from ivdjax import volume` names a module, `__version__` does not
                for alias in child.names:
                    yield Import(f"ivdjax.{alias.name}", at_import, child.lineno)
            else:
                yield Import(child.module or "", at_import, child.lineno)
        else:
            yield from _walk(child, at_import and not _is_deferred(child))


def _is_deferred(node: ast.AST) -> bool:
    """Whether what stands inside does not run when the file is imported."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))


def faults(room: str, source: str) -> list[str]:
    """What a file of a room ("imaging", "volume", "train" ...) imports against the rules, one line each."""
    found = []
    for item in imports_of(source):
        top, *rest = item.module.split(".")
        if item.module.startswith("."):
            found.append(f"line {item.line}: relative import {item.module}; write the full name")
        elif top == "ivdjax" and rest:
            other = rest[0]
            if other not in FLOOR:
                if not (other.startswith("__") or other[0].isupper()):
                    found.append(f"line {item.line}: {item.module} is on no floor; add it to FLOOR")
            elif other != room and FLOOR[other] >= FLOOR[room] and not FLOOR[room] == FLOOR[other] == 0:
                found.append(f"line {item.line}: floor {FLOOR[room]} imports {item.module} of floor {FLOOR[other]}")
            elif (room in HOST and other in GRAPH) or (room in GRAPH and other in HOST):
                found.append(f"line {item.line}: {item.module} joins files and networks below model/")
        elif FLOOR.get(top) == 8:
            found.append(f"line {item.line}: the command {item.module} is imported by nobody")
        elif top in GRAPH_LIBRARIES and (room in HOST or FLOOR[room] == 0):
            found.append(f"line {item.line}: {item.module} is for the rooms of networks")
        elif top in LAZY and item.at_import:
            found.append(f"line {item.line}: {item.module} must be imported inside the function that needs it")
    return found


def house() -> list[tuple[Path, str]]:
    """Every source file and its room."""
    package = ROOT / "ivdjax"
    files = [(path, path.relative_to(package).parts[0].removesuffix(".py")) for path in sorted(package.rglob("*.py"))]
    scripts = [(ROOT / f"{name}.py", name) for name in ("train", "infer", "evaluate", "cross_validate")]
    return [(path, room) for path, room in files + scripts if path.is_file() and room != "__init__"]


@pytest.mark.parametrize(("path", "room"), house(), ids=lambda value: value.name if isinstance(value, Path) else value)
def test_imports_keep_the_floors(path, room):
    assert room in FLOOR, f"{path} is on no floor; add it to FLOOR"
    assert faults(room, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("room", "source", "count"),
    [
        ("imaging", "from ivdjax.data.cache import x", 1),
        ("data", "from ivdjax.discs.metrics import x", 1),
        ("data", "from ivdjax.data.folds import x\nfrom ivdjax.imaging import y\nfrom ivdjax.volume import z", 0),
        ("learning", "from ivdjax.imaging.boxes import x", 1),
        ("reports", "import ivdjax.networks.layers", 1),
        ("model", "from ivdjax.data import x\nfrom ivdjax.learning import y\nimport jax", 0),
        ("model", "from ivdjax.training.train import x", 1),
        ("training", "from ivdjax.inference.visits.compare import x", 1),
        ("inference", "def f():\n    from ivdjax.training.jobs.job import x", 1),
        ("inference", "from ivdjax.inference.visits.compare import x\nfrom ivdjax.commands.stop import y", 0),
        ("evaluation", "from ivdjax.training.train import x\nfrom ivdjax.inference.infer import y", 0),
        ("evaluation", "import train", 1),
        ("volume", "from ivdjax import model", 1),
        ("config", "from ivdjax.volume import UserError", 0),
        ("config", "import jax", 1),
        ("discs", "def f():\n    import jax.numpy", 1),
        ("reports", "import matplotlib.pyplot", 1),
        ("reports", "class A:\n    import matplotlib", 1),
        ("reports", "def f():\n    import matplotlib.pyplot", 0),
        ("imaging", "if TYPE_CHECKING:\n    import SimpleITK", 0),
        ("imaging", "try:\n    import nibabel\nexcept ImportError:\n    pass", 1),
        ("imaging", "from . import boxes", 1),
        ("imaging", "from ivdjax import __version__, Volume", 0),
        ("imaging", "from ivdjax.elsewhere import x", 1),
    ],
)
def test_the_rules_see_a_breach(room, source, count):
    assert len(faults(room, source)) == count


def modules(rooms: set[str]) -> list[str]:
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path, room in house()
        if room in rooms and not path.name.startswith("__main__")
    ]


@pytest.mark.parametrize(
    ("rooms", "forbidden"),
    [
        ({"config", "volume"} | HOST, GRAPH_LIBRARIES | LAZY),
        ({"config", "volume", "commands", "model", "training", "inference", "evaluation", "review"} | GRAPH, LAZY),
    ],
    ids=["host", "graph and what joins both"],
)
def test_importing_is_cheap(rooms, forbidden):
    """What the files import directly is tested above; here, what comes with it."""
    code = (
        f"import importlib, sys\nfor name in {modules(rooms)!r}: importlib.import_module(name)\n"
        f"print(*sorted({forbidden!r} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == ("", "")


def test_no_module_imports_itself_by_way_of_others():
    """Imports inside of functions count too: what needs another file's parts belongs above it."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path, _ in house()}
    graph = {
        name: {item.module for item in imports_of(path.read_text(encoding="utf-8"))} - {name}
        for name, path in names.items()
    }
    assert len(graph) > 100
    TopologicalSorter(graph).prepare()  # raises CycleError, which shows the way around


def private_names(source: str) -> list[str]:
    """Names with a leading underscore that a file takes from the package, by import or as an attribute of a module."""
    tree = ast.parse(source)
    modules, found = set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ivdjax":
            modules |= {alias.asname or alias.name for alias in node.names}
            found += [alias.name for alias in node.names if alias.name.startswith("_") and alias.name != "__version__"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            found += [node.attr] * (node.attr.startswith("_") and not node.attr.startswith("__"))
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_benchmarks_use_public_names(path):
    assert private_names(path.read_text(encoding="utf-8")) == []


def test_private_names_are_seen():
    source = "from ivdjax.data import cache\nfrom ivdjax.volume import _x\ncache._read()\ncache.read()"
    assert private_names(source) == ["_x", "_read"]
