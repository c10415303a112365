"""What is kept of a first call serves the next ones of element-wise functions and products."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.ops._call import _aligned
from numbacnn.ops.activation import relu_backward, relu_forward
from numbacnn.ops.linear import linear_forward
from numbacnn.ops.matmul import matmul
from tests.cases import integers


def misaligned(x):
    """The same values and strides, a byte beside where they belong."""
    copy = np.ndarray(x.shape, x.dtype, np.zeros(x.nbytes + 1, np.uint8), 1, x.strides)
    copy[...] = x
    assert not copy.flags.aligned
    return copy


@pytest.mark.parametrize("place", [np.asarray, misaligned])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_three_calls_of_different_arrays(dtype, place):
    for seed in range(3):
        a, b, bias = (integers(shape, dtype, seed + 7 * i) for i, shape in enumerate([(30, 40), (40, 50), (50,)]))
        left, right, vector = place(a), place(b), place(bias)
        np.testing.assert_array_equal(matmul(left, right), a @ b)
        np.testing.assert_array_equal(matmul(right.T, left.T), b.T @ a.T)
        np.testing.assert_array_equal(linear_forward(left, right.T, vector), a @ b + bias)
        np.testing.assert_array_equal(relu_forward(left), np.maximum(a, 0))
        np.testing.assert_array_equal(relu_backward(left, place(a + 1)), np.where(a > -1, a, 0))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x,
        lambda x: x[::-1, :, ::2],
        lambda x: x.transpose(2, 0, 1),
        lambda x: np.broadcast_to(x[:, :1], x.shape),
        lambda x: x[1, 1, 1:2].reshape(()),
    ],
)
def test_aligned_copies_have_the_same_strides(view):
    x = integers((3, 4, 6), "float64")
    raw = np.zeros(x.nbytes + 1, np.uint8)
    beside = np.ndarray(x.shape, x.dtype, raw, 1)
    beside[...] = x
    copy = _aligned(view(beside))
    assert copy.flags.aligned
    assert copy.strides == view(x).strides
    np.testing.assert_array_equal(copy, view(x))


def test_aligned_arrays_are_not_copied():
    x = np.zeros(3)
    assert _aligned(x) is x
    assert _aligned(None) is None
