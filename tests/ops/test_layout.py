import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbacnn.errors import ShapeError
from numbacnn.kernels import _launch
from numbacnn.ops import layout
from numbacnn.ops.layout import channels_first, channels_last, empty_channels_last, is_channels_last, memory_view
from tests.cases import ORDERS, in_order, integers

# Above the size where the kernel takes over, with remainders of every tile: positions, channels, vectors, cache lines.
SHAPES = [
    (1, 3, 5000),
    (2, 33, 65),
    (1, 64, 33, 35),
    (3, 17, 5, 6, 7),
    (2, 4, 64, 64),
    (1, 1, 100, 100),
    (1, 2500, 1, 5),
]
DTYPES = ["float32", "float64", "int32", "uint8", "complex64", "float16", "complex128", "bool"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("convert", [channels_last, channels_first])
def test_conversion_of_every_order(shape, order, convert):
    for dtype in DTYPES[:2]:
        x = in_order(integers(shape, dtype, low=-100, high=100), order)
        before = x.copy()
        y = convert(x)
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
        np.testing.assert_array_equal(y, before)
        np.testing.assert_array_equal(x, before)
        assert is_channels_last(y) if convert is channels_last else y.flags.c_contiguous


@pytest.mark.parametrize("dtype", DTYPES)
def test_conversion_of_every_dtype(dtype):
    x = integers((2, 19, 33, 17), dtype, low=0, high=100)
    np.testing.assert_array_equal(channels_last(x), x)
    np.testing.assert_array_equal(channels_first(channels_last(x)), x)


@pytest.mark.parametrize("columns", range(1, 14))
@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_conversion_of_few_positions(columns, dtype, monkeypatch):
    """Every remainder that squares leave, in rows that lie one after the other and further apart."""
    monkeypatch.setattr(layout, "_KERNEL_FROM_BYTES", 0)
    for rows in range(1, 14):
        for x in (integers((2, rows, columns), dtype), integers((2, rows, columns + 3), dtype)[..., :columns]):
            np.testing.assert_array_equal(channels_last(x), x)
            np.testing.assert_array_equal(channels_first(channels_last(x)), x)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_conversion_of_any_view(data):
    """Views by arbitrary slices and permutations, compared bit for bit; small ones are sent to the kernel too."""
    ndim = data.draw(st.integers(3, 5))
    base = np.random.default_rng(0).integers(0, 2**32, data.draw(st.tuples(*[st.integers(1, 9)] * ndim)), np.uint32)
    steps = data.draw(st.tuples(*[st.sampled_from([1, 2, -1, -2])] * ndim))
    x = base.view(np.float32)[tuple(slice(None, None, step) for step in steps)]
    x = x.transpose(data.draw(st.permutations(range(ndim))))
    threshold, layout._KERNEL_FROM_BYTES = layout._KERNEL_FROM_BYTES, 0
    try:
        for y in (channels_last(x), channels_first(x)):
            assert y.tobytes() == x.tobytes()  # NaN payloads included
    finally:
        layout._KERNEL_FROM_BYTES = threshold


def test_nothing_is_copied_in_vain():
    x = channels_last(integers((2, 3, 40, 41)))
    assert channels_last(x) is x
    assert np.shares_memory(channels_last(x[1:]), x)
    y = integers((2, 3, 40, 41))
    assert channels_first(y) is y
    # With one channel, or one position, both layouts are one.
    assert is_channels_last(integers((2, 1, 5, 6)))
    assert is_channels_last(integers((2, 7, 1, 1)))


def test_broadcast_and_misaligned_inputs():
    x = np.broadcast_to(np.arange(64, dtype=np.float32)[:, None, None], (2, 64, 20, 20))
    np.testing.assert_array_equal(channels_last(x), x)
    raw = np.zeros(4 * 64 * 1024 + 1, np.uint8)[1:].view(np.float32).reshape(1, 64, 32, 32)
    raw[...] = integers(raw.shape)
    assert not raw.flags.aligned
    np.testing.assert_array_equal(channels_last(raw), raw)
    assert channels_first(raw).flags.aligned
    packed = np.zeros((1, 64, 20, 20), np.dtype([("tag", "u1"), ("value", "f4")]))["value"]
    packed[...] = integers(packed.shape)
    np.testing.assert_array_equal(channels_last(packed), packed)


def test_empty_arrays():
    for shape in itertools.product((0, 2), (0, 3), (0, 5)):
        x = np.zeros(shape, np.float32)
        assert channels_last(x).shape == channels_first(x).shape == shape
        assert memory_view(channels_last(x)).shape == (shape[0], 1, 1, shape[2], shape[1])


@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 6, 7), (2, 3, 5, 6, 7)])
def test_memory_view_shares_memory_and_lifts(shape):
    x = empty_channels_last(shape, np.float64)
    assert is_channels_last(x)
    x[...] = integers(shape)
    view = memory_view(x)
    n, c, *spatial = shape
    assert view.shape == (n, *[1] * (3 - len(spatial)), *spatial, c)
    assert view.flags.c_contiguous
    np.testing.assert_array_equal(view.reshape(n, *spatial, c), np.moveaxis(x, 1, -1))
    view[...] = 5
    assert (x == 5).all()


def test_memory_view_of_another_layout_is_refused():
    with pytest.raises(ShapeError, match="is not channels-last"):
        memory_view(np.zeros((2, 3, 4, 5)))


@pytest.mark.parametrize("function", [is_channels_last, channels_last, channels_first, memory_view])
@pytest.mark.parametrize("ndim", [0, 2, 6])
def test_wrong_rank_is_said(function, ndim):
    with pytest.raises(ShapeError, match="3 to 5 axes"):
        function(np.zeros((1,) * ndim))


@pytest.mark.parametrize("driver", _launch.DRIVERS)
def test_same_result_on_every_driver(driver):
    x = integers((3, 40, 70, 30), low=-100, high=100)
    with _launch.driver(driver), _launch.threads(3):
        np.testing.assert_array_equal(channels_last(x), x)
