"""Pools of arrays: the shared table of cases against naive loops, with `==` wherever arithmetic is exact."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from numbacnn.errors import DTypeError, OptionError, ShapeError
from numbacnn.ops.layout import is_channels_last
from numbacnn.ops.memory import guard_memory
from numbacnn.ops.pool import (
    avg_pool_backward,
    avg_pool_forward,
    lp_pool_backward,
    lp_pool_forward,
    max_pool_backward,
    max_pool_forward,
)
from numbacnn.ops.unpool import max_pool_indices
from tests import naive
from tests.bits import assert_rounded, assert_same_bits
from tests.cases import POOL_CASES, in_order, integers, pool_array

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
cases = pytest.mark.parametrize("case", POOL_CASES, ids=str)


def naive_shape(case):
    """The output shape of a case, of which a naive loop over an empty batch cannot tell."""
    return naive.max_pool(np.zeros((1, 1, *case.size)), case.kernel, **case.max_options)[0].shape[2:]


@cases
def test_max_pool(case):
    x = pool_array(case)
    out, offsets = max_pool_forward(x, case.kernel, **case.max_options)
    expected, indices = naive.max_pool(x, case.kernel, **case.max_options)
    assert out.dtype == x.dtype
    assert out.shape == (case.batch, case.channels, *naive_shape(case))
    assert is_channels_last(out)
    assert (out == expected).all()
    assert (max_pool_indices(offsets, x.shape, case.kernel, **case.max_options) == indices).all()
    plain, nothing = max_pool_forward(x, case.kernel, **case.max_options, with_offsets=False)
    assert nothing is None
    assert plain.tobytes() == out.tobytes()


@cases
def test_max_pool_backward(case):
    x = pool_array(case)
    out, offsets = max_pool_forward(x, case.kernel, **case.max_options)
    grad = in_order(integers(out.shape, case.dtype, 1), case.order)
    result = max_pool_backward(grad, offsets, x.shape, case.kernel, **case.max_options)
    assert result.dtype == x.dtype
    assert is_channels_last(result)
    indices = max_pool_indices(offsets, x.shape, case.kernel, **case.max_options)
    assert (result == naive.max_pool_backward(grad, indices, x.shape)).all()


@pytest.mark.parametrize(
    ("shape", "kernel", "options"),
    [
        ((2, 70, 61, 67), 3, {"stride": 2, "padding": 1}),
        ((1, 40, 9000), 5, {"stride": 2, "padding": 2, "ceil_mode": True}),
        ((1, 1, 200_000), 3, {"stride": 1, "padding": 1}),
        ((1, 33, 20, 21, 22), (2, 3, 2), {"stride": 1, "padding": 1, "dilation": (1, 2, 1)}),
        ((1, 3, 4, 40_000), (3, 2), {"stride": (1, 3)}),
        # Windows side by side, that reach the end, do not, and reach beyond.
        ((2, 70, 61, 67), 2, {}),
        ((2, 70, 61, 67), 2, {"ceil_mode": True}),
        ((3, 33, 20, 21, 22), (2, 3, 2), {}),
        ((1, 3, 4, 40_000), (2, 3), {}),
        ((2, 1, 100_001), 2, {}),
        ((1, 21, 40, 41), 17, {}),
    ],
    ids=str,
)
def test_max_pool_backward_in_several_blocks(shape, kernel, options):
    x = integers(shape, "float32", 0)
    out, offsets = max_pool_forward(x, kernel, **options)
    indices = max_pool_indices(offsets, shape, kernel, **options)
    planes = indices.reshape(*shape[:2], -1)
    assert (np.take_along_axis(x.reshape(*shape[:2], -1), planes, -1).reshape(out.shape) == out).all()
    grad = integers(out.shape, "float32", 1)
    gradient = max_pool_backward(grad, offsets, shape, kernel, **options)
    assert (gradient == naive.max_pool_backward(grad, indices, shape)).all()


@cases
def test_avg_pool(case):
    x = pool_array(case)
    out = avg_pool_forward(x, case.kernel, **case.avg_options)
    assert out.dtype == x.dtype
    assert is_channels_last(out)
    assert_rounded(out, naive.avg_pool(x, case.kernel, **case.avg_options))
    sums = avg_pool_forward(x, case.kernel, **case.avg_options, divisor_override=1)
    assert (sums == naive.avg_pool(x, case.kernel, **case.avg_options, divisor_override=1)).all()


@cases
def test_avg_pool_backward(case):
    shape = case.input_shape
    out_shape = avg_pool_forward(np.zeros(shape, case.dtype), case.kernel, **case.avg_options).shape
    grad = in_order(integers(out_shape, case.dtype, 1), case.order)
    result = avg_pool_backward(grad, shape, case.kernel, **case.avg_options)
    assert is_channels_last(result)
    assert_rounded(result, naive.avg_pool_backward(grad, shape, case.kernel, **case.avg_options))
    options = {**case.avg_options, "divisor_override": 1}
    exact = avg_pool_backward(grad, shape, case.kernel, **options)
    assert (exact == naive.avg_pool_backward(grad, shape, case.kernel, **options)).all()


# ------------------------------------------------------------------------------------------------ windows of any shape


@st.composite
def pools(draw):
    rank = draw(st.integers(1, 3))
    axis = st.tuples(*[st.integers(1, 4)] * rank)
    kernel, stride, dilation = draw(axis), draw(axis), draw(axis)
    side_by_side = draw(st.booleans())
    if side_by_side:
        stride, dilation = kernel, (1,) * rank
    span = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    padding = 0 if side_by_side else tuple((draw(st.integers(0, s // 2)), draw(st.integers(0, s // 2))) for s in span)
    size = tuple(draw(st.integers(s, s + 7)) for s in span)
    channels = draw(st.sampled_from([1, 2, 3, 5, 8, 9, 19]))
    return (draw(st.integers(1, 2)), channels, *size), kernel, stride, padding, dilation, draw(st.booleans())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pools(), st.integers(0, 99))
def test_any_window(pool, seed):
    shape, kernel, stride, padding, dilation, ceil_mode = pool
    x = integers(shape, "float32", seed)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    with guard_memory(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out, offsets = max_pool_forward(x, kernel, **options)
        expected, indices = naive.max_pool(x, kernel, **options)
        assert (out == expected).all()
        assert (max_pool_indices(offsets, shape, kernel, **options) == indices).all()
        grad = integers(out.shape, "float32", seed)
        gradient = max_pool_backward(grad, offsets, shape, kernel, **options)
        assert (gradient == naive.max_pool_backward(grad, indices, shape)).all()
        if max(dilation) == 1:
            del options["dilation"]
            options["divisor_override"] = 1
            assert (avg_pool_forward(x, kernel, **options) == naive.avg_pool(x, kernel, **options)).all()
            gradient = avg_pool_backward(grad, shape, kernel, **options)
            assert (gradient == naive.avg_pool_backward(grad, shape, kernel, **options)).all()


# --------------------------------------------------------------------------------------------------- values and dtypes


@dtypes
@pytest.mark.parametrize("channels", [1, 5, 8, 21])
def test_nan_wins_and_the_first_of_several(channels, dtype):
    x = np.zeros((1, channels, 1, 40), dtype)
    x[..., 10], x[..., 11], x[..., 12], x[..., 20:23] = np.nan, np.inf, np.nan, -np.inf
    out, offsets = max_pool_forward(x, (1, 3), stride=1)
    expected, indices = naive.max_pool(x, (1, 3), stride=1)
    assert np.array_equal(out, expected, equal_nan=True)
    assert np.isnan(out[0, 0, 0, 8:13]).all()
    assert out[0, 0, 0, 20] == -np.inf
    assert (max_pool_indices(offsets, x.shape, (1, 3), stride=1) == indices).all()


@pytest.mark.parametrize("channels", [3, 20])
def test_nan_outside_the_window_does_not_spread(channels):
    x = np.zeros((1, channels, 9), np.float32)
    x[..., 4] = np.nan
    assert np.isnan(avg_pool_forward(x, 3)[0, 0]).tolist() == [False, True, False]
    out, offsets = max_pool_forward(np.zeros_like(x), 3)
    grad = np.zeros_like(out)
    grad[..., 1] = np.nan  # goes to element 3 alone, though 4 and 5 are in its window too
    assert np.isnan(max_pool_backward(grad, offsets, x.shape, 3)[0, 0]).tolist() == [i == 3 for i in range(9)]


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_max_pool_of_integers(dtype):
    rng = np.random.default_rng(0)
    low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    x = rng.integers(low, high, (2, 3, 9, 10), np.uint64 if dtype == "uint64" else np.int64, endpoint=True).astype(
        dtype
    )
    out, offsets = max_pool_forward(x, 3, stride=2, padding=1)
    expected, indices = naive.max_pool(x, 3, stride=2, padding=1)
    assert out.dtype == dtype
    assert (out == expected).all()
    assert (max_pool_indices(offsets, x.shape, 3, stride=2, padding=1) == indices).all()


@pytest.mark.parametrize(
    ("kernel", "dtype", "channels"),
    [(256, "uint8", 10), (257, "uint16", 1), (257, "uint16", 10), (65536, "uint16", 10), (65537, "int32", 10)],
)
def test_offsets_take_the_smallest_type(kernel, dtype, channels):
    x = np.zeros((1, channels, kernel + 2), np.float32)
    x[0, 0, kernel - 1] = 1
    out, offsets = max_pool_forward(x, kernel, stride=1)
    assert offsets.dtype == dtype
    assert offsets[0, 0].tolist() == [kernel - 1, kernel - 2, kernel - 3]
    gradient = max_pool_backward(np.ones_like(out), offsets, x.shape, kernel, stride=1)
    assert gradient[0, 0, kernel - 1] == 3
    assert gradient.sum() == 3 * channels


def test_indices_of_the_whole_tensor_as_onnx_counts_them():
    x = integers((3, 4, 5, 6), "float64", 3)
    out, offsets = max_pool_forward(x, 2, padding=1)
    indices = max_pool_indices(offsets, x.shape, 2, padding=1, form="tensor")
    assert indices.dtype == np.int64
    assert (x.reshape(-1)[indices] == out).all()
    with pytest.raises(OptionError, match="form must be one of 'plane', 'tensor'; got 'flat'"):
        max_pool_indices(offsets, x.shape, 2, padding=1, form="flat")


@pytest.mark.parametrize("norm", [1, 2, 3, 1.5])
@pytest.mark.parametrize("shape", [(2, 3, 9), (1, 17, 8, 6)], ids=str)
def test_lp_pool(shape, norm):
    x = np.random.default_rng(0).uniform(0.5, 2, shape)
    out = lp_pool_forward(x, norm, 2, stride=2)
    expected = naive.avg_pool(x**norm, 2, stride=2, divisor_override=1) ** (1 / norm)
    np.testing.assert_allclose(out, expected, rtol=1e-13)
    grad = np.random.default_rng(1).standard_normal(out.shape)
    inner = naive.avg_pool_backward(grad * expected ** (1 - norm), shape, 2, stride=2, divisor_override=1)
    np.testing.assert_allclose(lp_pool_backward(grad, x, out, norm, 2, stride=2), inner * x ** (norm - 1), rtol=1e-12)


def test_lp_pool_keeps_signs_and_has_no_gradient_at_zero():
    x = np.array([[[-3.0, 1.0, 0.0, 0.0, -4.0, 3.0]]])
    assert lp_pool_forward(x, 1, 2).tolist() == [[[-2.0, 0.0, -1.0]]]
    out = lp_pool_forward(x, 2, 2)
    gradient = lp_pool_backward(np.ones_like(out), x, out, 2, 2)
    assert gradient[0, 0, 2:].tolist() == pytest.approx([0.0, 0.0, -0.8, 0.6])
    assert np.isnan(lp_pool_forward(x, 3, 2)[0, 0, 0])


# ----------------------------------------------------------------------------------------------------- reproducibility


@pytest.mark.parametrize("channels", [3, 70])
def test_same_bits_on_any_number_of_threads(channels):
    x = np.random.default_rng(0).standard_normal((3, channels, 61, 67)).astype(np.float32)
    options = {"stride": 2, "padding": 1}

    def results():
        out, offsets = max_pool_forward(x, 3, **options)
        average = avg_pool_forward(x, 3, **options)
        shape = x.shape
        return (
            out,
            offsets,
            average,
            max_pool_backward(average, offsets, shape, 3, **options),
            avg_pool_backward(average, shape, 3, **options),
            max_pool_backward(*max_pool_forward(x, 2), shape, 2),
        )

    assert_same_bits(results)


def test_a_non_contiguous_gradient_gives_the_same_bits():
    x = np.random.default_rng(0).standard_normal((2, 18, 12, 10)).astype(np.float32)
    out, offsets = max_pool_forward(x, 2)
    for order in ("C", "F", "reversed", "sliced"):
        grad = in_order(np.ascontiguousarray(out), order)
        result = max_pool_backward(grad, np.ascontiguousarray(offsets), x.shape, 2)
        assert (result == max_pool_backward(out, offsets, x.shape, 2)).all()
    broadcast = np.broadcast_to(np.float32(1), out.shape)
    assert avg_pool_backward(broadcast, x.shape, 2).sum() == out.size


# -------------------------------------------------------------------------------------------------------------- torch


def has_counterpart_in_torch(case):
    """One padding per axis, none of dilated windows (measured by their undilated size), a batch to go back through."""
    named_or_sides = isinstance(case.padding, str) or np.ndim(case.padding) > 1
    return case.batch and not named_or_sides and (not case.padding or case.dilation == 1)


@pytest.mark.parametrize("case", list(filter(has_counterpart_in_torch, POOL_CASES)), ids=str)
def test_against_torch(case):
    torch = pytest.importorskip("torch")
    rank = len(case.size)
    x = np.array(pool_array(case))
    functional = torch.nn.functional
    leaf = torch.tensor(x, requires_grad=True)
    expected, indices = getattr(functional, f"max_pool{rank}d")(
        leaf, case.kernel, **case.max_options, return_indices=True
    )
    out, offsets = max_pool_forward(x, case.kernel, **case.max_options)
    assert (out == expected.detach().numpy()).all()
    assert (max_pool_indices(offsets, x.shape, case.kernel, **case.max_options) == indices.numpy()).all()
    grad = integers(out.shape, case.dtype, 1)
    expected.backward(torch.tensor(grad))
    assert (max_pool_backward(grad, offsets, x.shape, case.kernel, **case.max_options) == leaf.grad.numpy()).all()
    leaf.grad = None
    average = getattr(functional, f"avg_pool{rank}d")(leaf, case.kernel, **case.avg_options)
    assert_rounded(avg_pool_forward(x, case.kernel, **case.avg_options), average.detach().numpy())
    grad = integers(average.shape, case.dtype, 1)
    average.backward(torch.tensor(grad))
    assert_rounded(avg_pool_backward(grad, x.shape, case.kernel, **case.avg_options), leaf.grad.numpy())


# -------------------------------------------------------------------------------------------------------------- errors


def x32(*shape):
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize("forward", [max_pool_forward, avg_pool_forward])
def test_bad_options(forward):
    x = x32(1, 2, 5, 5)
    with pytest.raises(ShapeError, match="the kernel spans 6 samples"):
        forward(x, 6)
    with pytest.raises(OptionError, match="padding of a pool must be at most half"):
        forward(x, 2, padding=2)
    with pytest.raises(OptionError, match="kernel_size must be at least 1, got 0"):
        forward(x, 0)
    with pytest.raises(OptionError, match="stride must be at least 1, got -1"):
        forward(x, 2, stride=-1)
    with pytest.raises(OptionError, match="kernel_size must be an integer or 2 integers"):
        forward(x, (1, 2, 3))
    with pytest.raises(ShapeError, match="3 to 5 axes"):
        forward(x32(5, 5), 2)
    with pytest.raises(ShapeError, match="only the batch may be empty"):
        forward(x32(1, 0, 5), 2)


def test_windows_wholly_in_the_padding():
    with pytest.raises(ShapeError, match=r"window 0 lies wholly in the padding \(size 1, kernel_size 2, dilation 3"):
        max_pool_forward(x32(1, 1, 1), 2, stride=1, padding=2, dilation=3)
    with pytest.raises(ShapeError, match="wholly in the padding"):
        avg_pool_forward(x32(1, 1, 20), 2, stride=2, padding="same_size")


def test_bad_dtypes():
    for dtype in (np.float16, np.complex64):
        with pytest.raises(DTypeError, match=f"x must be float32 or float64, got {np.dtype(dtype).name}"):
            max_pool_forward(np.zeros((1, 1, 4), dtype), 2)
    with pytest.raises(DTypeError, match=r"got int64; convert it with x.astype\(np.float32\)"):
        avg_pool_forward(np.zeros((1, 1, 4), np.int64), 2)
    with pytest.raises(DTypeError, match="grad_output must be"):
        avg_pool_backward(np.zeros((1, 1, 2), np.int64), (1, 1, 4), 2)


def test_bad_gradients():
    _, offsets = max_pool_forward(x32(1, 2, 6), 2)
    with pytest.raises(ShapeError, match=r"grad_output has shape \(1, 2, 4\), but a pool of input \(1, 2, 6\) gives"):
        max_pool_backward(x32(1, 2, 4), offsets, (1, 2, 6), 2)
    with pytest.raises(ShapeError, match=r"offsets must be uint8 of shape \(1, 2, 3\).*got int64"):
        max_pool_backward(x32(1, 2, 3), offsets.astype(np.int64), (1, 2, 6), 2)


def test_bad_options_of_single_pools():
    with pytest.raises(OptionError, match="divisor_override must be at least 1, got 0"):
        avg_pool_forward(x32(1, 1, 4), 2, divisor_override=0)
    for norm in (0, -1, math.inf, math.nan, "2", True):
        with pytest.raises(OptionError, match="norm_type must be a positive finite number"):
            lp_pool_forward(x32(1, 1, 4), norm, 2)
