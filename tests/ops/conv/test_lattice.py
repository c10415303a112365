"""The phases of a convolution: every product once, and small however long the axes are."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbacnn.kernels.sources import MODES
from numbacnn.ops.conv import gemm, weight_gradient
from numbacnn.ops.conv.lattice import backward_data_phases, forward_phase, taps_inside, taps_met
from numbacnn.ops.geometry import conv_geometry, source_index


def axis_geometry(size, kernel, stride, dilation, low, high, mode):
    return conv_geometry((1, 1, size), (1, 1, kernel), stride, [(low, high)], dilation, 1, mode, warn=False)


def products(phases, axis, sources):
    """How often each (destination, source, kernel position) occurs in the phases."""
    counts = {}
    for phase in phases:
        a = phase.axes[axis]
        ranges = range(a.copies), range(a.points), range(a.taps), range(a.width)
        for copy, point, tap, column in itertools.product(*ranges):
            at = a.first + copy + a.slope * point + a.spread * tap
            if 0 <= at < sources:
                key = (a.start + a.step * point + column, at, a.kernel_first + a.kernel_step * tap + column)
                counts[key] = counts.get(key, 0) + 1
    return counts


@st.composite
def axes(draw):
    mode = draw(st.sampled_from(MODES))
    size = draw(st.integers(2 if mode == "reflect" else 1, 9))
    stride, dilation = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    low, high = draw(st.integers(0, 20)), draw(st.integers(0, 20))
    kernel = draw(st.integers(1, (size + low + high - 1) // dilation + 1))
    return size, kernel, stride, dilation, low, high, mode


@settings(max_examples=400, deadline=None, derandomize=True)
@given(axis=axes())
def test_the_data_gradient_has_every_product_of_the_forward_table(axis):
    size, kernel, stride, dilation, low, _, mode = axis
    g = axis_geometry(*axis)
    table = source_index(size, g.output[2], kernel, stride, dilation, low, mode)
    expected = {}
    for output, tap in itertools.product(range(g.output[2]), range(kernel)):
        if table[output, tap] >= 0:
            key = (table[output, tap], output, tap)
            expected[key] = expected.get(key, 0) + 1
    phases = backward_data_phases(g)
    assert products(phases, 2, g.output[2]) == expected
    written = [
        phase.axes[2].start + phase.axes[2].step * point + column
        for phase in phases
        if not phase.adds
        for point, column in itertools.product(range(phase.axes[2].points), range(phase.axes[2].width))
    ]
    assert sorted(written) == list(range(size)), "every coordinate is begun once"
    adds = [phase.adds for phase in phases]
    assert adds == sorted(adds), "and before anything is added"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(axis=axes())
def test_outputs_ascend_with_the_taps(axis):
    for phase in backward_data_phases(axis_geometry(*axis)):
        assert phase.axes[2].spread >= 0


def test_phases_of_several_axes_begin_before_they_add():
    g = conv_geometry((1, 1, 5, 6, 7), (1, 1, 3, 3, 3), (1, 2, 1), 1, 1, 1, ("reflect", "circular", "replicate"))
    begun = np.zeros((5, 6, 7), bool)
    for phase in backward_data_phases(g):
        d, h, w = (a.start + a.step * np.arange(a.points) for a in phase.axes)
        part = begun[np.ix_(d, h, w)]
        assert part.all() if phase.adds else not part.any()
        begun[np.ix_(d, h, w)] = True
    assert begun.all()


@pytest.mark.parametrize("mode", MODES)
def test_number_of_phases(mode):
    g = conv_geometry((1, 1, 9, 1 << 20), (1, 1, 3, 1023), padding=(1, 511), padding_mode=mode)
    assert len(backward_data_phases(g)) == (1 if mode == "zeros" else 9)
    g = conv_geometry((1, 1, 1 << 20), (1, 1, 1023), stride=4, padding=511, padding_mode=mode)
    assert len(backward_data_phases(g)) == (2 if mode == "zeros" else 10), "three of four columns side by side"


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size", "widths"),
    [
        (16, 16, 0, 64, [16]),  # every column reads the one output above it
        (32, 16, 0, 80, [16]),
        (16, 16, 5, 54, [6, 5, 5]),  # padding cuts off the ends, which leaves some columns one point fewer
        (4, 2, 1, 16, [1, 1]),
        (3, 2, 0, 17, [1, 1]),  # one tap more on even columns
        (2, 4, 0, 18, [2, 1, 1]),  # nothing reads every other pair of columns
        (16, 16, 0, 70, [6, 10]),  # columns that nothing reads, beyond the last output
    ],
)
def test_columns_side_by_side(kernel, stride, padding, size, widths):
    g = axis_geometry(size, kernel, stride, 1, padding, padding, "zeros")
    assert [phase.axes[2].width for phase in backward_data_phases(g)] == widths
    grouped = conv_geometry((1, 2, size), (2, 1, kernel), stride, padding, groups=2, warn=False)
    assert all(phase.axes[2].width == 1 for phase in backward_data_phases(grouped)), "groups lie in between"


def test_forward_has_one_phase():
    g = conv_geometry((1, 1, 8, 9), (1, 1, 3, 2), (2, 1), (2, 1), (1, 3))
    h, w = forward_phase(g).axes[1:]
    assert (h.points, h.taps, h.first, h.slope, h.spread) == (5, 3, -2, 2, 1)
    assert (w.points, w.taps, w.first, w.slope, w.spread) == (8, 2, -1, 1, 3)


def deep_size(value):
    """Bytes of nested tuples and of the numbers in them."""
    inside = sum(map(deep_size, value)) if isinstance(value, tuple) else 0
    return sys.getsizeof(value) + inside


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("shapes", "padding"),
    [
        (((1, 8, 1 << 20), (8, 8, 63)), 31),
        (((1, 8, 4096, 4096), (8, 8, 31, 31)), 15),
        (((1, 8, 64, 999), (8, 8, 3, 3)), 1),
    ],
    ids=["1-D", "2-D", "small"],
)
def test_plans_are_small(shapes, padding, mode):
    g = conv_geometry(*shapes, padding=padding, padding_mode=mode)
    assert deep_size(gemm.plan_forward(g, 4)) < 8_000
    assert deep_size(gemm.plan_backward_data(g, 4)) < 8_000 * (1 if mode == "zeros" else 9)
    assert deep_size(weight_gradient.plan(g, 4)) < 8_000


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_products_with_padding_are_counted(stride, padding, dilation):
    size, kernel = 9, 4
    g = conv_geometry((1, 1, size), (1, 1, kernel), stride, padding, dilation, warn=False)
    places = [o * stride + tap * dilation - padding for o in range(g.output[2]) for tap in range(kernel)]
    assert taps_inside(g, 2) == sum(0 <= place < size for place in places)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(axis=axes(), tile=st.integers(2, 10))
def test_tiles_meet_what_single_positions_read_and_some_padding(axis, tile):
    g = axis_geometry(*axis)
    inside = taps_inside(g, 2)
    met, taps = taps_met(g, "forward", 2, tile)
    assert inside <= met <= taps == g.kernel[2] * g.output[2]
    assert taps_met(g, "forward", 2, 1) == (inside, taps)


def test_a_single_output_is_met_by_whole_tiles_of_positions():
    """Tap t reads it at position 4 t of 17; of tiles of six from either end, those that it is not in are left out."""
    g = axis_geometry(17, 5, 1, 4, 0, 0, "zeros")
    assert taps_inside(g, 2) == 5
    assert taps_met(g, "backward_data", 2, 1) == (5, 85)
    assert taps_met(g, "backward_data", 2, 6) == (5 * 5, 85)
