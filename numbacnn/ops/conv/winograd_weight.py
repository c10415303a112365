"""The weight gradient by Winograd's algorithm: portions of tiles, parts of the gradient, launches."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from ...kernels import conv_winograd_weight as kernels
from ...kernels._operands import Operand
from ...kernels.tile import VECTORS, tile_lanes
from ...kernels.winograd_domain import MOST_PRODUCT_SLOTS, PASS_VECTORS, Winograd, winograd_inputs
from .._split import for_all_cores
from . import blocking
from .bias import zero_row
from .lattice import strides
from .winograd_choice import Passes
from .winograd_side import Side, side_of
from .winograd_tiles import (
    BLOCKS,
    Cut,
    Part,
    Tiles,
    largest_shape,
    odd_lines,
    parts_of,
    record,
    tiles_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from ...kernels._build import Prepared
    from ...kernels._program import Step
    from ..geometry import ConvGeometry

# Transformed input and gradients of a portion of tiles: what a last-level cache that others use as well holds beside
# the sums, which are loaded and stored once per portion. With `blocking.PACKED_BYTES` of sums a call stays below 16 MB
# of extra memory.
# Where the sums are larger than that, portions grow with them, for the sums pass through memory once per portion.
# Where vectors, and so second-level caches, are large, portions leave these for sums of so much, times the taps along D
# that each value meets, and few points (1.1 to 1.5 times as fast; with more points, or smaller sums, as much slower).
PORTION_BYTES, LARGEST_PORTION_BYTES = 5 << 19, 6 << 20
MANY_SUMS_BYTES, FEW_POINTS, WITH_SUMS_BYTES, LARGE_PORTION_BYTES = 2 << 20, 36, 15 << 20, 10 << 20
# All tiles in one portion, of so many tiles, and more for every tap along D: sums stay in the scratch, and are no more
# than what is transformed. With more tiles, that passes by too often, for few sums fit (up to 2.3 times as slow).
FEW_TILES, MORE_FEW_TILES, MOST_AT_ONCE_BYTES = 16, 8, 12 << 20
# Cache lines of source channels that a part takes at least, so that the last one has a vector's, too.
LEAST_LINES = 4
# Tiles of a block, of which a portion has several.
TILES = 24


class WeightPart(NamedTuple):
    """What `Part` says, and how tiles are cut into portions."""

    part: Part
    sums: kernels.WinogradSums
    portions: range  # their first blocks
    last_blocks: int  # blocks of the last portion


class WeightPlan(NamedTuple):
    """How a weight gradient runs."""

    parts: tuple[WeightPart, ...]
    zeros: int  # elements of the row of zeros that padding reads
    cost: float  # of all products of one tile and one part


class Launches(NamedTuple):
    """The launches of one `WeightPart`."""

    plan: WeightPart
    portion: tuple[Prepared, ...]  # input, gradient, products
    last_portion: tuple[Prepared, ...]
    to_taps: Prepared | None  # None: the products' launch does it
    elements: tuple[int, int, int]  # of transformed input, transformed gradient, sums


@functools.lru_cache(maxsize=512)
def plan(g: ConvGeometry, itemsize: int) -> WeightPlan:
    """Cut the gradient into parts whose sums fit the limit on memory, and the tiles into portions."""
    side = side_of(g, "backward_weight")
    tiles = tiles_of(side)
    width = tile_lanes(itemsize)
    row = odd_lines(side.source_channels, itemsize)
    rows = LARGEST_PORTION_BYTES // (tiles.points * row * itemsize)
    cut = Cut(*largest_shape(side, tiles.columns, TILES, rows), 1, False, 0, side.run)
    whole = record(g, side, tiles, cut, width, itemsize)
    whole_part = Part(slice(0, g.out_channels), 0, 0, 0, whole)
    once = _portions(g, side, whole_part, tiles.points, itemsize, MOST_AT_ONCE_BYTES)
    few = tiles.columns * side.out[0] <= FEW_TILES + MORE_FEW_TILES * side.kernel[0]
    if few and len(once.portions) == 1:
        parts = [once._replace(sums=_at_once(whole, once.sums, itemsize))]
    else:
        parts = []
        for part in _parts(g, side, tiles, whole, itemsize):
            portion_bytes = _portion_bytes(part.record, tiles.points, itemsize)
            parts.append(_portions(g, side, part, tiles.points, itemsize, portion_bytes))
    zeros = max(side.source_channels, g.out_channels)
    cost = 2.0 * tiles.points * side.kernel[0] * side.run * g.out_channels / blocking.FLOPS_PER_NS
    return WeightPlan(tuple(parts), zeros, cost)


def _parts(g: ConvGeometry, side: Side, tiles: Tiles, whole: Winograd, itemsize: int) -> Iterator[Part]:
    """Parts whose sums fit the limit: of groups, or of a group's source channels and panels."""
    ranges = source_parts(side, tiles, itemsize)
    if len(ranges) == 1:
        yield from parts_of(whole, itemsize)
        return
    run = max(len(channels) for channels in ranges)
    rows = LARGEST_PORTION_BYTES // (tiles.points * odd_lines(run, itemsize) * itemsize)
    some = side._replace(run=run, source_channels=run)
    cut = Cut(*largest_shape(some, tiles.columns, TILES, rows), 1, False, 0, run)
    largest = record(g, some, tiles, cut, whole.width, itemsize)
    for channels in ranges:
        for part in parts_of(largest._replace(run=len(channels)), itemsize):
            yield part._replace(
                source_start=channels.start, weight_start=part.weight_start + channels.start * largest.weight_run
            )


