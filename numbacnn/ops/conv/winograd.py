"""Winograd convolution: few taps along W and H, or any along one of them, at a sixth to 60 % of the multiplications.

How tiles and panels are cut into blocks that fit scratch memory and caches, and the launches.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from ...kernels import winograd_domain as domain
from ...kernels._operands import Operand
from ...kernels.conv_winograd import conv_winograd
from ...kernels.tile import MAX_ROWS, tile_lanes
from .._split import for_all_cores
from . import blocking, turned, winograd_choice, winograd_weight
from .bias import padded_bias, zero_row
from .finish import NOTHING, Finish
from .winograd_side import Side, side_of
from .winograd_tiles import (
    BLOCKS,
    Cut,
    Part,
    largest_shape,
    odd_lines,
    parts_of,
    record,
    shape_of,
    tiles_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from ...kernels._build import Prepared
    from ...kernels._program import Step
    from ...kernels.winograd_domain import Winograd
    from ..geometry import ConvGeometry

name = "winograd"
finishes = ("activation", "residual")
exact = False  # rounding errors are several times those of a sum of products

# The most transformed input that all blocks of a launch share: with `blocking.PACKED_BYTES` of transformed weights a
# call stays below 16 MB of extra memory. Smaller blocks are launched together until there are enough of them, or as
# long as all their input stays in a last-level cache that others use as well.
VALUES_BYTES, PORTION_BYTES = 4 << 20, 2 << 20
# Source channels, in bytes, whose products are summed, and put down, before the next ones: one sample decides it. All
# panels pass by the transformed input, which so stays in the caches though there are many tiles to reuse the weights.
MOST_RUN_BYTES, RUN_BYTES = 3 << 10, 2 << 10
# Where there are taps along D, so few source channels that the weights of this many panels fit one launch. With a panel
# each, launches transformed the input again, and had a single block of tiles for all cores (320 to 512 channels and
# images of 8x8x8 to 12x12x12: on two cores half the time).
PANELS_OF_PART = 4
# The same as `VALUES_BYTES` where no transformed weights are in memory.
VALUES_ALONE_BYTES = 6 << 20
# Where a block keeps its transformed input to itself, in scratch memory: the fewest tiles for which that is faster, how
# many blocks there must be, and the transformed weights that all of them stream from the last-level cache; fewer tiles
# of eight points along both axes, for which more of L2 is taken.
OWN_TILES, OWN_BLOCKS, STREAMED_WEIGHTS = (36, 24, 18, 12, 11, 10), 8, 5 << 17
MANY_POINTS, FEWER_OWN_TILES = 36, (*OWN_TILES, 9, 6)
# Panels whose products are in the scratch at a time: as many meet the transformed rows of a point while L1 holds them.
# More if one axis is transformed: less is done per tile, and its pointers take as long.
STEP_PANELS, MORE_STEP_PANELS = 2, 4
# Otherwise a block shares its input and transforms the weights of one panel, a few source channels at a time, which
# stay in L2: transformed, they are four times the size of the weights, and memory may be slow. So many tiles reuse
# them, more if there are fewer points; of 36 points, 49 are an image of 28x28.
OWN_WEIGHT_POINTS, MOST_TILES = 50 * 36, 190
# Half as many where taps of two axes are cut into stretches, whose values would leave L2 otherwise (1.2 times as fast).
STRETCHED_WEIGHT_POINTS = 25 * 36
# With fewer blocks than this they are made smaller, and so are those of which one core would get one more. Each block
# transforms its panel's weights again, which takes as long as so many tiles.
FEW_BLOCKS, TILES_OF_WEIGHTS = 4, 4
# Weights of a panel that several stretches of taps have in the scratch at a time.
STRETCHES_BYTES = 96 << 10
# Tiles of a block that keeps neither to itself (there are taps along D to be summed).
TILES = 36


class Plan(NamedTuple):
    """How one direction of a convolution runs."""

    parts: tuple[Part, ...]
    tile_blocks: int
    portion: int  # blocks of tiles per launch
    zeros: int  # elements of the row of zeros that padding and missing biases read
    cost: float  # of one block of tiles


class Launches(NamedTuple):
    """The launches of one `Part`; the last portion may be smaller."""

    part: Part
    weights: Prepared | None  # None: blocks transform what they need
    packed_elements: int
    portion: tuple[Prepared | None, Prepared]  # input, or None: blocks transform what they need; products
    last_portion: tuple[Prepared | None, Prepared]
    values_elements: int


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g, side = geometry, side_of(geometry, direction)
    if reason := _refuses_stretches(g) if side.stretched else _refuses_kernel(g):
        return reason
    if side.kernel[0] > domain.MAX_TAPS_D:
        return f"there are {side.kernel[0]} taps along D or stretches of taps, more than {domain.MAX_TAPS_D}"
    if g.padding_mode[0] != "zeros" or (g.kernel[0] == 1 and g.pad_low[0] + g.pad_high[0] > 0):
        return "there is padding along D other than zeros for a kernel of several taps"
    if direction == "backward_data" and set(g.padding_mode) != {"zeros"}:
        return f"padding_mode {g.padding_mode} adds gradients up"
    if side.run < tile_lanes(4) // 2:
        return f"{side.run} channels to sum over do not fill a vector"
    if direction == "backward_weight" and side.lanes < tile_lanes(4) // 2:
        return f"{side.lanes} channels do not fill a vector"
    tiles, run, channels, panels = tiles_of(side), side.run, side.source_channels, 1
    if direction == "backward_weight":
        panels = 2  # so that no part is a ragged panel alone
        if run == channels:
            run = channels = max(len(part) for part in winograd_weight.source_parts(side, tiles, 4))
    panel_bytes = panels * tiles.points * side.kernel[0] * (run + 1) * tile_lanes(4) * 4
    tile_bytes = tiles.points * (side.dilation[0] * (side.kernel[0] - 1) + 3) * channels * 8
    if panel_bytes > blocking.PACKED_BYTES or tile_bytes > VALUES_BYTES:
        return f"the transforms of {side.source_channels} channels take too much memory"
    return None


def _refuses_kernel(g: ConvGeometry) -> str | None:
    """Why a kernel is not taken whose taps are those of a tile, but for those along D."""
    if g.stride != (1, 1, 1):
        return f"the stride is {g.stride}"
    if not set(g.kernel[1:]) <= {1, 3, 4, 5} or g.kernel[1:] == (1, 1):
        return f"the kernel {g.kernel} does not have three to five taps along H and W or one of them"
    return None


def _refuses_stretches(g: ConvGeometry) -> str | None:
    """Why a kernel is not cut into stretches of taps."""
    if math.prod(g.stride) > 1 and math.prod(g.dilation) > 1:
        return f"the stride is {g.stride}"
    if any(k <= s for k, s in zip(g.kernel, g.stride, strict=True) if s > 1):
        return f"the kernel {g.kernel} is not longer than the stride"
    if g.taps > domain.MOST_TAPS:
        return f"the kernel has {g.taps} taps, more than {domain.MOST_TAPS}"
    return None


def declines(direction: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    """None, or why another algorithm is expected to be as fast."""
    reason = winograd_choice.declines(direction, _judged(direction, geometry, itemsize), itemsize)
    if reason is None and direction == "backward_data" and turned.pays(geometry, itemsize):
        around = turned.turned(geometry)  # whose tiles are the same: the model knows what row runs gain forward
        return winograd_choice.declines_beside_turned(_judged("forward", around, itemsize), itemsize)
    return reason


def share_of_general(direction: str, geometry: ConvGeometry, itemsize: int) -> float:
    """Which share of the general algorithm's time a problem is expected to take here, if it comes here."""
    if accepts(direction, geometry) is not None or declines(direction, geometry, itemsize) is not None:
        return 1.0
    return winograd_choice.expected_ratio(direction, _judged(direction, geometry, itemsize), itemsize)


