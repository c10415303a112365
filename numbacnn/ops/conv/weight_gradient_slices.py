"""The weight gradient with vectors along the input channels, for output channels that are few: how the work is cut."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...kernels import conv_weight_slices
from ...kernels._target import target
from ...kernels.conv_rows import RowsConv
from ...kernels.sources import MODES
from ...kernels.tile import tile_lanes
from . import blocking
from .lattice import by_axis, strides
from .weight_gradient_plan import SumsPlan, chunks_for_all_cores

if TYPE_CHECKING:
    from ..geometry import ConvGeometry

# Positions that are worth a chunk of their own.
LEAST_POINTS = 256
# Ways to cut rows of output that planning looks at.
MANY_CUTS = 64
# Cycles in which a vector is copied into a patch, from L2 and from beyond; two multiply-adds take one.
NEAR_CYCLES, FAR_CYCLES = 7.0, 14.0
# A single vector of output channels takes such a part of the time that a tile's two take.
SINGLE_VECTOR = 0.8


class Cut(NamedTuple):
    """How output rows and columns are cut into blocks."""

    row_blocks: int
    column_blocks: int
    copied: int  # positions, for all blocks of a sample


def accepts(g: ConvGeometry, itemsize: int) -> bool:
    """Whether patches and sums fit, and are expected to take less time than rows read in place by whole panels.

    (Measured: 1.1 to 5 times as fast for up to 12 output channels, 1 to 2 times for more where they leave panels idle.)
    """
    vector_bytes = target().vector_bytes
    return (
        g.groups == 1
        and g.taps > 1
        and g.in_channels * itemsize >= vector_bytes
        and g.taps * g.out_channels * vector_bytes <= conv_weight_slices.SUM_SLOTS * 8
        and (cut := _cut(g)) is not None
        and _cycles(g, itemsize, cut) < _cycles_in_place(g, itemsize)
    )


def products(g: ConvGeometry, itemsize: int) -> float:
    """Multiply-adds of all positions, and those of which there are as many in the time that copies take."""
    cut = _cut(g)
    assert cut is not None
    return 2 * target().lanes(itemsize) * _cycles(g, itemsize, cut) * g.batch * math.prod(g.output)


def _cycles(g: ConvGeometry, itemsize: int, cut: Cut) -> float:
    """Of a position."""
    far = g.batch * math.prod(g.input) * g.in_channels * itemsize > blocking.L2_BYTES
    copies = cut.copied / math.prod(g.output) * (FAR_CYCLES if far else NEAR_CYCLES)
    return _slices(g, itemsize) * (g.taps * g.out_channels / 2 + copies)


def _cycles_in_place(g: ConvGeometry, itemsize: int) -> float:
    width = tile_lanes(itemsize)
    panels = -(-g.out_channels // width) if 2 * g.out_channels > width else SINGLE_VECTOR
    return g.taps * g.in_channels * panels


def _slices(g: ConvGeometry, itemsize: int) -> int:
    return -(-g.in_channels // target().lanes(itemsize))


@functools.lru_cache(maxsize=256)
def _cut(g: ConvGeometry) -> Cut | None:
    """Of the cuts whose patches fit, the one that copies least; None if there is none."""
    out_d, out_h, out_w = g.output
    fit = conv_weight_slices.PATCH_SLOTS * 8 // (target().vector_bytes * g.kernel[0])
    most = (fit // _read(g, 1, 1) - _read(g, 2, 1)) // g.stride[2] + 1  # columns beside which a single row fits
    if most < 1 or out_d * out_h * out_w == 0:
        return None
    cuts = []
    fewest = -(-out_w // most)
    for column_blocks in range(fewest, min(out_w, fewest + MANY_CUTS) + 1):
        read = _read(g, 2, -(-out_w // column_blocks))
        row_blocks = -(-out_h // ((fit // read - _read(g, 1, 1)) // g.stride[1] + 1))
        copied = g.kernel[0] * read * _read(g, 1, -(-out_h // row_blocks))
        cuts.append(Cut(row_blocks, column_blocks, out_d * row_blocks * column_blocks * copied))
    return min(cuts, key=lambda cut: cut.copied)


def _read(g: ConvGeometry, axis: int, points: int) -> int:
    """Coordinates that some neighbouring points read."""
    return (points - 1) * g.stride[axis] + g.span[axis]


def plan(g: ConvGeometry, itemsize: int) -> SumsPlan:
    """Cut the weight gradient into chunks of positions and slices."""
    cut = _cut(g)
    assert cut is not None
    width, slices = target().lanes(itemsize), _slices(g, itemsize)
    pitch = _read(g, 2, -(-g.output[2] // cut.column_blocks)) * width
    plane = _read(g, 1, -(-g.output[1] // cut.row_blocks)) * pitch
    kd, kh, kw = np.ogrid[: g.kernel[0], : g.kernel[1], : g.kernel[2]]
    offsets = kd * plane + kh * (g.dilation[1] * pitch) + kw * (g.dilation[2] * width)
    blocks = g.batch * g.output[0] * cut.row_blocks * cut.column_blocks
    most = blocking.PACKED_BYTES // (g.out_channels * g.in_channels * g.taps * itemsize)
    most = min(most, blocks, g.batch * math.prod(g.output) // LEAST_POINTS)
    chunks = max(1, min(-(-blocking.MIN_BLOCKS // slices), most))
    chunks = min(blocks, chunks_for_all_cores(g, chunks, slices, itemsize))
    in_n, in_d, in_h, in_w = strides(g.input, g.in_channels)
    record = RowsConv(
        channels=width,
        in_n=in_n,
        in_d=in_d,
        in_h=in_h,
        in_w=in_w,
        **by_axis("size", g.input),
        **by_axis("pad", g.pad_low),
        **by_axis("mode", (MODES.index(mode) for mode in g.padding_mode)),
        **by_axis("out", g.output),
        **by_axis("stride", g.stride),
        taps_d=g.kernel[0],
        taps_h=g.kernel[1],
        dilation_d=g.dilation[0],
        dilation_h=g.dilation[1],
        span_h=_read(g, 1, 1),
        span_w=_read(g, 2, 1),
        pitch=pitch,
        plane=plane,
        row_blocks=cut.row_blocks,
        column_blocks=cut.column_blocks,
        count=g.taps,
        part=g.taps,
        pairs=0,
        lanes=g.out_channels,
        vector=width,
        width=width,
        panels=slices,
        blocks=blocks,
        chunks=chunks,
        panel_blocks=slices,
        group=0,
        left_out=0,
        in_place=0,
    )
    cost = g.flops / blocking.FLOPS_PER_NS
    offsets = np.ascontiguousarray(offsets.ravel(), dtype=np.int64)
    return SumsPlan(conv_weight_slices.conv_weight_slices, record, offsets, slices * chunks, cost)
