"""What an installed copy contains."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

import numbacnn

PACKAGE = Path(numbacnn.__file__).parent


def test_every_data_file_is_declared():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no TOML reader")
    pyproject = PACKAGE.parent / "pyproject.toml"
    declared = tomllib.loads(pyproject.read_text())["tool"]["setuptools"]["package-data"]
    named = {f"{package.replace('.', '/')}/{name}" for package, names in declared.items() for name in names}
    present = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert named == present


def test_every_package_has_an_init_file():
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)


def test_the_licence_of_the_digits_comes_with_them():
    text = resources.files("numbacnn.data").joinpath("digits.LICENSE.txt").read_text()
    assert "CC BY 4.0" in text
    assert "Alpaydin" in text


def test_the_command_line_imports_nothing_heavy_before_it_needs_it():
    code = "import sys, numbacnn.cli; sys.exit(any(m in sys.modules for m in ('numba', 'tqdm', 'matplotlib', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
