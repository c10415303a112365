"""Element-wise functions of large arrays: NumPy's values to the bit, memory orders, same bits on any thread count."""

from __future__ import annotations

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.ops import arithmetic as ops
from numbacnn.ops.layout import channels_last, is_channels_last
from numbacnn.ops.memory import guard_memory, memory_stats
from tests.bits import assert_same_bits

UFUNCS = [np.add, np.subtract, np.multiply, np.true_divide, np.maximum]
ufuncs = pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda ufunc: ufunc.__name__)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
# Not a multiple of any vector or block; the first is left to NumPy.
SHAPES = [(3, 5), (ops.LARGE_BYTES // 4 + 3,), (3, 7, 61, 211), (2, 3, 5, 64, 173)]
SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-45, 3e38)


def sample(shape, dtype, seed=0):
    """Random values, with every pair of special values among those of two seeds."""
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    flat = x.reshape(-1)
    if flat.size > 64:
        flat[:64] = np.repeat(SPECIAL, 8) if seed else np.tile(SPECIAL, 8)
        flat[-64:] = flat[:64]
    return x


def orders(x):
    yield x
    yield np.asfortranarray(x)
    if 3 <= x.ndim <= 5:
        yield channels_last(x)


@dtypes
@ufuncs
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_two_arrays(ufunc, shape, dtype):
    a, b = sample(shape, dtype), sample(shape, dtype, 1)
    with np.errstate(all="ignore"), guard_memory():
        expected = ufunc(a, b)
        for x in orders(a):
            for y in orders(b):
                out = ops.elementwise(ufunc, x, y)
                np.testing.assert_array_equal(out, expected)
                np.testing.assert_array_equal(np.signbit(out[expected == 0]), np.signbit(expected[expected == 0]))
                if x.strides == y.strides:
                    assert out.strides == x.strides
                if x.nbytes >= ops.LARGE_BYTES and ufunc in UFUNCS[:3] and x.ndim > 2:
                    assert is_channels_last(out) == (is_channels_last(x) or is_channels_last(y))


@dtypes
@ufuncs
@pytest.mark.parametrize("number", [2.5, -3.0, 0.1, *SPECIAL])
def test_a_number(ufunc, number, dtype):
    a = sample(SHAPES[2], dtype)
    c = np.array(number, dtype)
    with np.errstate(all="ignore"), guard_memory():
        for x in orders(a):
            for left, right in ((x, c), (c, x)):
                expected, out = ufunc(left, right), ops.elementwise(ufunc, left, right)
                np.testing.assert_array_equal(out, expected)
                np.testing.assert_array_equal(np.signbit(out[expected == 0]), np.signbit(expected[expected == 0]))
                assert out.strides == x.strides


@dtypes
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_negative(shape, dtype):
    for x in orders(sample(shape, dtype)):
        out = ops.negative(x)
        np.testing.assert_array_equal(out, -x)
        np.testing.assert_array_equal(np.signbit(out[x == 0]), ~np.signbit(x[x == 0]))
        assert out.strides == x.strides
    np.testing.assert_array_equal(ops.negative(np.ones((600, 600))[:, ::2]), -np.ones((600, 300)))
    np.testing.assert_array_equal(ops.negative(np.ones((600, 600), np.int64)), np.full((600, 600), -1))


@ufuncs
@pytest.mark.parametrize("shape", [(1, 7, 1, 1), (211,), (61, 1), (1, 1, 1, 1), (2, 3, 7, 61, 211)], ids=str)
def test_broadcasting_is_numpys(ufunc, shape):
    a, b = sample((3, 7, 61, 211), np.float32), sample(shape, np.float32, 1)
    with np.errstate(all="ignore"):
        for x in orders(a):
            np.testing.assert_array_equal(ops.elementwise(ufunc, x, b), ufunc(a, b))
            np.testing.assert_array_equal(ops.elementwise(ufunc, b, x), ufunc(b, a))


def test_what_kernels_cannot_take_is_numpys():
    base = np.random.default_rng(0).integers(-99, 99, (600, 601)).astype(np.float64)
    for x in (
        base[:, ::2],
        base[::-1],
        np.broadcast_to(base[0], base.shape),
        base.astype(np.int64),
        base.astype(">f8"),
    ):
        np.testing.assert_array_equal(ops.elementwise(np.add, x, x), x + x)
        np.testing.assert_array_equal(ops.elementwise(np.add, x, np.array(1.5)), x + 1.5)
    mixed = ops.elementwise(np.add, base, base.astype(np.float32))
    np.testing.assert_array_equal(mixed, base + base.astype(np.float32))
    assert mixed.dtype == np.float64
    bytewise = np.zeros(base.nbytes + 1, np.uint8)[1:].view(np.float64)
    np.testing.assert_array_equal(ops.elementwise(np.subtract, bytewise, bytewise), np.zeros(base.size))
    with pytest.raises(ValueError, match="could not be broadcast"):
        ops.elementwise(np.add, base, base[:, 1:])


@pytest.mark.parametrize("shape", [(10,), (300, 301), (3, 7, 61, 211)], ids=str)
def test_out(shape):
    a, b = sample(shape, np.float32), sample(shape, np.float32, 1)
    with np.errstate(all="ignore"):
        for ufunc in UFUNCS:
            expected = ufunc(a, b)
            for x in orders(a):
                for y in orders(b):
                    for make in (lambda x, y: x, lambda x, y: y, lambda x, y: np.empty(x.shape, x.dtype)):
                        left, right = x.copy(order="K"), y.copy(order="K")
                        out = make(left, right)
                        assert ops.elementwise(ufunc, left, right, out) is out
                        np.testing.assert_array_equal(out, expected)


def test_large_results_live_in_the_pool():
    x = np.ones((600, 600))
    for ufunc, other in ((np.add, x), (np.multiply, np.array(2.0)), (np.true_divide, x), (np.add, x[0])):
        before = memory_stats().in_use_bytes
        out = ops.elementwise(ufunc, x, other)
        assert memory_stats().in_use_bytes >= before + out.nbytes
        del out


@pytest.mark.parametrize("number", [False, True])
@pytest.mark.parametrize("ufunc", UFUNCS[:3], ids=lambda ufunc: ufunc.__name__)
def test_same_bits(ufunc, number):
    x = np.random.default_rng(0).standard_normal((3, 7, 61, 211))
    y = np.array(0.3) if number else x[::-1].copy()
    assert_same_bits(lambda: ops.elementwise(ufunc, x, y))


def test_gradients_of_a_large_residual_are_summed_exactly():
    data = channels_last(np.random.default_rng(0).integers(-8, 8, (2, 16, 64, 65)).astype(np.float32))
    x = nc.Tensor(data, requires_grad=True)
    for _ in range(2):
        y = x * x
        z = y + y - (x * 3.0 - y)  # 3 y - 3 x: y's gradient is a sum of three
        z.backward(np.ones(x.shape, np.float32))
    np.testing.assert_array_equal(x.grad, 2 * (6 * data - 3))
