"""What depthwise convolution without a stride along the width takes: by `periods`, and by `strips`.

A sum of what there is to do, each with a cost, in nanoseconds of one core. Fitted to 427 random problems of two to 31
channels in one, two and three dimensions and both precisions, those of vectors of 32 bytes to 432 of two to 15: by this
model 1 % was lost in the mean against the better of both, where `strips` alone had lost 46 % (31 %).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ...kernels._target import target
from . import blocking

if TYPE_CHECKING:
    from ...kernels.conv_periods import Periods
    from ..geometry import ConvGeometry


class OfPeriods(NamedTuple):
    """Nanoseconds."""

    start: float
    stored: float  # vectors of the result
    lone: float  # products of vectors, where no two rows share what they read
    whole: float  # where they do, and where a vector is masked
    clipped: float
    packed: float  # vectors of weights


class OfStrips(NamedTuple):
    """Nanoseconds."""

    start: float
    stored: float  # vectors of the result
    products: float
    copied: float  # vectors of the result, per kernel row
    rows: float  # rows of vectors, per kernel row
    weights: float


if blocking.WIDE_VECTORS:
    OF_PERIODS = OfPeriods(3060, 1.7, 0.395, 0.2, 0.286, 2.9)
    OF_STRIPS = OfStrips(2990, 2.67, 0.112, 0.377, 5.1, 37)
else:
    OF_PERIODS = OfPeriods(3080, 0.8, 0.296, 0.167, 0.339, 4.2)
    OF_STRIPS = OfStrips(2940, 1.35, 0.11, 0.173, 6.5, 20)


def of_periods(g: ConvGeometry, itemsize: int, transposed: bool, plan: Periods) -> float:
    """What `periods` takes."""
    lanes = target().lanes(itemsize)
    vectors = g.batch * math.prod(g.input if transposed else g.output) * g.groups / lanes
    clipped = 1 - (plan.inside_end - plan.inside) / max(1, -(-plan.line // lanes))
    shared = plan.shared and plan.kernel_rows > 1
    return _sum(
        OF_PERIODS,
        1,
        vectors,
        0 if shared else vectors * g.taps,
        vectors * g.taps * (1 - clipped) if shared else 0,
        vectors * g.taps * clipped if shared else 0,
        plan.blocks * g.taps * plan.period / lanes,
    )


def of_strips(g: ConvGeometry, itemsize: int, transposed: bool) -> float:
    """What `strips` takes."""
    out, vectors = g.input if transposed else g.output, -(-g.groups // target().lanes(itemsize))
    rows = g.batch * out[0] * out[1] * vectors
    stored, kernel_rows = rows * out[2], g.kernel[0] * g.kernel[1]
    return _sum(OF_STRIPS, 1, stored, stored * g.taps, stored * kernel_rows, rows * kernel_rows, vectors * g.taps)


def _sum(costs: tuple[float, ...], *counts: float) -> float:
    return sum(cost * count for cost, count in zip(costs, counts, strict=True))
