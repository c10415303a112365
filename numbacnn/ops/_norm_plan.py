"""Batch normalisation planned: what is legal, how memory is read, and the programs of both directions."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import OptionError, ShapeError
from ..kernels import norm as kernels
from ..kernels import norm_gradient as gradients
from ..kernels._program import Operand, Program
from ..kernels._target import target
from ._call import Call, make_call
from ._check import check_choice, check_same_dtypes
from ._dense import is_streamed
from .layout import channels_last_memory, conversion
from .memory import Room

if TYPE_CHECKING:
    from collections.abc import Callable

    _Vector = tuple[tuple[int, ...], np.dtype[Any]]
    _Layout = tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]]

__all__ = ["plan_backward", "plan_forward"]

# Long enough that its sums are little beside it, short enough that several cores finish together.
BLOCK_BYTES = 1 << 17
# Results of so many bytes are written past the caches where these still hold some of what is read for the second time.
HUGE_BYTES = 1 << 24
# Beside vectors of 64 bytes results of so many bytes, which two second-level caches cannot hold beside what
# they are made of, are done sooner row by row.
LARGE_BYTES = 1 << 21 if target().wide else HUGE_BYTES
# Nanoseconds per element on one core: decides only whether sharing the work pays.
NS_PASS = 0.4
NS_COMBINE = 0.5
# Channels of one block where partial results are combined: few enough that larger nets have several blocks.
CHANNEL_STEP = 64
# What the activations let through begins above these.
_FLOORS = {"none": -math.inf, "relu": 0.0}
# Sums, and what follows of them for each input.
_GRADIENTS = {
    "none": (gradients.gradient_sums, gradients.input_gradient),
    "relu": (gradients.gradient_sums_relu, gradients.input_gradient_relu),
}
_DOUBLE = np.dtype(np.float64)


class Forward(NamedTuple):
    """What is found out once for inputs that are alike."""

    convert: Callable[[np.ndarray], np.ndarray] | None  # what makes channels-last memory of the input, if it is not
    call: Call  # of the input, weight, bias, running statistics (or None) and settings: the result and its statistics


@functools.lru_cache(maxsize=512)
def plan_forward(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: np.dtype[Any],
    vectors: tuple[_Vector | None, ...],
    training: bool,
    activation: str,
) -> Forward:
    """The call for an input like this, if the vectors (their shapes and dtypes) fit it."""
    check_choice("activation", activation, tuple(_FLOORS))
    _check_vectors(shape, dtype, dict(zip(("weight", "bias", "running_mean", "running_var"), vectors, strict=True)))
    channels, size = shape[1], math.prod(shape)
    if not training and vectors[2] is None:
        raise OptionError("without running_mean and running_var there is nothing to normalise by; use training=True")
    if training and size == channels and channels:
        raise ShapeError(f"batch_norm needs more than 1 value per channel when training, got an input of shape {shape}")
    w = plan_wide_rows(channels, size, dtype.itemsize)
    x, out, stats = Operand(shape, dtype), Operand(shape, dtype), Operand((kernels.STATS_ROWS, w.width), dtype)
    settings = Operand((2,), _DOUBLE)
    given = [None if v is None else Operand(v[0], dtype) for v in vectors]
    weight, bias = given[0] or np.ones(channels, dtype), given[1] or np.zeros(channels, dtype)
    mean, var = (v or Operand((channels,), dtype) for v in given[2:])
    pass_cost = NS_PASS * size
    if training:
        partial = Operand((w.blocks, kernels.MOMENTS_ROWS, w.width), dtype)
        work = Operand((2 * channels,), _DOUBLE)
        moments = kernels.moments.prepare((dtype,), w.blocks, w, cost=pass_cost)
        combine = kernels.combine_moments.prepare(
            (dtype,), _channel_blocks(channels, size), w, channels, CHANNEL_STEP, cost=_combine_cost(w)
        )
        steps = [moments.on(x, partial), combine.on(partial, weight, bias, mean, var, settings, stats, work)]
    else:
        copy = kernels.running_statistics.prepare((dtype,), int(size > 0), w.width, channels, cost=0.0)
        steps = [copy.on(weight, bias, mean, var, settings, stats)]
    normalise = kernels.normalise.prepare(
        (dtype,),
        w.blocks,
        w,
        _FLOORS[activation],
        _how_large(size, dtype, training),
        cost=pass_cost,
        backwards=training,
    )
    program = Program([*steps, normalise.on(x, stats, out)], (x, *given, settings, out, stats))
    rooms = _room(shape, dtype), Room(stats.shape, dtype)
    call = make_call(program, *rooms)
    return Forward(conversion(shape, strides, dtype.itemsize), call)


@functools.lru_cache(maxsize=512)
def plan_backward(x_layout: _Layout, grad_layout: _Layout, training: bool, activation: str) -> Call:
    """The call of a gradient, the forward pass's input and its statistics: all gradients."""
    shape, _, dtype = x_layout
    check_same_dtypes(grad_output=grad_layout[2], x=dtype)
    if grad_layout[0] != shape:
        raise ShapeError(f"grad_output has shape {grad_layout[0]}, but the output had shape {shape}")
    channels, size = shape[1], math.prod(shape)
    rooms = _room(shape, dtype), Room((channels,), dtype), Room((channels,), dtype)
    if not size:
        return make_call(_no_gradients, *rooms)
    w = plan_wide_rows(channels, size, dtype.itemsize)
    grad, x, grad_input = (Operand(shape, dtype) for _ in range(3))
    stats, coefficients = (Operand((rows, w.width), dtype) for rows in (kernels.STATS_ROWS, gradients.COEFFICIENT_ROWS))
    partial, work = Operand((w.blocks, gradients.SUMS_ROWS, w.width), dtype), Operand((2 * channels,), _DOUBLE)
    vectors = Operand((channels,), dtype), Operand((channels,), dtype)
    sum_kernel, spread_kernel = _GRADIENTS[activation]
    sums = sum_kernel.prepare((dtype,), w.blocks, w, cost=NS_PASS * size)
    combine = gradients.combine_gradients.prepare(
        (dtype,),
        _channel_blocks(channels, size),
        w,
        size // channels,
        channels,
        int(training),
        CHANNEL_STEP,
        cost=_combine_cost(w),
    )
    spread = spread_kernel.prepare(
        (dtype,), w.blocks, w, _how_large(size, dtype, True), cost=NS_PASS * size, backwards=True
    )
    steps = [
        sums.on(grad, x, stats, partial),
        combine.on(partial, stats, coefficients, *vectors, work),
        spread.on(grad, x, stats, coefficients, grad_input),
    ]
    program = Program(steps, (grad, x, stats, grad_input, *vectors))
    convert = *[conversion(like[0], like[1], dtype.itemsize) for like in (grad_layout, x_layout)], None
    return make_call(program, *rooms, convert=convert)


