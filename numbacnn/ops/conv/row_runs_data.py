"""The data gradient of few input channels: how the output is cut into bands, and the launches.

See `kernels/conv_rows_data.py`.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...kernels._operands import Operand
from ...kernels.conv_rows_data import (
    MAX_POINTS,
    PATCH_SLOTS,
    PRODUCT_SLOTS,
    RowsData,
    add_rims,
    conv_rows_data,
    pack_rows_data,
)
from ...kernels.tile import MAX_ROWS, tile_lanes
from . import blocking, col2im, data_choice
from .bias import zero_row
from .lattice import by_axis, strides

if TYPE_CHECKING:
    from ...kernels._build import Prepared
    from ...kernels._program import Step
    from ..geometry import ConvGeometry

# With more, the general algorithm's panels are full enough. (Measured: 1.1 to 5 times as fast as that up to 8 channels,
# about the same at 12, slower at 16.)
MAX_CHANNELS = 12
# The others are better now and then: a model decides for so many channels and more, if it promises more than its
# errors.
FEWEST_JUDGED, MARGIN = 3, 1.2
# Products per position of which those of a tile of positions fit their place.
MAX_PRODUCTS = 768
# Bands of a sample: enough that many cores finish together; and the fewest positions that are worth one.
MANY_BANDS, FEW_POINTS = 16, 256
# What the products of the positions that go through together should take: most of L1, that they are still there.
PRODUCT_BYTES = 24 * 1024
# Rims of the samples that go through together.
RIM_BYTES = 4 << 20


class Bands(NamedTuple):
    """How the output of one sample is cut: along H, or along W where a row is too long or there is but one."""

    row_blocks: int
    column_blocks: int
    rows: int  # the most that a band has
    columns: int


class Launches(NamedTuple):
    """A data gradient, ready to run."""

    pack: Prepared
    add: tuple[Prepared, Prepared]  # for as many samples as go through together, and for those that are left
    rims: tuple[Prepared, Prepared]
    samples: tuple[int, int]
    packed_elements: int
    rim_elements: int


def accepts(g: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    if g.groups != 1:
        return f"groups is {g.groups}, not 1"
    if g.in_channels > MAX_CHANNELS:
        return f"{g.in_channels} input channels are more than {MAX_CHANNELS}"
    if any(mode != "zeros" for mode in g.padding_mode):
        return "padding repeats the image"
    if g.in_channels * g.taps > MAX_PRODUCTS:
        return f"{g.in_channels * g.taps} products per position are more than {MAX_PRODUCTS}"
    if _bands(g, 8) is None:
        return "what a band of output rows spans does not fit its patch"
    return None


def declines(g: ConvGeometry, itemsize: int) -> str | None:
    """None, or why another algorithm is expected to be clearly faster."""
    if g.in_channels < FEWEST_JUDGED:
        return None
    ratio = data_choice.ratio(data_choice.rows, g, itemsize)
    if col2im.pays(g, itemsize):
        ratio /= data_choice.ratio(data_choice.columns, g, itemsize)
    return f"it is expected to take {ratio:.2f} times as long as others" if ratio > MARGIN else None


def backward_data(
    g: ConvGeometry, grad_output: Operand, weight: Operand, bias: Operand | None, out: Operand
) -> list[Step]:
    """Fill `out`, the gradient of the input, from `grad_output`, both channels-last memory."""
    dtype = out.dtype
    launches = _launches(g, dtype, bias is not None)
    packed = Operand((launches.packed_elements,), dtype)
    rims = Operand((launches.samples[0] * launches.rim_elements,), dtype)
    zeros = zero_row(dtype, tile_lanes(dtype.itemsize))
    start = zeros if bias is None else bias
    steps = [launches.pack.on(weight, packed)]
    for first in range(0, g.batch, launches.samples[0]):
        portion = slice(first, first + launches.samples[0])
        kind = int(portion.stop > g.batch)
        steps.append(launches.add[kind].on(grad_output[portion], packed, start, out[portion], rims, zeros))
        if launches.rim_elements > 0:
            steps.append(launches.rims[kind].on(rims, out[portion]))
    return steps


@functools.lru_cache(maxsize=64)
def _launches(g: ConvGeometry, dtype: np.dtype[Any], biased: bool) -> Launches:
    record, offsets = plan(g, dtype.itemsize, biased)
    bands = record.row_blocks * record.column_blocks
    samples = max(1, min(g.batch, RIM_BYTES // max(1, bands * record.rim * dtype.itemsize)))
    both = samples, g.batch % samples
    cost = 2.0 * math.prod(g.output) * record.depth * record.panels * record.width / blocking.FLOPS_PER_NS
    add = [conv_rows_data.prepare((dtype,), n * bands, offsets, record, cost=n * cost) for n in both]
    rims = [add_rims.prepare((dtype,), n * bands, record, cost=float(n * bands * record.rim)) for n in both]
    elements = record.panels * record.width * record.depth
    pack = pack_rows_data.prepare((dtype,), record.panels, g.taps, record, cost=float(elements))
    return Launches(pack, (add[0], add[1]), (rims[0], rims[1]), both, elements, bands * record.rim)


def plan(g: ConvGeometry, itemsize: int, biased: bool) -> tuple[RowsData, np.ndarray]:
    """The kernel's record, and where in the patch each line of taps begins."""
    bands = _bands(g, itemsize)
    assert bands is not None
    rim_h, rim_w = _rim(g, 1) if bands.row_blocks > 1 else 0, _rim(g, 2) if bands.column_blocks > 1 else 0
    rows, columns, ring = _extents(g, bands.rows, bands.columns)
    pitch = columns * g.in_channels
    full = tile_lanes(itemsize)
    count = g.in_channels * g.taps
    width = full if count > full // 2 else full // 2
    panels = -(-count // width)
    side_by_side = g.dilation[2] == 1
    run = g.in_channels * (g.kernel[2] if side_by_side else 1)
    kh, kw = np.ogrid[: g.kernel[1], : 1 if side_by_side else g.kernel[2]]
    offsets = kh * (g.dilation[1] * pitch) + kw * (g.dilation[2] * g.in_channels)
    in_n, in_d, in_h, _ = strides(g.input, g.in_channels)
    product_pitch = panels * width
    good, most = (size // (product_pitch * itemsize) for size in (PRODUCT_BYTES, PRODUCT_SLOTS * 8))
    points = min(MAX_POINTS, max(good, min(most, 2 * MAX_ROWS)))
    if points > MAX_ROWS:  # fewer have room where a position has very many products
        points -= points % MAX_ROWS
    record = RowsData(
        channels=g.in_channels,
        in_n=in_n,
        in_d=in_d,
        in_h=in_h,
        **by_axis("size", g.input),
        **by_axis("pad", g.pad_low),
        **by_axis("out", g.output),
        **by_axis("stride", g.stride),
        row_blocks=bands.row_blocks,
        column_blocks=bands.column_blocks,
        rim_h=rim_h,
        rim_w=rim_w,
        rim=_rim_elements(g, bands),
        pitch=pitch,
        plane=-(-rows * pitch // full) * full,
        ring=ring,
        taps_d=g.kernel[0],
        dilation_d=g.dilation[0],
        runs=offsets.size,
        run=run,
        apart=-(-run // (full // 2)) * (full // 2) // (g.stride[2] * g.in_channels) + 1,
        depth=g.out_channels,
        count=count,
        vector=full // 2,
        width=width,
        panels=panels,
        product_pitch=product_pitch,
        points=points,
        biased=int(biased),
    )
    return record, np.ascontiguousarray(offsets.ravel(), dtype=np.int64)


def _rim(g: ConvGeometry, axis: int) -> int:
    """What a band adds to beyond its own."""
    return max(g.span[axis] - g.stride[axis], 0)


def _extents(g: ConvGeometry, rows: int, columns: int) -> tuple[int, int, int]:
    """Rows, columns and planes of the patch; what no tap reads behind the last position is in it."""
    patch_rows, patch_columns = (
        n * g.stride[axis] + _rim(g, axis) + g.stride[axis] - 1 for n, axis in ((rows, 1), (columns, 2))
    )
    return patch_rows, patch_columns, max(g.span[0], g.stride[0])


def _rim_elements(g: ConvGeometry, bands: Bands) -> int:
    if bands.row_blocks > 1:
        return g.input[0] * _rim(g, 1) * g.input[2] * g.in_channels
    if bands.column_blocks > 1:
        return g.input[0] * g.input[1] * _rim(g, 2) * g.in_channels
    return 0


@functools.lru_cache(maxsize=256)
def _bands(g: ConvGeometry, itemsize: int) -> Bands | None:
    """As many bands as are worth while; None if their patches do not fit. A rim reaches no further than one band."""
    return _cut(g, itemsize, 1) or _cut(g, itemsize, 2)


def _cut(g: ConvGeometry, itemsize: int, axis: int) -> Bands | None:
    _, out_h, out_w = g.output
    total = g.output[axis]
    most = total // max(1, -(-_rim(g, axis) // g.stride[axis]))
    if total == 1 or most == 0:
        most = int(axis == 2)
    for parts in range(max(1, min(MANY_BANDS, math.prod(g.output) // FEW_POINTS, most)), most + 1):
        bands = Bands(parts, 1, -(-total // parts), out_w) if axis == 1 else Bands(1, parts, out_h, -(-total // parts))
        rows, columns, ring = _extents(g, bands.rows, bands.columns)
        if _rim_elements(g, bands) * parts * itemsize > RIM_BYTES:
            return None
        if (rows * columns * g.in_channels + 16) * ring * itemsize <= PATCH_SLOTS * 8:
            return bands
    return None
