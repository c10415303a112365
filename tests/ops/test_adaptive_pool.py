"""Adaptive and global pools of arrays: against naive loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from numbacnn.errors import DTypeError, OptionError, ShapeError
from numbacnn.ops.adaptive_pool import (
    adaptive_avg_pool_backward,
    adaptive_avg_pool_forward,
    adaptive_max_pool_backward,
    adaptive_max_pool_forward,
    global_avg_pool_backward,
    global_avg_pool_forward,
)
from numbacnn.ops.unpool import adaptive_max_pool_indices
from tests import naive
from tests.bits import assert_rounded, assert_same_bits
from tests.cases import ORDERS, in_order, integers

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


ADAPTIVE = [
    ((2, 3, 7), 3),
    ((1, 20, 12), 12),
    ((2, 5, 5), 9),
    ((1, 1, 40), 7),
    ((2, 17, 6, 9), (4, 3)),
    ((1, 16, 13, 13), (6, None)),
    ((0, 4, 5, 6), 2),
    ((1, 9, 12, 13), 1),
    ((2, 3, 5, 4, 7), (2, 3, 4)),
    ((1, 10, 4, 4, 4), 1),
]
adaptive = pytest.mark.parametrize(("shape", "size"), ADAPTIVE, ids=str)


def full_size(shape, size):
    sizes = size if isinstance(size, tuple) else (size,) * (len(shape) - 2)
    return tuple(i if o is None else o for i, o in zip(shape[2:], sizes, strict=True))


@dtypes
@adaptive
def test_adaptive_max_pool(shape, size, dtype):
    x = integers(shape, dtype, 0)
    out, offsets = adaptive_max_pool_forward(x, size)
    expected, indices = naive.adaptive_max_pool(x, full_size(shape, size))
    assert out.dtype == dtype
    assert (out == expected).all()
    assert (adaptive_max_pool_indices(offsets, shape, size) == indices).all()
    grad = integers(out.shape, dtype, 1)
    assert (
        adaptive_max_pool_backward(grad, offsets, shape, size) == naive.max_pool_backward(grad, indices, shape)
    ).all()


@dtypes
@adaptive
def test_adaptive_avg_pool(shape, size, dtype):
    x = integers(shape, dtype, 0)
    out = adaptive_avg_pool_forward(x, size)
    assert out.dtype == dtype
    assert_rounded(out, naive.adaptive_avg_pool(x, full_size(shape, size)))
    grad = integers(out.shape, dtype, 1)
    assert_rounded(adaptive_avg_pool_backward(grad, shape, size), naive.adaptive_avg_pool_backward(grad, shape))


@dtypes
@pytest.mark.parametrize("shape", [(8, 512, 7, 7), (1, 3, 5), (2, 33, 3, 4, 5), (3, 1, 90, 90), (0, 4, 2)], ids=str)
def test_global_avg_pool(shape, dtype):
    x = integers(shape, dtype, 0)
    out = global_avg_pool_forward(x)
    assert out.shape == shape[:2]
    assert_rounded(out, naive.global_avg_pool(x))
    kept = global_avg_pool_forward(x, keepdims=True)
    assert kept.shape == (*shape[:2], *(1,) * (len(shape) - 2))
    assert (kept.reshape(out.shape) == out).all()
    for grad in (integers(out.shape, dtype, 1), integers(kept.shape, dtype, 1)):
        flat = grad.reshape(out.shape)
        expected = np.broadcast_to(np.reshape(flat, kept.shape) / math.prod(shape[2:]), shape)
        assert_rounded(global_avg_pool_backward(grad, shape), expected)


def test_a_large_average_stays_accurate():
    x = np.random.default_rng(0).random((1, 17, 300, 301), np.float32) + np.float32(1)
    np.testing.assert_allclose(global_avg_pool_forward(x), x.mean((2, 3), dtype=np.float64), rtol=2e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_memory_orders(order):
    x = integers((2, 5, 9, 8), "float32", 0)
    assert (global_avg_pool_forward(in_order(x, order)) == global_avg_pool_forward(x)).all()
    assert (adaptive_avg_pool_forward(in_order(x, order), 4) == adaptive_avg_pool_forward(x, 4)).all()
    assert (adaptive_max_pool_forward(in_order(x, order), 5)[0] == adaptive_max_pool_forward(x, 5)[0]).all()


@pytest.mark.parametrize("channels", [1, 3, 24, 70])
def test_same_bits_on_any_number_of_threads(channels):
    x = np.random.default_rng(0).standard_normal((3, channels, 61, 67)).astype(np.float32)

    def results():
        average = adaptive_avg_pool_forward(x, 7)
        out, offsets = adaptive_max_pool_forward(x, 7)
        return (
            average,
            adaptive_avg_pool_backward(average, x.shape, 7),
            out,
            adaptive_max_pool_backward(average, offsets, x.shape, 7),
            global_avg_pool_forward(x),
        )

    assert_same_bits(results)


def test_nan_stays_in_its_channel():
    x = np.zeros((2, 3, 50), np.float32)
    x[1, 1, 7] = np.nan
    assert np.isnan(global_avg_pool_forward(x)).tolist() == [[False] * 3, [False, True, False]]


def test_bad_arguments():
    x = np.zeros((1, 1, 4, 4), np.float32)
    with pytest.raises(OptionError, match="output_size must be at least 1, got 0"):
        adaptive_avg_pool_forward(x, 0)
    with pytest.raises(OptionError, match="output_size must be an integer or 2 integers"):
        adaptive_max_pool_forward(x, (1, 2, 3))
    with pytest.raises(ShapeError, match="grad_output has shape"):
        global_avg_pool_backward(x[0, 0, :1, :3], (1, 2, 6))
    with pytest.raises(ShapeError, match="3 to 5 axes"):
        global_avg_pool_forward(x[0, 0])
    with pytest.raises(DTypeError, match="x must be float32 or float64, got int64"):
        global_avg_pool_forward(x.astype(np.int64))
