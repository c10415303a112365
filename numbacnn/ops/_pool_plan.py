"""From the geometry of a pool to a launch: windows, adaptive windows, and how the work is cut into blocks."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import OptionError, ShapeError
from ..kernels._target import target
from ..kernels.pool_walk import COUNT_INPUT, COUNT_PADDING, Pool
from ._check import check_integer, is_sequence
from .geometry import PoolGeometry, lift, pool_geometry

if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "PoolPlan",
    "adaptive_geometry",
    "is_tiling",
    "plan_backward",
    "plan_forward",
    "plan_scatter",
    "tap_places",
    "window_geometry",
]

# Input and output of one block: far more than the microsecond a block costs, and several blocks per core already
# where a second core pays at all.
BLOCK_BYTES = 1 << 16
# What one block of a max pool's gradient fills: it stays in the second-level cache between zeroing and adding.
SCATTER_BYTES = 1 << 18
# Channels are cut at multiples of this, so that no two blocks write to one cache line.
CHANNEL_BYTES = 128
# What one core moves, and how many window elements it reads, in a nanosecond.
BYTES_PER_NS = 10.0
TAPS_PER_NS = 4.0


class PoolPlan(NamedTuple):
    """One launch of a pooling kernel.

    `few` says which of the two kernels it is for: fewer channels than a vector has lanes. Then come the number of
    blocks, the kernel's record and the estimated nanoseconds on one core.
    """

    few: bool
    blocks: int
    pool: Pool
    cost: float


@functools.lru_cache(maxsize=1024)
def _check_windows(geometry: PoolGeometry) -> None:
    """Every window holds an element. Only dilation over padding, or padding as wide as the window, can fail."""
    for axis in range(3):
        size, kernel, dilation = geometry.input[axis], geometry.kernel[axis], geometry.dilation[axis]
        low, high = geometry.pad_low[axis], geometry.pad_high[axis]
        if max(low, high) == 0 or (dilation == 1 and max(low, high) < kernel):
            continue
        begin = np.arange(geometry.output[axis], dtype=np.int64) * geometry.stride[axis] - low
        skipped = np.maximum(-begin // dilation + (-begin % dilation > 0), 0)
        taps = np.minimum(kernel, -(-(size - begin) // dilation)) - skipped
        if (taps < 1).any():
            raise ShapeError(
                f"axis {axis - 3} of the pool: window {int(np.argmax(taps < 1))} lies wholly in the padding "
                f"(size {size}, kernel_size {kernel}, dilation {dilation}, padding {low} + {high}); use less padding"
            )


def window_geometry(
    input_shape: tuple[int, ...],
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> PoolGeometry:
    """`pool_geometry`, and every window holds at least one element."""
    geometry = pool_geometry(input_shape, kernel_size, stride, padding, dilation, ceil_mode)
    _check_windows(geometry)
    return geometry


def adaptive_geometry(input_shape: tuple[int, ...], output_size: Any) -> PoolGeometry:
    """The geometry of an adaptive pool.

    An axis whose windows all have one size and do not overlap is an ordinary one; others have stride 0, which the
    kernels know, and the size of their largest window as the kernel size.
    """
    if is_sequence(output_size):
        output_size = tuple(output_size)
    return _adaptive_geometry(tuple(input_shape), output_size)


@functools.lru_cache(maxsize=1024, typed=True)
def _adaptive_geometry(input_shape: tuple[int, ...], output_size: Any) -> PoolGeometry:
    plain = pool_geometry(input_shape, 1)  # checks the shape
    size, rank = input_shape[2:], plain.rank
    wanted = output_size if isinstance(output_size, tuple) else (output_size,) * rank
    if len(wanted) != rank:
        raise OptionError(f"output_size must be an integer or {rank} integers, one per spatial axis, got {wanted}")
    output = [i if o is None else check_integer("output_size", o, 1) for i, o in zip(size, wanted, strict=True)]
    axes = [_adaptive_axis(i, o) for i, o in zip(size, output, strict=True)]
    kernel, stride = zip(*axes, strict=True)
    return plain._replace(output=lift(output, 1), kernel=lift(kernel, 1), stride=lift(stride, 1))


def _adaptive_axis(size: int, output: int) -> tuple[int, int]:
    """Kernel size and stride."""
    if size % output == 0:
        return size // output, size // output
    o = np.arange(output, dtype=np.int64)
    return int((-(-(o + 1) * size // output) - o * size // output).max()), 0


def divisor_code(count_include_pad: bool, divisor_override: Any) -> int:
    """What the kernels divide an average by."""
    if divisor_override is not None:
        return check_integer("divisor_override", divisor_override, 1)
    return COUNT_PADDING if count_include_pad else COUNT_INPUT


def _inner(geometry: PoolGeometry, axis: int) -> tuple[int, int]:
    """The outputs of an axis whose windows lie wholly in the input: first, and one past the last."""
    size, stride, low = geometry.input[axis], geometry.stride[axis], geometry.pad_low[axis]
    if stride == 0:
        return 0, 0
    span = geometry.dilation[axis] * (geometry.kernel[axis] - 1) + 1
    return -(-low // stride), min(geometry.output[axis], (size - span + low) // stride + 1)


def _inner_inputs(geometry: PoolGeometry, axis: int) -> tuple[int, int]:
    """The inputs of an axis that are read by inner windows only, at every tap that their phase has."""
    stride, low = geometry.stride[axis], geometry.pad_low[axis]
    if stride == 0:
        return 0, 0
    begin, end = _inner(geometry, axis)
    reach = geometry.dilation[axis] * (geometry.kernel[axis] - 1)
    return max(begin * stride - low + reach, 0), min((end - 1) * stride - low + 1, geometry.input[axis])


@functools.lru_cache(maxsize=1024)
def plan_forward(geometry: PoolGeometry, itemsize: int, divisor: int = 0, offsets: bool = False) -> PoolPlan:
    """The launch that fills the output; for `divisor` and `offsets` see `Pool`."""
    return _plan(geometry, itemsize, geometry.output, (*_inner(geometry, 2), 1), divisor, offsets)


@functools.lru_cache(maxsize=1024)
def plan_backward(geometry: PoolGeometry, itemsize: int, divisor: int = 0, winners: bool = False) -> PoolPlan:
    """The launch that fills the gradient of the input, gathered from the outputs: of an average pool or, if it depends
    on who won a window, of a max pool."""
    stride, kernel = max(geometry.stride[2], 1), geometry.kernel[2]
    few = geometry.channels < target().lanes(itemsize)
    # Inputs with as many readers each are done side by side, unless taps tell them apart.
    apart = few or winners or kernel % stride != 0
    runs = (*_inner_inputs(geometry, 2), stride if apart else 1)
    return _plan(geometry, itemsize, geometry.input, runs, divisor, False)


@functools.lru_cache(maxsize=1024)
def is_tiling(geometry: PoolGeometry) -> bool:
    """Whether the windows lie side by side: none overlaps another, and only the input's end may be in none."""
    axes = zip(geometry.kernel, geometry.stride, geometry.dilation, geometry.pad_low, strict=True)
    return all(k == s and (d == 1 or k == 1) and low == 0 for k, s, d, low in axes)


