"""What all directions of Winograd convolution share: tiles, the kernels' record, parts of the weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ...kernels import winograd_domain as domain
from ...kernels.sources import MODES
from ...kernels.tile import tile_lanes
from ...kernels.winograd_domain import Winograd
from . import blocking
from .lattice import strides

if TYPE_CHECKING:
    from ..geometry import ConvGeometry
    from .winograd_side import Side

# Enough blocks of a launch that the cores finish together.
BLOCKS = 16


# Eight points along an axis instead of six, where they take at most such a share of the multiplications: for each value
# they take a third more arithmetic. Four taps and more along one axis take 80 % or less, but of short lines, beyond
# whose ends tiles reach. For three taps, whose share is the largest, weights must matter little: one axis must have so
# many outputs; of two axes, so many weights stay in the caches though every block reads the 64 values of each
# (`winograd.STREAMED_WEIGHTS`), whereas blocks that transform weights use them for fewer tiles. Rounding errors grow
# with the number of products in a sum: most so many, if both axes are transformed.
MOST_SHARE, MOST_SHARE_OF_LONG, MOST_SHARE_OF_BOTH = 0.95, 0.85, 0.93
MANY_OUTPUTS, FEW_WEIGHTS, MOST_SUMMED = 512, 10 << 10, 512


class Cut(NamedTuple):
    """How tiles are cut into blocks; see `winograd_domain.Winograd`."""

    columns: int
    depth: int
    rows: int
    step_panels: int
    own_values: bool
    own_run: int
    run_step: int


class Part(NamedTuple):
    """Some source channels of some groups, or panels of a group, whose transformed weights fit the limit on memory."""

    channels: slice  # of the destination
    source_start: int  # elements to skip in a sample of the source, the weights and the destination
    weight_start: int
    out_start: int
    record: Winograd
    complete: bool = True  # whether all is summed, after this part and those before


def _tile(side: Side, axis: int) -> tuple[int, int]:
    """Points and outputs of a tile along one axis."""
    taps = side.kernel[axis]
    if taps == 1:
        return 1, 1
    tiles = [(6, 7 - taps)]
    if taps == 3 and not side.stretched:
        tiles = [(4, 2), *[(4, 3)] * side.small[axis], (6, 4)]
    return best_tile(taps, tiles, side.out[axis], side.dilation[axis], share_for_eight(side, taps))


def best_tile(taps: int, tiles: list[tuple[int, int]], size: int, dilation: int, share: float) -> tuple[int, int]:
    """The tile with the fewest multiplications; eight points if they take at most a share of what the others do."""

    def work(tile: tuple[int, int]) -> int:
        return tile[0] * tiles_along(size, tile[1], dilation)

    least, eight = min(tiles, key=work), (8, 9 - taps)
    return eight if taps > 2 and work(eight) <= share * work(least) else least


def share_for_eight(side: Side, taps: int) -> float:
    """At most which share of the multiplications eight points along an axis must take."""
    if side.one_axis:
        if taps > 3:
            return MOST_SHARE_OF_LONG
        return MOST_SHARE if math.prod(side.out[1:]) >= MANY_OUTPUTS else 0.0
    summed = side.kernel[0] * side.run
    few = summed * side.lanes <= FEW_WEIGHTS
    return MOST_SHARE_OF_BOTH if summed <= MOST_SUMMED and (taps > 3 or few) else 0.0


def tiles_along(size: int, outputs: int, dilation: int) -> int:
    """Tiles along one axis; under a dilation every so many coordinates are an image of their own."""
    least, more = divmod(size, dilation)
    return more * -(-(least + 1) // outputs) + (dilation - more) * -(-least // outputs)


class Tiles(NamedTuple):
    """The tiles of a problem."""

    points_h: int
    points_w: int
    outputs_h: int
    outputs_w: int
    tiles_h: int
    tiles_w: int
    columns: int

    @property
    def points(self) -> int:
        return self.points_h * self.points_w

    @property
    def forms(self) -> tuple[int, int]:
        """Whose transforms serve H and W: see `winograd_transform`."""
        h, w = (self.points_h, self.outputs_h), (self.points_w, self.outputs_w)
        return (3 if h == (4, 3) else h[0]), (3 if w == (4, 3) else w[0])


def tiles_of(side: Side) -> Tiles:
    """The tiles of a direction."""
    (points_h, outputs_h), (points_w, outputs_w) = _tile(side, 1), _tile(side, 2)
    tiles_h = tiles_along(side.out[1], outputs_h, side.dilation[1])
    tiles_w = tiles_along(side.out[2], outputs_w, side.dilation[2])
    return Tiles(points_h, points_w, outputs_h, outputs_w, tiles_h, tiles_w, side.batch * tiles_h * tiles_w)


def odd_lines(elements: int, itemsize: int) -> int:
    """Rows of an odd number of cache lines begin in all sets of a cache in turn."""
    line = blocking.LINE_BYTES // itemsize
    return (-(-elements // line) | 1) * line


def shape_of(side: Side, columns: int, tiles: int) -> tuple[int, int, int]:
    """Columns and depth of a block of at most so many tiles, and how many rows of transformed input it reads."""
    depth = blocking.split_evenly(side.out[0], tiles)
    few = blocking.split_evenly(columns, tiles // depth)
    planes = min(side.source[0], depth + side.dilation[0] * (side.kernel[0] - 1))
    return few, depth, few * planes + (side.kernel[0] > 1)


def largest_shape(side: Side, columns: int, tiles: int, rows: int) -> tuple[int, int, int]:
    """`shape_of` for as many tiles, at most `tiles`, as read at most so many rows; for one if none does."""
    shapes = (shape_of(side, columns, most) for most in range(tiles, 0, -1))
    return next((shape for shape in shapes if shape[2] <= rows), shape_of(side, columns, 1))


def record(
    g: ConvGeometry, side: Side, tiles: Tiles, cut: Cut, width: int, itemsize: int, last_run: int = 0
) -> Winograd:
    """The kernels' record, all tiles in one launch; the last launch may sum over `last_run` source channels."""
    line = blocking.LINE_BYTES // itemsize  # rows of different points begin in different sets of the caches
    source_n, source_d, source_h, source_w = side.source_strides
    (_, axis_h, axis_w), lane_panels = side.axes, -(-side.lanes // width)
    taps, written = axis_h.taps * axis_w.taps, (side.out[0], axis_h.size, axis_w.size)
    return Winograd(
        points_h=tiles.points_h,
        points_w=tiles.points_w,
        form_h=tiles.forms[0],
        form_w=tiles.forms[1],
        outputs_h=tiles.outputs_h,
        outputs_w=tiles.outputs_w,
        taps_h=side.kernel[1],
        taps_w=side.kernel[2],
        tiles_h=tiles.tiles_h,
        tiles_w=tiles.tiles_w,
        columns=tiles.columns,
        in_d=side.source[0],
        in_h=side.source[1],
        in_w=side.source[2],
        out_d=side.out[0],
        out_h=side.out[1],
        out_w=side.out[2],
        taps_d=side.kernel[0],
        dilation_d=side.dilation[0],
        dilation_h=side.dilation[1],
        dilation_w=side.dilation[2],
        stride_h=side.stride[1],
        stride_w=side.stride[2],
        needed_h=_needed(side, 1),
        needed_w=_needed(side, 2),
        reach_h=axis_h.reach,
        reach_w=axis_w.reach,
        stretched=int(side.stretched),
        stretches_w=axis_w.stretches,
        shift_h=side.dilation[1],
        shift_w=side.dilation[2],
        phases_h=axis_h.phases,
        phases_w=axis_w.phases,
        apart_h=axis_h.apart,
        apart_w=axis_w.apart,
        all_h=axis_h.taps,
        all_w=axis_w.taps,
        all_taps=math.prod(axis.taps for axis in side.axes),
        gathered=domain.GATHERED if taps <= domain.FEW_TAPS else max(1, domain.MOST_GATHERED // taps),
        pad_d=side.pad[0],
        pad_h=side.pad[1],
        pad_w=side.pad[2],
        mode_h=MODES.index(g.padding_mode[1]),
        mode_w=MODES.index(g.padding_mode[2]),
        source_n=source_n,
        source_d=source_d,
        source_h=source_h,
        source_w=source_w,
        **dict(zip(("out_sn", "out_sd", "out_sh", "out_sw"), strides(written, side.out_channels), strict=True)),
        step_h=axis_h.step,
        step_w=axis_w.step,
        first_h=axis_h.first,
        first_w=axis_w.first,
        size_h=axis_h.size,
        size_w=axis_w.size,
        groups=g.groups,
        run=side.run,
        lanes=side.lanes,
        vector=tile_lanes(itemsize) // 2,
        line=line,
        width=width,
        panels=side.outputs * lane_panels,
        lane_panels=lane_panels,
        block_columns=cut.columns,
        block_depth=cut.depth,
        depth_blocks=-(-side.out[0] // cut.depth),
        panel_blocks=1,
        step_panels=cut.step_panels,
        own_values=int(cut.own_values),
        slices=1,
        **_values(side, cut, itemsize, last_run),
        products_point=cut.columns * cut.depth * cut.step_panels * width + line,
        weight_point=(cut.own_run or side.run) * width + line,
        weight_run=side.weight_run,
        weight_lane=side.weight_lane,
        weight_group=g.out_per_group * g.in_per_group * g.taps,
        backwards=int(side.backwards),
        weight_blocks=1,
        own_run=cut.own_run,
        run_step=cut.run_step,
        adds=0,
    )


def _values(side: Side, cut: Cut, itemsize: int, last_run: int) -> dict[str, int]:
    """How transformed input lies in memory: in rows of all channels, or of as many as blocks read at a time.

    The latter where all blocks read it from a shared buffer: what a block reads then lies in one piece.
    """
    line = blocking.LINE_BYTES // itemsize
    channels = side.run if cut.own_values else side.source_channels
    if cut.own_run and _has_whole_vectors(side, cut.own_run, last_run, itemsize):
        run = row = cut.own_run
    else:
        run, row = channels, channels if cut.own_values else odd_lines(channels, itemsize)
    part = cut.rows * row
    point = -(-part * -(-channels // run) // line) * line + line
    return {"values_run": run, "values_row": row, "values_part": part, "values_point": point}


def _has_whole_vectors(side: Side, run: int, last_run: int, itemsize: int) -> bool:
    """Whether rows of `run` channels leave whole vectors wherever groups end, and slices, which end with cache lines.

    A shorter piece would be written from before its row on, where another slice's channels are.
    """
    if side.run < side.source_channels:  # groups
        return side.run % run == 0 and run * itemsize % blocking.LINE_BYTES == 0
    vector, lines = tile_lanes(itemsize) // 2, run == side.run or run * itemsize % blocking.LINE_BYTES == 0
    return lines and all(part % run == 0 or part % run >= vector for part in (side.run, last_run))


def _needed(side: Side, axis: int) -> int:
    """How many coordinates along an axis the outputs read through a plane of taps, or a stretch."""
    return (side.out[axis] - 1 + (side.kernel[axis] - 1) * side.dilation[axis]) * side.stride[axis] + 1


def parts_of(g: Winograd, itemsize: int) -> list[Part]:
    """Cut groups and panels so that at most `blocking.PACKED_BYTES` of weights are transformed at a time."""
    groups, panel_parts = g.groups, 1
    outputs = g.step_h * g.step_w  # of several, blocks make or stream their own weights, which so stay within the limit
    if not g.own_run:
        panel_bytes = g.taps_d * g.points_h * g.points_w * g.weight_point * itemsize
        portion = max(1, blocking.PACKED_BYTES // panel_bytes)
        groups, panel_parts = max(1, portion // g.panels), -(-g.panels // portion)
    parts = []
    for group in range(0, g.groups, groups):
        for i in range(panel_parts):
            # As even as possible, the last part the largest: if its last panel is ragged, it has another.
            panel, end = i * g.panels // panel_parts, (i + 1) * g.panels // panel_parts
            lane = panel * g.width
            few_groups, few_panels = min(groups, g.groups - group), end - panel
            lanes = min(g.lanes, end * g.width) - lane
            first = group * g.lanes + lane
            part = g._replace(
                groups=few_groups,
                panels=few_panels,
                lane_panels=few_panels // outputs,
                lanes=lanes,
                panel_blocks=min(g.panel_blocks, few_panels),
                slices=max(1, min(g.slices, few_groups * g.run // g.width)),  # each of a vector at least
                weight_blocks=max(1, min(g.run // 16, -(-2 * BLOCKS // (few_groups * few_panels)))),
            )
            channels = slice(first, first + (few_groups - 1) * g.lanes + lanes)
            weight_start = group * g.weight_group + lane * g.weight_lane
            parts.append(Part(channels, group * g.run, weight_start, first, part))
    return parts
