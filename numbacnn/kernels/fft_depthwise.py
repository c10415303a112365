"""Depthwise convolution by Fourier transforms: one product per frequency and channel."""

from __future__ import annotations

from ._build import device, kernel
from .fft_blocks import (
    Grid,
    Image,
    Taps,
    Transform,
    clear,
    join_all,
    join_part,
    read_block,
    read_taps,
    split_all,
    split_part,
    transform,
    transform_back,
    write_block,
    write_taps,
)
from .pointer import cast, offset
from .simd import fma, lanes, load, splat, store


@kernel
def fft_spectra(
    block,
    weight: "T*",
    spectra: "T*",
    passes: "int64*",
    factors: "T*",
    t: "Transform",
    b: "Grid",
    s: "Image",
    k: "Taps",
):
    """One block: the conjugate spectra of one vector of channels, scaled for the way back.

    Conjugate, because a convolution as neural networks have it is a correlation.
    """
    vector = b.first_vector + block
    width = 2 * lanes(spectra)
    rows = offset(spectra, block * t.rows * width)
    clear(rows, t.rows)
    valid = min(lanes(rows), s.channels - vector * lanes(rows))
    for i in range(b.share):
        read_taps(offset(rows, i * s.channels), offset(weight, vector * lanes(rows) * k.lane), valid, t, k)
    transform(rows, passes, factors, t)
    scale = splat(rows, 1.0 / t.rows)
    for i in range(t.rows):
        p = i * width
        store(rows, p, load(rows, p) * scale)
        store(rows, p + lanes(rows), load(rows, p + lanes(rows)) * -scale)


@device
def _multiply(rows, spectrum, count):
    """Rows times rows."""
    v = lanes(rows)
    for i in range(count):
        p = 2 * i * v
        re, im = load(rows, p), load(rows, p + v)
        c, s = load(spectrum, p), load(spectrum, p + v)
        store(rows, p, fma(re, c, -(im * s)))
        store(rows, p + v, fma(re, s, im * c))


@kernel
def fft_depthwise(
    block,
    scratch,
    source: "T*",
    spectra: "T*",
    workspace: "T*",
    start: "T*",
    out: "T*",
    passes: "int64*",
    factors: "T*",
    t: "Transform",
    b: "Grid",
    s: "Image",
    o: "Image",
):
    """One block: one unit of pairs, one vector of channels."""
    unit = block // b.vectors
    vector = block - unit * b.vectors
    elements = t.rows * 2 * lanes(out)
    rows = cast(scratch, out) if t.own else offset(workspace, block * elements)
    read_block(rows, source, b.first_unit + unit, b.first_vector + vector, t, b, s)
    spectrum, part = offset(spectra, vector * elements), t.part * 2 * lanes(rows)
    split_all(rows, passes, factors, t)
    for place in range(0, elements, part):  # so that each is multiplied while the nearest cache holds it
        here = offset(rows, place)
        split_part(here, passes, factors, t)
        _multiply(here, offset(spectrum, place), t.part)
        join_part(here, passes, factors, t)
    join_all(rows, passes, factors, t)
    write_block(rows, out, start, b.first_unit + unit, b.first_vector + vector, t, b, o)


@device
def _add_products(sums, x, y, count):
    """Add rows times conjugate rows."""
    v = lanes(x)
    for i in range(count):
        p = 2 * i * v
        re, im = load(x, p), load(x, p + v)
        c, s = load(y, p), load(y, p + v)
        store(sums, p, fma(im, s, fma(re, c, load(sums, p))))
        store(sums, p + v, fma(im, c, fma(-re, s, load(sums, p + v))))


@kernel
def fft_depthwise_sums(
    block,
    scratch,
    x: "T*",
    grad_output: "T*",
    workspace: "T*",
    sums: "T*",
    passes: "int64*",
    factors: "T*",
    units: "int64",
    chunks: "int64",
    t: "Transform",
    b: "Grid",
    s: "Image",
    o: "Image",
):
    """One block: one vector of channels, one chunk of the units; ``sums[vector][chunk]`` is its gradient's spectrum."""
    vector = block // chunks
    chunk = block - vector * chunks
    elements = t.rows * 2 * lanes(x)
    left = cast(scratch, x) if t.own else offset(workspace, 2 * block * elements)
    right = offset(left, elements)
    total, part = offset(sums, block * elements), t.part * 2 * lanes(x)
    clear(total, t.rows)
    for unit in range(chunk * units // chunks, (chunk + 1) * units // chunks):
        read_block(left, x, unit, b.first_vector + vector, t, b, s)
        split_all(left, passes, factors, t)
        read_block(right, grad_output, unit, b.first_vector + vector, t, b, o)
        split_all(right, passes, factors, t)
        for place in range(0, elements, part):
            x_part, grad_part = offset(left, place), offset(right, place)
            split_part(x_part, passes, factors, t)
            split_part(grad_part, passes, factors, t)
            _add_products(offset(total, place), x_part, grad_part, t.part)


@kernel
def fft_depthwise_gradient(
    block,
    sums: "T*",
    out: "T*",
    passes: "int64*",
    factors: "T*",
    chunks: "int64",
    t: "Transform",
    b: "Grid",
    s: "Image",
    k: "Taps",
):
    """One block: the gradient of one vector of channels, from its chunks' spectra."""
    vector = b.first_vector + block
    v = lanes(out)
    elements = t.rows * 2 * v
    rows = offset(sums, block * chunks * elements)
    for chunk in range(1, chunks):
        for i in range(0, elements, v):
            store(rows, i, load(rows, i) + load(rows, chunk * elements + i))
    transform_back(rows, passes, factors, t)
    scale = splat(rows, 1.0 / t.rows)
    for i in range(t.rows):
        store(rows, 2 * i * v, load(rows, 2 * i * v) * scale)
    valid = min(v, s.channels - vector * v)
    if b.share > 1:
        for i in range(t.rows):
            for lane in range(valid):
                for other in range(1, b.share):
                    rows[2 * i * v + lane] += rows[2 * i * v + other * s.channels + lane]
    write_taps(rows, offset(out, vector * v * k.lane), valid, t, k)
