"""Forward convolution and data gradient on the indirect-GEMM kernel: blocking, weight packing, launches.

The caller says which memory is source and destination and which strides of the weight tensor run over the reduction
and over the produced channels; everything else follows from the geometry and is planned once per geometry.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...kernels.conv_gemm import GemmConv, conv_gemm, pack_weights
from ...kernels.tile import tile_lanes
from .. import memory
from . import blocking
from .lattice import Phase, backward_data_phases, forward_phase, source_offsets

if TYPE_CHECKING:
    from ..geometry import ConvGeometry


class Launch(NamedTuple):
    """One phase's kernel arguments that do not depend on the data."""

    out_start: int  # element of the destination where the phase's lattice begins
    tables: tuple[np.ndarray, np.ndarray, np.ndarray]
    tap_weight: np.ndarray
    record: GemmConv
    blocks: int
    cost: float


class GemmPlan(NamedTuple):
    """How one direction of a convolution runs: its phases, and how its weights are packed."""

    launches: tuple[Launch, ...]
    groups: int
    run: int
    lanes: int
    taps: int
    width: int
    panels: int
    # Offsets in the weight tensor, in elements: between reduced channels, produced channels, groups.
    run_stride: int
    lane_stride: int
    group_stride: int

    @property
    def panel_elements(self) -> int:
        return self.taps * self.run * self.width


@functools.lru_cache(maxsize=512)
def plan_forward(geometry: ConvGeometry, itemsize: int) -> GemmPlan:
    """Plan ``output = conv(input)``."""
    g = geometry
    return _plan(
        g,
        itemsize,
        (forward_phase(g),),
        run=g.in_per_group,
        lanes=g.out_per_group,
        source=(g.input, g.in_channels),
        out=(g.output, g.out_channels),
        strides=(g.taps, g.in_per_group * g.taps),
    )


@functools.lru_cache(maxsize=512)
def plan_backward_data(geometry: ConvGeometry, itemsize: int) -> GemmPlan:
    """Plan ``grad_input``: the roles of the two sides exchanged."""
    g = geometry
    return _plan(
        g,
        itemsize,
        tuple(backward_data_phases(g)),
        run=g.out_per_group,
        lanes=g.in_per_group,
        source=(g.output, g.out_channels),
        out=(g.input, g.in_channels),
        strides=(g.in_per_group * g.taps, g.taps),
    )


