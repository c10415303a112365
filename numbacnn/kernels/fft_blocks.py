"""Blocks of a convolution by Fourier transforms: read from an image, transformed, written back; and kernels' taps.

Positions are cut into blocks (overlap-save: T. Stockham, 1966). What lies in a block's two neighbours is real, so two
blocks of one channel make a *pair*: the first is the real part of the rows, the second the imaginary part, and a
product with the spectrum of a real kernel keeps them apart. The lanes of a vector are channels; where those are few,
several pairs lie side by side.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device
from .fft_passes import join, split
from .layout import copy_transposed
from .pointer import as_integers, offset
from .simd import lanes, load, splat, store
from .sources import source_at


class Transform(NamedTuple):
    """A block's rows and how they are transformed."""

    rows: int
    size_d: int
    size_h: int
    size_w: int
    passes: int
    top: int  # passes over all rows; the others go over one part after another, which the nearest cache holds
    part: int  # rows of such a part
    own: int  # 1: blocks are transformed in the thread's scratch; 0: in memory that comes with the launch


class Grid(NamedTuple):
    """How the positions of a sample are cut into blocks, and who works on which."""

    hop_d: int  # positions from one block to the next
    hop_h: int
    hop_w: int
    blocks_h: int
    blocks_w: int
    blocks: int  # per sample
    pairs: int  # per sample
    all_pairs: int  # of the batch
    share: int  # pairs side by side in a vector
    vectors: int  # of channels, in this launch
    first_vector: int
    first_unit: int  # a unit is `share` pairs


class Image(NamedTuple):
    """An image that blocks are read from or written to: extents and strides (in elements)."""

    first_d: int  # coordinate of a block's row 0, for block 0
    first_h: int
    first_w: int
    window_d: int  # rows of a block that are read; the others are zero
    window_h: int
    window_w: int
    step_d: int  # read: coordinates per position, between which there are zeros; written: rows per position
    step_h: int
    step_w: int
    size_d: int
    size_h: int
    size_w: int
    mode_d: int  # what is read outside: an index into `sources.MODES`
    mode_h: int
    mode_w: int
    stride_n: int
    stride_d: int
    stride_h: int
    stride_w: int
    channels: int  # of a group
    panels: int  # vectors of a group


class Taps(NamedTuple):
    """A kernel's taps as they lie in memory, and where they go in a block."""

    taps_d: int
    taps_h: int
    taps_w: int
    spread_d: int  # rows from one tap to the next
    spread_h: int
    spread_w: int
    reverse: int  # 1: the last tap comes first
    lane: int  # elements from the kernel of one lane to that of the next
    run: int  # and of one channel of the sum
    group: int


@device
def transform(rows, passes, factors, t):
    """From positions to frequencies."""
    split_all(rows, passes, factors, t)
    row = 0
    while row < t.rows:
        split_part(offset(rows, row * 2 * lanes(rows)), passes, factors, t)
        row += t.part


@device
def transform_back(rows, passes, factors, t):
    """From frequencies to positions, times the number of rows."""
    row = 0
    while row < t.rows:
        join_part(offset(rows, row * 2 * lanes(rows)), passes, factors, t)
        row += t.part
    join_all(rows, passes, factors, t)


@device
def split_all(rows, passes, factors, t):
    """The first passes of `transform`, after which each part is on its own."""
    split(rows, t.rows, passes, 0, t.top, factors)


@device
def split_part(rows, passes, factors, t):
    """The other passes, over the rows of one part."""
    split(rows, t.part, passes, t.top, t.passes, factors)


@device
def join_part(rows, passes, factors, t):
    """Undo `split_part`."""
    join(rows, t.part, passes, t.top, t.passes, factors)


@device
def join_all(rows, passes, factors, t):
    """Undo `split_all`."""
    join(rows, t.rows, passes, 0, t.top, factors)


@device
def clear(rows, count):
    """Fill so many rows with zeros."""
    zero = splat(rows, 0.0)
    for i in range(count):
        store(rows, 2 * i * lanes(rows), zero)
        store(rows, (2 * i + 1) * lanes(rows), zero)


@device
def _read(rows, source, count, stride, valid):
    """``rows[i][lane] = source[i * stride + lane]`` for the lanes below `valid`."""
    width = 2 * lanes(rows)
    if valid == lanes(rows):
        for i in range(count):
            store(rows, i * width, load(source, i * stride))
    elif valid == 1:
        for i in range(count):
            rows[i * width] = source[i * stride]
    else:
        for i in range(count):
            for lane in range(valid):
                rows[i * width + lane] = source[i * stride + lane]


