"""How a convolution by Fourier transforms is cut into blocks, and what each direction reads and writes."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from typing import TYPE_CHECKING, Any, NamedTuple

from ...kernels._serial import SCRATCH_SLOTS
from ...kernels._target import target
from ...kernels.fft_blocks import Grid, Image, Taps, Transform
from ...kernels.sources import MODES
from ...kernels.tile import tile_lanes
from .._sizes import Triple
from .._split import for_all_cores
from . import (
    blocking,
    col2im,
    data_choice,
    fft_portions,
    lane_sums,
    periods,
    row_runs,
    weight_gradient,
    weight_gradient_chains,
    weight_gradient_groups,
    weight_gradient_slices,
)
from .fft_tables import pass_radices
from .lattice import strides

if TYPE_CHECKING:
    from ..geometry import ConvGeometry

# One vector's rows of a block: what a call can have of them within its extra memory.
BLOCK_BYTES = 2 << 20
# What blocks take that do not fit the threads' scratch memory.
WORKSPACE_BYTES = 4 << 20
# Rows that the nearest cache holds beside factors.
PART_BYTES = 16 << 10


class RowCosts(NamedTuple):
    """Nanoseconds of one core for one row of a block: a pass over it, what else is done with it, one way."""

    of_pass: float
    other: float
    far: tuple[tuple[int, float], ...]  # by how much more where blocks have up to so many bytes
    apart: float  # what is done with one of several vectors of channels, whose lines the caches lose meanwhile


# Where products are made at once, and where there are matrix products. Measured with vectors of 64 bytes, and of 32.
if blocking.WIDE_VECTORS:
    OWN_ROW = RowCosts(1.75, 5.5, ((512 << 10, 1.0), (1280 << 10, 1.2), (BLOCK_BYTES, 1.75)), 6.5)
    DENSE_ROW = RowCosts(3.6, 16.0, ((256 << 10, 1.0), (BLOCK_BYTES, 2.0)), 0.0)
else:
    OWN_ROW = RowCosts(1.4, 5.0, ((256 << 10, 1.0), (BLOCK_BYTES, 1.5)), 0.0)
    DENSE_ROW = OWN_ROW._replace(other=16.0)
# What caches hold of a sample's input and output, and of the rows of one block with all vectors of channels.
NEAR_BYTES, NEAR_BLOCK_BYTES = 2 << 20, 1 << 20
# A vector's multiply-adds with one complex number; launches. What transforms of the source, the destination and of
# kernels take, in terms of `DENSE_ROW`: kernels are gathered tap by tap, gradients are transformed to more numbers than
# products are back; what portions make necessary again is counted there. What sums of products take on one core: of a
# position, a tap and a panel, of each of its products, and of each row of weights, forward and for the weights; of each
# product that `row_runs` makes. (When all three directions had the same costs, half of the weight gradients with 24 to
# 220 channels took 1.6 times as long as they need.) Fitted to 500 problems of 12 to 150 taps and up to 500 channels
# where vectors are of 64 bytes, and to 3,000 of 7 to 343 taps where they are of 32.
if blocking.WIDE_VECTORS:
    PRODUCT_NS, CALL_NS, DIRECT_CALL_NS = 0.5, 1.7e4, 1.7e4
    TIMES, TIMES_OF_WEIGHT = (1.0, 0.85, 1.3), (1.0, 1.25, 0.8)
    DIRECT_NS, SUM_NS = (0.32, 0.346, 14.2), (0.5, 0.38, 20.0)
    ROW_RUNS_NS = {"forward": 0.34, "backward_weight": 0.28}
    # Depthwise: 120 to 240, more where there are more taps. Groups of few channels, several to a vector.
    DEPTHWISE_FLOPS_PER_NS, GROUPS_FLOPS_PER_NS = 200.0, 100.0
else:
    PRODUCT_NS, CALL_NS, DIRECT_CALL_NS = 0.56, 8.2e4, 5e4
    TIMES, TIMES_OF_WEIGHT = (1.09, 0.96, 0.9), (1.07, 1.28, 0.63)
    DIRECT_NS, SUM_NS = (0.31, 0.407, 4.4), (0.32, 0.495, 10.3)
    ROW_RUNS_NS = {"forward": 0.427, "backward_weight": 0.498}
    DEPTHWISE_FLOPS_PER_NS, GROUPS_FLOPS_PER_NS = 80.0, 80.0
# A pair of sums that are dot products takes such a part of a panel's time.
PAIR_OF_DOTS = 0.2


class Axis(NamedTuple):
    """One axis of a direction, as a correlation of what is read with a kernel."""

    span: int  # positions under the kernel
    positions: int  # results, those that a stride skips included
    first: int  # coordinate that the first tap reads for the first result
    step: int  # coordinates per element that is read
    every: int  # results per element that is written


class Side(NamedTuple):
    """What a direction reads and writes."""

    axes: tuple[Axis, Axis, Axis]
    source: Triple
    source_channels: int
    out: Triple
    out_channels: int


class Cut(NamedTuple):
    """The transform of a block along each axis, and what results it gives."""

    sizes: Triple
    hops: Triple
    blocks: Triple
    cost: float  # of one sample, in nanoseconds of one core

    @property
    def rows(self) -> int:
        return math.prod(self.sizes)

    @property
    def pairs(self) -> int:
        """Per sample: two blocks are one complex transform."""
        return -(-math.prod(self.blocks) // 2)


def side_of(g: ConvGeometry, direction: str) -> Side:
    """Which way a direction runs; the weight gradient runs over the blocks of the forward direction."""
    if direction == "backward_data":
        every = zip(g.span, g.input, g.pad_low, g.stride, strict=True)
        axes = [Axis(span, size, low - span + 1, stride, 1) for span, size, low, stride in every]
        return Side(_three(axes), g.output, g.out_channels, g.input, g.in_channels)
    every = zip(g.span, g.output, g.pad_low, g.stride, strict=True)
    axes = [Axis(span, (size - 1) * stride + 1, -low, 1, stride) for span, size, low, stride in every]
    return Side(_three(axes), g.input, g.in_channels, g.output, g.out_channels)


def _three(values: Any) -> Any:
    d, h, w = values
    return d, h, w


def row_bytes() -> int:
    """Of a block: two vectors."""
    return 2 * target().vector_bytes


def _sizes(axis: Axis, largest: int) -> list[int]:
    """Lengths of transforms along an axis: powers of two and three times such, up to what takes all in one block."""
    if axis.span == 1:
        return [1]
    products = sorted(base << i for base in (1, 3) for i in range(largest.bit_length()) if base << i <= largest)
    whole = axis.positions + axis.span - 1
    sizes = [size for size in products if size >= axis.span and size >= 2]
    return [size for i, size in enumerate(sizes) if i == 0 or sizes[i - 1] < whole]


def fits(side: Side) -> bool:
    """Whether there are blocks longer than the kernel."""
    largest = BLOCK_BYTES // row_bytes()
    sizes = [_sizes(axis, largest) for axis in side.axes]
    return all(sizes) and math.prod(axis[0] for axis in sizes) <= largest


@functools.lru_cache(maxsize=1024)
def cut_of(g: ConvGeometry, direction: str) -> Cut:
    """The cheapest blocks of a problem that `accepts` takes.

    They depend on a single sample, and neither on the dtype nor on how much is in memory at a time.
    """
    side, largest = side_of(g, direction), BLOCK_BYTES // row_bytes()
    g, best = g._replace(batch=1), None
    for sizes in itertools.product(*(_sizes(axis, largest) for axis in side.axes)):
        if math.prod(sizes) <= largest:
            hops = _three(size - axis.span + 1 for size, axis in zip(sizes, side.axes, strict=True))
            blocks = _three(-(-axis.positions // hop) for axis, hop in zip(side.axes, hops, strict=True))
            candidate = Cut(_three(sizes), hops, blocks, 0.0)
            candidate = candidate._replace(cost=_cost(candidate, g, direction, 4, fft_portions.ONCE))
            if best is None or candidate.cost < best.cost:
                best = candidate
    assert best is not None
    return best


def transform_cost(c: Cut, costs: RowCosts) -> float:
    """Nanoseconds of one core for one vector's block, one way."""
    passes = sum(len(pass_radices(size)) for size in c.sizes)
    far = next(factor for most, factor in costs.far if c.rows * row_bytes() <= most)
    return c.rows * (passes * costs.of_pass + costs.other) * far


