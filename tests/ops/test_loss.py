"""Losses on arrays: against float64 NumPy written from the definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from numbacnn.errors import DTypeError, OptionError, ShapeError
from numbacnn.ops.loss import absolute_error, cross_entropy, squared_error
from numbacnn.ops.memory import guard_memory
from tests.bits import assert_same_bits

DTYPES = (np.float32, np.float64)
dtypes = pytest.mark.parametrize("dtype", DTYPES)
SHAPES = [(5, 10), (1, 2), (3, 1), (2, 21, 6, 5), (4, 3, 7), (2, 4, 3, 2, 3), (3, 1000)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
reductions = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


def tolerance(dtype):
    return {"rtol": 3e-5, "atol": 2e-6} if dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-12}


def rows_of(x):
    """(N, C, *spatial) as (positions, C), in float64."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]).astype(np.float64)


def reference(x, shares, weight, smoothing, divisor, reduction, counted):
    """Loss and gradient of logits `x`, everything as (positions, C) in float64."""
    classes = x.shape[1]
    q = weight * ((1 - smoothing) * shares + smoothing / classes) * counted[:, None]
    log_p = x - x.max(1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    loss = -(q * log_p).sum(1)
    grad = np.exp(log_p) * q.sum(1, keepdims=True) - q
    if reduction == "mean":
        return loss.sum() / divisor, grad / divisor
    return (loss.sum() if reduction == "sum" else loss), grad


def problem(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    indices = rng.integers(0, shape[1], shape[:1] + shape[2:])
    soft = rng.uniform(0, 1, shape)
    weight = rng.uniform(0.5, 2, shape[1]).astype(dtype)
    return x, indices, (soft / soft.sum(1, keepdims=True)).astype(dtype), weight


def check(x, target, shares, counted, divisor, weight, reduction, smoothing):
    with guard_memory():
        loss, grad = cross_entropy(x, target, weight, reduction=reduction, label_smoothing=smoothing, with_grad=True)
    weights = np.ones(x.shape[1]) if weight is None else weight.astype(np.float64)
    expected, gradient = reference(rows_of(x), shares, weights, smoothing, divisor, reduction, counted)
    assert loss.dtype == grad.dtype == x.dtype
    assert loss.shape == (x.shape[:1] + x.shape[2:] if reduction == "none" else ())
    np.testing.assert_allclose(loss.ravel(), np.ravel(expected), **tolerance(x.dtype))
    np.testing.assert_allclose(rows_of(grad), gradient, **tolerance(x.dtype))
    assert cross_entropy(x, target, weight, reduction=reduction, label_smoothing=smoothing)[1] is None


@dtypes
@shapes
@reductions
def test_class_indices(shape, reduction, dtype):
    x, indices, _, weight = problem(shape, dtype)
    ignored = indices.copy()
    ignored.flat[::3] = -100
    ignored.flat[-1] = 0
    for target, w, smoothing in itertools.product((indices, ignored), (None, weight), (0.0, 0.1, 1.0)):
        flat = target.ravel()
        counted = flat != -100
        safe = np.where(counted, flat, 0)
        weights = np.ones(shape[1]) if w is None else w.astype(np.float64)
        divisor = weights[safe][counted].sum()
        check(x, target, np.eye(shape[1])[safe], counted, divisor, w, reduction, smoothing)


@dtypes
@shapes
@reductions
def test_soft_and_one_hot_targets(shape, reduction, dtype):
    x, indices, soft, weight = problem(shape, dtype)
    one_hot = np.moveaxis(np.eye(shape[1], dtype=np.int64)[indices], -1, 1)
    positions = x.size // shape[1]
    for target, w, smoothing in itertools.product((soft, one_hot, one_hot.astype(bool)), (None, weight), (0.0, 0.1)):
        check(x, target, rows_of(target), np.ones(positions, bool), positions, w, reduction, smoothing)


@dtypes
def test_one_hot_and_indices_agree(dtype):
    x, indices, _, _ = problem((2, 5, 4, 3), dtype)
    one_hot = np.moveaxis(np.eye(5, dtype=dtype)[indices], -1, 1)
    for a, b in zip(cross_entropy(x, indices, with_grad=True), cross_entropy(x, one_hot, with_grad=True), strict=True):
        np.testing.assert_allclose(a, b, **tolerance(dtype))


@dtypes
@reductions
def test_from_probabilities(reduction, dtype):
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 1, (6, 4, 3)).astype(dtype)
    p /= p.sum(1, keepdims=True)
    indices = rng.integers(0, 4, (6, 3))
    indices[0, 0] = -100
    weight = rng.uniform(0.5, 2, 4).astype(dtype)
    for w in (None, weight):
        weights = np.ones(4) if w is None else w.astype(np.float64)
        loss, grad = cross_entropy(p, indices, w, reduction=reduction, from_probabilities=True, with_grad=True)
        rows, flat = rows_of(p), indices.ravel()
        q = np.eye(4)[np.where(flat < 0, 0, flat)] * weights * (flat >= 0)[:, None]
        divisor = q.sum() if reduction == "mean" else 1
        expected = -(q * np.log(rows)).sum(1)
        expected = expected if reduction == "none" else expected.sum() / divisor
        np.testing.assert_allclose(loss.ravel(), np.ravel(expected), **tolerance(dtype))
        np.testing.assert_allclose(rows_of(grad), -q / rows / divisor, **tolerance(dtype))


@dtypes
def test_probabilities_are_clipped_and_the_gradient_is_0_there(dtype):
    p = np.array([[0, 1, 0.5, 1e-9]], dtype)
    for label, expected in ((0, -np.log(1e-7)), (1, 0), (3, -np.log(1e-7))):
        loss, grad = cross_entropy(p, np.array([label]), from_probabilities=True, with_grad=True)
        np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=2e-7)
        np.testing.assert_array_equal(grad, 0)


