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


class Box(NamedTuple):
    """Lattice points of every sample that lie in a box: its first point and extents, by axis, and how many they are."""

    first_d: int
    first_h: int
    first_w: int
    points_d: int  # one at least, though there may be no points
    points_h: int
    points_w: int
    points: int


@device
def _first_inside(coordinate, slope, points):
    """The first of the points, `slope` coordinates apart, that lies at `coordinate` or beyond."""
    return min(max((coordinate + slope - 1) // slope, 0), points)


@device
def box_of_taps(tap, last, samples, s):
    """The points of a forward lattice for which any tap from `tap` to `last` can read more than padding by zeros.

    What a group of taps reads along an axis is taken for all that lies between the first and the last of them.
    """
    first_row, last_row = tap // s.taps_w, (last - 1) // s.taps_w
    first_kw, last_kw = tap - first_row * s.taps_w, last - 1 - last_row * s.taps_w
    first_kd, last_kd = first_row // s.taps_h, last_row // s.taps_h
    first_kh, last_kh = first_row - first_kd * s.taps_h, last_row - last_kd * s.taps_h
    if first_kd < last_kd:
        first_kh, last_kh = 0, s.taps_h - 1
    if first_row < last_row:
        first_kw, last_kw = 0, s.taps_w - 1
    first_d, end_d, first_h, end_h, first_w, end_w = 0, s.points_d, 0, s.points_h, 0, s.points_w
    if s.mode_d == ZEROS:
        first_d = _first_inside(-s.first_d - last_kd * s.spread_d, s.slope_d, s.points_d)
        end_d = _first_inside(s.size_d - s.first_d - first_kd * s.spread_d, s.slope_d, s.points_d)
    if s.mode_h == ZEROS:
        first_h = _first_inside(-s.first_h - last_kh * s.spread_h, s.slope_h, s.points_h)
        end_h = _first_inside(s.size_h - s.first_h - first_kh * s.spread_h, s.slope_h, s.points_h)
    if s.mode_w == ZEROS:
        first_w = _first_inside(-s.first_w - last_kw * s.spread_w, s.slope_w, s.points_w)
        end_w = _first_inside(s.size_w - s.first_w - first_kw * s.spread_w, s.slope_w, s.points_w)
    points_d, points_h, points_w = max(end_d - first_d, 0), max(end_h - first_h, 0), max(end_w - first_w, 0)
    points = samples * points_d * points_h * points_w
    return Box(first_d, first_h, first_w, max(points_d, 1), max(points_h, 1), max(points_w, 1), points)


@device
def in_box(box, s):
    """The lattice of a box alone."""
    return Sources(
        box.points_d, box.points_h, box.points_w, s.taps_d, s.taps_h, s.taps_w,
        s.first_d + box.first_d * s.slope_d, s.first_h + box.first_h * s.slope_h, s.first_w + box.first_w * s.slope_w,
        s.slope_d, s.slope_h, s.slope_w, s.spread_d, s.spread_h, s.spread_w, s.size_d, s.size_h, s.size_w,
        s.mode_d, s.mode_h, s.mode_w, s.stride_n, s.stride_d, s.stride_h, s.stride_w,
    )  # fmt: skip


@device
def points_themselves(s, row):
    """A lattice of the same points, which read themselves, as a single tap, where each has a row of `row` elements."""
    return Sources(
        s.points_d, s.points_h, s.points_w, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, s.points_d, s.points_h, s.points_w,
        ZEROS, ZEROS, ZEROS, s.points_d * s.points_h * s.points_w * row, s.points_h * s.points_w * row,
        s.points_w * row, row,
    )  # fmt: skip


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
        # Compares at the ends alone: one for every pointer took several times as long as the pointers.
        begin, end = 0, count
        while begin < count and (at + begin * step < 0 or at + begin * step >= s.size_w):
            store_pointer(table, slot + begin, zeros)
            begin += 1
        while end > begin and (at + (end - 1) * step < 0 or at + (end - 1) * step >= s.size_w):
            end -= 1
            store_pointer(table, slot + end, zeros)
        first = offset(line, at * s.stride_w)
        for i in range(begin, end):
            store_pointer(table, slot + i, offset(first, i * step * s.stride_w))
        return 1 if begin == end else 0
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
