"""Data gradients of one to three input channels: vectors along the output's channels, whose lanes are added up last.

How the image is cut into blocks, and the launches. See `kernels/conv_lane_sums.py`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from ...kernels._operands import Operand
from ...kernels._target import target
from ...kernels.conv_lane_sums import MAX_LINES, LaneSums, conv_lane_sums, pack_lane_sums, pack_starts
from ...kernels.lane_sum_tile import MOST_CHANNELS
from . import blocking, data_choice, row_runs_data
from .bias import zero_row
from .lattice import Memory, Phase, backward_data_phases, by_axis, strides

if TYPE_CHECKING:
    import numpy as np

    from ...kernels._build import Prepared
    from ...kernels._program import Step
    from ..geometry import ConvGeometry

name = "lane_sums"

# What the model must promise: more than its errors. (Of 220 random problems without strides, 36 come here: 1.7 times as
# fast as by `row_runs` in the mean, two of them slower by more than 10 %. With strides, nothing was gained.)
WORTH = 0.85
# Blocks: enough that many cores finish together; and the fewest columns of one.
MANY_BLOCKS, FEW_COLUMNS = 32, 64


class Launches(NamedTuple):
    """A data gradient, ready to run."""

    pack: Prepared
    starts: Prepared
    convolve: Prepared
    packed_elements: int


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g = geometry
    if direction != "backward_data":
        return "it is for data gradients"
    if g.stride != (1, 1, 1):
        return f"the stride is {g.stride}"
    if g.groups != 1:
        return f"groups is {g.groups}, not 1"
    if g.in_channels > MOST_CHANNELS:
        return f"{g.in_channels} input channels are more than {MOST_CHANNELS}"
    if any(mode != "zeros" for mode in g.padding_mode):
        return "padding repeats the image"
    if g.kernel[0] * g.kernel[1] > MAX_LINES:
        return f"{g.kernel[0] * g.kernel[1]} lines of taps are more than {MAX_LINES}"
    return None


def declines(direction: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    """None, or why another algorithm is expected to be as fast."""
    g = geometry
    if not blocking.WIDE_VECTORS and g.kernel[0] * g.kernel[1] > 1:
        return "beside vectors of 32 bytes, several lines of taps take longer than a model knows"
    others = 1.0 if row_runs_data.accepts(g) else min(1.0, data_choice.ratio(data_choice.rows, g, itemsize))
    ratio = data_choice.ratio(data_choice.lane_sums, g, itemsize) / others
    return f"it is expected to take {ratio:.2f} times as long as others" if ratio > WORTH else None


def pays(g: ConvGeometry, itemsize: int) -> bool:
    """Whether a data gradient comes here if no algorithm before takes it."""
    return accepts("backward_data", g) is None and declines("backward_data", g, itemsize) is None


def backward_data(
    g: ConvGeometry, grad_output: Operand, weight: Operand, bias: Operand | None, out: Operand
) -> list[Step]:
    """Fill `out`, the gradient of the input, from `grad_output`, both channels-last memory."""
    launches, lanes = _launches(g, out.dtype), target().lanes(out.dtype.itemsize)
    packed = Operand((launches.packed_elements,), out.dtype)
    start: Any = zero_row(out.dtype, g.in_channels * lanes)
    steps = [launches.pack.on(weight, packed)]
    if bias is not None:
        start = Operand((g.in_channels * lanes,), out.dtype)
        steps.append(launches.starts.on(bias, start))
    return [*steps, launches.convolve.on(grad_output, packed, start, out)]


@functools.lru_cache(maxsize=64)
def _launches(g: ConvGeometry, dtype: np.dtype[Any]) -> Launches:
    (phase,) = backward_data_phases(g)
    sources, lanes = phase.sources(Memory(g.output, g.out_channels)), target().lanes(dtype.itemsize)
    record = _record(g, phase, lanes)
    packed = g.taps * record.padded * g.in_channels
    lines, blocks = g.kernel[0] * g.kernel[1], g.batch * record.plane_blocks * record.row_blocks * record.column_blocks
    cost = 2.0 * packed * g.batch * phase.points / blocking.FLOPS_PER_NS
    return Launches(
        pack_lane_sums.prepare((dtype,), lines, record, sources, cost=float(packed)),
        pack_starts.prepare((dtype,), g.in_channels, lanes, cost=float(g.in_channels)),
        conv_lane_sums.prepare((dtype,), blocks, record, sources, cost=cost),
        packed,
    )


def _record(g: ConvGeometry, phase: Phase, lanes: int) -> LaneSums:
    planes = min(g.input[0], -(-MANY_BLOCKS // max(1, g.batch)))
    rows = min(g.input[1], -(-MANY_BLOCKS // max(1, g.batch * planes)))
    columns = min(max(1, g.input[2] // FEW_COLUMNS), -(-MANY_BLOCKS // max(1, g.batch * planes * rows)))
    out_n, *out_strides = strides(g.input, g.in_channels)
    weight_first, weight_steps = phase.weight_places(g.kernel)
    return LaneSums(
        channels=g.in_channels,
        depth=g.out_channels,
        vector=lanes,
        padded=-(-g.out_channels // lanes) * lanes,
        out_n=out_n,
        **by_axis("out", out_strides),
        plane_blocks=planes,
        row_blocks=rows,
        column_blocks=columns,
        weight_taps=g.taps,
        weight_first=weight_first,
        **by_axis("weight", weight_steps),
    )
