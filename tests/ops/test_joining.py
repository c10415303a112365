"""Joining and splitting arrays against NumPy, in every memory order."""

from __future__ import annotations

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import functional as F
from numbacnn.kernels._target import target
from numbacnn.ops import joining
from numbacnn.ops.layout import channels_last, is_channels_last
from numbacnn.ops.memory import guard_memory
from tests.bits import assert_same_bits

ORDERS = {
    "c": lambda x: x,
    "channels_last": channels_last,
    "fortran": np.asfortranarray,
    "gaps": lambda x: np.repeat(x, 2, -1)[..., ::2],
    "reversed": lambda x: x[:, ::-1].copy()[:, ::-1],
}
orders = pytest.mark.parametrize("order", ORDERS)


def pieces(axis, dtype=np.float32):
    rng = np.random.default_rng(0)
    for extent in (5, 16, 1, 0, 37):
        shape = [2, 33, 41, 29]
        shape[axis] = extent
        yield rng.standard_normal(shape).astype(dtype)


@orders
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("axis", range(4))
def test_concatenate(axis, dtype, order):
    arrays = list(pieces(axis, dtype))
    with guard_memory():
        out = joining.concatenate([ORDERS[order](x) for x in arrays], axis)
        np.testing.assert_array_equal(out, np.concatenate(arrays, axis))
        assert out.dtype == dtype
        if dtype != np.int16:  # some of which are small
            assert is_channels_last(out) == (order == "channels_last")


@pytest.mark.parametrize("width", [4, 200], ids=["by NumPy", "by a kernel"])
@pytest.mark.parametrize("axis", range(4))
def test_arrays_that_lie_alike_keep_their_order(axis, width):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, width, 5, 6)).transpose(0, 3, 1, 2) for _ in range(3)]
    out = joining.concatenate(arrays, axis)
    np.testing.assert_array_equal(out, np.concatenate(arrays, axis))
    assert out.transpose(0, 2, 3, 1).flags.c_contiguous


def test_one_channels_last_array_decides():
    arrays = list(pieces(1))
    arrays[1] = channels_last(arrays[1])
    out = joining.concatenate(arrays, 1)
    assert is_channels_last(out)
    np.testing.assert_array_equal(out, np.concatenate(arrays, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("widths", [(3, 3), (1, 2), (1, 7), (2, 6), (7, 4), (4, 4)], ids=str)
def test_two_narrow_arrays_are_joined_lane_by_lane(widths, dtype, monkeypatch):
    """As beside AVX-512, whatever the machine has."""
    monkeypatch.setattr(joining, "target", lambda: target()._replace(isa="avx512"))
    joining._plan_pieces.cache_clear()
    joining._known_columns.cache_clear()
    for positions in (1100, 4225, 8450):  # by blocks of one thread and of several, with and without an end
        with guard_memory():
            x, y = (channels_last(np.arange(2 * w * positions).reshape(2, w, -1).astype(dtype)) for w in widths)
            joined = joining.concatenate((x, y), 1)
        np.testing.assert_array_equal(joined, np.concatenate((x, y), 1))
        assert is_channels_last(joined)
    assert_same_bits(lambda: joining.concatenate((x, y), 1))
    monkeypatch.undo()
    joining._plan_pieces.cache_clear()
    joining._known_columns.cache_clear()


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (400, 500), (70000,)], ids=str)
def test_small_and_other_ranks_are_numpys(shape):
    arrays = [np.full(shape, value) for value in (1.0, 2.0)]
    for axis in range(len(shape)):
        np.testing.assert_array_equal(joining.concatenate(arrays, axis), np.concatenate(arrays, axis))


@orders
@pytest.mark.parametrize("axis", range(4))
def test_split(axis, order):
    arrays = list(pieces(axis))
    joined = ORDERS[order](np.concatenate(arrays, axis))
    wanted = (True, True, False, True, True)
    with guard_memory():
        parts = joining.split(joined, [x.shape[axis] for x in arrays], axis, wanted)
        for part, expected, want in zip(parts, arrays, wanted, strict=True):
            assert (part is not None) == want
            if want:
                np.testing.assert_array_equal(part, expected)
                if order == "channels_last":
                    assert is_channels_last(part)
                if order == "c":
                    assert part.flags.c_contiguous


def test_pieces_without_gaps_are_views():
    x = channels_last(np.zeros((4, 3, 5, 5)))
    assert all(np.shares_memory(part, x) for part in joining.split(x, (1, 3), 0, (True, True)))
    y = np.zeros((2, 6))
    assert all(np.shares_memory(part, y) for part in joining.split(y, (2, 4), 1, (True, True)))


def test_same_bits():
    arrays = [channels_last(x) for x in pieces(1)]
    assert_same_bits(lambda: joining.concatenate(arrays, 1))


def test_gradients_of_channels_last_images_stay_channels_last():
    seen = []

    def spy(x):
        def backward(grad, needs):
            seen.append(grad)
            return (grad,)

        return nc.autograd.apply("spy", (x,), x.data, backward)

    tensors = [nc.Tensor(channels_last(x), requires_grad=True) for x in pieces(1)]
    out = F.concatenate([spy(x) for x in tensors], 1)
    gradient = channels_last(np.random.default_rng(1).standard_normal(out.shape).astype(np.float32))
    out.backward(gradient)
    assert len(seen) == len(tensors)
    assert all(is_channels_last(grad) for grad in seen)
    np.testing.assert_array_equal(np.concatenate([x.grad for x in tensors], 1), gradient)
