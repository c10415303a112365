"""Kernels of one tap without padding: plain matrix products over all positions at once.

Under a stride, the rows that are read (forward) or written (data gradient) lie apart; they are copied, a few megabytes
at a time.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...kernels import conv_pointwise, strided_rows
from ...kernels._operands import Operand
from . import indirect, pointwise_plan
from .bias import padded_bias, zero_row
from .finish import NOTHING, Finish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...kernels._build import Prepared
    from ...kernels._program import Step
    from ..geometry import ConvGeometry

name = "pointwise"
finishes = ("activation", "residual")

# Channels of groups that others compute quicker, several groups to a vector, if few channels are summed or results fill
# vectors (of eight lanes: there is no choice by dtype). Otherwise this is up to five times as fast.
SMALL_GROUP, FEW_SUMMED = 8, 4
# Channels, of the side that has fewer, of groups whose weight gradient others compute 1.2 to 7 times as fast.
SMALL_SIDE = 12


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g = geometry
    if g.taps != 1:
        return f"the kernel has {g.taps} taps"
    if any(g.pad_low) or any(g.pad_high):
        return "there is padding"
    if direction == "backward_weight" and g.stride != (1, 1, 1):
        return f"the stride is {g.stride}"
    return None


def declines(direction: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    """Why this algorithm, though it takes the problem, is not worth while."""
    g = geometry
    summed, results = g.in_per_group, g.out_per_group
    if direction == "backward_data":
        summed, results = results, summed
    if direction == "backward_weight":
        small = min(summed, results) <= SMALL_SIDE
    else:
        small = max(summed, results) <= SMALL_GROUP and (summed <= FEW_SUMMED or results == SMALL_GROUP)
    if g.groups > 1 and small:
        return f"groups of {g.in_per_group} and {g.out_per_group} channels are small"
    return None


def forward(
    g: ConvGeometry,
    x: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
    follows: Finish = NOTHING,
) -> list[Step]:
    """Fill `out` (N, D, H, W, C_out) from `x` (N, D, H, W, C_in)."""
    launches = _prepare("forward", g, x.dtype)
    weight, start, steps = _operands(launches, weight, bias)
    finish = follows.distance(out), follows.activation
    if launches.copy is None:
        return [*steps, launches.multiply.on(x, weight, start, out, *finish)]
    rows = Operand((launches.portion, g.in_channels), x.dtype)
    for first, last, multiply in _portions(launches):
        steps.append(launches.copy.on(x, rows, first, last))
        steps.append(multiply.on(rows, weight, start, out.reshape(-1, g.out_channels)[first:], *finish))
    return steps


def backward_data(
    g: ConvGeometry, grad_output: Operand, weight: Operand, bias: Operand | None, out: Operand
) -> list[Step]:
    """Fill `out`, the gradient of the input, from `grad_output`."""
    launches = _prepare("backward_data", g, out.dtype)
    weight, start, steps = _operands(launches, weight, bias)
    if launches.copy is None:
        return [*steps, launches.multiply.on(grad_output, weight, start, out, 0, 0)]
    rows = Operand((launches.portion, g.in_channels), out.dtype)
    fill = zero_row(out.dtype, g.in_channels) if bias is None else bias
    for first, last, multiply in _portions(launches):
        source = grad_output.reshape(-1, g.out_channels)[first:]
        steps.append(multiply.on(source, weight, start, rows, 0, 0))
        steps.append(launches.copy.on(rows, fill, out, first, last))
    return steps


def backward_weight(g: ConvGeometry, grad_output: Operand, x: Operand, out: Operand) -> list[Step]:
    """Fill `out`, the (C_out, C_in / groups, 1) gradient of the weight."""
    return indirect.backward_weight(_one_line(g), grad_output, x, out)


@functools.lru_cache(maxsize=512)
def _one_line(g: ConvGeometry) -> ConvGeometry:
    """The same products with all positions along W: memory is identical, and a single row of the lattice to walk."""
    line = 1, 1, g.batch * math.prod(g.output)
    return g._replace(batch=1, input=line, output=line)


class Launches(NamedTuple):
    """One direction of a convolution, ready to run."""

    record: conv_pointwise.Pointwise | conv_pointwise.FewRows
    pack: Prepared | None  # None: weights are read as they come
    packed_elements: int
    pads: bool  # whether whole panels of the bias are read
    rows: int
    portion: int  # rows that are multiplied at a time
    multiply: Prepared
    multiply_last: Prepared  # for what is left of the rows by portions
    copy: Prepared | None  # of strided rows


@functools.lru_cache(maxsize=512)
def _prepare(direction: str, g: ConvGeometry, dtype: np.dtype[Any]) -> Launches:
    forward = direction == "forward"
    rows = portion = g.batch * math.prod(g.output)
    copy = None
    if g.stride != (1, 1, 1):
        channels = g.in_channels
        portion = pointwise_plan.copied_rows(rows, channels, dtype.itemsize)
        kernel = strided_rows.gather_rows if forward else strided_rows.spread_rows
        lattice = pointwise_plan.strided_rows(g, channels)
        cost = portion * channels / pointwise_plan.ELEMENTS_PER_NS
        copy = kernel.prepare((dtype,), -(-portion // lattice.block_rows), lattice, cost=cost)
    product = pointwise_plan.product(direction, g, portion)
    cost = product.cost(dtype.itemsize)
    if portion == rows and pointwise_plan.has_few_rows(direction, product, dtype.itemsize):
        few = pointwise_plan.plan_few_rows(direction, product, dtype.itemsize)
        kernel = conv_pointwise.few_rows_forward if forward else conv_pointwise.few_rows_backward
        multiply = kernel.prepare((dtype,), few.groups * few.parts, few, cost=cost)
        return Launches(few, None, 0, not forward, rows, portion, multiply, multiply, copy)
    record = pointwise_plan.plan(product, dtype.itemsize)
    pack, elements = None, 0
    if not record.packs:
        panels = record.groups * record.panels
        elements = record.groups * record.padded * record.depth
        pack = conv_pointwise.pack_panels.prepare((dtype,), panels, record, cost=float(elements))
    multiply = _multiply(record, dtype, cost)
    left = rows % portion
    last = _multiply(pointwise_plan.fewer_rows(record, left), dtype, cost) if left else multiply
    return Launches(record, pack, elements, True, rows, portion, multiply, last, copy)


def _multiply(record: conv_pointwise.Pointwise, dtype: np.dtype[Any], cost: float) -> Prepared:
    return conv_pointwise.conv_pointwise.prepare((dtype,), record.row_blocks * record.panel_blocks, record, cost=cost)


def _portions(launches: Launches) -> Iterator[tuple[int, int, Prepared]]:
    """First row and end of each portion, and the launch that multiplies it."""
    for first in range(0, launches.rows, launches.portion):
        last = min(first + launches.portion, launches.rows)
        yield first, last, launches.multiply if last - first == launches.portion else launches.multiply_last


def _operands(
    launches: Launches, weight: Operand, bias: Operand | None
) -> tuple[Operand, Operand | np.ndarray, list[Step]]:
    """Weights and bias as the launches read them, and what must run before."""
    r = launches.record
    start: Operand | np.ndarray
    if bias is None:
        start = zero_row(weight.dtype, r.groups * r.padded)
    else:
        start = padded_bias(bias, r.groups, r.lanes, r.padded) if launches.pads else bias
    if launches.pack is None:
        return weight, start, []
    packed = Operand((launches.packed_elements,), weight.dtype)
    return packed, start, [launches.pack.on(weight, packed)]