def cost(c: Cut, g: ConvGeometry, direction: str, itemsize: int) -> float:
    """Nanoseconds of one core for all samples, roughly."""
    again = fft_portions.ONCE
    if not is_depthwise(g):
        again = fft_portions.again(extents_of(g, direction, c, itemsize), itemsize)
    return _cost(c, g, direction, itemsize, again)


def _cost(c: Cut, g: ConvGeometry, direction: str, itemsize: int, again: fft_portions.Again) -> float:
    vector, pairs = target().lanes(itemsize), g.batch * c.pairs
    if is_depthwise(g):
        blocks, panels = for_all_cores(_vectors(g.in_channels, pairs, vector)), -(-g.in_channels // vector)
        one = transform_cost(c, OWN_ROW)
        if panels > 1 and (math.prod(g.input) + math.prod(g.output)) * g.in_channels * itemsize > NEAR_BYTES:
            one += c.rows * OWN_ROW.apart * min(1.0, c.rows * panels * row_bytes() / NEAR_BLOCK_BYTES)
        return CALL_NS + one * 2 * blocks + transform_cost(c, OWN_ROW) * panels
    channels, run, lanes = g.in_channels, g.in_per_group, g.out_per_group
    if direction == "backward_data":
        channels, run, lanes = g.out_channels, lanes, run
    panels = g.groups * -(-lanes // vector)
    transforms = _vectors(channels, pairs, vector), pairs * panels, panels * -(-run // 2)
    times = TIMES_OF_WEIGHT if direction == "backward_weight" else TIMES
    transformed = sum(map(math.prod, zip(times, again, transforms, strict=True)))
    products = 2 * pairs * run * panels * c.rows
    return CALL_NS + transform_cost(c, DENSE_ROW) * transformed + products * PRODUCT_NS


def extents_of(g: ConvGeometry, direction: str, c: Cut, itemsize: int) -> fft_portions.Extents:
    """What a direction sums over and produces."""
    run, lanes = g.in_per_group, g.out_per_group
    if direction == "backward_data":
        run, lanes = lanes, run
    return fft_portions.Extents(
        channels=g.groups * run,
        groups=g.groups,
        run=run,
        panels=-(-lanes // target().lanes(itemsize)),
        pairs=c.pairs,
        all_pairs=g.batch * c.pairs,
        block_bytes=c.rows * row_bytes(),
        gradient=direction == "backward_weight",
    )


def direct_cost(g: ConvGeometry, direction: str, itemsize: int) -> float:
    """Nanoseconds of one core that sums of products take for all samples, roughly."""
    if is_depthwise(g):
        vector, rate = target().lanes(itemsize), DEPTHWISE_FLOPS_PER_NS * 4 / itemsize
        found = -(-g.in_channels // vector) * vector / g.in_channels * g.flops / rate
        return found if periods.accepts(direction, g) else min(found, periods.cost(direction, g, itemsize))
    if g.groups > 1:
        few = g.flops / (GROUPS_FLOPS_PER_NS * 4 / itemsize)
        run, lanes = g.in_per_group, g.out_per_group
        if direction == "backward_data":
            run, lanes = lanes, run
        panels = g.groups * blocking.panels(lanes, tile_lanes(itemsize))
        return min(few, _sums_cost(g, direction, run, panels, itemsize))
    if direction == "backward_data":
        found = data_choice.general(g, itemsize)
        if lane_sums.pays(g, itemsize):
            found = data_choice.lane_sums(g, itemsize)
        elif row_runs.pays(direction, g, itemsize):
            found = data_choice.rows(g, itemsize)
        elif col2im.pays(g, itemsize):
            found = data_choice.columns(g, itemsize)
        return 2e3 * found * itemsize / 4  # from microseconds of two cores and of float32
    panels = blocking.panels(g.out_channels, tile_lanes(itemsize))
    if direction == "forward" and g.out_channels <= blocking.DOT_LANES and g.in_channels >= tile_lanes(itemsize) // 2:
        panels = PAIR_OF_DOTS * -(-g.out_channels // 2)
    ways = weight_gradient_groups, weight_gradient_slices
    if direction == "backward_weight" and any(way.accepts(g, itemsize) for way in ways):
        panels = g.out_channels / tile_lanes(itemsize)  # its tile leaves no half of one idle
    chains = direction == "backward_weight" and weight_gradient_chains.accepts(g, itemsize)
    if chains:
        panels = -(-2 * g.out_channels // tile_lanes(itemsize)) / 2
    steps = g.batch * math.prod(g.output) * g.taps * panels
    if chains or row_runs.pays(direction, g, itemsize):
        faster = row_runs.narrow_gain(g, itemsize) if direction == "forward" else 1.0
        return DIRECT_CALL_NS + steps * g.in_channels * ROW_RUNS_NS[direction] / faster
    return _sums_cost(g, direction, g.in_channels, panels, itemsize)


def _sums_cost(g: ConvGeometry, direction: str, run: int, panels: float, itemsize: int) -> float:
    """Of so many panels, each of which sums over `run` channels, on the general algorithm."""
    steps, (step, product, weight) = g.batch * math.prod(g.output) * g.taps * panels, DIRECT_NS
    if direction == "backward_weight":
        step, product, weight = SUM_NS
        steps *= weight_gradient.share_read(g, itemsize)
    return DIRECT_CALL_NS + steps * (run * product + step) + g.taps * panels * run * weight


def is_depthwise(g: ConvGeometry) -> bool:
    """Whether there is one product per frequency and channel."""
    return g.in_channels == g.out_channels == g.groups


def _vectors(channels: int, pairs: int, lanes: int) -> int:
    return -(-channels // lanes) * pairs if channels > lanes // 2 else -(-pairs // (lanes // channels))


def transform_of(c: Cut, blocks_in_scratch: int = 1) -> Transform:
    """The kernels' record of a transform."""
    radices = [radix for size in c.sizes for radix in pass_radices(size)]
    parts = [c.rows // before for before in itertools.accumulate(radices, operator.mul, initial=1)]
    top = next((i for i, part in enumerate(parts) if part * row_bytes() <= PART_BYTES), len(radices))
    own = blocks_in_scratch * c.rows * row_bytes() <= SCRATCH_SLOTS * 8
    return Transform(c.rows, *c.sizes, len(radices), top, parts[top], int(own))


def grid_of(g: ConvGeometry, c: Cut, share: int, vectors: int) -> Grid:
    """The kernels' record of blocks and lanes, from the first vector and unit on."""
    return Grid(
        *c.hops, *c.blocks[1:], math.prod(c.blocks), c.pairs, g.batch * c.pairs, share, vectors, 0, 0
    )  # fmt: skip


def source_image(g: ConvGeometry, side: Side, c: Cut, channels: int, panels: int, direction: str) -> Image:
    """What a direction reads: all that lies under its kernel."""
    modes = g.padding_mode if direction != "backward_data" else ("zeros",) * 3
    return Image._make(
        (
            *(axis.first for axis in side.axes),
            *(hop + axis.span - 1 for hop, axis in zip(c.hops, side.axes, strict=True)),
            *(axis.step for axis in side.axes),
            *side.source,
            *(MODES.index(mode) for mode in modes),
            *strides(side.source, side.source_channels),
            channels,
            panels,
        )
    )


def out_image(side: Side, c: Cut, channels: int, panels: int) -> Image:
    """What a direction writes; or, for the weight gradient, reads as the gradient of that."""
    return Image._make(
        (
            *(0, 0, 0),
            *c.hops,
            *(axis.every for axis in side.axes),
            *side.out,
            *(0, 0, 0),
            *strides(side.out, side.out_channels),
            channels,
            panels,
        )
    )


def taps_of(g: ConvGeometry, direction: str) -> Taps:
    """Where the taps lie, and whose kernels are the lanes'."""
    lane, run = g.in_per_group * g.taps, g.taps
    if direction == "backward_data":
        lane, run = run, lane
    reverse = int(direction == "backward_data")
    return Taps(*g.kernel, *g.dilation, reverse, lane, run, g.out_per_group * g.in_per_group * g.taps)
