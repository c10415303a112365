"""Few input channels, as in the first layer of a net: padded patches of the input, one flat reduction per position.

How the output is cut into blocks whose patch fits the kernel's stack, and the launches.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...kernels._operands import Operand
from ...kernels._target import target
from ...kernels.chain_tile import LEAST_POINTS
from ...kernels.conv_chains import conv_chains
from ...kernels.conv_rows import (
    COMBINE_ROWS,
    MAX_POINTS,
    PATCH_SLOTS,
    RowsConv,
    combine_pairs,
    combine_rows,
    conv_rows,
    conv_rows_weight,
    pack_listed,
    pack_rows,
)
from ...kernels.sources import MODES
from ...kernels.tile import MAX_ROWS, tile_lanes
from . import (
    blocking,
    row_runs_data,
    weight_gradient_chains,
    weight_gradient_groups,
    weight_gradient_in_place,
    weight_gradient_slices,
)
from .bias import zero_row
from .finish import NOTHING, Finish
from .lattice import by_axis, strides, taps_inside
from .row_order import Chains, chains, paired

if TYPE_CHECKING:
    from ...kernels._build import Prepared
    from ...kernels._program import Step
    from ..geometry import ConvGeometry

name = "row_runs"
finishes = ("activation", "residual")
backward_data = row_runs_data.backward_data

# Above this a tap alone is long enough a run for the general algorithm, whose weights are blocked for the caches.
# (Measured: 1.1 to 1.4 times as fast as that at these numbers of channels, the same at twice as many. Weight gradients:
# the same at 12 to 16 channels.)
MAX_CHANNELS = {"forward": 16, "backward_weight": 16}
# Forward, where a vector holds all output channels; and where these fill half of it at most, as many per output
# channel, and no more than the second number.
NARROW_CHANNELS = 32
PAIRED_CHANNELS = 12, 64
# The same for weight gradients under strides, where taps of neighbouring positions meet. (Where they do not: with more
# than a vector of channels.)
MANY_STRIDED = 16
# The fewest positions of a weight gradient per element that a tap has of it, for so many channels and more, and so many
# taps at most: fewer are copied, and their sums put down and turned around, for longer than they are multiplied. (With
# vectors of 64 bytes, random problems: without patches 1.2 times as fast. With more taps products repay the copies.)
LEAST_PER_SUM, SUMS_CHANNELS, SUMS_TAPS = 0.3, 4, 16
# Forward, the general algorithm takes longer by so much divided by the channels.
GAIN = 3.2
# ... and so many times as long beside chains and pairs. (Measured: 1.2 to 1.4, and 1.4 to 2, but Winograd's model
# promises too much.)
NARROW_GAIN, PAIRED_GAIN = 1.2, 1.3
PATCH_BYTES = PATCH_SLOTS * 8 - 64  # what copies may write behind the last row
# A patch of this size leaves half of a 32 KiB L1 to weights and output; larger ones only where a row needs it.
GOOD_PATCH_BYTES = 24 * 1024
# Positions per block: enough that copying the patch and ragged last tiles do not show; and the fewest for which packed
# weights that exceed the caches are worth reading.
GOOD_POINTS, FEW_POINTS = MAX_POINTS, 96
# Results that positions have of all panels before the next positions do: what L1's translations of addresses reach (300
# KiB took up to twice as long).
GROUP_BYTES, GROUP_POINTS = 128 * 1024, 192
# Weights of a panel that stay in L1 beside what they are multiplied by. Larger panels are cut where vectors are of 64
# bytes, and sums put down in between (kernels of 400 to 1,600 products: 1.01 to 1.05 times as fast, the same bits).
PART_BYTES = 24 * 1024
# Blocks of a launch: enough that many cores finish together.
MANY_BLOCKS = 32
# Partial weight gradients: fewer, for they have to be added up, which takes as long as summing over some positions; of
# fewer positions where panels are so few that eight cores would not all have a block.
MANY_SUMS, POINTS_PER_SUM = 16, 256
WEIGHT_BLOCKS, LEAST_POINTS_PER_SUM = 8, 128
# Tiles of the general algorithm that are faster.
OTHER_WAYS = weight_gradient_chains, weight_gradient_groups, weight_gradient_slices


class RowPlan(NamedTuple):
    """Kernel arguments that do not depend on the data."""

    offsets: np.ndarray
    chains: Chains | None  # forward, where a vector holds all output channels and rows have enough positions for a tile
    forward: RowsConv
    weight_offsets: np.ndarray
    order: np.ndarray  # of products in the weight gradient, if there are pairs: see `row_order.paired`
    backward_weight: RowsConv  # differs in what is paired, and how blocks and panels are cut
    cost: float


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g = geometry
    if direction == "backward_data":
        return row_runs_data.accepts(g)
    if g.groups != 1:
        return f"groups is {g.groups}, not 1"
    most = max(MAX_CHANNELS[direction], _paired_channels(g) if direction == "forward" else 0)
    if g.in_channels > most:
        return f"{g.in_channels} input channels are more than {most}"
    if _columns(g, 8, PATCH_BYTES) < min(g.output[2], 6):
        return "the input that six output positions span does not fit its patch"
    if _packed_elements(g) * 8 > blocking.PACKED_BYTES:
        return f"the packed weights take more than {blocking.PACKED_BYTES} bytes"
    return None


def is_narrow(g: ConvGeometry, itemsize: int) -> bool:
    """Whether a vector holds all output channels."""
    return g.out_channels <= target().lanes(itemsize)


def pairs_fit(g: ConvGeometry, itemsize: int) -> bool:
    """Whether output channels fill no more than half a vector: each then has two lanes, see `chain_tile`."""
    return 2 * g.out_channels <= target().lanes(itemsize)


def narrow_gain(g: ConvGeometry, itemsize: int) -> float:
    """Forward, how many times as long a product would take if output channels filled a panel."""
    return PAIRED_GAIN if pairs_fit(g, itemsize) else NARROW_GAIN if is_narrow(g, itemsize) else 1.0


def gain(g: ConvGeometry, itemsize: int) -> float:
    """Forward, how many times as long the general algorithm takes for a product."""
    return narrow_gain(g, itemsize) * (1 + GAIN / max(1, g.in_channels))


def _paired_channels(g: ConvGeometry) -> int:
    """The most input channels where lanes are paired: the general algorithm has dot products for the fewest outputs."""
    per_output, most = PAIRED_CHANNELS
    return min(per_output * g.out_channels, most)


def declines(direction: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    """None, or why a problem is not worth its patches.

    Forward, they hold the padding, of which planes alone are left out. Under strides few products of a weight gradient
    share what is copied into them, nor may its positions be few; and where a vector of channels or more is read, there
    may be a better tile.
    """
    g = geometry
    if direction == "backward_data":
        return row_runs_data.declines(g, itemsize)
    if direction == "forward":
        most = MAX_CHANNELS[direction] if not is_narrow(g, itemsize) else NARROW_CHANNELS
        if g.in_channels > most and not pairs_fit(g, itemsize):
            return f"{g.in_channels} input channels are more than {most}"
        axes = (0, 1) if is_narrow(g, itemsize) else (1,)  # others leave out planes themselves
        share = math.prod(taps_inside(g, axis) / max(1, g.output[axis] * g.kernel[axis]) for axis in axes)
        if share < 1 / gain(g, itemsize):
            return f"{1 - share:.0%} of its taps read padding, which the general algorithm leaves out"
        return None
    if any(way.accepts(g, itemsize) for way in OTHER_WAYS):
        return f"the general algorithm has a tile for {g.in_channels} and {g.out_channels} channels"
    if _sums_few(g):
        return f"{math.prod(g.output)} positions a sample are few for {g.in_channels * g.out_channels} sums of each tap"
    if _better_rows(g, itemsize):
        return f"the general algorithm's tiles are better for {g.in_channels} and {g.out_channels} channels"
    if g.stride == (1, 1, 1):
        return None
    most = MANY_STRIDED if g.taps > math.prod(g.stride) else target().lanes(itemsize)
    if g.in_channels > most:
        return f"with strides, {g.in_channels} input channels are more than {most}"
    return None


def _better_rows(g: ConvGeometry, itemsize: int) -> bool:
    """Whether a weight gradient has two vectors of input channels or more, and is better off with rows as they lie.

    Either neighbours share little of what would be copied, or output channels leave no tile without a second vector to
    share what it loads. (Measured for 16 channels in float64: 1.1 to 1.5 times as fast.)
    """
    width = tile_lanes(itemsize)
    apart = g.stride[2] > 1 or g.kernel[2] == 1
    whole = g.out_channels > width and weight_gradient_in_place.accepts(g, itemsize)
    return g.in_channels >= width and (apart or whole)


def _sums_few(g: ConvGeometry) -> bool:
    """Whether a weight gradient sums few positions with few taps."""
    points = g.batch * math.prod(g.output)
    few = points < LEAST_PER_SUM * g.in_channels * g.out_channels
    return few and g.in_channels >= SUMS_CHANNELS and g.taps <= SUMS_TAPS


def pays(direction: str, g: ConvGeometry, itemsize: int) -> bool:
    """Whether a problem comes here if no algorithm before takes it."""
    return accepts(direction, g) is None and declines(direction, g, itemsize) is None


def forward(
    g: ConvGeometry,
    x: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
    follows: Finish = NOTHING,
) -> list[Step]:
    """Fill `out`, (N, OD, OH, OW, C_out) memory, from `x`, (N, D, H, W, C_in) memory."""
    pack, convolve, packed_shape = _forward_launches(g, x.dtype)
    packed = Operand(packed_shape, x.dtype)
    start = zero_row(x.dtype, g.out_channels) if bias is None else bias
    finish = follows.distance(out), follows.activation
    return [pack.on(weight, start, packed), convolve.on(x, packed, out, *finish)]


def backward_weight(g: ConvGeometry, grad_output: Operand, x: Operand, out: Operand) -> list[Step]:
    """Fill `out`, the contiguous (C_out, C_in, *kernel) weight, from two channels-last memories."""
    add, combine, partial_shape = _weight_launches(g, x.dtype)
    partial = Operand(partial_shape, x.dtype)
    return [add.on(x, grad_output, partial), combine.on(partial, out)]


@functools.lru_cache(maxsize=64)
def _forward_launches(g: ConvGeometry, dtype: np.dtype[Any]) -> tuple[Prepared, Prepared, tuple[int, int, int]]:
    """Packing the weights, convolving, and the shape of the packed weights."""
    p = plan(g, dtype.itemsize)
    record = p.forward
    shape = record.panels, 1 + record.count, record.width
    cost, blocks = float(math.prod(shape)), record.chunks * record.panel_blocks
    if p.chains is None:
        lists = (g.in_channels, g.kernel[0]) if record.left_out == 1 else (1, 1)
        sizes = record.count, *lists, record.lanes, record.width
        pack = pack_rows.prepare((dtype,), record.panels, *sizes, cost=cost)
        return pack, conv_rows.prepare((dtype,), blocks, p.offsets, record, cost=p.cost), shape
    sizes = 2 if record.pairs else 1, record.count, g.in_channels * g.taps, record.lanes, record.width
    pack = pack_listed.prepare((dtype,), 1, p.chains.order, *sizes, cost=cost)
    return pack, conv_chains.prepare((dtype,), blocks, p.chains.counts, p.chains.offsets, record, cost=p.cost), shape


@functools.lru_cache(maxsize=64)
def _weight_launches(g: ConvGeometry, dtype: np.dtype[Any]) -> tuple[Prepared, Prepared, tuple[int, int, int, int]]:
    """Summing chunks, adding those up, and the shape of the sums."""
    p = plan(g, dtype.itemsize)
    record = p.backward_weight
    shape = record.chunks, record.panels, record.count, record.width
    blocks = record.chunks * record.panel_blocks
    add = conv_rows_weight.prepare((dtype,), blocks, p.weight_offsets, record, cost=p.cost)
    blocks, cost = -(-record.count // COMBINE_ROWS) * record.panels, 0.5 * math.prod(shape)
    if record.pairs > 0:
        return add, combine_pairs.prepare((dtype,), blocks, p.order, g.in_channels * g.taps, record, cost=cost), shape
    return add, combine_rows.prepare((dtype,), blocks, record, cost=cost), shape


@functools.lru_cache(maxsize=64)  # at most 256 KiB each; most take far less
def plan(g: ConvGeometry, itemsize: int) -> RowPlan:
    """Cut a convolution into blocks of output positions; forward and weight gradient use the same ones."""
    span = g.span
    row_blocks, column_blocks = _cut(g, itemsize)
    rows, columns = -(-g.output[1] // row_blocks), -(-g.output[2] // column_blocks)
    pitch = ((columns - 1) * g.stride[2] + span[2]) * g.in_channels
    plane = ((rows - 1) * g.stride[1] + span[1]) * pitch
    blocks = g.batch * g.output[0] * row_blocks * column_blocks
    full = tile_lanes(itemsize)
    width = full // 2 if is_narrow(g, itemsize) else full
    panels = -(-g.out_channels // width)
    offsets = _offsets(g, plane, pitch)
    order, pairs = paired(offsets) if pairs_fit(g, itemsize) else (np.arange(len(offsets)), 0)
    found = None
    if is_narrow(g, itemsize) and g.output[2] // column_blocks >= LEAST_POINTS:
        found = chains(offsets, g.stride[2] * g.in_channels, order, pairs)
    firsts = offsets[order[::2]] if pairs else offsets
    count = len(firsts)
    in_n, in_d, in_h, _ = strides(g.input, g.in_channels)
    points = g.batch * math.prod(g.output)
    chunks = min(blocks, MANY_BLOCKS)
    sums = max(points // POINTS_PER_SUM, min(-(-WEIGHT_BLOCKS // panels), points // LEAST_POINTS_PER_SUM))
    sums = min(sums, chunks, MANY_SUMS, blocking.PACKED_BYTES // (count * panels * width * itemsize))
    sums = max(sums, 1)
    record = RowsConv(
        channels=g.in_channels,
        in_n=in_n,
        in_d=in_d,
        in_h=in_h,
        in_w=g.in_channels,
        **by_axis("size", g.input),
        **by_axis("pad", g.pad_low),
        **by_axis("mode", (MODES.index(mode) for mode in g.padding_mode)),
        **by_axis("out", g.output),
        **by_axis("stride", g.stride),
        taps_d=g.kernel[0],
        taps_h=g.kernel[1],
        dilation_d=g.dilation[0],
        dilation_h=g.dilation[1],
        span_h=span[1],
        span_w=span[2],
        pitch=pitch,
        plane=plane,
        row_blocks=row_blocks,
        column_blocks=column_blocks,
        count=count,
        part=count,
        pairs=pairs,
        lanes=g.out_channels,
        vector=full // 2,
        width=width,
        panels=panels,
        blocks=blocks,
        chunks=chunks,
        panel_blocks=_panel_blocks(panels, chunks),
        group=min(GROUP_POINTS, max(1, GROUP_BYTES // (g.out_channels * itemsize * MAX_ROWS)) * MAX_ROWS),
        left_out=0,
        in_place=0,
    )
    cost = 2.0 * points * count * panels * width / blocking.FLOPS_PER_NS
    weight_record = record._replace(chunks=sums, panel_blocks=_panel_blocks(panels, sums))
    if found is None:
        record = record._replace(count=len(offsets), part=_part(len(offsets), width * itemsize), pairs=0)
        if _reads_once(g):
            record, offsets = _in_place(record, g)
        elif left_out := _left_out(g):
            record, offsets = record._replace(left_out=left_out), _by_plane(offsets, g)
    return RowPlan(offsets, found, record, firsts, order, weight_record, cost)


def _reads_once(g: ConvGeometry) -> bool:
    """Whether taps read each element about once, and no padding: then copying takes longer than it gains.

    (Measured: 1.02 to 1.3 times as fast in place.)
    """
    if math.prod(g.kernel) > math.prod(g.stride):
        return False
    span = g.span
    return not any(g.pad_low) and all(
        (g.output[axis] - 1) * g.stride[axis] + span[axis] <= g.input[axis] for axis in range(3)
    )


def _left_out(g: ConvGeometry) -> int:
    """Which taps are left out where they read padding by zeros alone, if that is much: 1: along D, 2: H, 0: none."""

    def much(axis: int) -> bool:
        taps = g.output[axis] * g.kernel[axis]
        return g.padding_mode[axis] == "zeros" and taps_inside(g, axis) <= blocking.WORTH_ALIGNING * taps

    if g.kernel[0] > 1 and much(0):
        return 1
    # Of several channels, products would have to be listed, and weights packed, in short runs.
    return 2 if g.kernel[0] == g.in_channels == 1 and much(1) else 0


def _by_plane(offsets: np.ndarray, g: ConvGeometry) -> np.ndarray:
    """Offsets of products (C_in, KD, KH, KW) as (KD, C_in, KH, KW)."""
    return np.ascontiguousarray(offsets.reshape(g.in_channels, g.kernel[0], -1).swapaxes(0, 1)).ravel()


def _in_place(record: RowsConv, g: ConvGeometry) -> tuple[RowsConv, np.ndarray]:
    """The record and the offsets of a forward pass that reads the input where it lies, in blocks of any size."""
    _, out_h, out_w = g.output
    positions = _positions(g)
    row_blocks, column_blocks = -(-out_h // max(1, positions // out_w)), -(-out_w // positions)
    plane, pitch = g.dilation[0] * record.in_d, record.in_h
    blocks = g.batch * g.output[0] * row_blocks * column_blocks
    chunks = min(blocks, MANY_BLOCKS)
    record = record._replace(
        pitch=pitch,
        plane=plane,
        row_blocks=row_blocks,
        column_blocks=column_blocks,
        blocks=blocks,
        chunks=chunks,
        panel_blocks=_panel_blocks(record.panels, chunks),
        in_place=1,
    )
    return record, _offsets(g, plane, pitch)


def _part(count: int, step_bytes: int) -> int:
    """Of so many products of a position, how many are summed up at a time."""
    return blocking.split_evenly(count, PART_BYTES // step_bytes) if blocking.WIDE_VECTORS else count


def _packed_elements(g: ConvGeometry) -> int:
    """At most: panels are up to 64 lanes wide."""
    return (1 + g.in_channels * g.taps) * (g.out_channels + 31)


def _columns(g: ConvGeometry, itemsize: int, patch_bytes: int) -> int:
    """Output columns whose patch for a single output row takes `patch_bytes`; below 1 if there are none."""
    span = g.span
    columns = patch_bytes // (g.kernel[0] * span[1] * g.in_channels * itemsize)
    return (columns - span[2]) // g.stride[2] + 1


def _cut(g: ConvGeometry, itemsize: int) -> tuple[int, int]:
    """Into how many parts to cut output rows and columns."""
    _, out_h, out_w = g.output
    positions = _positions(g)
    columns = max(_columns(g, itemsize, GOOD_PATCH_BYTES), min(_columns(g, itemsize, PATCH_BYTES), FEW_POINTS))
    if out_w > min(columns, max(positions, 2 * FEW_POINTS)):
        return out_h, -(-out_w // min(columns, positions))
    span = g.span
    row_bytes = g.kernel[0] * ((out_w - 1) * g.stride[2] + span[2]) * g.in_channels * itemsize
    rows, most = (max(size // row_bytes - span[1], 0) // g.stride[1] + 1 for size in (GOOD_PATCH_BYTES, PATCH_BYTES))
    again = -(-span[1] // g.stride[1]) if blocking.WIDE_VECTORS else 1  # so that no row is copied more than twice
    rows = max(rows, min(most, max(again, FEW_POINTS // out_w)))
    rows = max(1, min(rows, (positions + out_w // 2) // out_w, MAX_POINTS // out_w, out_h))
    return -(-out_h // rows), 1


def _positions(g: ConvGeometry) -> int:
    """Output positions that a block should have."""
    positions = max(FEW_POINTS, -(-g.batch * math.prod(g.output) // MANY_BLOCKS))
    return min(positions, GOOD_POINTS)


def _panel_blocks(panels: int, chunks: int) -> int:
    """Into how many parts to cut the panels where there are few chunks of positions."""
    return min(panels, -(-blocking.MIN_BLOCKS // max(chunks, 1)))


def _offsets(g: ConvGeometry, plane: int, pitch: int) -> np.ndarray:
    """Where in the patch each product of the weights (C_in, KD, KH, KW) finds its input."""
    ci = np.arange(g.in_channels)[:, None, None, None]
    kd, kh, kw = np.ogrid[: g.kernel[0], : g.kernel[1], : g.kernel[2]]
    steps = kd * plane + kh * (g.dilation[1] * pitch) + kw * (g.dilation[2] * g.in_channels)
    return np.ascontiguousarray((ci + steps).ravel(), dtype=np.int64)