@dtypes
def test_extreme_logits(dtype):
    x = np.array([[1e4, -1e4, 0.0]], dtype)
    for label, expected in ((0, 0), (1, 2e4), (2, 1e4)):
        loss, grad = cross_entropy(x, np.array([label]), with_grad=True)
        assert loss == expected
        np.testing.assert_array_equal(grad, [np.eye(3)[0] - np.eye(3)[label]])
    hidden = np.array([[-np.inf, 0.0, 0.0]], dtype)
    loss, grad = cross_entropy(hidden, np.array([1]), with_grad=True)
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(grad, [[0, -0.5, 0.5]], rtol=1e-6)


@dtypes
def test_nan_spoils_its_row_only(dtype):
    x = np.zeros((3, 4), dtype)
    x[1, 2] = np.nan
    loss, grad = cross_entropy(x, np.array([0, 1, 2]), reduction="none", with_grad=True)
    np.testing.assert_array_equal(np.isnan(loss), [False, True, False])
    np.testing.assert_array_equal(np.isnan(grad).all(1), [False, True, False])


def test_every_integer_dtype_and_memory_order():
    x, indices, _, _ = problem((4, 6, 5, 3), np.float32)
    expected = cross_entropy(x, indices, with_grad=True)
    for kind in (np.int8, np.uint8, np.int32, np.uint64):
        assert cross_entropy(x, indices.astype(kind))[0] == expected[0]
    wide = np.repeat(x, 2, 3)
    for array in (np.asfortranarray(x), wide[..., ::2], np.ascontiguousarray(x[..., ::-1])[..., ::-1]):
        for a, b in zip(cross_entropy(array, indices[::-1][::-1], with_grad=True), expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_nothing_counted_is_nan_for_the_mean_and_0_for_the_sum():
    x, target = np.zeros((2, 3), np.float32), np.full(2, -100)
    assert np.isnan(cross_entropy(x, target)[0])
    assert cross_entropy(x, target, reduction="sum")[0] == 0
    empty = np.zeros((0, 3), np.float32)
    assert np.isnan(cross_entropy(empty, np.zeros(0, np.int64))[0])
    assert cross_entropy(empty, np.zeros(0, np.int64), reduction="none", with_grad=True)[1].shape == (0, 3)


def test_another_ignore_index():
    x, indices, _, _ = problem((8, 6), np.float64)
    indices[0] = 255
    assert cross_entropy(x, indices, ignore_index=255)[0] == cross_entropy(x[1:], indices[1:])[0]


def test_cross_entropy_gives_the_same_bits_on_any_number_of_threads():
    x, indices, soft, weight = problem((3, 19, 40, 41), np.float32)
    assert_same_bits(lambda: cross_entropy(x, indices, weight, label_smoothing=0.1, with_grad=True))
    assert_same_bits(lambda: cross_entropy(x, soft, weight, with_grad=True))


def test_cross_entropy_refuses():
    x = np.zeros((2, 3, 4), np.float32)
    good = np.zeros((2, 4), np.int64)
    bad = good.copy()
    bad[1, 2] = 3
    with pytest.raises(
        OptionError, match=r"class index 3 at position \(1, 2\) of the target is out of range for 3 clas"
    ):
        cross_entropy(x, bad)
    for target in (np.array([0, 1 << 40]), np.array([0, (1 << 64) - 1], np.uint64)):
        with pytest.raises(OptionError, match=rf"class index {target[1]} at position 1 of the target is out of range"):
            cross_entropy(np.zeros((2, 3)), target, np.ones(3), with_grad=True)
    with pytest.raises(OptionError, match=r"class index -1 at position 1 of the target is out of range"):
        cross_entropy(np.zeros((2, 3)), np.array([0, -1]))
    with pytest.raises(ShapeError, match=r"class indices of shape \(2, 4\) or shares.*of shape \(2, 3, 4\); got shape"):
        cross_entropy(x, np.zeros((2, 5), np.int64))
    with pytest.raises(DTypeError, match="class indices must be integers, got a target of dtype float64"):
        cross_entropy(x, good.astype(float))
    with pytest.raises(DTypeError, match="target is float64 but input is float32"):
        cross_entropy(x, np.zeros((2, 3, 4)))
    with pytest.raises(ShapeError, match=r"\(N, C\) or \(N, C, \*spatial\) with at least one class, got \(3,\)"):
        cross_entropy(np.zeros(3), np.array(0))
    with pytest.raises(ShapeError, match=r"weight must have one element per class, shape \(3,\), got shape \(4,\)"):
        cross_entropy(x, good, np.ones(4, np.float32))
    with pytest.raises(OptionError, match="reduction must be one of 'mean', 'sum', 'none'; got 'avg'"):
        cross_entropy(x, good, reduction="avg")
    with pytest.raises(OptionError, match=r"reduction must be one of .*; got \['mean'\]"):
        cross_entropy(x, good, reduction=["mean"])
    with pytest.raises(OptionError, match=r"label_smoothing must be from 0 to 1, got 1\.5"):
        cross_entropy(x, good, label_smoothing=1.5)
    with pytest.raises(DTypeError, match="input must be float32 or float64, got int64"):
        cross_entropy(np.zeros((2, 3), np.int64), np.zeros(2, np.int64))


DIFFERENCES = {
    "squared": (squared_error, {}, lambda d: d * d, lambda d: 2 * d),
    "absolute": (absolute_error, {}, np.abs, np.sign),
    "smooth": (
        absolute_error,
        {"beta": 0.7},
        lambda d: np.where(np.abs(d) < 0.7, d * d / 1.4, np.abs(d) - 0.35),
        lambda d: np.where(np.abs(d) < 0.7, d / 0.7, np.sign(d)),
    ),
}


@dtypes
@reductions
@pytest.mark.parametrize("name", DIFFERENCES)
@pytest.mark.parametrize("shape", [(3, 4), (2, 5, 6, 7), (40_001,), ()], ids=str)
def test_losses_of_differences(name, shape, reduction, dtype):
    function, options, values, slopes = DIFFERENCES[name]
    x, y = np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)
    if x.size > 10:
        y.flat[5] = x.flat[5]
    difference = x.astype(np.float64) - y
    divisor = difference.size if reduction == "mean" else 1
    expected = values(difference)
    expected = expected if reduction == "none" else expected.sum() / divisor
    others = [np.asfortranarray(x), x[::-1].copy()[::-1]] if shape else []
    for a, b in ((array, y) for array in (x, *others)):
        with guard_memory():
            loss, grad = function(a, b, reduction=reduction, with_grad=True, **options)
        np.testing.assert_allclose(loss, expected, **tolerance(dtype))
        np.testing.assert_allclose(grad, slopes(difference) / divisor, **tolerance(dtype))
        assert function(a, b, reduction=reduction, **options)[1] is None


