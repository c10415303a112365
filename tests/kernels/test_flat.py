"""Walks over flat memory: every remainder, with plain stores and past the caches."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.kernels._build import kernel
from numbacnn.kernels.flat import get, pace, put, span
from numbacnn.ops import arithmetic
from numbacnn.ops._dense import STREAM_BYTES_WIDE
from numbacnn.ops.memory import empty, guard_memory


@kernel
def negate(block, x: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, -get(x, i, end), end, streamed)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("streamed", [0, 1])
def test_every_remainder(dtype, streamed):
    step = 128
    with guard_memory():
        for size in range(1, 3 * step):
            x, out = empty((size,), dtype), empty((size,), dtype)
            x[...] = np.arange(size)
            negate(-(-size // step), x, out, size, step, streamed, cost=0.0)
            np.testing.assert_array_equal(out, -x)


def test_a_result_past_the_caches_is_complete():
    x = np.arange(STREAM_BYTES_WIDE // 4 + 13, dtype=np.float32)
    np.testing.assert_array_equal(arithmetic.elementwise(np.add, x, x), 2 * x)
    with guard_memory():
        np.testing.assert_array_equal(arithmetic.negative(x), -x)


def test_a_large_operand_may_be_the_result():
    x = np.arange(STREAM_BYTES_WIDE // 4 + 13, dtype=np.float32)
    expected = x + x
    assert arithmetic.elementwise(np.add, x, x, out=x) is x
    np.testing.assert_array_equal(x, expected)
