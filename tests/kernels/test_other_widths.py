"""Vectors of other widths than this machine's: which may be had, and a part of the suite with each of them."""

from __future__ import annotations

import os
import sys

import pytest

from numbacnn.kernels import _cache, _target
from tests.kernels.fresh import ROOT, finish, start

WIDTHS = (16, 32, 64)
# What plans, tables and kernels do with a vector's lanes: every way of cutting work into blocks that must fit the
# scratch, and each family of kernels on numbers of elements around those of a vector and of two.
PART = [
    "tests/kernels/test_runs.py",
    "tests/kernels/test_columns.py",
    "tests/ops/test_joining.py",
    "tests/ops/test_matmul.py",
    "tests/ops/conv/test_conv.py::test_table",
    "tests/ops/conv/test_winograd_cutting.py",
    "tests/ops/conv/test_weight_gradient.py::test_every_cut_fits_the_scratch",
]


@pytest.fixture
def target(monkeypatch):
    """The target of a process whose environment gives a width."""

    def of(width):
        monkeypatch.setenv("NUMBACNN_VECTOR_BYTES", width)
        return _target.target.__wrapped__()

    return of


@pytest.mark.parametrize("width", WIDTHS)
def test_a_width_is_the_users_choice(width, target):
    native, machine = target(""), target(str(width))
    assert (machine.vector_bytes, machine.lanes(4), machine.lanes(8)) == (width, width // 4, width // 8)
    assert machine._replace(vector_bytes=0, registers=0) == native._replace(vector_bytes=0, registers=0)
    if native.triple.startswith("x86_64"):
        assert machine.registers == (32 if width == 64 else 16)


@pytest.mark.parametrize("width", ["8", "48", "128", "-16", "wide", "32.0"])
def test_other_widths_are_refused(width, target):
    with pytest.raises(ValueError, match=f"NUMBACNN_VECTOR_BYTES must be one of 16, 32, 64; got '{width}'"):
        target(width)


def test_the_width_is_part_of_the_key_of_kernels(target, monkeypatch):
    digests = set()
    for width in WIDTHS:
        machine = target(str(width))
        monkeypatch.setattr(_cache, "target", lambda machine=machine: machine)
        digests.add(_cache._environment_digest.__wrapped__())
    assert len(digests) == len(WIDTHS)


@pytest.mark.skipif("NUMBACNN_VECTOR_BYTES" in os.environ, reason="this is a run with another width")
def test_a_part_of_the_suite_passes_with_every_other_width():
    """LLVM makes several vectors of one that is too wide: what goes wrong here does so on other machines."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(ROOT / part) for part in PART)]
    others = [width for width in WIDTHS if width != _target.target().vector_bytes]
    processes = [start(command, cwd=ROOT, NUMBACNN_VECTOR_BYTES=width) for width in others]  # side by side
    for process in processes:
        finish(process, timeout=600)