@functools.lru_cache(maxsize=64)
def plan_scatter(geometry: PoolGeometry, itemsize: int) -> tuple[PoolPlan, np.ndarray]:
    """The launch that fills the gradient of the input of a max pool; and where the taps are, in elements."""
    few, _, pool, cost = _plan(geometry, itemsize, geometry.input, (0, 0, 1), 0, True)
    positions, width = math.prod(geometry.input), geometry.input[2]
    # Whole rows where there are several; stretches begin where windows do, so that few windows lie in two of them.
    row, stride, kernel = width, geometry.stride[1], geometry.kernel[1]
    if positions == width:
        row, stride, kernel = 1, geometry.stride[2], geometry.kernel[2]
    rows = max(SCATTER_BYTES // (row * geometry.channels * itemsize), 2 * kernel)
    step = -(-rows // max(stride, 1)) * max(stride, 1) * row
    per_sample = -(-positions // step)
    pool = pool._replace(step=step, channel_blocks=per_sample)
    return PoolPlan(few, geometry.batch * per_sample, pool, 2 * cost), tap_places(geometry) * geometry.channels


def tap_places(geometry: PoolGeometry) -> np.ndarray:
    """How far each tap of a window is from the first, in positions of the input."""
    taps = [np.arange(k, dtype=np.int64) * d for k, d in zip(geometry.kernel, geometry.dilation, strict=True)]
    _, height, width = geometry.input
    return ((taps[0][:, None, None] * height + taps[1][:, None]) * width + taps[2]).reshape(-1)


def _plan(
    geometry: PoolGeometry,
    itemsize: int,
    extents: tuple[int, int, int],
    runs: tuple[int, int, int],
    divisor: int,
    offsets: bool,
) -> PoolPlan:
    channels, outputs = geometry.channels, math.prod(geometry.output)
    results = geometry.batch * math.prod(extents)
    moved = geometry.batch * channels * (math.prod(geometry.input) + outputs) * itemsize
    read = geometry.batch * channels * outputs * geometry.taps
    wanted = max(moved // BLOCK_BYTES, 1)
    step = max(-(-results // wanted), 1)
    if step > extents[2]:
        step = -(-step // extents[2]) * extents[2]  # whole rows
    # With too few positions to go round, blocks share the channels; the last takes those left over as well.
    share = -(-channels * results // wanted) if results < wanted else channels
    unit = CHANNEL_BYTES // itemsize
    channel_step = max(share // unit, 1) * unit
    channel_blocks = max(channels // channel_step, 1)
    pool = Pool._make(
        (
            channels,
            *geometry.input,
            *geometry.output,
            *geometry.kernel,
            *geometry.stride,
            # An adaptive window is never taken for one that lies wholly inside.
            *(low if s else 1 for low, s in zip(geometry.pad_low, geometry.stride, strict=True)),
            *geometry.dilation,
            *(i + p for i, p in zip(geometry.input, geometry.pad_high, strict=True)),
            divisor,
            int(offsets),
            results,
            *extents,
            *runs,
            step,
            channel_blocks,
            channel_step,
        )
    )
    few = channels < target().lanes(itemsize)
    return PoolPlan(few, -(-results // step) * channel_blocks, pool, max(moved / BYTES_PER_NS, read / TAPS_PER_NS))
