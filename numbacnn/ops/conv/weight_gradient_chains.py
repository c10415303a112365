"""The weight gradient of few channels, whose taps along W share what they read: how the work is cut."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ...kernels import conv_weight_chains
from ...kernels._target import target
from ...kernels.chain_weight_tile import MOST_LINKS, MOST_ROWS
from . import blocking, weight_gradient_groups
from .lattice import by_axis, strides
from .weight_gradient_plan import SumsPlan, chunks_for_all_cores

if TYPE_CHECKING:
    from ..geometry import ConvGeometry

# Positions that are worth a chunk of their own.
LEAST_POINTS = 256
# With fewer rows of x, and with two vectors of output channels or more in tiles of fewer sums, multiply-adders idle.
LEAST_ROWS, LEAST_SUMS = 3, 9
# Taps of a chain, in the mean, and points of a line that are worth it; with two vectors or more, which other tiles
# multiply by each element that they load.
LEAST_LINKS, LEAST_COLUMNS = 1.5, 2 * MOST_LINKS
LEAST_WIDE_LINKS, LEAST_WIDE_COLUMNS = 2.3, 16
# The most products, idle lanes included, beside those of tiles whose vectors run along the input channels, and the most
# panels: with more output channels, what slices copy is used more often. (Up to 0.9 times as fast.)
MOST_PRODUCTS, MOST_PANELS = 0.85, 8


def accepts(g: ConvGeometry, itemsize: int) -> bool:
    """Whether there are chains, registers for them, and room for rows and sums; and no better tile."""
    lanes = target().lanes(itemsize)
    return (
        target().registers >= 32
        and g.groups == 1
        and g.dilation[2] == 1
        and all(mode == "zeros" for mode in g.padding_mode)
        and 2 * g.out_channels > lanes  # fewer go in pairs, by row runs
        and g.output[2] >= LEAST_COLUMNS
        and LEAST_ROWS <= _rows(g) <= conv_weight_chains.TABLE_SLOTS
        and g.taps * g.in_channels * lanes * itemsize <= conv_weight_chains.SUM_SLOTS * 8
        and _pays(g, itemsize)
    )


def _pays(g: ConvGeometry, itemsize: int) -> bool:
    """Whether it is expected to be faster than slices and groups, where there are any, or than patches of rows.

    (Measured: 1.05 to 1.4 times as fast with one vector of output channels, 1 to 1.25 with more.)
    """
    lanes = target().lanes(itemsize)
    phases = [len(range(phase, g.kernel[2], g.stride[2])) for phase in range(min(g.stride[2], g.kernel[2]))]
    links = g.kernel[2] / sum(-(-taps // MOST_LINKS) for taps in phases)
    if g.in_channels >= lanes:
        panels = -(-g.out_channels // lanes)
        products, others = g.in_channels * panels * lanes, -(-g.in_channels // lanes) * lanes * g.out_channels
        grouped = links == MOST_LINKS and weight_gradient_groups.accepts(g, itemsize)
        most = others if grouped else MOST_PRODUCTS * others
        return links >= LEAST_WIDE_LINKS and products <= most and panels <= MOST_PANELS
    if g.out_channels <= lanes:
        return links >= LEAST_LINKS
    rows = _rows(g) // -(-_rows(g) // MOST_ROWS)
    fewest = min(taps // -(-taps // MOST_LINKS) for taps in phases)
    return links >= LEAST_WIDE_LINKS and rows * fewest >= LEAST_SUMS and g.output[2] >= LEAST_WIDE_COLUMNS


def _rows(g: ConvGeometry) -> int:
    """Of x, that a line of positions reads."""
    return g.kernel[0] * g.kernel[1] * g.in_channels


def plan(g: ConvGeometry, itemsize: int) -> SumsPlan:
    """Cut the weight gradient into chunks of positions, and panels."""
    lanes = target().lanes(itemsize)
    panels = -(-g.out_channels // lanes)
    most = conv_weight_chains.MOST_POINTS
    column_blocks = -(-g.output[2] // most)
    columns = -(-g.output[2] // column_blocks)
    lines = max(1, min(most // columns, conv_weight_chains.TABLE_SLOTS // _rows(g)))
    row_blocks = -(-g.output[1] // lines)
    blocks = g.batch * g.output[0] * row_blocks * column_blocks
    size = g.out_channels * g.in_channels * g.taps
    chunks = min(blocks, g.batch * math.prod(g.output) // LEAST_POINTS, blocking.PACKED_BYTES // (size * itemsize))
    chunks = max(1, min(chunks, blocking.MIN_BLOCKS))
    fit = conv_weight_chains.SUM_SLOTS * 8 // (g.taps * g.in_channels * lanes * itemsize)
    panel_blocks = min(panels, max(-(-panels // fit), -(-blocking.MIN_BLOCKS // chunks)))
    chunks = min(blocks, chunks_for_all_cores(g, chunks, panel_blocks, itemsize))
    in_n, in_d, in_h, _ = strides(g.input, g.in_channels)
    by_axes = {
        **by_axis("size", g.input),
        **by_axis("pad", g.pad_low),
        **by_axis("out", g.output),
        **by_axis("stride", g.stride),
        **by_axis("taps", g.kernel),
    }
    record = conv_weight_chains.ChainsConv(
        channels=g.in_channels,
        in_n=in_n,
        in_d=in_d,
        in_h=in_h,
        **by_axes,
        dilation_d=g.dilation[0],
        dilation_h=g.dilation[1],
        row_blocks=row_blocks,
        column_blocks=column_blocks,
        blocks=blocks,
        chunks=chunks,
        lanes=g.out_channels,
        width=lanes,
        panels=panels,
        panel_blocks=panel_blocks,
    )
    planes, ci = np.ogrid[: g.kernel[0] * g.kernel[1], : g.in_channels]
    places = np.ascontiguousarray(lanes * (ci * g.taps + planes * g.kernel[2]), dtype=np.int64).ravel()
    cost = g.flops / blocking.FLOPS_PER_NS
    zeros = g.input[2] * g.in_channels
    return SumsPlan(conv_weight_chains.conv_weight_chains, record, places, chunks * panel_blocks, cost, zeros)
