"""Depthwise convolution by Fourier transforms: portions, and the launches."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...kernels import fft_depthwise as kernels
from ...kernels._operands import Operand
from . import fft_plan, fft_tables
from .bias import zero_row
from .fft_plan import WORKSPACE_BYTES
from .fft_portions import lanes_of, portions

if TYPE_CHECKING:
    from ...kernels._program import Step
    from ...kernels.fft_blocks import Grid, Image, Taps, Transform
    from .._sizes import Triple
    from ..geometry import ConvGeometry

# Kernels' spectra, or sums of them, that a launch holds.
SPECTRA_BYTES = 4 << 20
# Blocks of a weight gradient, so that the cores finish together.
BLOCKS = 16


class Plan(NamedTuple):
    """What the launches of a direction have in common."""

    sizes: Triple
    transform: Transform
    grid: Grid
    source: Image
    out: Image
    taps: Taps
    elements: int  # of a block
    block_bytes: int
    units: int
    vectors: int
    cost: float  # of one transform of a block


@functools.lru_cache(maxsize=512)
def plan(g: ConvGeometry, direction: str, dtype: np.dtype[Any]) -> Plan:
    """Cut one direction into blocks."""
    side, cut = fft_plan.side_of(g, direction), fft_plan.cut_of(g, direction)
    share, vectors = lanes_of(g.in_channels, dtype.itemsize)
    block_bytes = cut.rows * fft_plan.row_bytes()
    return Plan(
        sizes=cut.sizes,
        transform=fft_plan.transform_of(cut, 2 if direction == "backward_weight" else 1),
        grid=fft_plan.grid_of(g, cut, share, vectors),
        source=fft_plan.source_image(g, side, cut, g.in_channels, vectors, direction),
        out=fft_plan.out_image(side, cut, g.in_channels, vectors),
        taps=fft_plan.taps_of(g, direction)._replace(lane=g.taps),
        elements=block_bytes // dtype.itemsize,
        block_bytes=block_bytes,
        units=-(-g.batch * cut.pairs // share),
        vectors=vectors,
        cost=fft_plan.transform_cost(cut, fft_plan.OWN_ROW),
    )


def run(
    g: ConvGeometry,
    direction: str,
    source: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
) -> list[Step]:
    """Fill `out`, the output or the gradient of the input."""
    dtype = out.dtype
    p = plan(g, direction, dtype)
    (passes, factors, _), t = fft_tables.tables(p.sizes, dtype), p.transform
    start = zero_row(dtype, g.in_channels) if bias is None else bias
    steps: list[Step] = []
    for first_vector, count in portions(p.vectors, SPECTRA_BYTES // p.block_bytes):
        b = p.grid._replace(vectors=count, first_vector=first_vector)
        spectra = Operand((count * p.elements,), dtype)
        steps.append(kernels.fft_spectra.on(
            count, weight, spectra, passes, factors, t, b, p.source, p.taps, cost=count * p.cost
        ))  # fmt: skip
        most = p.units if t.own else max(1, WORKSPACE_BYTES // (count * p.block_bytes))
        workspace = spectra if t.own else Operand((min(most, p.units) * count * p.elements,), dtype)
        for first_unit, units in portions(p.units, most):
            steps.append(kernels.fft_depthwise.on(
                units * count, source, spectra, workspace, start, out, passes, factors,
                t, b._replace(first_unit=first_unit), p.source, p.out, cost=2 * units * count * p.cost,
            ))  # fmt: skip
    return steps


def run_weight(g: ConvGeometry, grad_output: Operand, x: Operand, out: Operand) -> list[Step]:
    """Fill `out`, the gradient of the weight."""
    dtype = out.dtype
    p = plan(g, "backward_weight", dtype)
    (passes, factors, _), t = fft_tables.tables(p.sizes, dtype), p.transform
    chunks = max(1, min(p.units, BLOCKS // p.vectors, SPECTRA_BYTES // p.block_bytes))
    most = SPECTRA_BYTES // (chunks * p.block_bytes)
    if not t.own:
        chunks = max(1, min(chunks, WORKSPACE_BYTES // (2 * p.block_bytes)))
        most = max(1, WORKSPACE_BYTES // (2 * chunks * p.block_bytes))
    steps: list[Step] = []
    for first_vector, count in portions(p.vectors, most):
        b = p.grid._replace(vectors=count, first_vector=first_vector)
        sums = Operand((count * chunks * p.elements,), dtype)
        workspace = sums if t.own else Operand((2 * count * chunks * p.elements,), dtype)
        steps.append(kernels.fft_depthwise_sums.on(
            count * chunks, x, grad_output, workspace, sums, passes, factors, p.units, chunks,
            t, b, p.source, p.out, cost=2 * p.units * count * p.cost,
        ))  # fmt: skip
        steps.append(kernels.fft_depthwise_gradient.on(
            count, sums, out, passes, factors, chunks, t, b, p.source, p.taps, cost=count * p.cost
        ))  # fmt: skip
    return steps
