"""Which source rows the taps of a lattice point read, worked out from a few integers per axis.

A convolution fills, or sums over, a *lattice* of points, and every tap of a point reads one row (the channels of one
position) of a source. Along each axis the coordinate read is ``first + slope * point + spread * tap``: forward
convolution, every phase of a strided data gradient, and the part of it that comes through mirrored or wrapped padding
all have that form. What lies outside the source is decided by the axis's padding mode. So there are no tables, and no
problem is too long.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, inlined
from .pointer import offset, store_pointer

MODES = ("zeros", "replicate", "circular", "reflect")
ZEROS, REPLICATE, CIRCULAR, REFLECT = range(4)


class Sources(NamedTuple):
    """The lattice and its source, by axis."""

    points_d: int  # lattice points per sample
    points_h: int
    points_w: int
    taps_d: int
    taps_h: int
    taps_w: int
    first_d: int  # coordinate that tap 0 of point 0 reads
    first_h: int
    first_w: int
    slope_d: int  # coordinates from one point to the next
    slope_h: int
    slope_w: int
    spread_d: int  # coordinates from one tap to the next
    spread_h: int
    spread_w: int
    size_d: int  # coordinates that exist
    size_h: int
    size_w: int
    mode_d: int  # what is read outside: an index into `MODES`
    mode_h: int
    mode_w: int
    stride_n: int  # source elements between samples, planes, rows and positions
    stride_d: int
    stride_h: int
    stride_w: int


@device
def source_at(coordinate, size, mode):
    """Which of `size` source coordinates stands at a coordinate of the padded axis; -1 for a zero."""
    if coordinate >= 0 and coordinate < size:
        return coordinate
    if mode == ZEROS:
        return -1
    if mode == REPLICATE:
        return min(max(coordinate, 0), size - 1)
    if mode == CIRCULAR:
        return coordinate % size
    coordinate %= max(2 * (size - 1), 1)
    return min(coordinate, 2 * (size - 1) - coordinate)


@device
def locate(point, s):
    """Sample and place (n, d, h, w) of a lattice point, those of the whole batch numbered through."""
    row = point // s.points_w
    plane = row // s.points_h
    n = plane // s.points_d
    return n, plane - n * s.points_d, row - plane * s.points_h, point - row * s.points_w


@device
def following_row(n, d, h, s):
    """Sample, plane and row of the next row of lattice points."""
    h += 1
    if h == s.points_h:
        h, d = 0, d + 1
        if d == s.points_d:
            d, n = 0, n + 1
    return n, d, h


@device
def put_steps(table, slot, tap, last, step_d, step_h, step_w, s):
    """Put ``step_d * kd + step_h * kh + step_w * kw`` of the taps from `tap` to `last` into successive slots."""
    row = tap // s.taps_w
    kw = tap - row * s.taps_w
    kd = row // s.taps_h
    kh = row - kd * s.taps_h
    while tap < last:
        table[slot] = kd * step_d + kh * step_h + kw * step_w
        slot += 1
        tap += 1
        kw += 1
        if kw == s.taps_w:
            kw, kh = 0, kh + 1
            if kh == s.taps_h:
                kh, kd = 0, kd + 1


@inlined
def _put_line(table, slot, count, step, line, zeros, at, s):
    """Put pointers to every `step`-th coordinate from `at` on of a source row into `count` successive slots.

    Returns 1 if all of them are zeros, else 0.
    """
    low, high = min(at, at + (count - 1) * step), max(at, at + (count - 1) * step)
    if low >= 0 and high < s.size_w:
        first = offset(line, at * s.stride_w)
        for i in range(count):
            store_pointer(table, slot + i, offset(first, i * step * s.stride_w))
        return 0
    if s.mode_w == ZEROS:
        for i in range(count):
            place = at + i * step
            inside = place >= 0 and place < s.size_w
            store_pointer(table, slot + i, offset(line, place * s.stride_w) if inside else zeros)
        return 1 if high < 0 or low >= s.size_w else 0
    for i in range(count):
        place = source_at(at + i * step, s.size_w, s.mode_w)
        store_pointer(table, slot + i, offset(line, place * s.stride_w))
    return 0


@device
def put_sources(table, slot, step, count, sample, zeros, d, h, w, tap, last, merged, s):
    """Put the pointers that the taps from `tap` to `last` of `count` neighbouring lattice points read into a table.

    The points lie side by side along W; those of a tap fill successive slots, those of the next tap `step` slots
    further on. Tap 0 of the first point reads coordinates (`d`, `h`, `w`); padding reads `zeros`. There is one pointer
    for `merged` taps along W: 1, or all of them. Returns how many of the taps' pointers are nothing but zeros.
    """
    blank = 0
    row = tap // s.taps_w
    kw = tap - row * s.taps_w
    kd = row // s.taps_h
    kh = row - kd * s.taps_h
    while tap < last:
        at_d = source_at(d + kd * s.spread_d, s.size_d, s.mode_d)
        at_h = source_at(h + kh * s.spread_h, s.size_h, s.mode_h)
        end = tap + min(s.taps_w - kw, last - tap)
        line = offset(sample, at_d * s.stride_d + at_h * s.stride_h)
        at = w + kw * s.spread_w
        while tap < end:
            if at_d < 0 or at_h < 0:
                blank += 1
                for i in range(count):
                    store_pointer(table, slot + i, zeros)
            else:
                blank += _put_line(table, slot, count, s.slope_w, line, zeros, at, s)
            slot += step
            at += s.spread_w
            tap += merged
        kw = 0
        kh += 1
        if kh == s.taps_h:
            kh, kd = 0, kd + 1
    return blank
