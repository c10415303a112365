"""Runs of elements: each element, and none beyond, for every length."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.kernels._build import kernel
from numbacnn.kernels._target import target
from numbacnn.kernels.runs import clear_run, copy_run

LENGTHS = range(3 * target().lanes(4) + 2)


@kernel
def copy(block, target: "T*", source: "T*", count: "int64"):
    copy_run(target, source, count)


@kernel
def clear(block, target: "T*", count: "int64"):
    clear_run(target, count)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", LENGTHS)
def test_every_length_is_copied(length, dtype):
    source, out = np.arange(1, length + 3, dtype=dtype), np.zeros(length + 2, dtype)
    copy(1, out, source, length)
    np.testing.assert_array_equal(out, [*source[:length], 0, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", LENGTHS)
def test_every_length_is_cleared(length, dtype):
    out = np.ones(length + 2, dtype)
    clear(1, out, length)
    np.testing.assert_array_equal(out, [0] * length + [1, 1])
