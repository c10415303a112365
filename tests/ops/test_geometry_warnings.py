"""Where samples are lost or shifted, and only there, the padding is warned of."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbacnn.errors import PaddingWarning
from numbacnn.ops import explain, geometry
from numbacnn.ops._pool_geometry import _pool_geometry
from numbacnn.ops.geometry import conv_geometry, pool_geometry
from tests import naive
from tests.ops.strategies import axis_sizes


@pytest.fixture(autouse=True)
def _fresh_warnings():
    """A cached geometry does not warn again."""
    geometry._conv_geometry.cache_clear()
    _pool_geometry.cache_clear()


def test_unread_border_samples_are_warned_of_at_the_callers_line():
    with pytest.warns(
        PaddingWarning, match=r"axis 3 \(W\): the last sample is never read \(size 8, .*stride 2\)"
    ) as got:
        conv_geometry((1, 1, 9, 8), (1, 1, 3, 3), 2)
    assert [warning.filename for warning in got] == [__file__]
    with pytest.warns(PaddingWarning, match="the last 2 samples are never read"):
        pool_geometry((1, 1, 8), 3)


@pytest.mark.parametrize("direction", ["forward", "backward_data", "backward_weight"])
def test_who_only_asks_is_not_warned(direction):
    """And takes the warning from nobody who convolves later."""
    shapes = (1, 1, 9, 8), (1, 1, 3, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explain(*shapes, stride=2, direction=direction)
    with pytest.warns(PaddingWarning, match="never read"):
        conv_geometry(*shapes, 2)


@pytest.mark.parametrize(("padding", "kernel"), [("same", 2), ("same_lower", 4)])
def test_even_kernels_with_same_padding_are_warned_of(padding, kernel):
    with pytest.warns(PaddingWarning, match="shifts the output by half a sample"):
        conv_geometry((1, 1, 9), (1, 1, kernel), padding=padding)


@pytest.mark.parametrize(
    ("size", "kernel", "options"),
    [
        (224, 7, {"stride": 2, "padding": 3}),  # the stem of a ResNet
        (56, 3, {"stride": 2, "padding": 1}),
        (56, 1, {"stride": 2}),  # its shortcut: gaps are what a stride beyond the kernel means
        (224, 3, {"stride": 2, "padding": "same"}),
        (9, 2, {"padding": "same", "dilation": 2}),  # spans 3 samples: no shift
        (9, 4, {"padding": "same_size"}),
    ],
)
def test_ordinary_networks_stay_silent(size, kernel, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        conv_geometry((1, 1, size), (1, 1, kernel), **options)


def test_pools_with_ceil_mode_stay_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool_geometry((1, 1, 112), 3, 2, 1)
        pool_geometry((1, 1, 7), 2, ceil_mode=True)


@given(axis_sizes, st.integers(0, 3), st.integers(0, 3))
def test_warned_exactly_where_a_border_sample_is_lost(axis, low, high):
    """Lost: read by no window, and by none of the next one's taps that would hang over the edge lie on it or before."""
    size, kernel, stride, dilation = axis
    span = dilation * (kernel - 1) + 1
    count = naive.outputs(low + size + high, kernel, stride, dilation)
    if count == 0:
        return
    next_window = range(count * stride - low, count * stride - low + span)
    end = (count - 1) * stride - low + span
    lost = [i for i in range(max(end, 0), size) if i in next_window]
    geometry._conv_geometry.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        conv_geometry((1, 1, size), (1, 1, kernel), stride, ((low, high),), dilation)
    assert bool(caught) == bool(lost)