@device
def _coordinate(at, size, mode, step):
    if step > 1:
        if at % step != 0:
            return -1
        at //= step
    return source_at(at, size, mode)


@device
def _read_line(rows, line, first, valid, s):
    """The rows along W from coordinate `first` on: a stretch inside the image, and what is left and right of it."""
    low, high = 0, 0
    if s.step_w == 1:
        low = min(max(0, -first), s.window_w)
        high = max(low, min(s.window_w, s.size_w - first))
        _read(
            offset(rows, low * 2 * lanes(rows)), offset(line, (first + low) * s.stride_w), high - low, s.stride_w, valid
        )
    for w in range(s.window_w):
        if w < low or w >= high:
            at = _coordinate(first + w, s.size_w, s.mode_w, s.step_w)
            if at >= 0:
                _read(offset(rows, w * 2 * lanes(rows)), offset(line, at * s.stride_w), 1, 0, valid)


@device
def _inner_lanes(unit, half, first, window, size, b):
    """Sample, first and last lane of a vector whose blocks lie in a row and inside the image, and where the first does.

    For images of one axis and one channel.
    """
    n = unit * b.share // b.pairs
    number = 2 * (unit * b.share - n * b.pairs) + half
    low, high = 0, min(b.share, (b.blocks - number + 1) // 2)
    while low < high and first + (number + 2 * low) * b.hop_w < 0:
        low += 1
    while low < high and first + (number + 2 * high - 2) * b.hop_w + window > size:
        high -= 1
    return n, low, high, first + (number + 2 * low) * b.hop_w


@device
def _is_signal(image, t, b):
    """Whether blocks are lines of an image of one channel, each lane another."""
    return b.share > 1 and image.channels == 1 and image.step_w == 1 and b.blocks == b.blocks_w and t.size_w == t.rows


@device
def read_block(rows, source, unit, vector, t, b, s):
    """Fill a block: of each pair of the unit both blocks, one vector of channels."""
    clear(rows, t.rows)
    group = vector // s.panels
    first = (vector - group * s.panels) * lanes(rows)
    valid = min(lanes(rows), s.channels - first)
    for half in range(2):
        low, high = 0, 0
        if _is_signal(s, t, b):
            n, low, high, place = _inner_lanes(unit, half, s.first_w, s.window_w, s.size_w, b)
            copy_transposed(
                as_integers(source),
                n * s.stride_n + place,
                2 * b.hop_w,
                as_integers(rows),
                half * lanes(rows) + low,
                2 * lanes(rows),
                high - low,
                s.window_w,
            )
        for i in range(b.share):
            if i < low or i >= high:
                lane = half * lanes(rows) + i * s.channels
                image = offset(source, group * s.channels + first)
                _read_one(offset(rows, lane), image, unit * b.share + i, half, valid, t, b, s)


@device
def _read_one(rows, source, pair, half, valid, t, b, s):
    """One block of one pair, unless it lies behind the last."""
    n = pair // b.pairs
    number = 2 * (pair - n * b.pairs) + half
    if pair >= b.all_pairs or number >= b.blocks:
        return
    bw = number % b.blocks_w
    bh = number // b.blocks_w % b.blocks_h
    bd = number // (b.blocks_w * b.blocks_h)
    image = offset(source, n * s.stride_n)
    for d in range(s.window_d):
        at_d = _coordinate(s.first_d + bd * b.hop_d + d, s.size_d, s.mode_d, s.step_d)
        for h in range(s.window_h):
            at_h = _coordinate(s.first_h + bh * b.hop_h + h, s.size_h, s.mode_h, s.step_h)
            if at_d >= 0 and at_h >= 0:
                target = offset(rows, (d * t.size_h + h) * t.size_w * 2 * lanes(rows))
                line = offset(image, at_d * s.stride_d + at_h * s.stride_h)
                _read_line(target, line, s.first_w + bw * b.hop_w, valid, s)


@device
def _write(rows, step, out, count, stride, start, valid):
    """``out[i * stride + lane] = rows[i * step][lane] + start[lane]`` for the lanes below `valid`."""
    width = 2 * lanes(rows) * step
    if valid == lanes(rows):
        base = load(start, 0)
        for i in range(count):
            store(out, i * stride, load(rows, i * width) + base)
    elif valid == 1:
        for i in range(count):
            out[i * stride] = rows[i * width] + start[0]
    else:
        for i in range(count):
            for lane in range(valid):
                out[i * stride + lane] = rows[i * width + lane] + start[lane]


@device
def write_block(rows, out, start, unit, vector, t, b, o):
    """Write what `read_block` would read, `start` added: of every `step` rows the first."""
    group = vector // o.panels
    first = (vector - group * o.panels) * lanes(rows)
    valid = min(lanes(rows), o.channels - first)
    channel = group * o.channels + first
    for half in range(2):
        low, high = 0, 0
        if _is_signal(o, t, b):
            n, low, high, place = _inner_lanes(unit, half, 0, b.hop_w, o.size_w, b)
            copy_transposed(
                as_integers(rows),
                half * lanes(rows) + low,
                2 * lanes(rows),
                as_integers(out),
                n * o.stride_n + place,
                2 * b.hop_w,
                b.hop_w,
                high - low,
            )
            for i in range(high - low):
                line = offset(out, n * o.stride_n + place + i * 2 * b.hop_w)
                for w in range(b.hop_w):
                    line[w] += start[0]
        for i in range(b.share):
            if i < low or i >= high:
                lane = half * lanes(rows) + i * o.channels
                pair = unit * b.share + i
                _write_one(offset(rows, lane), offset(out, channel), offset(start, channel), pair, half, valid, t, b, o)


@device
def _write_one(rows, out, start, pair, half, valid, t, b, o):
    """One block of one pair, unless it lies behind the last."""
    n = pair // b.pairs
    number = 2 * (pair - n * b.pairs) + half
    if pair >= b.all_pairs or number >= b.blocks:
        return
    bw = number % b.blocks_w
    bh = number // b.blocks_w % b.blocks_h
    bd = number // (b.blocks_w * b.blocks_h)
    od, oh, ow = _first(bd * b.hop_d, o.step_d), _first(bh * b.hop_h, o.step_h), _first(bw * b.hop_w, o.step_w)
    count = min(_first((bw + 1) * b.hop_w, o.step_w), o.size_w) - ow
    image = offset(out, n * o.stride_n + ow * o.stride_w)
    corner = offset(rows, (ow * o.step_w - bw * b.hop_w) * 2 * lanes(rows))
    for d in range(od, min(_first((bd + 1) * b.hop_d, o.step_d), o.size_d)):
        for h in range(oh, min(_first((bh + 1) * b.hop_h, o.step_h), o.size_h)):
            line = (d * o.step_d - bd * b.hop_d) * t.size_h + h * o.step_h - bh * b.hop_h
            target = offset(image, d * o.stride_d + h * o.stride_h)
            _write(offset(corner, line * t.size_w * 2 * lanes(rows)), o.step_w, target, count, o.stride_w, start, valid)


@device
def _first(row, step):
    """The first position at or behind a row."""
    return (row + step - 1) // step


@device
def read_taps(rows, weight, valid, t, k):
    """Put the taps of `valid` lanes into an empty block."""
    width = 2 * lanes(rows)
    step = k.spread_w * width
    for d in range(k.taps_d):
        for h in range(k.taps_h):
            at_d, at_h = (k.taps_d - 1 - d, k.taps_h - 1 - h) if k.reverse else (d, h)
            first = (at_d * k.spread_d * t.size_h + at_h * k.spread_h) * t.size_w * width
            if k.reverse:
                first += (k.taps_w - 1) * step
            copy_transposed(
                as_integers(weight),
                (d * k.taps_h + h) * k.taps_w,
                k.lane,
                as_integers(rows),
                first,
                -step if k.reverse else step,
                valid,
                k.taps_w,
            )


@device
def write_taps(rows, weight, valid, t, k):
    """Write the taps of `valid` lanes, which `read_taps` would read."""
    width = 2 * lanes(rows)
    for d in range(k.taps_d):
        for h in range(k.taps_h):
            first = (d * k.spread_d * t.size_h + h * k.spread_h) * t.size_w * width
            copy_transposed(
                as_integers(rows),
                first,
                k.spread_w * width,
                as_integers(weight),
                (d * k.taps_h + h) * k.taps_w,
                k.lane,
                k.taps_w,
                valid,
            )
