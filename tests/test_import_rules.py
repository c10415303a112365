"""Which parts of the package may import which, read from the sources; and that importing it stays light."""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import numbacnn

PACKAGE = Path(numbacnn.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Parts from the bottom up: each may import what is below it, but for the exceptions.
FORBIDDEN = {
    "kernels": {"*"},
    "ops": {"autograd", "functional", "nn"},
    "autograd": {"ops", "kernels", "functional"},
    "nn": {"kernels", "optim", "train", "models"},
    "functional": {"nn", "optim"},
    "optim": {"nn", "functional"},
}
ON_TOP = {"data", "metrics", "train", "models", "interop", "distributed", "cli"}
BELOW = {"kernels", "ops", "autograd", "functional", "nn", "optim", "errors", "random", "serialization", "_summary"}
OPTIONAL = {
    "torch", "jax", "onnx", "sklearn", "scipy", "dask", "matplotlib", "tqdm", "numba", "llvmlite", "pandas", "psutil",
}  # fmt: skip


def imports(tree, module, *, top_level):
    """Full names of what a module imports; with `top_level`, only what runs when it is imported."""
    package = module if module.endswith("__init__") else module.rpartition(".")[0]
    package = package.removesuffix(".__init__")
    for node in _nodes(tree, top_level):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _nodes(tree, top_level):
    """All nodes; or only those outside functions and outside ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(tree):
        if top_level and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING":
            continue
        yield child
        yield from _nodes(child, top_level)


def name_of(path):
    return ".".join(["numbacnn", *path.relative_to(PACKAGE).with_suffix("").parts])


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = name_of(path)
    part = name.split(".")[1]
    for imported in imports(tree, name, top_level=False):
        root, *rest = imported.split(".")
        if root == "numbacnn":
            target = rest[0] if rest else ""
            forbidden = FORBIDDEN.get(part, set()) | (ON_TOP if part in BELOW else set())
            assert target == part or target not in forbidden, f"{name} imports {imported}"
            assert "*" not in forbidden or target == part, f"{name} imports {imported}"
        if root in ("numba", "llvmlite"):
            assert part in ("kernels", "cuda", "config"), f"{name} imports {imported}"
    for imported in imports(tree, name, top_level=True):
        assert imported.split(".")[0] not in OPTIONAL, f"{name} imports {imported} when it is imported"


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "naive").glob("*.py")), ids=lambda path: path.stem)
def test_the_oracle_is_independent(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {imported.split(".")[0] for imported in imports(tree, f"naive.{path.stem}", top_level=False)}
    assert found <= {"naive", "itertools", "math", "numpy"}


def run(code):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_compiles_and_defines_no_kernel():
    assert (
        run("import sys, numbacnn; print(*(name for name in sys.modules if name.startswith('numbacnn.kernels')))")
        == "\n"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "import numbacnn",
        "import numbacnn; numbacnn.nn.Sequential(numbacnn.nn.Conv2d(1, 2, 3), numbacnn.nn.ReLU())",
        "import numbacnn; numbacnn.nn, numbacnn.optim, numbacnn.ops, numbacnn.data, numbacnn.train, numbacnn.models",
        "import numbacnn as nc; x = nc.Tensor([1.0], requires_grad=True); (x * x).sum().backward()",
    ],
)
def test_importing_loads_nothing_heavy(statement):
    loaded = run(f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})").split()
    # LLVM says what vectors the machine has, which decides constants of kernels: those of layers and operations.
    needed = {"llvmlite"} if "numbacnn.nn" in statement else set()
    assert not (OPTIONAL - needed) & set(loaded)


def test_tensors_have_operators_whatever_is_imported_first():
    for first in ("numbacnn.autograd", "numbacnn.autograd.tensor", "numbacnn.errors", "numbacnn.nn", "numbacnn.ops"):
        assert (
            run(f"import {first}; from numbacnn.autograd import Tensor; print((Tensor([1.0]) + 1).item())") == "2.0\n"
        )


PACKAGES = [numbacnn, numbacnn.functional, numbacnn.ops, numbacnn.nn]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_public_names_exist_and_are_no_modules_by_accident(package):
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} | {"errors", "random", "init"}
    for name in package.__all__:
        assert isinstance(getattr(package, name), type(package)) == (name in packages), name
    assert set(package.__all__) <= set(dir(package))


def test_functional_lists_all_that_its_modules_make_public():
    modules = [path for path in (PACKAGE / "functional").glob("*.py") if not path.name.startswith("__")]
    public = {
        name
        for path in modules
        for name in getattr(importlib.import_module(f"numbacnn.functional.{path.stem}"), "__all__", [])
    }
    assert public == set(numbacnn.functional.__all__)


def test_no_module_shares_its_name_with_a_function():
    for package in PACKAGES:
        folder = Path(package.__file__).parent
        modules = {path.stem for path in folder.glob("*.py")}
        assert not modules & {name for name in package.__all__ if callable(getattr(package, name))}


def test_public_names():
    assert sorted(numbacnn.__all__) == numbacnn.__all__
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        numbacnn.nonsense  # noqa: B018
