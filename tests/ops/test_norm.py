"""Batch normalisation: against float64 NumPy, in every rank, channel count, memory order and dtype."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.errors import DTypeError, OptionError, ShapeError
from numbacnn.kernels.norm import HUGE, LARGE
from numbacnn.ops import _norm_plan
from numbacnn.ops.memory import guard_memory
from numbacnn.ops.norm import batch_norm_backward, batch_norm_forward
from tests.bits import assert_same_bits

DTYPES = (np.float32, np.float64)
dtypes = pytest.mark.parametrize("dtype", DTYPES)
# Channel counts around vectors and wide rows, few and many positions, all ranks.
SHAPES = [
    (64, 10),
    (2, 3),
    (3, 1001),
    (2, 1, 1000),
    (5, 3, 7),
    (4, 7, 5, 6),
    (2, 64, 9, 9),
    (8, 16, 40, 41),
    (2, 70, 2, 3, 5),
]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def per_channel(vector, ndim):
    return vector.reshape(1, -1, *(1,) * (ndim - 2))


def reference(x, weight, bias, mean, var, eps, relu):
    """Output, and the function from its gradient to those of x, weight and bias, with `mean` and `var` constants."""
    x, weight, bias, mean, var = (a.astype(np.float64) for a in (x, weight, bias, mean, var))
    axes = (0, *range(2, x.ndim))
    normal = (x - per_channel(mean, x.ndim)) / np.sqrt(per_channel(var, x.ndim) + eps)
    y = normal * per_channel(weight, x.ndim) + per_channel(bias, x.ndim)

    def backward(grad, training):
        grad = np.where(y > 0, grad, 0) if relu else grad.astype(np.float64)
        total, product = grad.sum(axes, keepdims=True), (grad * normal).sum(axes, keepdims=True)
        n = x.size // x.shape[1]
        inner = grad - (total + normal * product) / n if training else grad
        scale = per_channel(weight / np.sqrt(var + eps), x.ndim)
        return inner * scale, product.ravel(), total.ravel()

    return (np.maximum(y, 0) if relu else y), backward


def problem(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = 2 * rng.standard_normal(shape) + 3 * rng.standard_normal((1, shape[1], *(1,) * (len(shape) - 2)))
    vectors = rng.standard_normal((3, shape[1]))
    var = rng.uniform(0.5, 2, shape[1])
    return [a.astype(dtype) for a in (x, *vectors, var, rng.standard_normal(shape))]


@dtypes
@shapes
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("activation", ["none", "relu"])
def test_forward_and_backward(shape, training, activation, dtype):
    x, weight, bias, running_mean, running_var, grad = problem(shape, dtype)
    axes = (0, *range(2, x.ndim))
    n = x.size // shape[1]
    batch_mean, batch_var = x.mean(axes, dtype=np.float64), x.var(axes, dtype=np.float64)
    mean, var = (batch_mean, batch_var) if training else (running_mean, running_var)
    expected, gradient = reference(x, weight, bias, mean, var, 1e-5, activation == "relu")
    moved_mean = 0.75 * running_mean + 0.25 * batch_mean if training else running_mean.copy()
    moved_var = 0.75 * running_var + 0.25 * batch_var * n / (n - 1) if training else running_var.copy()

    with guard_memory():
        out, saved = batch_norm_forward(
            x, weight, bias, running_mean, running_var, training=training, momentum=0.25, activation=activation
        )
        grads = batch_norm_backward(grad, saved)

    tolerance = {"rtol": 1e-4, "atol": 3e-5} if dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-11}
    assert out.dtype == dtype
    np.testing.assert_allclose(out, expected, **tolerance)
    np.testing.assert_allclose(running_mean, moved_mean, **tolerance)
    np.testing.assert_allclose(running_var, moved_var, **tolerance)
    for got, wanted in zip(grads, gradient(grad, training), strict=True):
        assert got.dtype == dtype
        scale = max(1.0, float(np.abs(wanted).max()))
        np.testing.assert_allclose(got / scale, wanted / scale, **tolerance)


@dtypes
def test_absent_vectors_are_ones_and_zeros(dtype):
    x = problem((4, 3, 5, 5), dtype)[0]
    plain, _ = batch_norm_forward(x)
    given, _ = batch_norm_forward(x, np.ones(3, dtype), np.zeros(3, dtype), np.zeros(3, dtype), np.ones(3, dtype))
    np.testing.assert_array_equal(plain, given)


@dtypes
def test_how_large_a_result_is_changes_no_bit(dtype, monkeypatch):
    x, grad = problem((8, 16, 40, 41), dtype)[::5]
    results = []
    for large in (0, LARGE, HUGE):
        monkeypatch.setattr(_norm_plan, "_how_large", lambda size, dtype, again, large=large: large)
        _norm_plan.plan_forward.cache_clear()
        _norm_plan.plan_backward.cache_clear()
        out, saved = batch_norm_forward(x)
        results.append(out.tobytes() + batch_norm_backward(grad, saved)[0].tobytes())
    assert len(set(results)) == 1
    monkeypatch.undo()
    _norm_plan.plan_forward.cache_clear()
    _norm_plan.plan_backward.cache_clear()


@pytest.mark.parametrize("mean", [0.0, 1.0, 1e3, 1e4, -1e5])
def test_float32_keeps_its_precision_where_the_mean_is_much_larger_than_the_deviation(mean):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((4, 8, 60, 61)) + mean).astype(np.float32)
    out, _ = batch_norm_forward(x, eps=0.0)
    exact = x.astype(np.float64)
    exact = (exact - exact.mean((0, 2, 3), keepdims=True)) / exact.std((0, 2, 3), keepdims=True)
    assert np.abs(out - exact).max() < 2e-6


def test_an_outlier_in_front_does_not_spoil_the_statistics():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 8, 60, 61)).astype(np.float32)
    x[0, :, 0, 0] = 3e3
    out, _ = batch_norm_forward(x, eps=0.0)
    exact = x.astype(np.float64)
    exact = (exact - exact.mean((0, 2, 3), keepdims=True)) / exact.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(out, exact, rtol=3e-6, atol=3e-6)


@dtypes
def test_constant_channels_give_the_bias(dtype):
    x = np.full((4, 3, 5, 5), 7.3, dtype)
    out, saved = batch_norm_forward(x, bias=np.array([1, 2, 3], dtype))
    expected = np.broadcast_to(np.reshape([1, 2, 3], (1, 3, 1, 1)), x.shape)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e4 * np.finfo(dtype).eps)
    assert np.isfinite(batch_norm_backward(np.ones_like(x), saved)[0]).all()


@dtypes
def test_memory_orders_agree(dtype):
    x, weight, bias, mean, var, grad = problem((4, 5, 6, 7), dtype)
    wide = np.zeros((4, 10, 6, 7), dtype)
    wide[:, ::2] = x
    read_only = x.copy()
    read_only.setflags(write=False)
    inputs = [x, np.asfortranarray(x), wide[:, ::2], np.ascontiguousarray(x[::-1, :, ::-1])[::-1, :, ::-1], read_only]
    results = []
    for array in inputs:
        out, saved = batch_norm_forward(array, weight, bias, mean.copy(), var.copy())
        results.append((out, *batch_norm_backward(grad, saved)))
    for result in results[1:]:
        for a, b in zip(results[0], result, strict=True):
            np.testing.assert_array_equal(a, b)
    assert results[0][0].transpose(0, 2, 3, 1).flags.c_contiguous


def test_vectors_may_lie_anywhere():
    """Statistics at addresses that are multiples of 4 but not of 8 move in place; others by a copy, like views."""
    x = problem((4, 5, 6, 7), np.float32)[0]
    results = []
    for offset in (0, 4, 1):
        mean, var = (np.ndarray(5, np.float32, np.zeros(40, np.uint8), offset) for _ in range(2))
        inputs = np.ndarray(x.shape, x.dtype, np.zeros(x.nbytes + 8, np.uint8), offset)
        inputs[...] = x
        out, saved = batch_norm_forward(inputs, running_mean=mean, running_var=var)
        results.append((out, mean, var, *batch_norm_backward(inputs, saved)))
    assert results[0][1].any()
    for result in results[1:]:
        for a, b in zip(results[0], result, strict=True):
            np.testing.assert_array_equal(a, b)


def test_running_statistics_must_be_writable_to_move():
    x = problem((4, 5, 6, 7), np.float32)[0]
    mean, var = np.zeros(5, np.float32), np.ones(5, np.float32)
    mean.setflags(write=False)
    batch_norm_forward(x, running_mean=mean, running_var=var, training=False)
    with pytest.raises(ValueError, match="read-only"):
        batch_norm_forward(x, running_mean=mean, running_var=var)
    assert not mean.any()


def test_settings_may_change_from_call_to_call():
    x = problem((4, 5, 6, 7), np.float64)[0]
    for momentum, eps in ((0.1, 1e-5), (0.5, 1e-5), (0.5, 1.0)):
        mean = np.zeros(5)
        out, _ = batch_norm_forward(x, running_mean=mean, running_var=np.ones(5), momentum=momentum, eps=eps)
        np.testing.assert_allclose(mean, momentum * x.mean((0, 2, 3)), rtol=1e-12)
        variance = x.var((0, 2, 3))
        np.testing.assert_allclose(out.var((0, 2, 3)), variance / (variance + eps), rtol=1e-10)


def test_running_statistics_may_be_views():
    x = problem((4, 5, 6, 7), np.float32)[0]
    table = np.zeros((5, 2), np.float32)
    contiguous = np.zeros(5, np.float32), np.zeros(5, np.float32)
    batch_norm_forward(x, running_mean=table[:, 0], running_var=table[:, 1])
    batch_norm_forward(x, running_mean=contiguous[0], running_var=contiguous[1])
    np.testing.assert_array_equal(table.T, contiguous)


@pytest.mark.parametrize("shape", [(16, 64, 30, 31), (8, 3, 33, 35), (300, 130)], ids=str)
def test_same_bits_on_any_number_of_threads(shape):
    x, weight, bias, mean, var, grad = problem(shape, np.float32)

    def compute():
        running = mean.copy(), var.copy()
        out, saved = batch_norm_forward(x, weight, bias, *running, activation="relu")
        return out, *running, *batch_norm_backward(grad, saved)

    assert_same_bits(compute)


@dtypes
def test_nan_spoils_only_its_channel(dtype):
    x = problem((4, 3, 5, 5), dtype)[0]
    x[1, 2, 3, 3] = np.nan
    for activation in ("none", "relu"):
        out, _ = batch_norm_forward(x, activation=activation)
        assert np.isnan(out[:, 2]).all()
        assert not np.isnan(out[:, :2]).any()


@dtypes
def test_empty_batches(dtype):
    for shape in ((0, 3), (0, 3, 4, 4), (2, 3, 0)):
        x = np.zeros(shape, dtype)
        running = np.full(3, 5, dtype), np.full(3, 6, dtype)
        out, saved = batch_norm_forward(x, None, None, *running)
        assert out.shape == shape
        np.testing.assert_array_equal(running, np.array([[5] * 3, [6] * 3], dtype))
        grad_input, grad_weight, grad_bias = batch_norm_backward(x, saved)
        assert grad_input.shape == shape
        np.testing.assert_array_equal([grad_weight, grad_bias], np.zeros((2, 3)))


def test_refused_input():
    x = np.ones((2, 3, 4), np.float32)
    with pytest.raises(
        ShapeError, match=r"more than 1 value per channel when training, got an input of shape \(1, 3\)"
    ):
        batch_norm_forward(np.ones((1, 3)))
    with pytest.raises(ShapeError, match=r"2 to 5 axes, got shape \(3,\)"):
        batch_norm_forward(np.ones(3))
    with pytest.raises(ShapeError, match=r"weight must have one element per channel, shape \(3,\).*got shape \(4,\)"):
        batch_norm_forward(x, np.ones(4, np.float32))
    with pytest.raises(OptionError, match="must be given together; running_var is None"):
        batch_norm_forward(x, running_mean=np.ones(3, np.float32))
    with pytest.raises(OptionError, match="nothing to normalise by; use training=True"):
        batch_norm_forward(x, training=False)
    with pytest.raises(OptionError, match=r"eps must not be negative, got -1"):
        batch_norm_forward(x, eps=-1)
    with pytest.raises(OptionError, match="activation must be one of 'none', 'relu'"):
        batch_norm_forward(x, activation="tanh")
    with pytest.raises(DTypeError, match="x is float32 but weight is float64"):
        batch_norm_forward(x, np.ones(3))
    with pytest.raises(DTypeError, match="got int64"):
        batch_norm_forward(np.ones((2, 3), np.int64))
    _, saved = batch_norm_forward(x)
    with pytest.raises(ShapeError, match=r"grad_output has shape \(2, 3\), but the output had shape \(2, 3, 4\)"):
        batch_norm_backward(np.ones((2, 3), np.float32), saved)
