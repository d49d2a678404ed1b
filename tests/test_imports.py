"""Who may import whom."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import art_mtl

ROOT = Path(art_mtl.__file__).parent

# Each layer imports only from the layers above it in this list; siblings never from each other.
LAYERS = [
    {"version", "near_names"},
    {"structure", "columns", "precision", "files", "differences", "entry_points", "yaml_files"},
    {"losses", "projections", "models", "prepared"},
    {"metrics", "labels"},
    {"tasks"},
    {"core", "data"},
    {"zoo"},
    {"estimators"},
    {"attacks", "torchattacks", "secmlt"},
    {"defences"},
    {"evaluation"},
    {"training", "profiling"},
    {"cli"},
]
LEVEL = {part: level for level, layer in enumerate(LAYERS) for part in layer}
HOSTS = {"art": {"estimators", "attacks", "torchattacks", "defences", "evaluation", "profiling"},
         "torchattacks": {"torchattacks", "evaluation"}, "secmlt": {"secmlt", "evaluation"}}  # fmt: skip
# Files that import each other today. The list may only become shorter.
CIRCLES: list[set[str]] = []
OPTIONAL = [
    "art", "torchattacks", "secmlt", "matplotlib", "rich", "torchmetrics", "sklearn",
    "torchvision", "h5py", "PIL", "tensorboardX", "mlflow", "wandb",
]  # fmt: skip


def _part(path: Path) -> str:
    """The part of the package a file belongs to: its first folder, or its own name."""
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def _names_imported(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere in it, for type checkers too; relative imports made absolute."""
    package = ["art_mtl", *path.relative_to(ROOT).parts[:-1]]
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def _file_of(name: str) -> Path | None:
    """The file of the package that a dotted name stands for, or is defined in."""
    owner, *parts = name.split(".")
    if owner != "art_mtl":
        return None
    for end in (len(parts), len(parts) - 1):
        folder = ROOT.joinpath(*parts[:end])
        for path in (folder / "__init__.py", folder.with_suffix(".py")):
            if path.is_file():
                return path
    return None


FILES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py" and path != ROOT / "__main__.py"]


def test_there_are_files_of_every_basic_part():
    assert {"losses", "projections", "metrics", "structure", "labels", "tasks"} <= {_part(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_parts_import_only_from_the_layers_above(path):
    part = _part(path)
    assert part in LEVEL, f"{part!r} has no layer: say in LAYERS where it belongs"
    for name in _names_imported(path):
        owner, *rest = name.split(".")
        if owner == "art_mtl":
            other = rest[0]
            if other == part or other.startswith("__"):
                continue
            assert other in LEVEL, f"{path.name} imports {name}, which is no part of the package: import from its home"
            assert LEVEL[other] < LEVEL[part], f"{part} imports {name}"
        elif owner in HOSTS:
            assert part in HOSTS[owner], f"{part} imports {name}"


def _files_imported(path: Path) -> set[Path]:
    found = {_file_of(name) for name in _names_imported(path)}
    return {file for file in found if file in FILES and file != path}


def _circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of files each of which imports, by way of others, itself."""
    reached = {start: set(after) for start, after in graph.items()}
    for middle in graph:
        for after in reached.values():
            if middle in after:
                after |= reached[middle]
    circles = {frozenset(other for other in reached[file] if file in reached[other]) for file in graph}
    return [set(circle) for circle in circles if circle]


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set(), "f": {"g", "a"}, "g": {"f"}}
    assert sorted(map(sorted, _circles(graph))) == [["a", "b", "c"], ["f", "g"]]


def test_no_file_imports_itself_by_way_of_others():
    names = {path: path.relative_to(ROOT).as_posix() for path in FILES}
    graph = {names[path]: {names[other] for other in _files_imported(path)} for path in FILES}
    found = _circles(graph)
    assert [circle for circle in found if circle not in CIRCLES] == []
    assert [circle for circle in CIRCLES if circle not in found] == [], "gone: take it from the list"


def test_the_package_itself_imports_no_part_that_needs_an_extra():
    names = _names_imported(ROOT / "__init__.py")
    assert not [name for name in names if name.startswith(("torchattacks", "art_mtl.torchattacks", "art_mtl.cli"))]


def _loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*[name for name in {OPTIONAL} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    return set(done.stdout.split())


def test_import_loads_no_optional_package():
    """Beyond what its hosts load themselves."""
    assert not _loaded_after("import torch\nimport art_mtl, art_mtl.losses, art_mtl.metrics, art_mtl.core")
    hosts = "import torch, art.attacks, art.defences.trainer, art.estimators.classification"
    estimator = f"{hosts}\nfrom art_mtl import PyTorchMultiTaskEstimator"
    assert _loaded_after(estimator) <= _loaded_after(hosts)


def test_two_processes_may_import_art_for_the_first_time(tmp_path):
    """Another process writes ART's settings between two looks at whether they are there."""
    code = """
import json, os
real, looked = os.path.exists, []
def exists(path):
    found = real(path)
    if str(path).endswith("config.json") and not found:
        looked.append(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            json.dump({"ART_DATA_PATH": os.path.dirname(path)}, file)
    return found
os.path.exists = exists
try:
    import art.config
except NameError:
    failed = True
os.remove(looked[0])
import art_mtl.estimators
print(failed, len(looked), art_mtl.estimators.PyTorchMultiTaskEstimator.__name__)
"""
    environment = {**os.environ, "HOME": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert ran.stdout.split() == ["True", "2", "PyTorchMultiTaskEstimator"], ran.stderr


def test_settings_of_art_that_are_not_written_yet_are_read_again(tmp_path):
    settings = tmp_path / ".art" / "config.json"
    settings.parent.mkdir()
    settings.touch()
    code = f"""
import json, pathlib, time
written = json.dumps(dict(ART_DATA_PATH={str(tmp_path / "data")!r}))
time.sleep = lambda seconds: pathlib.Path({str(settings)!r}).write_text(written)
import art_mtl.estimators.art_import, art.config
print(art.config.ART_DATA_PATH)
"""
    environment = {**os.environ, "HOME": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert ran.stdout.strip() == str(tmp_path / "data"), ran.stderr
