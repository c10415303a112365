"""Validation, sizes and lifting of convolutions and pools: against counting windows."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbacnn.errors import OptionError, ShapeError
from numbacnn.ops import padding
from numbacnn.ops.geometry import (
    collapse,
    conv_geometry,
    conv_transpose_input_shape,
    part_taps,
    pool_geometry,
    same_padding,
    source_index,
)
from tests import naive
from tests.ops.strategies import axis_sizes, conv_problems

# ------------------------------------------------------------------------------------------------- against the oracle


@given(conv_problems())
def test_conv_sizes_by_counting_windows(problem):
    sizes, kernels, strides, dilations, form = problem
    sides = naive.pads(form, sizes, kernels, strides, dilations)
    wanted = [
        naive.outputs(i + sum(p), k, s, d)
        for i, p, k, s, d in zip(sizes, sides, kernels, strides, dilations, strict=True)
    ]
    shapes = (2, 6, *sizes), (4, 3, *kernels)
    if 0 in wanted:
        with pytest.raises(ShapeError, match="it would fit with padding="):
            conv_geometry(*shapes, strides, form, dilations, 2)
        return
    g = conv_geometry(*shapes, strides, form, dilations, 2)
    assert g.output_shape == (2, 4, *wanted)
    assert (g.input_shape, g.weight_shape) == shapes
    assert list(zip(g.pad_low, g.pad_high, strict=True))[3 - g.rank :] == sides
    assert (g.in_per_group, g.out_per_group, g.taps) == (3, 2, math.prod(kernels))
    assert g.params() == 4 * (3 * g.taps + 1)
    assert g.params(bias=False) == 4 * 3 * g.taps
    assert g.flops == 2 * math.prod(g.output_shape) * 3 * g.taps


@pytest.mark.parametrize(
    ("name", "sides"),
    [("valid", (0, 0)), ("same", (1, 2)), ("same_lower", (2, 1)), ("same_size", (4, 5)), ("causal", (4, 0))],
)
def test_the_odd_sample_of_named_padding(name, sides):
    """A kernel that spans 5 of 6 samples, at every other one: 3 samples of padding give 3 outputs, 9 give 6."""
    g = conv_geometry((1, 1, 6), (1, 1, 3), 2, name, 2)
    assert (g.pad_low[2], g.pad_high[2]) == sides


@given(axis_sizes, st.integers(0, 3), st.booleans())
def test_pool_sizes_by_walking_windows(axis, pad, ceil_mode):
    size, kernel, stride, dilation = axis
    pad = min(pad, (dilation * (kernel - 1) + 1) // 2)
    positions = [p for p, *_ in naive.pool_windows((size,), kernel, stride, pad, dilation, ceil_mode)[1]]
    if positions:
        g = pool_geometry((1, 1, size), kernel, stride, pad, dilation, ceil_mode)
        assert g.output == (1, 1, len(positions))
    else:
        with pytest.raises(ShapeError, match="it would fit with padding="):
            pool_geometry((1, 1, size), kernel, stride, pad, dilation, ceil_mode)


@given(axis_sizes, st.integers(-8, 30), st.sampled_from(padding.PADDING_MODES), st.integers(0, 9))
def test_source_index_one_by_one(axis, pad, mode, output):
    size, kernel, stride, dilation = axis
    table = source_index(size, output, kernel, stride, dilation, pad, mode)
    assert table.shape == (output, kernel)
    assert table.dtype == np.int64
    for o, k in itertools.product(range(output), range(kernel)):
        wanted = naive.source(
            stride * o + dilation * k - pad, size, mode if size > 1 or mode != "reflect" else "replicate"
        )
        assert table[o, k] == (-1 if wanted is None else wanted)


def test_source_index_is_kept_and_protected():
    first = source_index(9, 9, 3, 1, 1, 1, "zeros")
    assert source_index(9, 9, 3, 1, 1, 1, "zeros") is first
    assert not first.flags.writeable
    # Large tables are not kept, and a part of one is had by shifting the padding.
    large = source_index(50_000, 50_000, 3, 1, 1, 1, "circular")
    assert source_index(50_000, 50_000, 3, 1, 1, 1, "circular") is not large
    np.testing.assert_array_equal(source_index(50_000, 10, 3, 1, 1, 1 - 49_990, "circular"), large[49_990:])


@given(axis_sizes)
def test_same_padding_is_the_formula(axis):
    size, kernel, stride, dilation = axis
    span = dilation * (kernel - 1) + 1
    p = same_padding(size, kernel, stride, dilation)
    assert p == math.floor(((stride - 1) * size - stride + span) / 2)
    # On both sides it keeps the size, or misses one output where the total is odd.
    assert size - (size + 2 * p - span) // stride - 1 in (0, 1)


def test_same_padding_per_axis():
    assert same_padding((8, 9), 3) == (1, 1)
    assert same_padding(8, [3, 5], stride=(1, 2)) == (1, 5)
    with pytest.raises(OptionError, match="kernel_size must be at least 1"):
        same_padding(8, 0)


@given(conv_problems())
def test_transposed_shape_by_counting(problem):
    sizes, kernels, strides, dilations, form = problem
    if isinstance(form, str):
        form = 0
    weight_shape = (4, 3, *kernels)
    wanted = [
        (i - 1) * s + d * (k - 1) + 1 - sum(p)
        for i, k, s, d, p in zip(
            sizes, kernels, strides, dilations, naive.pads(form, sizes, kernels, strides, dilations), strict=True
        )
    ]
    if min(wanted) < 1:
        with pytest.raises(ShapeError, match="the transposed convolution would have"):
            conv_transpose_input_shape((2, 4, *sizes), weight_shape, strides, form, 0, dilations, 2)
        return
    shape = conv_transpose_input_shape((2, 4, *sizes), weight_shape, strides, form, 0, dilations, 2)
    assert shape == (2, 6, *wanted)
    assert conv_geometry(shape, weight_shape, strides, form, dilations, 2).output_shape == (2, 4, *sizes)


# ------------------------------------------------------------------------------------------------------------- lifting


def test_lower_ranks_have_leading_axes_of_one():
    g = conv_geometry((2, 3, 9), (4, 3, 3), 2, ((1, 0),), 2, padding_mode="reflect")
    assert (g.rank, g.input, g.kernel, g.output) == (1, (1, 1, 9), (1, 1, 3), (1, 1, 3))
    assert (g.stride, g.dilation, g.pad_low, g.pad_high) == ((1, 1, 2), (1, 1, 2), (0, 0, 1), (0, 0, 0))
    assert g.padding_mode == ("zeros", "zeros", "reflect")


REFLECT = {"padding_mode": "reflect"}


@pytest.mark.parametrize(
    ("size", "kernel", "options", "few_sizes", "few_kernel", "few_options"),
    [
        ((8, 6, 7), (3, 1, 1), {"padding": (1, 0, 0)}, (8, 42), (3, 1), {"padding": (1, 0)}),
        ((8, 6, 7), (1, 1, 3), {"dilation": (2, 3, 2)}, (48, 7), (1, 3), {"dilation": (1, 2)}),
        ((8, 6, 7), (1, 3, 1), {}, (8, 6, 7), (1, 3, 1), {}),
        ((8, 1, 7), (3, 1, 3), {}, (8, 7), (3, 3), {}),
        ((1, 6, 7), (1, 3, 1), {}, (6, 7), (3, 1), {}),
        ((9, 1), (3, 1), {}, (9,), (3,), {}),
        ((8, 6, 7), (1, 1, 1), {}, (336,), (1,), {}),
        ((8, 6, 7), (1, 1, 1), {"padding": (0, 1, 0)}, (8, 6, 7), (1, 1, 1), {"padding": (0, 1, 0)}),
        ((8, 6, 7), (1, 1, 1), {"stride": (2, 1, 1)}, (8, 42), (1, 1), {"stride": (2, 1)}),
        ((1, 1, 1), (1, 1, 1), {}, (1,), (1,), {}),
        ((1, 1), (1, 3), {"padding": (0, 1)}, (1,), (3,), {"padding": 1}),
        ((5, 6), (3, 1), {**REFLECT, "padding": (2, 0)}, (5, 6), (3, 1), {**REFLECT, "padding": (2, 0)}),
    ],
)  # fmt: skip
def test_axes_along_which_nothing_mixes_are_one(size, kernel, options, few_sizes, few_kernel, few_options):
    few = conv_geometry((2, 4, *few_sizes), (6, 4, *few_kernel), **few_options, warn=False)
    assert collapse(conv_geometry((2, 4, *size), (6, 4, *kernel), **options, warn=False)) == few
    assert collapse(few) == few


@pytest.mark.parametrize("dilation", [1, 2])
def test_taps_of_one_output_are_parted(dilation):
    whole = conv_geometry((2, 4, 9, 9), (6, 4, 5, 3), stride=(1, 2), padding=((0, 0), (1, 1)), warn=False)
    assert part_taps(whole) == whole
    size = (4 * dilation + 1, 9)
    one = conv_geometry((2, 4, *size), (6, 4, 5, 3), dilation=(dilation, 1), stride=(2, 1), warn=False)
    parted = part_taps(one)
    assert parted == one._replace(stride=(1, 5 if dilation == 1 else 2, 1))
    assert part_taps(parted) == parted


def test_padding_mode_is_zeros_where_nothing_is_padded():
    g = conv_geometry((1, 1, 5, 5, 5), (1, 1, 1, 3, 3), padding=(0, 1, 0), padding_mode="circular")
    assert g.padding_mode == ("zeros", "circular", "zeros")
    g = conv_geometry((1, 1, 5, 5), (1, 1, 3, 3), padding=1, padding_mode=("replicate", "zeros"))
    assert g.padding_mode == ("zeros", "replicate", "zeros")


def test_pool_stride_defaults_to_the_window():
    g = pool_geometry((1, 2, 8, 9), (2, 3))
    assert (g.stride, g.output_shape) == ((1, 2, 3), (1, 2, 4, 3))
    assert pool_geometry((1, 2, 8), np.int64(2)) == pool_geometry([1, 2, 8], [2], stride=[2])


def test_empty_batch_is_legal():
    assert conv_geometry((0, 3, 8), (4, 3, 3)).output_shape == (0, 4, 6)
    assert pool_geometry((0, 3, 8), 2).output_shape == (0, 3, 4)


def test_arguments_that_cannot_be_hashed():
    wanted = conv_geometry((1, 4, 9, 9), (4, 2, 3, 3), (2, 1), ((1, 0), (1, 1)), (1, 2), 2)
    lists = conv_geometry([1, 4, 9, 9], np.array([4, 2, 3, 3]), [2, 1], [[1, 0], (1, 1)], np.array([1, 2]), 2)
    assert lists == wanted
    assert conv_geometry((1, 4, 9, 9), (4, 2, 3, 3), (2, 1), np.array([[1, 0], [1, 1]]), (1, 2), np.int32(2)) == wanted
    assert all(type(v) is int for field in wanted if isinstance(field, tuple) for v in field if not isinstance(v, str))


def test_a_warm_call_is_cached():
    assert conv_geometry((1, 3, 8), (2, 3, 3), 1, 1) is conv_geometry((1, 3, 8), (2, 3, 3), 1, 1)


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("input_shape", "weight_shape", "options", "message"),
    [
        ((1, 3), (4, 3), {}, r"input must have 3 to 5 axes .* got shape \(1, 3\)"),
        ((1, 3, 4, 4, 4, 4), (4, 3, 1, 1, 1, 1), {}, "input must have 3 to 5 axes"),
        ((1, 3, 8, 8), (4, 3, 3), {}, r"weight of shape \(4, 3, 3\) must have as many axes as input"),
        ((1, 3, 8), (4, 2, 3), {}, "has 3 channels, but weight .* with groups=1 expects 2"),
        ((1, 4, 8), (4, 4, 3), {"groups": 2}, "has 4 channels, but weight .* with groups=2 expects 8"),
        ((1, 3, 8), (4, 1, 3), {"groups": 2}, "in_channels=3 is not divisible by groups=2"),
        ((1, 4, 8), (3, 2, 3), {"groups": 2}, "out_channels=3 is not divisible by groups=2"),
        ((1, 3, 0), (4, 3, 3), {"padding": 2}, r"input of shape \(1, 3, 0\) is empty; only the batch may be empty"),
        ((1, 0, 8), (4, 0, 3), {}, "input of shape .* is empty"),
        ((1, 3, 8), (0, 3, 3), {}, "weight of shape .* is empty; no axis may be empty"),
        ((1, 3, 8), (4, 3, 0), {}, "weight of shape .* is empty"),
        (
            (1, 3, 8, 4),
            (4, 3, 3, 3),
            {"dilation": (1, 3)},
            r"axis 3 \(W\): the kernel spans 7 samples \(size 3, dilation 3\) but the padded input has only 4 "
            r"\(4 \+ padding 0 \+ 0\); it would fit with padding=2",
        ),
        (
            (1, 3, 2, 9, 9),
            (4, 3, 5, 1, 1),
            {"padding": ((1, 0), 0, 0)},
            r"axis 2 \(D\): .* it would fit with padding=2",
        ),
        ((1, 3, 1), (4, 3, 3), {"padding": 1, "padding_mode": "reflect"}, "needs at least 2 input samples, got 1"),
        ((1, 3, 8), (4, 3, 3), {"padding": 2**60}, "would overflow 64-bit integers"),
        ((1, 3, 8), (4, 3, 1), {"stride": 2**70}, "would overflow 64-bit integers"),
        ((2**31, 2**31, 8), (4, 2**31, 3), {}, r"input of shape .* has too many elements"),
        ((2**30, 1, 8), (2**30, 1, 3), {}, r"output of shape .* has too many elements"),
        ((0, 2**40, 2**40), (4, 2**40, 3), {}, "too many elements"),
    ],
)
def test_shapes_that_do_not_fit(input_shape, weight_shape, options, message):
    with pytest.raises(ShapeError, match=message):
        conv_geometry(input_shape, weight_shape, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"stride": (1, -2)}, "stride must be at least 1, got -2"),
        ({"stride": 1.0}, "stride must be an integer, got 1.0"),
        ({"stride": True}, "stride must be an integer, got True"),
        ({"stride": (1, 2, 3)}, "stride must be an integer or 2 integers, one per spatial axis"),
        ({"stride": "2"}, "stride must be an integer, got '2'"),
        ({"dilation": 0}, "dilation must be at least 1"),
        ({"groups": 0}, "groups must be at least 1"),
        ({"groups": 1.0}, "groups must be an integer"),
        ({"padding": -1}, "padding must be at least 0, got -1"),
        ({"padding": ((0, 1), (2, -3))}, "padding must be at least 0, got -3"),
        ({"padding": 0.5}, "padding must be an integer, got 0.5"),
        ({"padding": None}, "padding must be an integer, got None"),
        (
            {"padding": "full"},
            "padding must be one of 'valid', 'same', 'same_lower', 'same_size', 'causal'; got 'full'",
        ),
        ({"padding": (1, 2, 3)}, r"each of 2 spatial axes, got \(1, 2, 3\)"),
        ({"padding": ((1, 2, 3), 1)}, r"padding of one axis must be an integer or a \(low, high\) pair"),
        (
            {"padding_mode": "mirror"},
            "padding_mode must be one of 'zeros', 'reflect', 'replicate', 'circular'; got 'mirror'",
        ),
        ({"padding_mode": ("zeros",)}, "padding_mode must be a name or 2 names"),
        ({"padding_mode": 0}, "padding_mode must be a name or 2 names"),
    ],
)
def test_options_illegal_by_themselves(options, message):
    conv_geometry((1, 2, 9, 9), (2, 2, 3, 3))  # the cache must not confuse 1 with 1.0 and True
    with pytest.raises(OptionError, match=message):
        conv_geometry((1, 2, 9, 9), (2, 2, 3, 3), **options)


def test_a_pair_for_one_axis_is_hinted_at():
    with pytest.raises(OptionError, match=r"for one \(low, high\) pair write \(\(low, high\),\)"):
        conv_geometry((1, 2, 9), (2, 2, 3), padding=(1, 0))


@pytest.mark.parametrize(
    ("shape", "options", "error", "message"),
    [
        ((1, 9), {}, ShapeError, "3 to 5 axes"),
        ((1, 2, 0), {}, ShapeError, "is empty"),
        ((1, 2, 2), {}, ShapeError, r"axis 2 \(W\): the kernel spans 3 .* fit with padding=1"),
        ((1, 2, 9), {"padding": 2}, OptionError, "at most half of the 3 samples its window spans, got 2"),
        ((1, 2, 9), {"padding": ((0, 2),)}, OptionError, "at most half"),
        ((1, 2, 9), {"stride": 0}, OptionError, "stride must be at least 1"),
        ((1, 2, 9), {"stride": "same"}, OptionError, "stride must be an integer"),
        ((1, 2, 9), {"dilation": 2**62}, ShapeError, "overflow"),
    ],
)
def test_pools_that_do_not_fit(shape, options, error, message):
    with pytest.raises(error, match=message):
        pool_geometry(shape, 3, **options)


def test_causal_pool_may_pad_more_than_half():
    assert pool_geometry((1, 1, 6), 4, 1, "causal").output == (1, 1, 6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"padding": "same"}, OptionError, "a transposed convolution has no padding='same'"),
        ({"output_padding": 2, "stride": 2}, OptionError, r"must be below max\(stride, dilation\) = 2, got 2"),
        ({"output_padding": -1}, OptionError, "output_padding must be at least 0"),
        ({"output_size": 30, "stride": 2}, OptionError, r"output_size must be from 17 to 18, got 30"),
        ({"output_size": 16, "stride": 2}, OptionError, r"output_size must be from 17 to 18, got 16"),
        ({"output_size": (18,), "output_padding": 1, "stride": 2}, OptionError, "either output_padding or output_size"),
        ({"groups": 3}, ShapeError, "in_channels=4 is not divisible by groups=3"),
        ({"padding": 9}, ShapeError, r"would have -8 outputs; padding 9 \+ 9 removes more than the 10 there are"),
    ],
)
def test_transposed_convolutions_that_do_not_fit(options, error, message):
    with pytest.raises(error, match=message):
        conv_transpose_input_shape((1, 4, 8), (4, 2, 3), **options)


def test_transposed_weight_must_fit():
    with pytest.raises(ShapeError, match="a transposed convolution needs"):
        conv_transpose_input_shape((1, 4, 8), (3, 2, 3))
    with pytest.raises(ShapeError, match="a transposed convolution needs"):
        conv_transpose_input_shape((1, 4, 8, 8), (4, 2, 3))


def test_transposed_output_size_and_padding():
    shape = conv_transpose_input_shape((1, 4, 7, 8), (4, 2, 3, 3), 2, 1, output_size=(14, 15), groups=2)
    assert shape == (1, 4, 14, 15)
    assert conv_transpose_input_shape((1, 4, 7, 8), (4, 2, 3, 3), 2, ((1, 0), 1), (1, 0)) == (1, 2, 15, 15)
    assert conv_transpose_input_shape((1, 4, 7), (4, 2, 3), padding="valid") == (1, 2, 9)