@pytest.mark.parametrize("name", DIFFERENCES)
def test_losses_of_differences_keep_nan_and_their_bits(name):
    function, options, _, _ = DIFFERENCES[name]
    x, y = np.random.default_rng(1).standard_normal((2, 100_001)).astype(np.float32)
    assert_same_bits(lambda: function(x, y, with_grad=True, **options))
    x[7] = np.nan
    loss, grad = function(x, y, with_grad=True, **options)
    assert np.isnan(loss)
    assert np.isnan(grad).sum() == 1


@pytest.mark.parametrize("name", DIFFERENCES)
def test_losses_of_differences_refuse(name):
    function, options, _, _ = DIFFERENCES[name]
    with pytest.raises(ShapeError, match=r"same shape, got \(3,\) and \(3, 1\)"):
        function(np.zeros(3), np.zeros((3, 1)), **options)
    with pytest.raises(DTypeError, match="input is float32 but target is float64"):
        function(np.zeros(3, np.float32), np.zeros(3), **options)
    with pytest.raises(OptionError, match="reduction must be one of"):
        function(np.zeros(3), np.zeros(3), reduction="max", **options)
    with pytest.raises(OptionError, match="beta must not be negative, got -1"):
        absolute_error(np.zeros(3), np.zeros(3), beta=-1)
