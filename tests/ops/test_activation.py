"""Activation functions on arrays: values, memory orders, special values, same bits on any number of threads."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from numbacnn.errors import DTypeError, OptionError, ShapeError
from numbacnn.kernels import activation as kernels
from numbacnn.kernels import softmax as softmax_kernels
from numbacnn.kernels._build import Kernel
from numbacnn.kernels._target import target
from numbacnn.ops import activation as ops
from numbacnn.ops.memory import guard_memory
from tests.assembly import vector_register
from tests.bits import assert_same_bits

DTYPES = (np.float32, np.float64)
erf = np.vectorize(math.erf, otypes=[np.float64])


def normal_cdf(x):
    return np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)), otypes=[np.float64])(x)


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


# name: forward, the reference, backward, what backward takes, extra arguments
CASES = {
    "relu": (ops.relu_forward, lambda x: np.maximum(x, 0), ops.relu_backward, "output", ()),
    "leaky_relu": (
        ops.leaky_relu_forward,
        lambda x: np.where(x >= 0, x, 0.2 * x),
        ops.leaky_relu_backward,
        "x",
        (0.2,),
    ),
    "steep_relu": (ops.leaky_relu_forward, lambda x: np.where(x >= 0, x, 3 * x), ops.leaky_relu_backward, "x", (3.0,)),
    "sigmoid": (ops.sigmoid_forward, lambda x: 1 / (1 + np.exp(-x)), ops.sigmoid_backward, "output", ()),
    "tanh": (ops.tanh_forward, np.tanh, ops.tanh_backward, "output", ()),
    "silu": (ops.silu_forward, lambda x: x / (1 + np.exp(-x)), ops.silu_backward, "x", ()),
    "gelu": (ops.gelu_forward, lambda x: x * normal_cdf(x), ops.gelu_backward, "x", ()),
    "gelu_tanh": (ops.gelu_forward, gelu_tanh, ops.gelu_backward, "x", ("tanh",)),
    "softmax": (ops.softmax_forward, lambda x: softmax(x, 1), ops.softmax_backward, "output", (1,)),
    "log_softmax": (ops.log_softmax_forward, lambda x: np.log(softmax(x, 1)), ops.log_softmax_backward, "output", (1,)),
}
cases = pytest.mark.parametrize("name", CASES)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def memory_orders(x):
    """The same values in every kind of memory."""
    wide = np.zeros((x.shape[0], 2 * x.shape[1], *x.shape[2:]), x.dtype)
    wide[:, ::2] = x
    read_only = x.copy()
    read_only.setflags(write=False)
    yield "C", np.ascontiguousarray(x)
    yield "Fortran", np.asfortranarray(x)
    yield "channels last", np.ascontiguousarray(np.moveaxis(x, 1, -1)).transpose(0, -1, *range(1, x.ndim - 1))
    yield "sliced", wide[:, ::2]
    yield "negative", np.ascontiguousarray(x[::-1, :, ::-1])[::-1, :, ::-1]
    yield "read-only", read_only


@dtypes
@cases
def test_values_in_every_memory_order(name, dtype):
    forward, reference, _, _, options = CASES[name]
    rng = np.random.default_rng(0)
    x = (3 * rng.standard_normal((3, 5, 4, 7))).astype(dtype)
    expected = reference(x.astype(np.float64))
    for order, array in memory_orders(x):
        with guard_memory():
            out = forward(array, *options)
        assert out.dtype == dtype
        np.testing.assert_allclose(
            out, expected, rtol=30 * np.finfo(dtype).eps, atol=3 * np.finfo(dtype).eps, err_msg=order
        )


@dtypes
@cases
def test_gradients_in_every_memory_order(name, dtype):
    """Against central differences of the float64 reference."""
    forward, reference, backward, takes, options = CASES[name]
    rng = np.random.default_rng(1)
    x = 2 * rng.standard_normal((3, 5, 4, 7))
    grad = rng.standard_normal(x.shape).astype(dtype)
    h = 1e-5
    if "softmax" in name:
        expected = np.zeros(x.shape)
        for k in range(x.shape[1]):
            step = np.zeros((1, x.shape[1], 1, 1))
            step[:, k] = h
            slope = (reference(x + step) - reference(x - step)) / (2 * h)
            expected[:, k] = (grad * slope).sum(1)
    else:
        expected = grad * (reference(x + h) - reference(x - h)) / (2 * h)
    x = x.astype(dtype)
    for (order, array), (_, array_grad) in zip(memory_orders(x), list(memory_orders(grad))[::-1], strict=True):
        saved = array if takes == "x" else forward(array, *options)
        with guard_memory():
            got = backward(array_grad, saved, *options)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=3e-6 if dtype == np.float32 else 1e-8, err_msg=order)


@dtypes
@cases
def test_the_result_keeps_the_order_of_axes(name, dtype):
    forward, _, backward, takes, options = CASES[name]
    x = np.zeros((2, 5, 6, 3), dtype).transpose(0, 3, 1, 2)
    out = forward(x, *options)
    assert out.shape == x.shape
    assert out.strides == x.strides
    assert backward(np.zeros(x.shape, dtype), out if takes == "output" else x, *options).strides == x.strides


@dtypes
@cases
def test_empty_arrays(name, dtype):
    forward, _, backward, _, options = CASES[name]
    for shape in ((0, 3), (2, 0, 4), (0, 0)):
        x = np.zeros(shape, dtype)
        assert forward(x, *options).shape == shape
        assert backward(x, x, *options).shape == shape


@cases
def test_same_bits_on_any_number_of_threads(name):
    forward, _, backward, takes, options = CASES[name]
    rng = np.random.default_rng(2)
    x, grad = rng.standard_normal((2, 11, 37, 301)).astype(np.float32)

    def compute():
        out = forward(x, *options)
        return out, backward(grad, x if takes == "x" else out, *options)

    assert_same_bits(compute)


@dtypes
@cases
def test_nan_propagates(name, dtype):
    forward, _, backward, takes, options = CASES[name]
    x = np.ones((2, 19), dtype)
    x[1, 3] = np.nan
    out = forward(x, *options)
    assert np.isnan(out[1, 3])
    assert not np.isnan(out[0]).any()
    grad = backward(np.ones_like(x), out if takes == "output" else x, *options)
    # ReLU and leaky ReLU have no slope to be NaN; like PyTorch they pass the gradient.
    assert np.isnan(grad[1, 3]) or name.endswith("relu")
    assert not np.isnan(grad[0]).any()


@dtypes
def test_relu_has_gradient_zero_at_zero(dtype):
    x = np.array([-1, -0.0, 0.0, 1], dtype)
    np.testing.assert_array_equal(ops.relu_backward(np.ones_like(x), ops.relu_forward(x)), [0, 0, 0, 1])
    np.testing.assert_array_equal(ops.leaky_relu_backward(np.ones_like(x), x, 0.5), [0.5, 0.5, 0.5, 1])


@dtypes
def test_saturation(dtype):
    x = np.array([-np.inf, -1e30, 1e30, np.inf], dtype)
    np.testing.assert_array_equal(ops.sigmoid_forward(x), [0, 0, 1, 1])
    np.testing.assert_array_equal(ops.tanh_forward(x), [-1, -1, 1, 1])
    np.testing.assert_array_equal(ops.relu_forward(x), np.array([0, 0, 1e30, np.inf], dtype))
    np.testing.assert_array_equal(ops.gelu_forward(x[1:]), np.array([0, 1e30, np.inf], dtype))
    np.testing.assert_array_equal(ops.silu_forward(x[1:]), np.array([0, 1e30, np.inf], dtype))


@dtypes
@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 31, 64, 100])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_softmax_along_every_axis_and_of_every_length(axis, n, dtype):
    rng = np.random.default_rng(n)
    shape = [3, 4, 5]
    shape[axis] = n
    x = (10 * rng.standard_normal(shape)).astype(dtype)
    expected = softmax(x.astype(np.float64), axis)
    tolerance = {"rtol": 60 * np.finfo(dtype).eps, "atol": 1e-30}
    np.testing.assert_allclose(ops.softmax_forward(x, axis), expected, **tolerance)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(ops.log_softmax_forward(x, axis), np.log(expected), rtol=1e-5, atol=1e-5)


@dtypes
@pytest.mark.parametrize("rows", [1, 3, 1001])
@pytest.mark.parametrize("n", range(1, 10))
def test_softmax_gradient_of_short_rows(n, rows, dtype):
    rng = np.random.default_rng(n)
    y, grad = rng.integers(-4, 5, (2, rows, n)).astype(dtype)
    expected = y * (grad - (grad * y).sum(1, keepdims=True))
    np.testing.assert_array_equal(ops.softmax_backward(grad, y), expected)
    grad[rows // 2] = np.nan
    expected[rows // 2] = np.nan
    np.testing.assert_array_equal(ops.softmax_backward(grad, y), expected)


@dtypes
@pytest.mark.parametrize("rows", [1, 131])
@pytest.mark.parametrize("n", [*range(1, 37), 49, 64])
def test_log_softmax_gradient_of_short_rows(n, rows, dtype):
    rng = np.random.default_rng(n)
    y, grad = np.log(rng.uniform(0.1, 1, (rows, n))).astype(dtype), rng.standard_normal((rows, n)).astype(dtype)
    expected = grad - np.exp(y.astype(np.float64)) * grad.astype(np.float64).sum(1, keepdims=True)
    with guard_memory():
        result = ops.log_softmax_backward(grad, y)
    np.testing.assert_allclose(result, expected, rtol=0, atol=200 * np.finfo(dtype).eps)


@dtypes
@pytest.mark.parametrize("axis", [0, 1])
def test_softmax_of_extreme_values(axis, dtype):
    row = np.array([[1e4, -1e4, 0, 1e4]], dtype)
    x = row if axis == 1 else row.T
    np.testing.assert_array_equal(ops.softmax_forward(x, axis).ravel(), [0.5, 0, 0, 0.5])
    assert np.isfinite(ops.log_softmax_forward(x, axis)).all()
    hidden = np.array([[-np.inf, 0, -np.inf, 0]], dtype)  # a mask
    x = hidden if axis == 1 else hidden.T
    np.testing.assert_array_equal(ops.softmax_forward(x, axis).ravel(), [0, 0.5, 0, 0.5])


@cases
def test_refused_input(name):
    forward, _, backward, _, options = CASES[name]
    with pytest.raises(DTypeError, match="must be float32 or float64, got int64"):
        forward(np.ones((2, 3), np.int64), *options)
    with pytest.raises(DTypeError, match="float16"):
        forward(np.ones((2, 3), np.float16), *options)
    with pytest.raises(ShapeError, match=r"\(2, 3\).*\(3, 2\)"):
        backward(np.ones((2, 3)), np.ones((3, 2)), *options)
    with pytest.raises(DTypeError, match="float32 but"):
        backward(np.ones((2, 3), np.float32), np.ones((2, 3)), *options)


@pytest.mark.parametrize("dim", [2, -3, 0.5, True, None])
def test_softmax_refuses_an_axis_that_is_not_there(dim):
    with pytest.raises(OptionError, match=r"dim must be an axis of the input, which has shape \(2, 3\)"):
        ops.softmax_forward(np.ones((2, 3)), dim)


def test_gelu_refuses_an_unknown_approximation():
    with pytest.raises(OptionError, match="approximate must be one of 'none', 'tanh'; got 'erf'"):
        ops.gelu_forward(np.ones(3), "erf")


FLAT_KERNELS = [k for k in vars(kernels).values() if isinstance(k, Kernel)]
ALL_KERNELS = FLAT_KERNELS + [k for k in vars(softmax_kernels).values() if isinstance(k, Kernel)]


@pytest.mark.skipif(not (target().triple.startswith("x86_64") and target().fma), reason="needs x86-64 with AVX2")
@pytest.mark.parametrize("function", ALL_KERNELS, ids=lambda k: k.function.__name__)
def test_the_loops_run_on_full_vectors(function):
    assembly = function.assembly("float32")
    assert re.search(rf"v(mul|max|andn?|fmadd\d+|blendv|sub|cmp\w+)ps\s.*%([yz]mm|{vector_register()})", assembly)
    assert "cvtss2sd" not in assembly
    assert not re.search(r"\$(exp|log|tanh|erf)f?\b", assembly), "a library function per element"
