"""Data gradients of few output channels, without strides: row runs, forward, over `grad_output` and turned weights.

What reads every output is the convolution of `grad_output` with the kernel turned around, its two channel axes
exchanged, and with as much padding as the kernel has more taps than the padding covers.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ...kernels._operands import Operand
from ...kernels.turned_weights import turn_weights
from . import row_runs

if TYPE_CHECKING:
    import numpy as np

    from ...kernels._build import Prepared
    from ...kernels._program import Step
    from .._sizes import Triple
    from ..geometry import ConvGeometry

name = "turned"

# With more output channels, `row_runs` reads fewer vectors for its products. (Measured: as fast for four times as many,
# twice as fast for as many, up to five times for fewer.)
MOST_PER_INPUT = 4


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g = geometry
    if direction != "backward_data":
        return "it is for data gradients"
    if g.stride != (1, 1, 1):
        return f"the stride is {g.stride}"
    if any(mode != "zeros" for mode in g.padding_mode):
        return "padding repeats the image"
    forward = turned(g)
    if min(*forward.pad_low, *forward.pad_high) < 0:
        return "there is more padding than the kernel reaches"
    return _of_forward(row_runs.accepts("forward", forward))


def declines(direction: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    """None, or why another algorithm is expected to be faster."""
    g = geometry
    if row_runs.pays("backward_data", g, itemsize) and g.out_channels > MOST_PER_INPUT * g.in_channels:
        return f"{g.out_channels} output channels are more than {MOST_PER_INPUT} for each of {g.in_channels}"
    return _of_forward(row_runs.declines("forward", turned(g), itemsize))


def pays(g: ConvGeometry, itemsize: int) -> bool:
    """Whether a data gradient comes here if no algorithm before takes it."""
    return accepts("backward_data", g) is None and declines("backward_data", g, itemsize) is None


def _of_forward(reason: str | None) -> str | None:
    return f"turned around, {reason}" if reason else None


def turned(g: ConvGeometry) -> ConvGeometry:
    """The convolution, without strides, that gives the data gradient of `g`."""
    return g._replace(
        in_channels=g.out_channels,
        out_channels=g.in_channels,
        input=g.output,
        output=g.input,
        pad_low=_left_by(g, g.pad_low),
        pad_high=_left_by(g, g.pad_high),
    )


def _left_by(g: ConvGeometry, padding: Triple) -> Triple:
    """What the kernel reaches beyond an edge and the padding does not cover."""
    d, h, w = (span - 1 - pad for span, pad in zip(g.span, padding, strict=True))
    return d, h, w


def backward_data(
    g: ConvGeometry, grad_output: Operand, weight: Operand, bias: Operand | None, out: Operand
) -> list[Step]:
    """Fill `out`, the gradient of the input, from `grad_output`, both channels-last memory."""
    there = Operand((g.in_channels, g.out_channels, *g.kernel), out.dtype)
    return [_turn(g, out.dtype).on(weight, there), *row_runs.forward(turned(g), grad_output, there, bias, out)]


@functools.lru_cache(maxsize=64)
def _turn(g: ConvGeometry, dtype: np.dtype[Any]) -> Prepared:
    cost = float(g.in_channels * g.out_channels * g.taps)
    return turn_weights.prepare((dtype,), g.in_channels, g.in_channels, g.out_channels, g.taps, cost=cost)
