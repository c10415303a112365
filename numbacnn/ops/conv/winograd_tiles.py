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
    from ..geometry import ConvGeometry, Triple

# Enough blocks of a launch that the cores finish together.
BLOCKS = 16


# A kernel of one axis is cut into stretches of two to five taps, each of which has six or eight points.
STRETCHES = (5, 4, 3, 2)

# Eight points along an axis instead of six, where they take at most such a share of the multiplications: for each value
# they take a third more arithmetic. Four taps and more along one axis take 80 % or less, but of short lines, beyond
# whose ends tiles reach. For three taps, whose share is the largest, weights must matter little: one axis must have so
# many outputs; of two axes, so many weights stay in the caches though every block reads the 64 values of each
# (`winograd.STREAMED_WEIGHTS`), whereas blocks that transform weights use them for fewer tiles. Rounding errors grow
# with the number of products in a sum: most so many, if both axes are transformed.
MOST_SHARE, MOST_SHARE_OF_LONG, MOST_SHARE_OF_BOTH = 0.95, 0.85, 0.93
MANY_OUTPUTS, FEW_WEIGHTS, MOST_SUMMED = 512, 10 << 10, 512


class Side(NamedTuple):
    """Which way a direction runs: what is read and written, and the weights' order.

    A kernel of one axis that has more taps than a tile, or a stride, is cut into stretches: they are taps along D, and
    what each reads is a plane of the source, the same memory from another coordinate on.
    """

    batch: int
    source: Triple
    source_strides: tuple[int, int, int, int]
    source_channels: int
    out: Triple
    out_channels: int
    run: int  # source channels of one group
    lanes: int  # destination channels of one group
    kernel: Triple
    stride: Triple
    dilation: Triple
    pad: Triple
    weight_run: int
    weight_lane: int
    backwards: bool
    small: tuple[bool, bool, bool]  # axes along which images are three points between zeros, under their dilation
    stretched: int = 0  # the axis whose taps are cut into stretches, or 0
    taps: int = 0  # and how many it has


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


def side_of(g: ConvGeometry, direction: str) -> Side:
    """What a direction reads and writes; the weight gradient runs over the tiles of the forward direction."""
    back = direction == "backward_data"
    source, out = (g.input, g.in_channels, g.in_per_group), (g.output, g.out_channels, g.out_per_group)
    if back:
        source, out = out, source
    pads = [d * (k - 1) - p if back else p for d, k, p in zip(g.dilation, g.kernel, g.pad_low, strict=True)]
    weight = (g.taps, g.in_per_group * g.taps)
    side = Side(
        batch=g.batch,
        source=source[0],
        source_strides=strides(*source[:2]),
        source_channels=source[1],
        out=out[0],
        out_channels=out[1],
        run=source[2],
        lanes=out[2],
        kernel=g.kernel,
        stride=g.stride,
        dilation=g.dilation,
        pad=(pads[0], pads[1], pads[2]),
        weight_run=weight[back],
        weight_lane=weight[not back],
        backwards=back,
        small=(False, _is_small(g, source[0], out[0], pads, 1), _is_small(g, source[0], out[0], pads, 2)),
    )
    axis = stretched_axis(g)
    return _stretch(side, axis) if axis else side


def _is_small(g: ConvGeometry, source: Triple, out: Triple, pads: list[int], axis: int) -> bool:
    """Whether three taps meet at most three inputs and outputs, which lie opposite to each other."""
    most = 3 * g.dilation[axis]
    plain = g.kernel[axis] == 3 and g.stride[axis] == 1 and g.padding_mode[axis] == "zeros"
    return plain and pads[axis] == g.dilation[axis] and source[axis] <= most and out[axis] <= most


def stretched_axis(g: ConvGeometry) -> int:
    """The axis, H or W, whose taps are cut into stretches; 0: no axis."""
    axes = [axis for axis in range(3) if g.kernel[axis] > 1 or g.stride[axis] > 1]
    if len(axes) != 1 or axes[0] == 0:
        return 0
    return axes[0] if g.stride[axes[0]] > 1 or g.kernel[axes[0]] not in (3, 4, 5) else 0


