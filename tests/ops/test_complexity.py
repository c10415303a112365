"""Receptive fields and parameter counts: against tracing back and counting."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbacnn.ops.complexity import factored_channels, receptive_field, separable_parameter_ratio
from numbacnn.ops.geometry import conv_geometry


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=4))
def test_receptive_field_by_tracing_back(layers):
    first, last = 0, 0
    for kernel, stride, dilation in reversed(layers):
        first, last = first * stride, last * stride + dilation * (kernel - 1)
    field = receptive_field(layers, rank=1)
    assert field.size == (last - first + 1,)
    assert field.jump == (math.prod(stride for _, stride, _ in layers),)


def test_receptive_field_per_axis():
    field = receptive_field([((3, 1), 1, (2, 1)), (2, (2, 1)), ((1, 3),)])
    assert field == ((6, 4), (2, 1))


def test_separable_ratio_counts_both_halves():
    dense = conv_geometry((1, 32, 8, 8), (64, 32, 3, 3)).params(bias=False)
    depthwise = conv_geometry((1, 32, 8, 8), (32, 1, 3, 3), groups=32).params(bias=False)
    pointwise = conv_geometry((1, 32, 8, 8), (64, 32, 1, 1)).params(bias=False)
    assert separable_parameter_ratio(64, 3) == pytest.approx((depthwise + pointwise) / dense)
    assert separable_parameter_ratio(8, (3, 3, 3)) == pytest.approx(1 / 8 + 1 / 27)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 5), st.integers(1, 5))
def test_factored_channels_spend_no_more_than_the_whole(c_in, c_out, t, d):
    mid = factored_channels(c_in, c_out, t, d)
    whole = c_in * c_out * t * d * d
    assert mid * (c_in * d * d + c_out * t) <= whole < (mid + 1) * (c_in * d * d + c_out * t)
