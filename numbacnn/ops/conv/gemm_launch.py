"""Carrying out a plan of `gemm`: weights packed, launches prepared once per geometry and dtype."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...kernels._operands import Operand
from ...kernels._together import in_step, together
from ...kernels.conv_gemm import GemmConv, conv_gemm, pack_weights
from ...kernels.joined_weights import pack_joined_weights
from . import blocking, gemm
from .bias import padded_bias, zero_row
from .finish import NOTHING, Finish

if TYPE_CHECKING:
    from ...kernels._build import Prepared
    from ...kernels._program import Step
    from ..geometry import ConvGeometry

# A phase takes 2 KB of a plan, and strides multiply their number: only a few plans of more phases than this are kept.
FEW_PHASES = 16


class Part(NamedTuple):
    """A `gemm.Part` whose launches are prepared."""

    plan: gemm.Part
    pack: Prepared | None  # None: the launches pack what they need, or NumPy does it
    packed_elements: int
    phases: tuple[tuple[int, Prepared], ...]  # where in the destination each phase begins, and its launch
    first: int  # how many of the phases, the first ones, write to different places
    in_step: bool  # whether a block of each of these is one block


class Launches(NamedTuple):
    """One direction of a convolution, ready to run."""

    parts: tuple[Part, ...]
    zeros: int  # elements of the row of zeros that padding taps read


def prepare(direction: str, geometry: ConvGeometry, dtype: np.dtype[Any]) -> Launches:
    """The launches of "forward" or "backward_data"."""
    if direction == "backward_data" and math.prod(geometry.stride) > FEW_PHASES:
        return _prepare_many_phases(direction, geometry, dtype)
    return _prepare_few_phases(direction, geometry, dtype)


def _prepare(direction: str, geometry: ConvGeometry, dtype: np.dtype[Any]) -> Launches:
    planner = gemm.plan_forward if direction == "forward" else gemm.plan_backward_data
    plan = planner(geometry, dtype.itemsize)
    return Launches(tuple([_prepare_part(part, dtype) for part in plan.parts]), plan.zeros)


_prepare_few_phases = functools.lru_cache(maxsize=512)(_prepare)
_prepare_many_phases = functools.lru_cache(maxsize=16)(_prepare)


def _prepare_part(part: gemm.Part, dtype: np.dtype[Any]) -> Part:
    g = part.launches[0].record
    panels = g.groups * g.panels
    elements = panels * g.weight_taps * g.run * g.width
    pack = None
    if part.joined is not None:
        blocks = -(-g.run // part.joined.run_block)
        pack = pack_joined_weights.prepare((dtype,), blocks, part.joined, cost=2.0 * elements)
    elif not g.packs and not g.dots and any(launch.taps for launch in part.launches):
        pack = pack_weights.prepare((dtype,), panels, g, cost=float(elements))
    phases = [
        (
            part.out_start + launch.out_start,
            conv_gemm.prepare((dtype,), launch.blocks, *launch.constants, cost=launch.cost),
        )
        for launch in part.launches
    ]
    first = sum(not launch.in_turn for launch in part.launches)
    return Part(part, pack, elements, tuple(phases), first, _in_step(part.launches[:first], elements * dtype.itemsize))


def _in_step(launches: tuple[gemm.Launch, ...], weight_bytes: int) -> bool:
    """Whether the same block of all phases should run at a time, for what it reads of the source is much the same.

    So the source passes through a core's cache once, and not once for each phase. Only where the weights of all phases
    stay in it as well, and there are blocks enough without counting those of each phase.
    """
    blocks = {launch.blocks for launch in launches}
    return len(blocks) == 1 and max(blocks) >= blocking.MIN_BLOCKS and weight_bytes <= blocking.IN_STEP_BYTES


def run(
    launches: Launches,
    source: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
    follows: Finish = NOTHING,
) -> list[Step]:
    """Fill `out` from `source`, both channels-last memory; `weight` is the contiguous weight tensor.

    Only a forward convolution may have something follow: there each element is written by one launch.
    """
    zeros = zero_row(source.dtype, launches.zeros)
    finish = follows.distance(out), follows.activation
    steps: list[Step] = []
    for part in launches.parts:
        steps += _run_part(part, source, weight, bias, out, zeros, finish if part.plan.complete else (0, 0))
    return steps


def _run_part(
    part: Part,
    source: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
    zeros: np.ndarray,
    finish: tuple[Any, ...],
) -> list[Step]:
    plan, pack, packed_elements, phases, first, all_in_step = part
    g = plan.launches[0].record
    steps = []
    if pack is not None:
        packed = Operand((packed_elements,), weight.dtype)
        steps.append(pack.on(_from(weight, plan.weight_start), packed))
        weight = packed
    elif g.dots:
        weight = Operand.made(functools.partial(_rows_of_dots, g, plan.weight_start), weight.dtype, weight)
    else:
        weight = _from(weight, plan.weight_start)
    start: Operand | np.ndarray = zeros
    if bias is not None:
        start = padded_bias(bias, g.groups, g.lanes, g.panels * g.width, plan.channels, plan.columns)
    source = _from(source, plan.source_start)
    products = [launch.on(source, weight, start, _from(out, begin), zeros, *finish) for begin, launch in phases]
    if first:
        steps.append((in_step if all_in_step else together)(products[:first]))
    return [*steps, *products[first:]]


def _from(operand: Operand, element: int) -> Operand:
    """What follows from some element on."""
    return operand.reshape(-1)[element:] if element else operand


def _rows_of_dots(g: GemmConv, first: int, weight: np.ndarray) -> np.ndarray:
    """(group, lane, tap, channel): a few rows, whose order NumPy changes quickly enough."""
    shape = (g.groups, g.lanes, g.weight_taps, g.run)
    strides = (g.group_stride, g.lane_stride, 1, g.run_stride)
    weight = weight.reshape(-1)[first:]
    view = np.lib.stride_tricks.as_strided(weight, shape, [n * weight.itemsize for n in strides])
    lanes = np.zeros((g.groups, g.panels * g.width, g.weight_taps, g.run), weight.dtype)
    lanes[:, : g.lanes] = view[:, :, :: g.tap_order]
    return lanes