def _stretch(side: Side, axis: int) -> Side:
    """Cut the taps along `axis` into stretches whose tiles take the fewest multiplications."""
    taps, stride = side.kernel[axis], side.stride[axis]

    def work(stretch: int) -> int:
        share = _share_for_eight(side, stretch)
        points, outputs = _tile_of(stretch, [(6, 7 - stretch)], side.out[axis], side.dilation[axis], share)
        return stretches_of(taps, stride, stretch) * points * _tiles(side.out[axis], outputs, side.dilation[axis])

    stretch = min(STRETCHES, key=work)
    planes = stretches_of(taps, stride, stretch)
    lines = side.source[1:]
    source_n, _, source_h, source_w = side.source_strides
    return side._replace(
        batch=side.batch * side.out[0],
        source=(planes, *lines),
        source_strides=(source_n // side.source[0], 0, source_h, source_w),
        out=(1, *side.out[1:]),
        kernel=(planes, stretch, 1) if axis == 1 else (planes, 1, stretch),
        stretched=axis,
        taps=taps,
    )


def stretches_of(taps: int, stride: int, stretch: int) -> int:
    """Stretches of at most `stretch` taps that are `stride` apart.

    Examples
    --------
    >>> stretches_of(7, 1, 4), stretches_of(17, 4, 4)
    (2, 5)
    """
    return sum(-(-len(range(phase, taps, stride)) // stretch) for phase in range(stride))


def _tile(side: Side, axis: int) -> tuple[int, int]:
    """Points and outputs of a tile along one axis."""
    taps = side.kernel[axis]
    if taps == 1:
        return 1, 1
    tiles = [(6, 7 - taps)]
    if taps == 3 and not side.stretched:
        tiles = [(4, 2), *[(4, 3)] * side.small[axis], (6, 4)]
    return _tile_of(taps, tiles, side.out[axis], side.dilation[axis], _share_for_eight(side, taps))


def _tile_of(taps: int, tiles: list[tuple[int, int]], size: int, dilation: int, share: float) -> tuple[int, int]:
    """The tile with the fewest multiplications; eight points if they take at most a share of what the others do."""

    def work(tile: tuple[int, int]) -> int:
        return tile[0] * _tiles(size, tile[1], dilation)

    least, eight = min(tiles, key=work), (8, 9 - taps)
    return eight if taps > 2 and work(eight) <= share * work(least) else least


def _share_for_eight(side: Side, taps: int) -> float:
    """At most which share of the multiplications eight points along an axis must take."""
    if 1 in side.kernel[1:]:
        if taps > 3:
            return MOST_SHARE_OF_LONG
        return MOST_SHARE if math.prod(side.out[1:]) >= MANY_OUTPUTS else 0.0
    summed = side.kernel[0] * side.run
    few = summed * side.lanes <= FEW_WEIGHTS
    return MOST_SHARE_OF_BOTH if summed <= MOST_SUMMED and (taps > 3 or few) else 0.0


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

    @property
    def forms(self) -> tuple[int, int]:
        """Whose transforms serve H and W: see `winograd_transform`."""
        h, w = (self.points_h, self.outputs_h), (self.points_w, self.outputs_w)
        return (3 if h == (4, 3) else h[0]), (3 if w == (4, 3) else w[0])


def tiles_of(side: Side) -> Tiles:
    """The tiles of a direction."""
    (points_h, outputs_h), (points_w, outputs_w) = _tile(side, 1), _tile(side, 2)
    tiles_h = _tiles(side.out[1], outputs_h, side.dilation[1])
    tiles_w = _tiles(side.out[2], outputs_w, side.dilation[2])
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
    reaches = _reach(side, 1), _reach(side, 2)
    shifts = [side.dilation[axis] * (axis == side.stretched) for axis in range(3)]
    phases, taps = side.stride[side.stretched], side.taps or side.kernel[1] * side.kernel[2]
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
        needed_h=reaches[0][0],
        needed_w=reaches[1][0],
        reach_h=reaches[0][1],
        reach_w=reaches[1][1],
        shift_h=shifts[1],
        shift_w=shifts[2],
        phases=phases,
        stretch=max(side.kernel[1:]) * phases if side.stretched else 0,
        gathered_taps=taps,
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
    vector = tile_lanes(itemsize) // 2
    return all(part % run == 0 or part % run >= vector for part in (side.run, last_run))


def _reach(side: Side, axis: int) -> tuple[int, int]:
    """Along an axis: how many coordinates the outputs read through a stretch of taps, and how many through all taps."""
    last = (side.out[axis] - 1) * side.stride[axis] + 1
    needed = last + (side.kernel[axis] - 1) * side.stride[axis] * side.dilation[axis]
    return needed, last + (side.taps - 1) * side.dilation[axis] if axis == side.stretched else needed


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
