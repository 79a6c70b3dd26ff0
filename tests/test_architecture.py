"""The parts know only what lies below them; the package starts light; nothing is unpickled.

``docs/architecture.md`` is the picture; this is what holds it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import netsmith

SOURCE = Path(netsmith.__file__).parent
ROOT = SOURCE.parent.parent

# Lowest first. Parts on one line do not import each other, but for ALLOWED.
LAYERS = (
    ("errors", "arch", "plan", "budget", "costs", "trial", "pareto", "journal", "spaces"),
    ("nn", "data", "search", "checkpoint"),
    ("supernet", "train", "compress", "export", "published"),
    ("devices", "latency", "transform"),
    ("pipeline", "report"),
    ("cli", "testing"),
)
# Layer 0 is one vocabulary: its values are made of each other, without a circle.
VALUES = ("errors", "arch", "plan", "trial", "budget", "pareto", "journal", "spaces")
# The pipeline ends by writing the report, which for its part reads the folder alone.
ALLOWED = {("pipeline", "report")}
HEAVY = (
    "torch",
    "onnxruntime",
    "onnx",
    "plotly",
    "numba",
    "sklearn",
    "pyarrow",
    "accelerate",
    "optuna",
    "sqlalchemy",
    "stable_baselines3",
    "gymnasium",
)
# What may load what is heavy: nothing on layer 0 or in the command line's own files.
LIGHT = (*LAYERS[0], "cli")
BANNED_CALLS = {"eval", "exec", "compile", "__import__"}
BANNED_MODULES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every imported module of a file, wherever the statement stands."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            yield from (f"netsmith.{a.name}" for a in node.names) if module == "netsmith" else (module,)


def edges() -> set[tuple[str, str]]:
    """Every (part, part it imports), but for the package's own front door."""
    found = set()
    for path in files():
        for module in imports(path):
            top, _, rest = module.partition(".")
            if top == "netsmith" and rest and part_of(path) != "__init__":
                found.add((part_of(path), rest.partition(".")[0]))
    return {(a, b) for a, b in found if a != b}


def layer(part: str) -> int:
    (number,) = (i for i, parts in enumerate(LAYERS) if part in parts)
    return number


def test_every_part_has_its_layer() -> None:
    parts = {part_of(path) for path in files()} - {"__init__"}
    assert parts == {part for parts in LAYERS for part in parts}


def test_imports_point_down() -> None:
    up = sorted((a, b) for a, b in edges() if layer(a) < layer(b))
    assert not up


def test_parts_on_one_line_do_not_import_each_other() -> None:
    beside = {(a, b) for a, b in edges() if layer(a) == layer(b) > 0}
    assert beside == ALLOWED


def test_values_are_built_in_one_order() -> None:
    values = {(a, b) for a, b in edges() if layer(a) == layer(b) == 0}
    assert all(VALUES.index(b) < VALUES.index(a) for a, b in values)


def test_low_parts_import_nothing_heavy() -> None:
    found = {
        (path.name, module)
        for path in files()
        if part_of(path) in LIGHT
        for module in imports(path)
        if module.partition(".")[0] in HEAVY
    }
    assert not found


# Where a package is imported by another name than it is installed by.
MODULES = {"MNN": "_mnncengine", "nvidia-ml-py": "pynvml", "onnxruntime-gpu": "onnxruntime"}


# What serves two purposes, each in one file: Optuna's samplers are searchers, its storage keeps trials.
FOR_TWO = {"optuna"}


def extras() -> list[str]:
    """The packages that a plain installation does not bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    installed = [names[0].partition(">")[0] for extra, names in sorted(optional.items()) if extra != "dev"]
    return list(dict.fromkeys(MODULES.get(name, name.replace("-", "_")) for name in installed))


@pytest.mark.parametrize("package", extras())
def test_an_optional_package_is_imported_in_one_file(package: str) -> None:
    modules = {m for p in files() for m in imports(p) if m.partition(".")[0] == package}
    assert modules
    for module in modules:  # a runtime's quantiser is a package of its own
        importing = [p for p in files() if module in set(imports(p))]
        assert len(importing) <= (2 if package in FOR_TWO else 1)


@pytest.mark.parametrize("package", ["plotly", "platformdirs", "jinja2", "tomli_w", "rich", "moocore"])
def test_a_package_for_one_purpose_is_imported_in_one_file(package: str) -> None:
    users = [p for p in files() if any(m.partition(".")[0] == package for m in imports(p))]
    assert len(users) == 1


def test_nothing_is_unpickled_and_no_text_is_run() -> None:
    found = []
    for path in files():
        found += [(path.name, m) for m in imports(path) if m.partition(".")[0] in BANNED_MODULES]
        for node in nodes(path):
            if isinstance(node, ast.Call):
                found += [(path.name, what) for what in banned(node)]
    assert not found


def banned(call: ast.Call) -> Iterator[str]:
    if isinstance(call.func, ast.Name) and call.func.id in BANNED_CALLS:
        yield call.func.id
    if ast.unparse(call.func) in ("torch.load", "torch.hub.load"):
        yield ast.unparse(call.func)
    for keyword in call.keywords:
        refused = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        if keyword.arg == "allow_pickle" and not refused:
            yield "allow_pickle"
        if keyword.arg == "shell" and not refused:
            yield "shell"


def test_the_rules_above_notice_what_they_forbid() -> None:
    for text in ("eval(x)", "torch.load(f)", "np.load(f, allow_pickle=True)", "run(c, shell=True)"):
        (call,) = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call))
        assert list(banned(call)), text
    (call,) = (n for n in ast.walk(ast.parse("np.load(f, allow_pickle=False)")) if isinstance(n, ast.Call))
    assert not list(banned(call))


@pytest.mark.parametrize("module", ["netsmith", "netsmith.cli.application", "netsmith.spaces.mbconv"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_stay_short() -> None:
    long = [p.name for p in files() if len(p.read_text(encoding="utf-8").splitlines()) > 330]
    assert not long