def _no_gradients(grad: Any, x: Any, stats: Any, *results: np.ndarray) -> bool:
    for result in results:
        result.fill(0)
    return True


def _check_vectors(shape: tuple[int, ...], dtype: np.dtype[Any], named: dict[str, _Vector | None]) -> None:
    check_same_dtypes(x=dtype, **{name: None if v is None else v[1] for name, v in named.items()})
    if not 2 <= len(shape) <= 5:
        raise ShapeError(f"batch_norm needs an input of shape (N, C, *spatial) with 2 to 5 axes, got shape {shape}")
    for name, vector in named.items():
        if vector is not None and vector[0] != (shape[1],):
            raise ShapeError(
                f"{name} must have one element per channel, shape ({shape[1]},) for an input of shape {shape}; "
                f"got shape {vector[0]}"
            )
    if (named["running_mean"] is None) != (named["running_var"] is None):
        missing = "running_mean" if named["running_mean"] is None else "running_var"
        raise OptionError(f"running_mean and running_var must be given together; {missing} is None")


def _room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Room:
    return Room(shape, dtype, channels_last_memory(shape, dtype.itemsize))


def plan_wide_rows(channels: int, size: int, itemsize: int) -> kernels.WideRows:
    """Whole positions side by side until they fill vectors and are long enough to be worth a loop."""
    channels = max(channels, 1)
    lanes = target().lanes(itemsize)
    fold = lanes // math.gcd(lanes, channels)
    fold *= -(-kernels.WIDE_ROW // (fold * channels))
    width = fold * channels
    rows, rest = divmod(size, width)
    step = max(1, BLOCK_BYTES // (width * itemsize))
    return kernels.WideRows(rows, width, rest, step, max(1, -(-rows // step)))


def _channel_blocks(channels: int, size: int) -> int:
    return -(-channels // CHANNEL_STEP) if size else 0


def _combine_cost(w: kernels.WideRows) -> float:
    return NS_COMBINE * w.blocks * kernels.MOMENTS_ROWS * w.width


def _how_large(size: int, dtype: np.dtype[Any], again: bool) -> int:
    """`LARGE`, `HUGE` or 0, for a result of what is read for the first time or `again`."""
    nbytes = size * dtype.itemsize
    huge = nbytes >= HUGE_BYTES if again else is_streamed(nbytes)
    return kernels.HUGE if huge else kernels.LARGE if nbytes >= LARGE_BYTES else 0
