"""Forward convolution and data gradient on the indirect-GEMM kernel: how the work is cut.

The caller says which memory is source and destination and which strides of the weight tensor run over the reduction
and over the produced channels; everything else follows from the geometry. `gemm_launch` keeps what is planned here.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from ...kernels.conv_gemm import OWN_BYTES, GemmConv
from ...kernels.joined_weights import LEAST_TAPS, MOST_TAPS, TURNED_WEIGHTS, JoinedWeights
from ...kernels.tile import MAX_ROWS, MIN_GEMM_ROWS, tile_lanes
from .._split import for_all_cores
from . import blocking
from .lattice import AxisPhase, Memory, Phase, backward_data_phases, by_axis, forward_phase, strides

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ...kernels.sources import Sources
    from ..geometry import ConvGeometry


class Launch(NamedTuple):
    """One phase's kernel arguments that do not depend on the data."""

    out_start: int  # element of the destination where the phase's lattice begins
    record: GemmConv
    sources: Sources
    cost: float
    in_turn: bool  # it adds to what launches before it have written, so it waits for them

    @property
    def constants(self) -> tuple[Any, ...]:
        """The kernel's arguments after those that hold data."""
        return self.record, self.sources

    @property
    def taps(self) -> int:
        return self.sources.taps_d * self.sources.taps_h * self.sources.taps_w

    @property
    def blocks(self) -> int:
        return self.record.point_blocks * self.record.panel_blocks


class Part(NamedTuple):
    """Some groups, source channels or panels, whose packed weights fit the limit on extra memory."""

    channels: slice  # of the destination
    source_start: int  # elements to skip in a sample of the source, the weights and the destination
    weight_start: int
    out_start: int
    launches: tuple[Launch, ...]  # one per phase
    columns: int = 1  # destination columns whose channels lie side by side as those of one
    joined: JoinedWeights | None = None  # how their weights are packed
    complete: bool = True  # whether all is summed, after this part and those before


class GemmPlan(NamedTuple):
    """How one direction of a convolution runs."""

    parts: tuple[Part, ...]
    zeros: int  # elements of the row of zeros that padding taps read


def plan_forward(geometry: ConvGeometry, itemsize: int) -> GemmPlan:
    """Plan ``output = conv(input)``."""
    g = geometry
    return _plan(
        g,
        itemsize,
        (forward_phase(g),),
        run=g.in_per_group,
        lanes=g.out_per_group,
        source=Memory(g.input, g.in_channels),
        out=Memory(g.output, g.out_channels),
        strides_of_weight=(g.taps, g.in_per_group * g.taps),
    )


def plan_backward_data(geometry: ConvGeometry, itemsize: int) -> GemmPlan:
    """Plan ``grad_input``: the roles of the two sides exchanged."""
    g = geometry
    joined: dict[AxisPhase, list[Phase]] = {}  # by what they do along W: weights are packed for each
    alone: list[Phase] = []
    for phase in backward_data_phases(g):
        w = phase.axes[2]
        (joined.setdefault(w, []) if w.width > 1 else alone).append(phase)
    # First those that are joined: some of the others may add to them.
    plans = [_plan_joined(g, itemsize, w, phases) for w, phases in joined.items()]
    if alone:
        plans.append(_plan_alone(g, itemsize, tuple(alone)))
    return GemmPlan(tuple([part for plan in plans for part in plan.parts]), max(plan.zeros for plan in plans))


def _plan_alone(g: ConvGeometry, itemsize: int, phases: tuple[Phase, ...]) -> GemmPlan:
    return _plan(
        g,
        itemsize,
        phases,
        run=g.out_per_group,
        lanes=g.in_per_group,
        source=Memory(g.output, g.out_channels),
        out=Memory(g.input, g.in_channels),
        strides_of_weight=(g.in_per_group * g.taps, g.taps),
    )


