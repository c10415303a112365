"""What all directions of Winograd convolution share: tiles, the kernels' record, parts of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...kernels.sources import MODES
from ...kernels.tile import tile_lanes
from ...kernels.winograd_domain import Winograd
from . import blocking
from .lattice import strides

if TYPE_CHECKING:
    from ..geometry import ConvGeometry

# Enough blocks of a launch that the cores finish together.
BLOCKS = 16


class Side(NamedTuple):
    """Which way a direction runs: what is read and written, and the weights' order."""

    source: tuple[int, int, int]
    source_channels: int
    out: tuple[int, int, int]
    out_channels: int
    run: int  # source channels of one group
    lanes: int  # destination channels of one group
    pad: tuple[int, ...]
    weight_run: int
    weight_lane: int
    backwards: bool


class Cut(NamedTuple):
    """How tiles are cut into blocks; see `winograd_domain.Winograd`."""

    columns: int
    depth: int
    rows: int
    step_panels: int
    own_values: bool
    own_run: int


class Part(NamedTuple):
    """Some groups, or some panels of one group, whose transformed weights fit the limit on extra memory."""

    channels: slice  # of the destination
    source_start: int  # elements to skip in a sample of the source, the weights and the destination
    weight_start: int
    out_start: int
    record: Winograd


def side_of(g: ConvGeometry, direction: str) -> Side:
    """What a direction reads and writes; the weight gradient runs over the tiles of the forward direction."""
    if direction != "backward_data":
        weight = (g.taps, g.in_per_group * g.taps)
        channels = (g.in_per_group, g.out_per_group)
        return Side(g.input, g.in_channels, g.output, g.out_channels, *channels, g.pad_low, *weight, False)
    weight = (g.in_per_group * g.taps, g.taps)
    channels = (g.out_per_group, g.in_per_group)
    pad = tuple(d * (k - 1) - p for d, k, p in zip(g.dilation, g.kernel, g.pad_low, strict=True))
    return Side(g.output, g.out_channels, g.input, g.in_channels, *channels, pad, *weight, True)


def points_of(g: ConvGeometry, out: tuple[int, int, int]) -> tuple[int, int]:
    """Points of a tile along H and W: 6; or, for 3 taps, 4 where that takes no more multiplications."""
    h, w = (_points(*axis) for axis in zip(out[1:], g.kernel[1:], g.dilation[1:], strict=True))
    return h, w


def _points(size: int, taps: int, dilation: int) -> int:
    if taps == 1:
        return 1
    return 4 if taps == 3 and _tiles(size, 2, dilation) * 4 <= _tiles(size, 4, dilation) * 6 else 6


def _tiles(size: int, outputs: int, dilation: int) -> int:
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


def tiles_of(g: ConvGeometry, side: Side) -> Tiles:
    """The tiles of a direction."""
    points_h, points_w = points_of(g, side.out)
    outputs_h, outputs_w = points_h - g.kernel[1] + 1, points_w - g.kernel[2] + 1
    tiles_h, tiles_w = _tiles(side.out[1], outputs_h, g.dilation[1]), _tiles(side.out[2], outputs_w, g.dilation[2])
    return Tiles(points_h, points_w, outputs_h, outputs_w, tiles_h, tiles_w, g.batch * tiles_h * tiles_w)


def odd_lines(elements: int, itemsize: int) -> int:
    """Rows of an odd number of cache lines begin in all sets of a cache in turn."""
    line = blocking.LINE_BYTES // itemsize
    return (-(-elements // line) | 1) * line


def shape_of(g: ConvGeometry, side: Side, columns: int, tiles: int) -> tuple[int, int, int]:
    """Columns and depth of a block of at most so many tiles, and how many rows of transformed input it reads."""
    depth = blocking.split_evenly(side.out[0], tiles)
    few = blocking.split_evenly(columns, tiles // depth)
    planes = min(side.source[0], depth + g.dilation[0] * (g.kernel[0] - 1))
    return few, depth, few * planes + (g.kernel[0] > 1)


def largest_shape(g: ConvGeometry, side: Side, columns: int, tiles: int, rows: int) -> tuple[int, int, int]:
    """`shape_of` for as many tiles, at most `tiles`, as read at most so many rows; for one if none does."""
    shapes = (shape_of(g, side, columns, most) for most in range(tiles, 0, -1))
    return next((shape for shape in shapes if shape[2] <= rows), shape_of(g, side, columns, 1))


def record(g: ConvGeometry, side: Side, tiles: Tiles, cut: Cut, width: int, values_row: int, itemsize: int) -> Winograd:
    """The kernels' record, all tiles in one launch."""
    line = blocking.LINE_BYTES // itemsize  # rows of different points begin in different sets of the caches
    source_n, source_d, source_h, source_w = strides(side.source, side.source_channels)
    return Winograd(
        points_h=tiles.points_h,
        points_w=tiles.points_w,
        outputs_h=tiles.outputs_h,
        outputs_w=tiles.outputs_w,
        taps_h=g.kernel[1],
        taps_w=g.kernel[2],
        tiles_h=tiles.tiles_h,
        tiles_w=tiles.tiles_w,
        columns=tiles.columns,
        in_d=side.source[0],
        in_h=side.source[1],
        in_w=side.source[2],
        out_d=side.out[0],
        out_h=side.out[1],
        out_w=side.out[2],
        taps_d=g.kernel[0],
        dilation_d=g.dilation[0],
        dilation_h=g.dilation[1],
        dilation_w=g.dilation[2],
        pad_d=side.pad[0],
        pad_h=side.pad[1],
        pad_w=side.pad[2],
        mode_h=MODES.index(g.padding_mode[1]),
        mode_w=MODES.index(g.padding_mode[2]),
        source_n=source_n,
        source_d=source_d,
        source_h=source_h,
        source_w=source_w,
        **dict(zip(("out_sn", "out_sd", "out_sh", "out_sw"), strides(side.out, side.out_channels), strict=True)),
        groups=g.groups,
        run=side.run,
        lanes=side.lanes,
        vector=tile_lanes(itemsize) // 2,
        line=line,
        width=width,
        panels=-(-side.lanes // width),
        block_columns=cut.columns,
        block_depth=cut.depth,
        depth_blocks=-(-side.out[0] // cut.depth),
        panel_blocks=1,
        step_panels=cut.step_panels,
        own_values=int(cut.own_values),
        slices=1,
        values_row=values_row,
        values_point=-(-cut.rows * values_row // line) * line + line,
        products_point=cut.columns * cut.depth * cut.step_panels * width + line,
        weight_point=(cut.own_run or side.run) * width + line,
        weight_run=side.weight_run,
        weight_lane=side.weight_lane,
        weight_group=g.out_per_group * g.in_per_group * g.taps,
        backwards=int(side.backwards),
        weight_blocks=1,
        own_run=cut.own_run,
    )


def parts_of(g: Winograd, itemsize: int) -> list[Part]:
    """Cut groups and panels so that at most `blocking.PACKED_BYTES` of weights are transformed at a time."""
    groups, panel_parts = g.groups, 1
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
                lanes=lanes,
                panel_blocks=min(g.panel_blocks, few_panels),
                slices=max(1, min(g.slices, few_groups * g.run // g.width)),  # each of a vector at least
                weight_blocks=max(1, min(g.run // 16, -(-2 * BLOCKS // (few_groups * few_panels)))),
            )
            channels = slice(first, first + (few_groups - 1) * g.lanes + lanes)
            weight_start = group * g.weight_group + lane * g.weight_lane
            parts.append(Part(channels, group * g.run, weight_start, first, part))
    return parts
