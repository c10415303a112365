"""Convolution of several channels by Fourier transforms: a matrix product per frequency.

A kernel is real, so its values at opposite frequencies, *mirrors* of each other, are conjugate, and one value of every
two is enough: the blocks' values at f, and the conjugates of those at -f, are both multiplied by the kernel's at f.
They are rows of one real matrix product,

    [re | im] of the result  +=  re of the source * [c | s]  +  im of the source * [-s | c],

where c + i s is the kernel's value for a vector of channels: a whole tile of columns. The first sum and the second are
two taps of `gemm_tile`. For the weight gradient, the same rows are multiplied by the gradient's and added up
(`outer_tile`), and what the two blocks of a pair contribute to each other cancels between f and -f.

============  ====================================================================================
values        [harmonic][re, im][f, -f][unit of pairs][channel]
spectra       [harmonic][panel][re, im][channel][c, s of a vector]           (two tiles wide)
products      [pair][panel][harmonic][f, -f][re, im of a vector]
gradients     [harmonic][panel][pair][f, -f][re, im][two vectors that they are multiplied by]
sums          [harmonic][panel][channel][re, im of a vector]
============  ====================================================================================

A harmonic is a pair of mirrors (or a frequency that is its own), a panel a vector of a group's channels.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .fft_blocks import (
    Grid,
    Image,
    Taps,
    Transform,
    clear,
    read_block,
    read_taps,
    transform,
    transform_back,
    write_block,
    write_taps,
)
from .fft_passes import get, put
from .pointer import cast, offset, store_pointer
from .simd import lanes, load, splat, store
from .tile import MAX_ROWS, MIN_GEMM_ROWS, gemm_tile, outer_tile


class Dense(NamedTuple):
    """A launch: extents and strides (in elements) of what the table above shows, as far as the launch holds it."""

    harmonics: int
    values_row: int  # values of one harmonic, part and sign
    values_unit: int
    values_pair: int
    values_first: int  # where the run of the launch's first group begins
    run: int  # channels of the sum, in this launch
    first_run: int
    run_group: int  # and of a group in all
    lanes_group: int  # the other channels of a group
    panels_group: int
    first_panel: int
    panels: int
    pairs: int
    share: int
    cuts: int  # into how many blocks the harmonics are cut


@device
def _rows_of(block, scratch, workspace, like, t):
    """Where a block is transformed."""
    if t.own:
        return cast(scratch, like)
    return offset(workspace, block * t.rows * 2 * lanes(like))


@kernel
def fft_values(
    block,
    scratch,
    source: "T*",
    values: "T*",
    workspace: "T*",
    passes: "int64*",
    factors: "T*",
    mirrors: "int64*",
    first: "int64",
    t: "Transform",
    b: "Grid",
    s: "Image",
    g: "Dense",
):
    """One block: one unit of pairs and one vector of channels; the launch's first is number `first`."""
    v = lanes(values)
    rows = _rows_of(block, scratch, workspace, values, t)
    block += first
    unit = block // b.vectors
    read_block(rows, source, b.first_unit + unit, b.first_vector + block - unit * b.vectors, t, b, s)
    transform(rows, passes, factors, t)
    place = offset(values, block * v)
    for i in range(g.harmonics):
        p, q = mirrors[2 * i] * 2 * v, mirrors[2 * i + 1] * 2 * v
        store(place, 0, load(rows, p))
        store(place, g.values_row, load(rows, q))
        store(place, 2 * g.values_row, load(rows, p + v))
        store(place, 3 * g.values_row, -load(rows, q + v))
        place = offset(place, 4 * g.values_row)


@kernel
def fft_gradients(
    block,
    scratch,
    grad_output: "T*",
    gradients: "T*",
    workspace: "T*",
    passes: "int64*",
    factors: "T*",
    mirrors: "int64*",
    first: "int64",
    t: "Transform",
    b: "Grid",
    o: "Image",
    g: "Dense",
):
    """One block: one pair and one panel; the launch's first is number `first`."""
    v = lanes(gradients)
    rows = _rows_of(block, scratch, workspace, gradients, t)
    block += first
    pair = block // g.panels
    panel = block - pair * g.panels
    read_block(rows, grad_output, b.first_unit + pair, g.first_panel + panel, t, b, o)
    transform(rows, passes, factors, t)
    for i in range(g.harmonics):
        place = offset(gradients, ((i * g.panels + panel) * g.pairs + pair) * 8 * v)
        for sign in range(2):
            re, im = get(rows, mirrors[2 * i + sign] * 2 * v)
            if sign:
                im = -im
            put(place, 4 * v * sign, re, -im)
            put(place, 4 * v * sign + 2 * v, im, re)