def source_parts(side: Side, tiles: Tiles, itemsize: int) -> list[range]:
    """Source channels of each part: all of them, or some whole cache lines, as evenly as possible.

    Panels are cut as well if that is not enough. Every part of the source transforms all channels of the gradient
    again, and every part of the panels those of the source, unless all tiles are one portion: as few as possible.
    """
    if side.run < side.source_channels:
        return [range(side.run)]
    width, line = tile_lanes(itemsize), blocking.LINE_BYTES // itemsize
    panels, lines = -(-side.lanes // width), -(-side.run // line)
    source, gradient = side.run * side.source[0], side.lanes * side.out[0]
    best, least = 1, math.inf
    for parts in range(1, max(1, lines // LEAST_LINES) + 1):
        run = -(-lines // parts) * line if parts > 1 else side.run
        portion = blocking.PACKED_BYTES // (side.kernel[0] * tiles.points * (run * width + line) * itemsize)
        if portion <= min(1, panels - 1):  # so that no part is a ragged panel alone
            continue
        part_bytes = tiles.points * tiles.columns * (run * side.source[0] + portion * width * side.out[0]) * itemsize
        again = -(-panels // portion) if part_bytes > LARGEST_PORTION_BYTES else 1
        transformed = again * source + parts * gradient
        if transformed < least:
            best, least = parts, transformed
    starts = [i * lines // best * line for i in range(best)]
    return [range(start, end) for start, end in zip(starts, [*starts[1:], side.run], strict=True)]


def passes(p: WeightPlan) -> Passes:
    """How often what is transformed passes by: sums that do not stay in the scratch, once per portion."""
    first = p.parts[0]
    at_once = first.sums.point_blocks == 0
    where = "sums in scratch" if at_once else "sums in memory"
    if first.part.record.groups > 1:
        return Passes(where, source=len(p.parts), weights=1)
    sources = len({part.part.source_start for part in p.parts})
    again = 1 if len(first.portions) == 1 else len(p.parts) // sources
    return Passes(where, source=again, destination=sources, weights=1)


def _portion_bytes(g: Winograd, points: int, itemsize: int) -> int:
    """The most that is transformed at a time."""
    sums_bytes = g.groups * g.taps_d * points * g.run * g.panels * g.width * itemsize
    if blocking.WIDE_VECTORS and points <= FEW_POINTS and sums_bytes * g.taps_d >= MANY_SUMS_BYTES:
        return max(LARGEST_PORTION_BYTES, min(WITH_SUMS_BYTES - sums_bytes, LARGE_PORTION_BYTES))
    return min(max(PORTION_BYTES, sums_bytes), LARGEST_PORTION_BYTES)


def _at_once(g: Winograd, s: kernels.WinogradSums, itemsize: int) -> kernels.WinogradSums:
    """All tiles in one portion, cut into channels whose sums fit the scratch."""
    points, panels = g.points_h * g.points_w, kernels.AT_ONCE_PANELS
    panel_blocks = -(-g.panels // panels)
    run = min(kernels.AT_ONCE_RUN, kernels.AT_ONCE_SUMS // points)
    sums_slots = points * run * panels * g.width * itemsize // 8
    taps_run = _taps_run(g, run, kernels.AT_ONCE_TILES + sums_slots, itemsize)
    if g.stretched:  # whose taps lie anywhere among all
        run = taps_run
    return s._replace(
        point_blocks=0,
        run_blocks=for_all_cores(-(-g.run // run), g.groups * panel_blocks),
        panel_blocks=panel_blocks,
        taps_run=taps_run,
    )


def _taps_run(g: Winograd, run: int, used_slots: int, itemsize: int) -> int:
    """Of how many source channels, `run` at most, the taps fit what remains of the scratch."""
    row = PASS_VECTORS * g.width // VECTORS
    room = (MOST_PRODUCT_SLOTS - used_slots) * 8 // itemsize
    return min(run, room // (g.all_taps * row))


def _portions(g: ConvGeometry, side: Side, part: Part, points: int, itemsize: int, most_bytes: int) -> WeightPart:
    """Cut tiles into portions whose transforms take at most so much memory."""
    r = part.record
    row = r.panels * r.width
    gradients_row = odd_lines(r.groups * row, itemsize)
    block_tiles = r.block_columns * r.block_depth
    blocks = r.depth_blocks * -(-r.columns // r.block_columns)
    block_bytes = points * (r.values_point + block_tiles * gradients_row) * itemsize
    portion = blocking.split_evenly(blocks, min(most_bytes // block_bytes, kernels.MAX_TILES // TILES))
    point_blocks = -(-points // 2)
    gradient_n, gradient_d, gradient_h, gradient_w = strides(side.out, g.out_channels)
    sums = kernels.WinogradSums(
        blocks=portion,
        tiles=min(portion * block_tiles, r.columns * r.out_d),
        gradient_n=gradient_n,
        gradient_d=gradient_d,
        gradient_h=gradient_h,
        gradient_w=gradient_w,
        gradients_row=gradients_row,
        slices=max(1, min(r.lanes // r.width, -(-BLOCKS // (portion * r.groups)))),
        row=row,
        point_blocks=point_blocks,
        run_blocks=max(1, min(r.run // 12, -(-BLOCKS // (point_blocks * r.groups)))),
        panel_blocks=1,
        taps_run=max(1, _taps_run(r, min(kernels.TAPS_RUN, r.groups * r.run // BLOCKS), 0, itemsize)),
    )
    slices = max(1, min(r.groups * r.run // r.width, -(-BLOCKS // portion)))
    part = part._replace(record=r._replace(slices=slices))
    return WeightPart(part, sums, range(0, blocks, portion), blocks % portion or portion)


@functools.lru_cache(maxsize=512)
def prepare(g: ConvGeometry, dtype: np.dtype[Any]) -> tuple[Launches, ...]:
    """The launches of `plan`, by part."""
    p = plan(g, dtype.itemsize)
    return tuple([_prepare_part(part, p.cost, dtype) for part in p.parts])


def _prepare_part(p: WeightPart, cost: float, dtype: np.dtype[Any]) -> Launches:
    g, s = p.part.record, p.sums
    points = g.points_h * g.points_w
    values, gradients = points * s.blocks * g.values_point, points * s.tiles * s.gradients_row
    sums = g.groups * g.taps_d * points * g.run * s.row if s.point_blocks else 0

    def portion(blocks: int) -> tuple[Prepared, ...]:
        some = s._replace(blocks=blocks)
        add, add_blocks = kernels.winograd_sums, g.groups * s.run_blocks * s.point_blocks
        if not s.point_blocks:
            add, add_blocks = kernels.winograd_weight, g.groups * s.run_blocks * s.panel_blocks
        return (
            winograd_inputs.prepare((dtype,), blocks * g.slices, g, cost=values * 0.5),
            kernels.winograd_gradients.prepare((dtype,), blocks * g.groups * s.slices, g, some, cost=gradients * 0.5),
            add.prepare((dtype,), add_blocks, g, some, cost=s.tiles * cost),
        )

    to_taps = None
    if s.point_blocks:
        blocks = g.groups * -(-g.run // s.taps_run)
        to_taps = kernels.winograd_sums_to_taps.prepare((dtype,), blocks, g, s, cost=sums * 0.5)
    return Launches(p, portion(s.blocks), portion(p.last_blocks), to_taps, (values, gradients, sums))


def run(g: ConvGeometry, grad_output: Operand, x: Operand, out: Operand) -> list[Step]:
    """Fill `out`, a contiguous (C_out, C_in / groups, taps) array, from two (N, D, H, W, C) memories."""
    zeros = zero_row(x.dtype, plan(g, x.dtype.itemsize).zeros)
    source, gradient, target = x.reshape(-1), grad_output.reshape(-1), out.reshape(-1)
    steps: list[Step] = []
    transformed, values = -1, None
    for launches in prepare(g, x.dtype):
        start = launches.plan.part.source_start
        values = values if start == transformed else None
        more, values = _run_part(launches, source, gradient, target, zeros, values)
        transformed = start if len(launches.plan.portions) == 1 else -1
        steps += more
    return steps


def _run_part(
    launches: Launches,
    source: Operand,
    gradient: Operand,
    target: Operand,
    zeros: np.ndarray,
    transformed: Operand | None,
) -> tuple[list[Step], Operand]:
    """The steps of a part, and its last portion's transformed input; `transformed`: what the first needs of that."""
    part, portions = launches.plan.part, launches.plan.portions
    source, gradient = source[part.source_start :], gradient[part.out_start :]
    target = target[part.weight_start :]
    values, gradients, sums = (Operand((elements,), source.dtype) for elements in launches.elements)
    values = transformed or values
    steps = []
    for first in portions:
        last = first == portions[-1]
        inputs, outputs, products = launches.last_portion if last else launches.portion
        if transformed is None:
            steps.append(inputs.on(source, zeros, values, first))
        steps += [
            outputs.on(gradient, zeros, gradients, first),
            products.on(values, gradients, sums if launches.to_taps else target, first),
        ]
        if last and launches.to_taps:
            steps.append(launches.to_taps.on(sums, target))
    return steps, values