def _plan(
    g: ConvGeometry,
    itemsize: int,
    phases: tuple[Phase, ...],
    *,
    run: int,
    lanes: int,
    source: tuple[tuple[int, int, int], int],
    out: tuple[tuple[int, int, int], int],
    strides: tuple[int, int],
) -> GemmPlan:
    full = tile_lanes(itemsize)
    width = full if lanes > full // 2 else full // 2
    panels = -(-lanes // width)
    launches = [_launch(g, phase, run, lanes, source, out, width, panels, full // 2, itemsize) for phase in phases]
    return GemmPlan(
        tuple(launch for launch in launches if launch.blocks),
        g.groups,
        run,
        lanes,
        g.taps,
        width,
        panels,
        run_stride=strides[0],
        lane_stride=strides[1],
        group_stride=g.out_per_group * g.in_per_group * g.taps,
    )


def _launch(
    g: ConvGeometry,
    phase: Phase,
    run: int,
    lanes: int,
    source: tuple[tuple[int, int, int], int],
    out: tuple[tuple[int, int, int], int],
    width: int,
    panels: int,
    vector: int,
    itemsize: int,
) -> Launch:
    source_strides, out_strides = strides(*source), strides(*out)
    tables = tuple(source_offsets(axis, stride) for axis, stride in zip(phase.axes, source_strides[1:], strict=True))
    tap_weight = phase.weight_taps(g.kernel)
    taps = len(tap_weight)
    points = g.batch * int(np.prod(phase.points))
    point_blocks = -(-points // blocking.POINT_BLOCK)
    panel_blocks = min(panels, -(-blocking.MIN_BLOCKS // max(1, point_blocks * g.groups)))
    tap_block = blocking.split_evenly(taps, blocking.TAP_BLOCK)
    out_step = [axis.step * stride for axis, stride in zip(phase.axes, out_strides[1:], strict=True)]
    record = GemmConv(
        *phase.points,
        *(table.shape[1] for table in tables),
        points=points,
        groups=g.groups,
        run=run,
        lanes=lanes,
        source_n=source_strides[0],
        out_n=out_strides[0],
        out_d=out_step[0],
        out_h=out_step[1],
        out_w=out_step[2],
        vector=vector,
        width=width,
        weight_taps=g.taps,
        panels=panels,
        panel_blocks=panel_blocks,
        point_blocks=point_blocks,
        tap_block=tap_block,
        run_block=blocking.split_evenly(run, blocking.RUN_BYTES // (width * itemsize * tap_block)),
    )
    start = sum(axis.start * stride for axis, stride in zip(phase.axes, out_strides[1:], strict=True))
    cost = 2.0 * points * taps * run * panels * width * g.groups / blocking.FLOPS_PER_NS
    return Launch(start, tables, tap_weight, record, point_blocks * g.groups * panel_blocks, cost)


def strides(extents: tuple[int, int, int], channels: int) -> tuple[int, int, int, int]:
    """Elements between samples, planes, rows and points of channels-last memory."""
    d, h, w = extents
    return d * h * w * channels, h * w * channels, w * channels, channels


def run(plan: GemmPlan, source: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray) -> None:
    """Fill `out` from `source`, both (N, D, H, W, C) memory; `weight` is the contiguous weight tensor.

    Weights are packed and used in portions, so that the packed copy never exceeds `blocking.PACKED_BYTES`.
    """
    zeros = zero_row(source.dtype.name, source.shape[-1])
    weight = weight.reshape(-1)
    panel_bytes = plan.panel_elements * source.dtype.itemsize
    portion = max(1, blocking.PACKED_BYTES // max(1, panel_bytes))
    group_step = max(1, portion // plan.panels)
    panel_step = min(portion, plan.panels)
    for group in range(0, plan.groups, group_step):
        groups = min(group_step, plan.groups - group)
        for panel in range(0, plan.panels, panel_step):
            panels = min(panel_step, plan.panels - panel)
            _run_portion(plan, group, groups, panel, panels, source, weight, bias, out, zeros)


def _run_portion(
    plan: GemmPlan,
    group: int,
    groups: int,
    panel: int,
    panels: int,
    source: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray,
    zeros: np.ndarray,
) -> None:
    """The part of the work that belongs to some groups and some panels of them."""
    lane = panel * plan.width
    lanes = min(plan.lanes - lane, panels * plan.width)
    packed = memory.empty((groups * panels * plan.panel_elements,), source.dtype)
    pack_weights(
        groups * panels,
        weight[group * plan.group_stride + lane * plan.lane_stride :],
        packed,
        plan.taps,
        plan.run,
        plan.run_stride,
        lanes,
        plan.lane_stride,
        plan.group_stride,
        plan.width,
        panels,
        cost=packed.size * 1.0,
    )
    padded = memory.empty((groups, panels * plan.width), source.dtype)
    padded[...] = 0
    if bias is not None:
        first = group * plan.lanes
        padded[:, :lanes] = bias[first : first + groups * plan.lanes].reshape(groups, -1)[:, lane : lane + lanes]
    sources = source.reshape(-1)[group * plan.run :]
    destination = out.reshape(-1)
    for launch in plan.launches:
        record = launch.record
        blocks, share = launch.blocks, 1.0
        if groups != plan.groups or panels != plan.panels:
            panel_blocks = min(panels, record.panel_blocks)
            record = record._replace(groups=groups, lanes=lanes, panels=panels, panel_blocks=panel_blocks)
            blocks = record.point_blocks * groups * panel_blocks
            share = groups * panels / (plan.groups * plan.panels)
        conv_gemm(
            blocks,
            sources,
            packed,
            padded,
            destination[launch.out_start + group * plan.lanes + lane :],
            zeros,
            *launch.tables,
            launch.tap_weight,
            record,
            cost=launch.cost * share,
        )


_zero_rows: dict[str, np.ndarray] = {}


def zero_row(dtype: str, channels: int) -> np.ndarray:
    """A row of zeros for padding taps to read: kept, and grown when more channels are asked for."""
    row = _zero_rows.get(dtype)
    if row is None or row.size < channels:
        row = _zero_rows[dtype] = np.zeros(max(4096, channels), dtype)
    return row
