"""Max unpooling of arrays: against naive loops and torch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from numbacnn.errors import DTypeError, OptionError, ShapeError
from numbacnn.ops.layout import is_channels_last
from numbacnn.ops.pool import max_pool_forward
from numbacnn.ops.unpool import max_pool_indices, max_unpool_backward, max_unpool_forward, max_unpool_shape
from tests.bits import assert_same_bits
from tests.cases import integers

SHAPES = [(2, 3, 9), (1, 40, 6, 8), (3, 1, 7, 5), (2, 5, 4, 6, 4), (0, 2, 6)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def pooled(shape, dtype):
    x = integers(shape, dtype, 0)
    out, offsets = max_pool_forward(x, 2)
    return out, max_pool_indices(offsets, shape, 2)


def naive_unpool(x, indices, spatial):
    flat = np.zeros((*x.shape[:2], int(np.prod(spatial))), x.dtype)
    for n, c in np.ndindex(*x.shape[:2]):
        for value, index in zip(x[n, c].ravel(), indices[n, c].ravel(), strict=True):
            flat[n, c, index] = value
    return flat.reshape(*x.shape[:2], *spatial)


@dtypes
@shapes
def test_unpool(shape, dtype):
    x, indices = pooled(shape, dtype)
    out = max_unpool_forward(x, indices, shape[2:])
    assert out.dtype == dtype
    assert is_channels_last(out)
    assert (out == naive_unpool(x, indices, shape[2:])).all()
    grad = integers(shape, dtype, 1)
    planes = grad.reshape(*shape[:2], math.prod(shape[2:]))
    expected = np.take_along_axis(planes, indices.reshape(*shape[:2], math.prod(x.shape[2:])), -1).reshape(x.shape)
    assert (max_unpool_backward(grad, indices) == expected).all()


def test_the_last_of_equal_indices_stays():
    x = np.arange(1.0, 9.0).reshape(1, 2, 4)
    indices = np.array([[[0, 2, 0, 2], [1, 1, 1, 0]]], np.int32)
    assert max_unpool_forward(x, indices, (3,)).tolist() == [[[3, 0, 4], [8, 7, 0]]]
    assert max_unpool_backward(np.arange(6.0).reshape(1, 2, 3), indices).tolist() == [[[0, 2, 0, 2], [4, 4, 4, 3]]]


def test_same_bits_on_any_number_of_threads():
    x, indices = pooled((3, 70, 40, 41), "float32")

    def results():
        out = max_unpool_forward(x, indices, (40, 41))
        return out, max_unpool_backward(out, indices)

    assert_same_bits(results)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0]], ids=str)  # torch refuses empty batches
def test_against_torch(shape):
    torch = pytest.importorskip("torch")
    rank = len(shape) - 2
    x, indices = pooled(shape, "float32")
    unpool = getattr(torch.nn.functional, f"max_unpool{rank}d")
    expected = unpool(torch.tensor(np.array(x)), torch.tensor(np.array(indices)), 2, output_size=shape[2:])
    full = max_unpool_shape(x.shape, 2, output_size=shape[2:])
    assert full == tuple(expected.shape) == shape
    assert (max_unpool_forward(x, indices, full[2:]) == expected.numpy()).all()


def test_shape():
    assert max_unpool_shape((2, 3, 4, 5), 3, 2, 1) == (2, 3, 7, 9)
    assert max_unpool_shape((2, 3, 4, 5), 3, 2, 1, (8, 8)) == (2, 3, 8, 8)
    assert max_unpool_shape((2, 3, 4, 5), 3, 2, 1, (2, 3, 6, 10)) == (2, 3, 6, 10)
    for size in ((9, 9), (5, 9), (7,)):
        with pytest.raises(OptionError, match=r"output_size must be less than a stride \(2, 2\) away from \(7, 9\)"):
            max_unpool_shape((2, 3, 4, 5), 3, 2, 1, size)


def test_bad_arguments():
    x, indices = np.zeros((1, 1, 2), np.float32), np.zeros((1, 1, 2), np.int64)
    with pytest.raises(ShapeError, match="indices must be from 0 to 3, .*; got 0 to 4"):
        max_unpool_forward(x, indices + [0, 4], (4,))
    with pytest.raises(ShapeError, match="got -1 to 0"):
        max_unpool_backward(x, indices - [0, 1])
    with pytest.raises(ShapeError, match="indices has shape"):
        max_unpool_forward(x, indices[..., :1], (4,))
    with pytest.raises(ShapeError, match="do not fit grad_output"):
        max_unpool_backward(np.zeros((2, 1, 2)), indices)
    with pytest.raises(DTypeError, match="indices must be integers, got float64"):
        max_unpool_forward(x, indices * 1.0, (4,))