@device
def _couple(block, v, k, g):
    """A block's panel, the first of its two channels of the sum, where their taps begin, and its lanes that exist."""
    couples = (g.run + 1) // 2
    panel = block // couples
    r = 2 * (block - panel * couples)
    group = (g.first_panel + panel) // g.panels_group
    lane = (g.first_panel + panel - group * g.panels_group) * v
    first_tap = group * k.group + lane * k.lane + (g.first_run + r) * k.run
    return panel, r, first_tap, min(v, g.lanes_group - lane)


@kernel
def fft_weights(
    block,
    scratch,
    weight: "T*",
    spectra: "T*",
    workspace: "T*",
    passes: "int64*",
    factors: "T*",
    mirrors: "int64*",
    first: "int64",
    t: "Transform",
    k: "Taps",
    g: "Dense",
):
    """One block: the conjugate spectra of one panel for two channels of the sum, in one transform."""
    v = lanes(spectra)
    rows = _rows_of(block, scratch, workspace, spectra, t)
    block += first
    panel, r, first_tap, valid = _couple(block, v, k, g)
    taps = offset(weight, first_tap)
    clear(rows, t.rows)
    read_taps(rows, taps, valid, t, k)
    if r + 1 < g.run:
        read_taps(offset(rows, v), offset(taps, k.run), valid, t, k)
    transform(rows, passes, factors, t)
    scale = splat(rows, 0.5 / t.rows)
    second = g.run * 2 * v
    for i in range(g.harmonics):
        pr, pi = get(rows, mirrors[2 * i] * 2 * v)
        qr, qi = get(rows, mirrors[2 * i + 1] * 2 * v)
        place = offset(spectra, ((i * g.panels + panel) * 2 * g.run + r) * 2 * v)
        c, s = (pr + qr) * scale, (qi - pi) * scale
        put(place, 0, c, s)
        put(place, second, -s, c)
        if r + 1 < g.run:
            c, s = (pi + qi) * scale, (pr - qr) * scale
            put(place, 2 * v, c, s)
            put(place, second + 2 * v, -s, c)


@device
def _row_values(values, row, g):
    """The values of one row of the products: a pair, at f (even rows) or -f."""
    pair = row // 2
    place = pair // g.share * g.values_unit + pair % g.share * g.values_pair
    return offset(values, g.values_first + place + row % 2 * g.values_row)


