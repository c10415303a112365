"""Fully connected layers on arrays."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.errors import DTypeError, ShapeError
from numbacnn.ops.linear import linear_backward_input, linear_backward_weight, linear_forward
from tests.bits import assert_same_bits

DTYPES = (np.float32, np.float64)


def integers(*shape, dtype, seed=0):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lead", [(), (1,), (7,), (3, 5), (0,)], ids=str)
def test_forward_and_backward_are_exact_on_integers(lead, dtype):
    x, weight = integers(*lead, 13, dtype=dtype), integers(9, 13, dtype=dtype, seed=1)
    bias, grad = integers(9, dtype=dtype, seed=2), integers(*lead, 9, dtype=dtype, seed=3)
    assert (linear_forward(x, weight, bias) == x @ weight.T + bias).all()
    assert (linear_forward(x, weight) == x @ weight.T).all()
    assert (linear_backward_input(grad, weight) == grad @ weight).all()
    assert (linear_backward_weight(grad, x) == grad.reshape(-1, 9).T @ x.reshape(-1, 13)).all()
    assert linear_forward(x, weight).dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("features", [(1, 1), (1, 2), (2, 1), (5, 1)], ids=str)
@pytest.mark.parametrize("batch", [1, 2, 8, 9])
def test_hardly_any_features(batch, features, dtype):
    """Of an axis of one element NumPy says any stride: rows may seem to be columns as well."""
    x, weight = integers(batch, features[0], dtype=dtype), integers(*features[::-1], dtype=dtype, seed=1)
    bias, grad = integers(features[1], dtype=dtype, seed=2), integers(batch, features[1], dtype=dtype, seed=3)
    assert (linear_forward(x, weight, bias) == x @ weight.T + bias).all()
    assert (linear_backward_input(grad, weight) == grad @ weight).all()
    assert (linear_backward_weight(grad, x) == grad.T @ x).all()


def test_any_memory_order():
    x, weight = integers(6, 8, dtype=np.float32), integers(5, 8, dtype=np.float32, seed=1)
    expected = x @ weight.T
    for a, w in ((np.asfortranarray(x), weight), (x[::-1].copy()[::-1], np.asfortranarray(weight))):
        assert (linear_forward(a, w) == expected).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("features", [(70, 1), (70, 90), (600, 10)], ids=str)
def test_bits_depend_on_neither_threads_nor_batch(features, dtype):
    rng = np.random.default_rng(0)
    inputs, outputs = features
    x, weight = rng.standard_normal((90, inputs)).astype(dtype), rng.standard_normal((outputs, inputs)).astype(dtype)
    bias, grad = rng.standard_normal(outputs).astype(dtype), rng.standard_normal((90, outputs)).astype(dtype)
    assert_same_bits(
        lambda: (
            linear_forward(x, weight, bias),
            linear_backward_input(grad, weight),
            linear_backward_weight(grad, x),
        )
    )
    for part in (slice(0, 1), slice(1, 6), slice(6, 90)):
        for b in (None, bias):
            assert linear_forward(x, weight, b)[part].tobytes() == linear_forward(x[part], weight, b).tobytes()
        whole = linear_backward_input(grad, weight)[part]
        assert whole.tobytes() == linear_backward_input(grad[part], weight).tobytes()


def test_no_features():
    out = linear_forward(np.zeros((3, 0)), np.zeros((2, 0)), np.array([1.0, 2.0]))
    np.testing.assert_array_equal(out, [[1, 2]] * 3)


def test_nan_stays_in_its_row():
    x = np.ones((3, 4))
    x[1, 2] = np.nan
    np.testing.assert_array_equal(np.isnan(linear_forward(x, np.ones((2, 4)))).all(1), [False, True, False])


def test_refused_input():
    x, weight = np.ones((2, 3)), np.ones((4, 3))
    with pytest.raises(ShapeError, match=r"in_features = 3 elements \(weight has shape \(4, 3\)\).*shape \(2, 5\)"):
        linear_forward(np.ones((2, 5)), weight)
    with pytest.raises(ShapeError, match=r"got shape \(3,\)"):
        linear_forward(x, np.ones(3))
    with pytest.raises(ShapeError, match=r"bias must have shape \(4,\)"):
        linear_forward(x, weight, np.ones(3))
    with pytest.raises(DTypeError, match="x is float64 but weight is float32"):
        linear_forward(x, weight.astype(np.float32))
    with pytest.raises(DTypeError, match="got int64"):
        linear_forward(np.ones((2, 3), np.int64), weight)
