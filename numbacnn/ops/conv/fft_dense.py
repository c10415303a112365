"""Convolution of several channels by Fourier transforms: how it is cut, and the launches of all portions."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...kernels import fft_dense as kernels
from ...kernels._operands import Operand
from ...kernels._target import target
from . import fft_plan, fft_tables
from .bias import zero_row
from .fft_portions import Portion, portion_of, portions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...kernels._build import Kernel
    from ...kernels._program import Step
    from ...kernels.fft_blocks import Grid, Image, Taps, Transform
    from .._sizes import Triple
    from ..geometry import ConvGeometry

# What a call holds of blocks that do not fit the threads' scratch memory.
WORKSPACE_BYTES = 2 << 20
# Blocks of harmonics, so that the cores finish together.
CUTS = 32


class Plan(NamedTuple):
    """What the launches of a direction have in common."""

    sizes: Triple
    transform: Transform
    source_grid: Grid
    out_grid: Grid
    source: Image
    out: Image
    taps: Taps
    g: kernels.Dense
    groups: int
    elements: int  # of a block
    portion: Portion
    cost: float  # of one transform of a block


@functools.lru_cache(maxsize=512)
def plan(g: ConvGeometry, direction: str, dtype: np.dtype[Any]) -> Plan:
    """Cut one direction into blocks and portions."""
    side, cut = fft_plan.side_of(g, direction), fft_plan.cut_of(g, direction)
    lanes = target().lanes(dtype.itemsize)
    run, wide = (g.in_per_group, g.out_per_group)
    if direction == "backward_data":
        run, wide = wide, run
    panels = -(-wide // lanes)
    block_bytes = cut.rows * fft_plan.row_bytes()
    portion = portion_of(fft_plan.extents_of(g, direction, cut, dtype.itemsize), dtype.itemsize)
    dense = kernels.Dense(
        harmonics=fft_tables.harmonics(cut.sizes),
        values_row=0,
        values_unit=0,
        values_pair=side.source_channels,
        values_first=0,
        run=run,
        first_run=0,
        run_group=run,
        lanes_group=wide,
        panels_group=panels,
        first_panel=0,
        panels=0,
        pairs=0,
        share=portion.share,
        cuts=min(CUTS, fft_tables.harmonics(cut.sizes)),
    )
    return Plan(
        sizes=cut.sizes,
        transform=fft_plan.transform_of(cut),
        source_grid=fft_plan.grid_of(g, cut, portion.share, portion.vectors),
        out_grid=fft_plan.grid_of(g, cut, 1, panels),
        source=fft_plan.source_image(g, side, cut, side.source_channels, portion.vectors, direction),
        out=fft_plan.out_image(side, cut, wide, panels),
        taps=fft_plan.taps_of(g, direction),
        g=dense,
        groups=g.groups,
        elements=block_bytes // dtype.itemsize,
        portion=portion,
        cost=fft_plan.transform_cost(cut, fft_plan.DENSE_ROW),
    )


class _Portion(NamedTuple):
    """Some panels and a run of channels of the sum."""

    first_panel: int
    panels: int
    first_run: int
    run: int
    first_vector: int  # of the source's channels
    vectors: int
    values_first: int


def _portions(p: Plan, itemsize: int) -> Iterator[list[_Portion]]:
    """For some panels at a time, the runs to be summed. A part of a run belongs to a single group."""
    lanes = target().lanes(itemsize)
    ranges = [(0, p.groups * p.g.panels_group)]
    if not p.portion.keeps_values or p.portion.run < p.g.run_group:
        ranges = [(group * p.g.panels_group, p.g.panels_group) for group in range(p.groups)]
    for first, count in ranges:
        for panel, panels in portions(count, p.portion.panels):
            panel += first
            first_channel = panel // p.g.panels_group * p.g.run_group
            runs = []
            for r, run in portions(p.g.run_group, p.portion.run):
                channel = first_channel + r
                vector, vectors = 0, p.source_grid.vectors
                if not p.portion.keeps_values:
                    vector = channel // lanes
                    vectors = (channel + run - 1) // lanes + 1 - vector
                runs.append(_Portion(panel, panels, r, run, vector, vectors, channel - vector * lanes))
            yield runs


class _Call:
    """The launches of one call, and the memory that they work in: as large as the largest portion needs."""

    def __init__(self, p: Plan, dtype: np.dtype[Any]) -> None:
        self.p, self.dtype = p, dtype
        self.lanes = target().lanes(dtype.itemsize)
        self.tables = fft_tables.tables(p.sizes, dtype)
        grid = p.source_grid
        self.unit_portions = portions(-(-grid.all_pairs // grid.share), p.portion.units)
        self.parts = list(_portions(p, dtype.itemsize))
        self.most_blocks = max(1, WORKSPACE_BYTES // (p.elements * dtype.itemsize))
        every = [self.record(*self.unit_portions[0], part) for runs in self.parts for part in runs]
        self.values = self._empty(4 * p.g.harmonics * max(r.values_row for r in every))
        self.most_panels, self.most_pairs = max(r.panels for r in every), every[0].pairs
        self.most_run = max(r.run for r in every)
        self.steps: list[Step] = []
        self.held_values: tuple[int, int, int] | None = None
        self.held_spectra: tuple[int, int] | None = None
        if not p.transform.own:
            self.workspace = self._empty(self.most_blocks * p.elements)

    def _empty(self, elements: int) -> Operand:
        return Operand((elements,), self.dtype)

    def empty_products(self, vectors: int) -> Operand:
        """Memory of so many vectors per harmonic, panel and pair."""
        return self._empty(self.p.g.harmonics * self.most_panels * self.most_pairs * vectors * self.lanes)

    def empty_spectra(self, vectors: int) -> Operand:
        """Memory of so many vectors per harmonic, panel and channel of the sum."""
        return self._empty(self.p.g.harmonics * self.most_panels * self.most_run * vectors * self.lanes)

    def record(self, first_unit: int, units: int, part: _Portion) -> kernels.Dense:
        """The kernels' record of a portion."""
        grid = self.p.source_grid
        row = part.vectors * self.lanes
        return self.p.g._replace(
            values_row=units * row,
            values_unit=row,
            values_first=part.values_first,
            run=part.run,
            first_run=part.first_run,
            first_panel=part.first_panel,
            panels=part.panels,
            pairs=min(units * grid.share, grid.all_pairs - first_unit * grid.share),
        )

    def transform(self, kernel: Kernel, blocks: int, arrays: tuple[Operand | np.ndarray, ...], *records: Any) -> None:
        """Launch a kernel that transforms blocks, as many at a time as there is memory for."""
        p, own = self.p, self.p.transform.own
        workspace = arrays[0] if own else self.workspace
        for first, count in portions(blocks, blocks if own else self.most_blocks):
            constants = first, p.transform, *records
            self.steps.append(kernel.on(count, *arrays, workspace, *self.tables, *constants, cost=count * p.cost))

    def put_values(self, source: Operand, first_unit: int, units: int, part: _Portion, r: kernels.Dense) -> None:
        """Transform some channels of some pairs, unless they are there."""
        p, wanted = self.p, (first_unit, part.first_vector, part.vectors)
        if wanted == self.held_values:
            return
        self.held_values = wanted
        b = p.source_grid._replace(first_unit=first_unit, first_vector=part.first_vector, vectors=part.vectors)
        self.transform(kernels.fft_values, units * part.vectors, (source, self.values), b, p.source, r)

    def put_spectra(self, weight: Operand, spectra: Operand, part: _Portion, r: kernels.Dense) -> None:
        """Transform the kernels of some panels and channels, unless they are there."""
        wanted = part.first_panel, part.first_run
        if wanted != self.held_spectra:
            self.held_spectra = wanted
            self.transform(kernels.fft_weights, r.panels * -(-r.run // 2), (weight, spectra), self.p.taps, r)

    def cost_of_products(self, r: kernels.Dense) -> float:
        """Nanoseconds of one core."""
        return r.harmonics * r.panels * r.run * r.pairs * 4 * fft_plan.PRODUCT_NS


def run(
    g: ConvGeometry,
    direction: str,
    source: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
) -> list[Step]:
    """Fill `out`, the output or the gradient of the input."""
    p = plan(g, direction, out.dtype)
    call = _Call(p, out.dtype)
    zeros = zero_row(out.dtype, max(out.shape[-1], 2 * call.lanes))
    start = zeros if bias is None else bias
    spectra, products = call.empty_spectra(4), call.empty_products(4)
    for first_unit, units in call.unit_portions:  # blocks of the image
        b = p.out_grid._replace(first_unit=first_unit * p.g.share)
        for runs in call.parts:  # panels
            for part in runs:  # channels of the sum
                r = call.record(first_unit, units, part)
                call.put_values(source, first_unit, units, part, r)
                call.put_spectra(weight, spectra, part, r)
                cost, again = call.cost_of_products(r), int(part.first_run > 0)
                arrays = call.values, spectra, zeros, products
                call.steps.append(kernels.fft_multiply.on(r.cuts, *arrays, again, r, cost=cost))
            call.transform(kernels.fft_outputs, r.pairs * r.panels, (products, start, out), b, p.out, r)
    return call.steps


def run_weight(g: ConvGeometry, grad_output: Operand, x: Operand, out: Operand) -> list[Step]:
    """Fill `out`, the gradient of the weight."""
    p = plan(g, "backward_weight", out.dtype)
    call = _Call(p, out.dtype)
    sums, gradients = call.empty_spectra(2), call.empty_products(8)
    for runs in call.parts:  # panels
        for part in runs:  # channels of the run
            for first_unit, units in call.unit_portions:  # blocks of the image
                r = call.record(first_unit, units, part)
                call.put_values(x, first_unit, units, part, r)
                b = p.out_grid._replace(first_unit=first_unit * p.g.share)
                call.transform(kernels.fft_gradients, r.pairs * r.panels, (grad_output, gradients), b, p.out, r)
                cost, again = call.cost_of_products(r), int(first_unit > 0)
                call.steps.append(kernels.fft_outer.on(r.cuts, call.values, gradients, sums, again, r, cost=cost))
            call.transform(kernels.fft_weight_gradient, r.panels * -(-r.run // 2), (sums, out), p.taps, r)
    return call.steps