def _judged(direction: str, geometry: ConvGeometry, itemsize: int) -> list[tuple[ConvGeometry, winograd_choice.Passes]]:
    return [(g, passes(direction, g, itemsize)) for g in blocking.judged(direction, geometry)]


def passes(direction: str, geometry: ConvGeometry, itemsize: int) -> winograd_choice.Passes:
    """How often what is transformed passes by, as a plan cuts it."""
    if direction == "backward_weight":
        return winograd_weight.passes(winograd_weight.plan(geometry, itemsize))
    p = plan(geometry, direction, itemsize)
    g = p.parts[0].record
    return winograd_choice.Passes(
        where="own input" if g.own_values else "own weights" if g.own_run else "shared",
        source=g.panel_blocks if g.own_values else sum(not part.record.adds for part in p.parts),
        weights=p.tile_blocks if g.own_run else 1,
    )


@functools.lru_cache(maxsize=512)
def plan(g: ConvGeometry, direction: str, itemsize: int) -> Plan:
    """Cut a convolution into blocks of tiles and panels."""
    side = side_of(g, direction)
    tiles = tiles_of(side)
    full = tile_lanes(itemsize)
    width = full if side.lanes > full // 2 else full // 2
    panels = side.outputs * -(-side.lanes // width)
    run = _run_of_part(side, g.groups, tiles.points * min(panels, PANELS_OF_PART) * width, itemsize)
    some = side if run == side.run else side._replace(run=run, source_channels=run)
    cut = _cut(some, tiles.columns, tiles.points, panels * width, width, itemsize, g.groups * panels)
    whole = record(g, some, tiles, cut, width, itemsize, side.run % run)
    portion = tile_blocks = whole.depth_blocks * -(-tiles.columns // cut.columns)
    if not cut.own_values:
        block_bytes = tiles.points * whole.values_point * itemsize
        enough = min(VALUES_BYTES // block_bytes, -(-BLOCKS // (g.groups * panels)))
        portion = blocking.split_evenly(tile_blocks, max(enough, PORTION_BYTES // block_bytes))
    whole = whole._replace(
        panel_blocks=-(-BLOCKS // (portion * g.groups)),
        slices=max(1, min(some.source_channels // full, -(-BLOCKS // portion))),
    )
    zeros = max(side.source_channels, g.groups * panels * width)
    cost = 2.0 * tiles.points * cut.columns * cut.depth * side.kernel[0] * run * g.groups * panels * width
    parts = tuple(_parts(side, whole, itemsize))
    return Plan(parts, tile_blocks, portion, zeros, cost / blocking.FLOPS_PER_NS)


def _run_of_part(side: Side, groups: int, lanes: int, itemsize: int) -> int:
    """Source channels of a launch: all of them, or some whole cache lines; `lanes` of some panels, those of all points.

    The last launch has one line at least. Where blocks share transformed weights, those of these panels fit the limit
    on memory.
    """
    if groups > 1:
        return side.run
    most = RUN_BYTES // itemsize if side.run * itemsize > MOST_RUN_BYTES else side.run
    if side.kernel[0] > 1 and not side.stretched:
        fitting = blocking.PACKED_BYTES // (side.kernel[0] * lanes * itemsize)
        most = min(most, max(fitting, blocking.FEW_CHANNELS))
    if side.run <= most:
        return side.run
    line = blocking.LINE_BYTES // itemsize
    run = blocking.split_evenly(side.run, most, line)
    while 0 < side.run % run < line:  # what is transformed is whole vectors, of which the last may lap over
        run += line
    return min(run, side.run)


def _parts(side: Side, whole: Winograd, itemsize: int) -> Iterator[Part]:
    """All parts of a record that is made for the first source channels; the others add to what those have left."""
    for channel in range(0, side.run, whole.run):
        run = min(whole.run, side.run - channel)
        for part in parts_of(whole._replace(run=run, adds=int(channel > 0)), itemsize):
            yield part._replace(
                source_start=part.source_start + channel,
                weight_start=part.weight_start + channel * whole.weight_run,
                complete=channel + run == side.run,
            )


def _cut(side: Side, columns: int, points: int, lanes: int, width: int, itemsize: int, all_panels: int) -> Cut:
    """The largest blocks of tiles whose intermediate results fit; `lanes` of all panels of a group."""
    line = blocking.LINE_BYTES // itemsize
    slots, most_slots = (n * 8 // itemsize for n in (domain.PRODUCT_SLOTS, domain.MOST_PRODUCT_SLOTS))
    step = min(lanes // width, STEP_PANELS if points > domain.MAX_AXIS_POINTS else MORE_STEP_PANELS)
    tiles = columns * side.out[0]
    planes = side.kernel[0]
    tabulated = MAX_ROWS * (domain.TABLE_SLOTS // (1 + MAX_ROWS + planes * (MAX_ROWS + 1)))  # tiles
    run = _run_at_a_time(side, points, width, slots // 2, itemsize)
    if points * planes * side.run * lanes <= STREAMED_WEIGHTS:
        room, tile_counts = (most_slots, FEWER_OWN_TILES) if points > MANY_POINTS else (slots, OWN_TILES)
        for most in tile_counts:
            cut = Cut(*shape_of(side, columns, min(most, tabulated)), step, True, 0, run)
            products = cut.columns * cut.depth * step * width
            if points * (products + cut.rows * side.run + 3 * line) <= room and tiles >= OWN_BLOCKS * most:
                return cut
    row_bytes = points * odd_lines(side.source_channels, itemsize) * itemsize
    if planes == 1 or side.stretched:
        half = slots // points // (2 * width)  # the other half is for weights
        rows = VALUES_ALONE_BYTES // row_bytes - 1  # in the shared buffer
        weight_points = STRETCHED_WEIGHT_POINTS if planes > 1 and not side.one_axis else OWN_WEIGHT_POINTS
        most = min(weight_points // points, MOST_TILES, half, rows // planes, tabulated)
        shape = shape_of(side, columns, _evenly(tiles, most, all_panels))
        if planes == 1:
            room = (most_slots // points - shape[0] * shape[1] * width - 2 * line) // width
            run = blocking.split_evenly(side.run, max(line, room), line)
        return Cut(*shape, 1, False, run, run)
    shape = largest_shape(side, columns, min(TILES, tabulated), VALUES_BYTES // row_bytes - 1)
    step = max(1, min(step, (slots // points - line) // (shape[0] * shape[1] * width)))
    return Cut(*shape, step, False, 0, side.run)


def _evenly(tiles: int, most: int, all_panels: int) -> int:
    """Tiles of a block, at most `most`, so that those of `all_panels` keep cores busy till the end."""
    blocks = max(1, -(-tiles // max(1, most)))
    if blocks * all_panels < FEW_BLOCKS:
        blocks = max(blocks, min(-(-FEW_BLOCKS // all_panels), tiles // (3 * TILES_OF_WEIGHTS)))
    blocks = for_all_cores(blocks, all_panels, tiles > TILES_OF_WEIGHTS * blocks * all_panels)
    return max(1, min(most, -(-tiles // blocks)))


def _run_at_a_time(side: Side, points: int, width: int, room: int, itemsize: int) -> int:
    """Source channels summed over at a time: all but for stretches, for these are summed over first.

    Their weights take at most `room` elements, which for stretches of two axes may be less than a cache line of
    channels. The number depends on nothing that one sample does not know, for so does the order of summation.
    """
    planes, line = side.kernel[0], blocking.LINE_BYTES // itemsize
    if not side.stretched or planes == 1:
        return side.run
    room -= planes * points * line
    if side.one_axis:
        room = min(room, STRETCHES_BYTES // itemsize)
    most = max(1, room // (planes * points * width))
    return blocking.split_evenly(side.run, most, line if most >= line else 1)


@functools.lru_cache(maxsize=512)
def prepare(g: ConvGeometry, direction: str, dtype: np.dtype[Any]) -> tuple[Launches, ...]:
    """The launches of `plan`, by part."""
    p = plan(g, direction, dtype.itemsize)
    last = p.tile_blocks % p.portion or p.portion
    return tuple([_prepare_part(p, part, last, dtype) for part in p.parts])


def _prepare_part(plan: Plan, part: Part, last: int, dtype: np.dtype[Any]) -> Launches:
    g = part.record
    points, panels = g.points_h * g.points_w, g.groups * g.panels
    weights, elements = None, 0
    if not g.own_run:
        elements = panels * g.taps_d * points * g.weight_point
        weights = domain.winograd_weights.prepare((dtype,), panels * g.weight_blocks, g, cost=elements * 0.5)

    def portion(blocks: int) -> tuple[Prepared | None, Prepared]:
        inputs = None
        if not g.own_values:
            cost = blocks * points * g.values_point * 0.5
            inputs = domain.winograd_inputs.prepare((dtype,), blocks * g.slices, g, cost=cost)
        cost = blocks * plan.cost
        return inputs, conv_winograd.prepare((dtype,), blocks * g.groups * g.panel_blocks, g, cost=cost)

    values = 0 if g.own_values else plan.portion * points * g.values_point
    return Launches(part, weights, elements, portion(plan.portion), portion(last), values)


def forward(
    g: ConvGeometry,
    x: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
    follows: Finish = NOTHING,
) -> list[Step]:
    """Fill `out` (N, D, H, W, C_out) from `x` (N, D, H, W, C_in)."""
    return _run(g, "forward", x, weight, bias, out, follows)


def backward_data(
    g: ConvGeometry, grad_output: Operand, weight: Operand, bias: Operand | None, out: Operand
) -> list[Step]:
    """Fill `out`, the gradient of the input, from `grad_output`."""
    return _run(g, "backward_data", grad_output, weight, bias, out, NOTHING)


def backward_weight(g: ConvGeometry, grad_output: Operand, x: Operand, out: Operand) -> list[Step]:
    """Fill `out`, the (C_out, C_in / groups, taps) gradient of the weight."""
    return winograd_weight.run(g, grad_output, x, out)


def _run(
    g: ConvGeometry,
    direction: str,
    source: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
    follows: Finish,
) -> list[Step]:
    p = plan(g, direction, source.dtype.itemsize)
    source, weight, out = source.reshape(-1), weight.reshape(-1), out.reshape(-1)
    zeros = zero_row(source.dtype, p.zeros)
    finish = follows.distance(out), follows.activation
    steps: list[Step] = []
    for launches in prepare(g, direction, source.dtype):
        steps += _run_part(p, launches, source, weight, bias, out, zeros, finish)
    return steps


def _run_part(
    p: Plan,
    launches: Launches,
    source: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
    zeros: np.ndarray,
    finish: tuple[Any, ...],
) -> list[Step]:
    part, steps = launches.part, []
    follows = finish if part.complete else (0, 0)
    source, weight, out = source[part.source_start :], weight[part.weight_start :], out[part.out_start :]
    if launches.weights:
        packed = Operand((launches.packed_elements,), weight.dtype)
        steps.append(launches.weights.on(weight, packed))
        weight = packed
    g = part.record
    start: Operand | np.ndarray = zeros
    if bias is not None and not g.adds:
        start = padded_bias(bias, g.groups, g.lanes, g.lane_panels * g.width, part.channels)
    values = Operand((launches.values_elements,), source.dtype) if launches.values_elements else zeros
    for first in range(0, p.tile_blocks, p.portion):
        whole = first + p.portion <= p.tile_blocks
        inputs, products = launches.portion if whole else launches.last_portion
        if inputs:
            steps.append(inputs.on(source, zeros, values, first))
        steps.append(products.on(source, values, weight, start, zeros, out, first, *follows))
    return steps
