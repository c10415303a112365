"""The programs in examples/ run and find what they look for."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(name):
    return runpy.run_path(str(EXAMPLES / name))["main"]


def test_signals():
    assert load("signals_1d.py")(epochs=3) > 0.9


def test_volumes(tmp_path):
    assert load("volumes_3d.py")(4, str(tmp_path)) > 0.8
    assert (tmp_path / "checkpoint.nc").exists()


def test_arrays_only():
    edges = load("arrays_only.py")()
    assert edges.shape == (3, 200, 300)
    middle = edges[:, 100]
    # The disc's rim: the strongest edge of the middle row, at every scale, fainter at coarser ones.
    assert np.all(np.abs(np.abs(middle.argmax(axis=1) - 149.5) - 150 * np.sqrt(0.5)) < 3)
    assert middle.max(axis=1).tolist() == sorted(middle.max(axis=1), reverse=True)


def test_every_example_is_tested():
    source = Path(__file__).read_text()
    assert all(path.name in source for path in EXAMPLES.glob("*.py"))