@kernel
def fft_multiply(
    block,
    scratch,
    values: "T*",
    spectra: "T*",
    zeros: "T*",
    products: "T*",
    accumulate: "int64",
    g: "Dense",
):
    """One block: the products of some harmonics."""
    v = lanes(values)
    rows = 2 * g.pairs
    tiles = (rows + MAX_ROWS - 1) // MAX_ROWS
    slot = 0
    for tile in range(tiles):
        first = tile * rows // tiles
        valid = (tile + 1) * rows // tiles - first
        count = max(valid, MIN_GEMM_ROWS)
        for i in range(count):
            row = first + min(i, valid - 1)
            place = row // 2 * g.panels * g.harmonics * 4 * v + row % 2 * 2 * v
            store_pointer(scratch, slot + i, offset(products, place))
            source = _row_values(values, row, g)
            store_pointer(scratch, slot + count + i, source)
            store_pointer(scratch, slot + 2 * count + 1 + i, offset(source, 2 * g.values_row))
        store_pointer(scratch, slot + 2 * count, spectra)
        store_pointer(scratch, slot + 3 * count + 1, offset(spectra, g.run * 2 * v))
        slot += 3 * count + 2
    first_group = g.first_panel // g.panels_group
    for i in range(block * g.harmonics // g.cuts, (block + 1) * g.harmonics // g.cuts):
        for panel in range(g.panels):
            group = (g.first_panel + panel) // g.panels_group - first_group
            slot = 0
            for tile in range(tiles):
                count = max((tile + 1) * rows // tiles - tile * rows // tiles, MIN_GEMM_ROWS)
                gemm_tile(
                    count,
                    True,
                    offset(scratch, slot),
                    2,
                    i * 4 * g.values_row + group * g.run_group,
                    g.run,
                    (i * g.panels + panel) * 4 * g.run * v,
                    2 * v,
                    (panel * g.harmonics + i) * 4 * v,
                    zeros,
                    accumulate,
                    2 * v,
                )
                slot += 3 * count + 2


@kernel
def fft_outputs(
    block,
    scratch,
    products: "T*",
    start: "T*",
    out: "T*",
    workspace: "T*",
    passes: "int64*",
    factors: "T*",
    mirrors: "int64*",
    first: "int64",
    t: "Transform",
    b: "Grid",
    o: "Image",
    g: "Dense",
):
    """One block: one pair and one panel; the launch's first is number `first`."""
    v = lanes(out)
    rows = _rows_of(block, scratch, workspace, out, t)
    block += first
    pair = block // g.panels
    panel = block - pair * g.panels
    place = offset(products, block * g.harmonics * 4 * v)
    for i in range(g.harmonics):
        re, im = get(place, i * 4 * v + 2 * v)
        put(rows, mirrors[2 * i + 1] * 2 * v, re, -im)
        re, im = get(place, i * 4 * v)
        put(rows, mirrors[2 * i] * 2 * v, re, im)  # also where both are one
    transform_back(rows, passes, factors, t)
    write_block(rows, out, start, b.first_unit + pair, g.first_panel + panel, t, b, o)


@kernel
def fft_outer(block, scratch, values: "T*", gradients: "T*", sums: "T*", accumulate: "int64", g: "Dense"):
    """One block: the sums of some harmonics."""
    v = lanes(values)
    for row in range(2 * g.pairs):
        source = _row_values(values, row, g)
        store_pointer(scratch, 2 * row, source)
        store_pointer(scratch, 2 * row + 1, offset(source, 2 * g.values_row))
    first_group = g.first_panel // g.panels_group
    tiles = (g.run + MAX_ROWS - 1) // MAX_ROWS
    zero = splat(values, 0.0)
    for i in range(block * g.harmonics // g.cuts, (block + 1) * g.harmonics // g.cuts):
        for panel in range(g.panels):
            group = (g.first_panel + panel) // g.panels_group - first_group
            place = offset(sums, (i * g.panels + panel) * g.run * 2 * v)
            if not accumulate:
                for j in range(2 * g.run):
                    store(place, j * v, zero)
            for tile in range(tiles):
                r = tile * g.run // tiles
                outer_tile(
                    (tile + 1) * g.run // tiles - r,
                    True,
                    scratch,
                    4 * g.pairs,
                    i * 4 * g.values_row + group * g.run_group + r,
                    offset(gradients, (i * g.panels + panel) * g.pairs * 8 * v),
                    2 * v,
                    offset(place, r * 2 * v),
                    2 * v,
                )


@kernel
def fft_weight_gradient(
    block,
    scratch,
    sums: "T*",
    out: "T*",
    workspace: "T*",
    passes: "int64*",
    factors: "T*",
    mirrors: "int64*",
    first: "int64",
    t: "Transform",
    k: "Taps",
    g: "Dense",
):
    """One block: one panel, two channels of the run in one transform."""
    v = lanes(out)
    rows = _rows_of(block, scratch, workspace, out, t)
    block += first
    panel, r, first_tap, valid = _couple(block, v, k, g)
    both = r + 1 < g.run
    scale = splat(rows, 0.5 / t.rows)
    for i in range(g.harmonics):
        place = offset(sums, ((i * g.panels + panel) * g.run + r) * 2 * v)
        ar, ai = get(place, 0)
        br, bi = get(place, 2 * v if both else 0)
        ar, ai, br, bi = ar * scale, ai * scale, br * scale, bi * scale
        put(rows, mirrors[2 * i + 1] * 2 * v, ar + bi, br - ai)
        put(rows, mirrors[2 * i] * 2 * v, ar - bi, ai + br)
    transform_back(rows, passes, factors, t)
    taps = offset(out, first_tap)
    write_taps(rows, taps, valid, t, k)
    if both:
        write_taps(offset(rows, v), offset(taps, k.run), valid, t, k)