def _plan_joined(g: ConvGeometry, itemsize: int, w: AxisPhase, phases: list[Phase]) -> GemmPlan:
    """Phases whose points are `w.width` columns each: the channels of all of them are produced at once."""
    used = w._replace(kernel_first=0, kernel_step=1)  # of the weights, as they are packed
    plan = _plan(
        g._replace(kernel=(*g.kernel[:2], w.taps)),
        itemsize,
        tuple([Phase((*phase.axes[:2], used)) for phase in phases]),
        run=g.out_channels,
        lanes=w.width * g.in_channels,
        source=Memory(g.output, g.out_channels),
        out=Memory(g.input, g.in_channels),
        strides_of_weight=(0, 0),
        packed_before=True,
    )
    return plan._replace(parts=tuple([_with_joined_weights(g, w, part) for part in plan.parts]))


def _with_joined_weights(g: ConvGeometry, w: AxisPhase, part: Part) -> Part:
    record = part.launches[0].record
    joined = JoinedWeights(
        run=g.out_channels,
        run_stride=g.in_channels * g.taps,
        channels=g.in_channels,
        lane_stride=g.taps,
        columns=w.width,
        lines=g.kernel[0] * g.kernel[1],
        line=g.kernel[2],
        taps=w.taps,
        first=w.kernel_first,
        step=w.kernel_step,
        first_lane=part.channels.start,
        lanes=record.lanes,
        width=record.width,
        panels=record.panels,
        run_block=blocking.split_evenly(g.out_channels, -(-g.out_channels // blocking.MIN_BLOCKS)),
        few_channels=TURNED_WEIGHTS // min(MOST_TAPS, max(g.taps, LEAST_TAPS)),
    )
    return part._replace(weight_start=0, columns=w.width, joined=joined)


def _plan(
    g: ConvGeometry,
    itemsize: int,
    phases: tuple[Phase, ...],
    *,
    run: int,
    lanes: int,
    source: Memory,
    out: Memory,
    strides_of_weight: tuple[int, int],
    packed_before: bool = False,  # by the caller, whatever is best
) -> GemmPlan:
    full = tile_lanes(itemsize)
    group_stride, group_run, groups = g.out_per_group * g.in_per_group * g.taps, run, g.groups
    paired = 2 * lanes == full and groups % 2 == 0
    if paired:
        groups, lanes, group_run = groups // 2, full, 2 * run
    dots = not (paired or packed_before) and lanes <= blocking.DOT_LANES and run >= full // 2
    width = 2 if dots else full if lanes > full // 2 else full // 2
    panels = -(-lanes // width)
    run_stride, lane_stride = strides_of_weight
    # A sample alone decides what is summed in which order, the batch whether weights are worth sharing.
    # What blocks pack is all taps: of those a lone phase beside joined ones uses but a few.
    alone = not (dots or packed_before) and len(phases) == 1 and phases[0].taps == g.taps
    alone = alone and blocking.packs_itself(phases[0].points, phases[0].taps)
    source_bytes = g.batch * math.prod(source.extents) * source.channels * itemsize
    packs = alone and blocking.packs_itself(g.batch * phases[0].points, phases[0].taps)
    weight_bytes = groups * group_run * lanes * g.taps * itemsize
    packs = packs and source_bytes <= max(blocking.REREAD_BYTES, weight_bytes)
    packs = packs and groups * panels > 1  # a single panel is cut into blocks of points
    # Taps that are all used, from the last to the first, are packed in the order in which the source is read.
    backwards = not packed_before and all(phase.weight_places(g.kernel)[0] == g.taps - 1 > 0 for phase in phases)
    shared = {
        "groups": groups,
        "run": run,
        "pair": run if paired else 0,
        "group_run": group_run,
        "lanes": lanes,
        "vector": full // 2,
        "width": width,
        "weight_taps": g.taps,
        "panels": panels,
        "packs": int(packs),
        "dots": int(dots),
        "run_stride": run_stride,
        "lane_stride": lane_stride,
        "group_stride": group_stride * (2 if paired else 1),
        "pair_stride": group_stride if paired else 0,
        "tap_order": -1 if backwards else 1,
    }
    # Weights that do not fit the limit on extra memory are cut by what is the larger of the two sides.
    portion = run
    if run >= lanes and not (dots or alone or packed_before or paired):
        portion = blocking.run_portion(run, g.taps * panels * width * itemsize)
    parts: list[Part] = []
    longest, beside = 1, sum(not phase.adds for phase in phases)
    for channel in range(0, run, portion):
        shared["run"] = min(portion, run - channel)
        launches = [_launch(g, phase, source, out, itemsize, shared, alone, channel > 0, beside) for phase in phases]
        for part in _parts([launch for launch in launches if launch.blocks], itemsize):
            starts = part.source_start + channel, part.weight_start + channel * run_stride
            complete = channel + portion >= run
            parts.append(part._replace(source_start=starts[0], weight_start=starts[1], complete=complete))
        longest = max([g.kernel[2] for launch in launches if launch.record.merges], default=longest)
    return GemmPlan(tuple(parts), max(source.channels * longest, groups * panels * width))


def _parts(launches: list[Launch], itemsize: int) -> Iterator[Part]:
    """Cut groups and panels so that at most `blocking.PACKED_BYTES` of weights are packed at a time."""
    g = launches[0].record
    groups, panels = g.groups, g.panels
    if not g.packs:
        portion = max(1, blocking.PACKED_BYTES // max(1, g.weight_taps * g.run * g.width * itemsize))
        groups, panels = max(1, portion // panels), blocking.split_evenly(panels, portion)
    for group in range(0, g.groups, groups):
        for panel in range(0, g.panels, panels):
            lane = panel * g.width
            few = {
                "groups": min(groups, g.groups - group),
                "panels": min(panels, g.panels - panel),
                "lanes": min(g.lanes - lane, panels * g.width),
            }
            share = few["groups"] * few["panels"] / (g.groups * g.panels)
            first = group * g.lanes + lane
            yield Part(
                slice(first, first + (few["groups"] - 1) * g.lanes + few["lanes"]),
                group * g.group_run,
                group * g.group_stride + lane * g.lane_stride,
                first,
                tuple(
                    launch._replace(
                        record=launch.record._replace(
                            **few, panel_blocks=min(few["groups"] * few["panels"], launch.record.panel_blocks)
                        ),
                        cost=launch.cost * share,
                    )
                    for launch in launches
                ),
            )


def _launch(
    g: ConvGeometry,
    phase: Phase,
    source: Memory,
    out: Memory,
    itemsize: int,
    shared: dict[str, int],
    all_taps_at_once: bool,
    adds: bool,
    beside: int,
) -> Launch:
    """`beside` launches, this one included, run at the same time."""
    taps, points = phase.taps, g.batch * phase.points
    together = 1 if shared["packs"] else _together(phase.axes[2], source.extents[2])
    units = max(1, round(blocking.POINT_BLOCK / together))
    point_blocks = 1 if shared["packs"] else -(-points // (together * units))
    panels = shared["groups"] * shared["panels"]
    blocks = blocking.PACKING_BLOCKS if shared["packs"] else blocking.MIN_BLOCKS
    panel_blocks = min(panels, -(-blocks // max(1, point_blocks * beside)))
    if panels == 1:
        wanted = -(-blocking.MIN_BLOCKS // max(1, beside))
        point_blocks = max(point_blocks, min(wanted, points // max(together, blocking.FEW_POINTS)))
    panel_blocks = -(-panels // (panels // panel_blocks))  # of the same size, but the last
    packs_twice = bool(shared["packs"]) and points > blocking.PACKING_POINTS * panel_blocks
    point_blocks = for_all_cores(point_blocks, panel_blocks * beside, packs_twice)
    point_blocks = min(point_blocks, max(1, points // together))
    steps = blocking.RUN_BYTES // (shared["width"] * itemsize)
    line = blocking.LINE_BYTES // itemsize
    if shared["dots"]:
        tap_block, run_block = blocking.split_evenly(taps, blocking.TAP_BLOCK), shared["run"]
    elif all_taps_at_once:
        tap_block, run_block = taps, blocking.split_evenly(shared["run"], steps // max(1, taps), line)
    else:
        tap_block, run_block = blocking.reduction_blocks(taps, phase.axes[2].taps, shared["run"], steps, line)
    weight_first, weight_steps = phase.weight_places(g.kernel)
    if shared["tap_order"] == -1:
        weight_first = g.taps - 1 - weight_first
    out_n, *out_strides = strides(*out)
    out_steps = [axis.step * stride for axis, stride in zip(phase.axes, out_strides, strict=True)]
    record = GemmConv(
        **shared,
        points=points,
        out_n=out_n,
        **by_axis("out", out_steps),
        weight_first=weight_first,
        **by_axis("weight", (step * shared["tap_order"] for step in weight_steps)),
        panel_blocks=panel_blocks,
        point_blocks=point_blocks,
        together=together,
        tap_block=tap_block,
        run_block=run_block,
        panels_together=_panels_together(-(-panels // panel_blocks), tap_block * run_block, shared, itemsize),
        merges=0,
        adds=int(phase.adds or adds),
        **by_axis("copies", (axis.copies for axis in phase.axes)),
    )
    record = record._replace(merges=int(_merges(record, phase.axes[2], taps, source.channels)))
    start = sum(axis.start * stride for axis, stride in zip(phase.axes, out_strides, strict=True))
    cost = 2.0 * points * taps * record.run * record.panels * record.width * record.groups / blocking.FLOPS_PER_NS
    return Launch(start, record, phase.sources(source), cost, phase.adds)


def _panels_together(panels: int, steps: int, shared: dict[str, int], itemsize: int) -> int:
    """How many of a block's panels a tile meets in turn: their weights stay in L2, or the scratch if packed there."""
    panel_bytes = steps * shared["width"] * itemsize
    if shared["packs"]:
        return blocking.split_evenly(panels, OWN_BYTES // max(1, panel_bytes))
    if panel_bytes > blocking.PANEL_BYTES:
        return 1
    return blocking.split_evenly(panels, blocking.PANELS_BYTES // max(1, panel_bytes))


def _together(w: AxisPhase, size: int) -> int:
    """Points that are dealt out to tiles together: a line's, where that leaves out more taps than it costs; or 1.

    A tap is left out if it reads padding for all points of a tile. A tile costs as much as its rows, at least
    `MIN_GEMM_ROWS`, and half a row for its weights.
    """
    if w.taps <= 1 or w.mode != "zeros" or not MIN_GEMM_ROWS <= w.points <= blocking.POINT_BLOCK:
        return 1
    if w.taps * w.points > blocking.MANY_READS:
        return 1
    reads = [{t for t in range(w.taps) if 0 <= w.first + w.slope * p + w.spread * t < size} for p in range(w.points)]

    def cost(points: Iterable[int]) -> float:
        sets = [reads[p % w.points] for p in points]
        return (max(len(sets), MIN_GEMM_ROWS) + 0.5) * len(set.union(*sets))

    tiles = -(-w.points // MAX_ROWS)
    ends = [i * w.points // tiles for i in range(tiles + 1)]
    aligned = sum(cost(range(first, last)) for first, last in itertools.pairwise(ends))
    anywhere = sum(cost(range(first, first + MAX_ROWS)) for first in range(w.points)) / MAX_ROWS
    return w.points if aligned < blocking.WORTH_ALIGNING * anywhere else 1


def _merges(record: GemmConv, w: AxisPhase, taps: int, channels: int) -> bool:
    """Whether a line of taps along W can be one long tap: neighbours in the source and among the packed weights."""
    if w.taps <= 1 or w.spread * channels != record.run or record.weight_w != 1:
        return False
    if record.tap_block % w.taps or record.run_block != record.run:
        return False
    # Dot products deal elements out to two vectors in turn: a longer tap must not change whose turn it is, for then the
    # bits of a result would depend on its neighbours.
    return not record.dots or record.run % (2 * record.vector) == 0
