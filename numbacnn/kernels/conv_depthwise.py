"""Depthwise convolution straight from channels-last memory, forward and data gradient: every channel by itself.

Vectors run along the channels, so a point's taps are vectors at multiples of the distance between positions, whatever
stride and dilation are. Along the width, destination points are of two kinds. A *zone* is a stretch of points that
share their taps: tiles of up to seven points. Taps that would read outside the source are left out, for padding by
zeros adds nothing. A *column* is one of the few points that padding of another mode lets read elsewhere in the source:
its taps are listed one by one, and its tile is one point of four vectors.

Channels are dealt out in panels of two vectors, a cache line. The last panel of a position is moved back so that it
ends with the channels: some are computed twice, none alone. Tiles that take one vector at a time leave out its first
where that has nothing new.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from ._serial import MOST_SCRATCH_SLOTS
from .finish import finish_rows
from .layout import copy_transposed
from .line_tile import FEWEST_POINTS, LINE_POINTS, LINE_VECTORS, clipped_line_tile, line_tile
from .pointer import as_integers, cast, load_pointer, offset, store_pointer
from .simd import fma, lanes, load, store
from .window_tile import LEFT, RIGHT, WHOLE, WINDOW, row_tile, window_tile

# How a thread's scratch memory is divided, in slots.
TABLE_ROWS = 2048  # source rows that one destination row reads: pairs of slots
TABLE_TAPS = 12 * 1024  # taps of a column in all of them, or of a row of a zone: pairs of slots
_TAPS = 2 * TABLE_ROWS
_WEIGHTS = _TAPS + 2 * TABLE_TAPS
WEIGHT_SLOTS = MOST_SCRATCH_SLOTS - _WEIGHTS  # packed weights of the panels that pass together

# Columns of the table of zones: destination coordinates START + STEP * point; for tap t, the kernel's tap TAP +
# TAP_STEP * t and source coordinates SOURCE + ALPHA * point + BETA * t, which are inside the source for the points
# INSIDE .. INSIDE_END. Of the table of columns: destination, picks.
START, STEP, POINTS, SOURCE, ALPHA, BETA, TAP, TAP_STEP, TAPS, INSIDE, INSIDE_END, ZONE_FIELDS = range(12)
COLUMN, FIRST_PICK, PICKS, COLUMN_FIELDS = range(4)

# How the points of a zone are computed: see `Direct.shared`.
LINES, ROWS, PAIRS = range(3)


class Direct(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    planes: int  # destination planes per sample, rows per plane
    rows: int
    band: int  # rows that are computed in all planes before the next: so that L2 keeps the planes under a kernel
    bands: int
    phase: int  # rows of a band that follow on each other, `band // phase` rows apart, in the same block
    segments: int  # parts of a row; one if a phase has several rows
    units: int  # segments of all rows of the batch, the last band counted as a whole one
    unit_blocks: int
    channels: int
    panels: int  # of a position
    pass_panels: int  # panels that pass over a block's rows together
    panel_blocks: int
    packs: int  # 1: each block packs the weights that it needs; 0: they are packed already
    taps: int  # of the kernel, and of one of its rows
    row_taps: int
    zones: int
    columns: int
    shared: int  # which tiles: LINES (one tap at a time), ROWS (a kernel row), PAIRS (two rows of points)
    points: int  # of a tile that shares what it reads, at most
    asks: int  # 1: tiles ask for what the next ones read and write, 0: they do not
    width: int  # positions of a source row
    source_n: int  # source elements between samples, planes, rows, positions
    source_d: int
    source_h: int
    source_w: int
    out_n: int
    out_d: int
    out_h: int
    out_w: int


@device
def place_of(unit, g):
    """Sample, plane, row and segment of a unit; the row may lie beyond the last."""
    line = unit // g.segments
    plane = line // g.band
    strip = plane // g.planes
    sample = strip // g.bands
    row = line - plane * g.band
    before = row // g.phase
    row = (row - before * g.phase) * (g.band // g.phase) + before
    return sample, plane - strip * g.planes, (strip - sample * g.bands) * g.band + row, unit - line * g.segments


@device
def unit_of(block, blocks, g):
    """Where one of some blocks of units begins: with the first row of a phase."""
    return block * (g.units // g.phase) // blocks * g.phase


@device
def positions_of(segment, positions, g):
    """The first of a row's positions that are a segment's, and one beyond the last."""
    return segment * positions // g.segments, (segment + 1) * positions // g.segments


@device
def points_before(position, start, step, points):
    """How many of some points, at destination positions ``start + step * point``, lie before a position."""
    return min(max(position - start + step - 1, 0) // step, points)


@device
def put_rows(table, source, d, h, width, lists_d, lists_h, g):
    """List the source rows that destination row (d, h) reads, and where the weights of their kernel rows begin.

    Those of a kernel row take `width` elements.
    """
    count = 0
    for i in range(lists_d[d], lists_d[d + 1]):
        plane = offset(source, lists_d[3 * i + 1] * g.source_d)
        for j in range(lists_h[h], lists_h[h + 1]):
            store_pointer(table, 2 * count, offset(plane, lists_h[3 * j + 1] * g.source_h))
            table[2 * count + 1] = (lists_d[3 * i] + lists_h[3 * j]) * width
            count += 1
    return count


@device
def _put_inside(inside, source, zone, points, width):
    """List per tap which of some points read inside a row: the first, and one beyond the last.

    source : what the first point reads with the first tap
    """
    for t in range(zone[TAPS]):
        position = source + zone[BETA] * t
        inside[2 * t] = (max(-position, 0) + zone[ALPHA] - 1) // zone[ALPHA]
        inside[2 * t + 1] = min((max(width - position, 0) + zone[ALPHA] - 1) // zone[ALPHA], points)


@device
def _first_skipped(channels, like):
    """Vectors of the last panel, where it is moved back, that hold nothing but channels of the panel before."""
    return int(channels % (LINE_VECTORS * lanes(like)) <= lanes(like))


@device
def _leading(table, rows, like):
    """Of some listed source rows, in rising or falling order, the one that points before have read least of.

    If there are none, any pointer, of no use but to ask for.
    """
    last = 2 * max(rows - 1, 0)
    return load_pointer(table, last if table[last] > table[0] else 0, like)


@device
def _zone(table, inside, rows, zone, begin, end, first, last, weight, bias, out, g):
    """The points of one zone between two positions, for some panels of channels."""
    n = LINE_VECTORS * lanes(out)
    moved = int(last * n > g.channels)  # whether the last panel is moved back
    x_step, x_tap = zone[ALPHA] * g.source_w, zone[BETA] * g.source_w
    w_tap, w_panel = zone[TAP_STEP] * n, g.taps * n
    most = g.points if g.shared == ROWS else LINE_POINTS
    before = points_before(begin, zone[START], zone[STEP], zone[POINTS])
    count = points_before(end, zone[START], zone[STEP], zone[POINTS]) - before
    tiles = (count + most - 1) // most
    leading = _leading(table, rows, out)
    for tile in range(tiles):
        a = before + tile * count // tiles
        points = before + (tile + 1) * count // tiles - a
        source = zone[SOURCE] + zone[ALPHA] * a
        shares = g.shared == ROWS and points >= FEWEST_POINTS
        clipped = points < FEWEST_POINTS or a < zone[INSIDE] or a + points > zone[INSIDE_END]
        if clipped and not shares:
            _put_inside(inside, source, zone, points, g.width)
        target = offset(out, (zone[START] + zone[STEP] * a) * g.out_w)
        out_step = zone[STEP] * g.out_w
        for lone in range(1 + moved):
            panel = last - 1 if lone else first
            panels = 1 if lone else last - first - moved
            c = g.channels - n if lone else first * n
            x, w = source * g.source_w + c, offset(weight, (panel * g.taps + zone[TAP]) * n)
            start, place = offset(bias, c), offset(target, c)
            soon = offset(leading, x + points * x_step + max(0, (zone[TAPS] - 1) * x_tap))
            if shares:
                read = max(0, -source)
                read_end = min(points + zone[TAPS] - 1, g.width - source)
                skipped = lone * _first_skipped(g.channels, out)
                vectors = LINE_VECTORS * panels - skipped
                shift = skipped * lanes(out)
                row_tile(
                    points, zone[TAPS], read, read_end, table, rows, vectors, x + shift, x_step, offset(w, shift),
                    w_tap, w_panel, offset(start, shift), offset(place, shift), out_step,
                    g.asks, offset(soon, shift),
                )  # fmt: skip
            elif clipped:
                clipped_line_tile(
                    points, inside, table, rows, zone[TAPS], panels, x, x_step, x_tap, w, w_tap, w_panel,
                    start, place, out_step,
                )  # fmt: skip
            else:
                line_tile(
                    points, table, rows, zone[TAPS], panels, x, x_step, x_tap, w, w_tap, w_panel,
                    start, place, out_step, g.asks * zone[ALPHA], soon, -g.source_h, g.source_w,
                )  # fmt: skip


@device
def _pair(table, planes, x_row, zone, first, last, weight, bias, out, out_row, g):
    """The points of the only zone in two rows, for some panels of channels.

    out, out_row : the row that reads first what is in the table, elements from it to the other
    """
    n = LINE_VECTORS * lanes(out)
    moved = int(last * n > g.channels)
    points = zone[POINTS]
    leading = _leading(table, WINDOW * planes, out)
    for tile in range((points + g.points - 1) // g.points):
        a = min(tile * g.points, points - g.points)  # the last laps over the one before: the same values
        side = LEFT if a < zone[INSIDE] else RIGHT if a + g.points > zone[INSIDE_END] else WHOLE
        for lone in range(1 + moved):
            panel = last - 1 if lone else first
            skipped = lone * _first_skipped(g.channels, out)
            shift = skipped * lanes(out)
            vectors = LINE_VECTORS * (1 if lone else last - first - moved) - skipped
            c = (g.channels - n if lone else first * n) + shift
            window_tile(
                g.points, side, table, planes, vectors, (zone[SOURCE] + a) * g.source_w + c, x_row, g.source_w,
                offset(weight, (panel * g.taps + zone[TAP]) * n + shift), zone[TAP_STEP] * n, g.taps * n,
                offset(bias, c), offset(out, a * g.out_w + c), out_row, g.out_w, g.asks,
                offset(leading, (zone[SOURCE] + a + g.points + WINDOW - 1) * g.source_w + c),
            )  # fmt: skip


@device
def _put_picks(entries, table, rows, column, picks, like, g):
    """List the taps of a column in all source rows: pointer to the position, offset of the weights."""
    width = LINE_VECTORS * lanes(like)
    count = 0
    for i in range(column[FIRST_PICK], column[FIRST_PICK] + column[PICKS]):
        tap, place = picks[2 * i] * width, picks[2 * i + 1] * g.source_w
        for r in range(rows):
            store_pointer(entries, 2 * count, offset(load_pointer(table, 2 * r, like), place))
            entries[2 * count + 1] = table[2 * r + 1] + tap
            count += 1
    return count


@device
def _column(entries, count, first, last, weight, bias, out, g):
    """One point, two panels of channels at a time."""
    n = lanes(out)
    width = LINE_VECTORS * n
    for panel in range(first, last, 2):
        other = min(panel + 1, last - 1)
        c, d = min(panel * width, g.channels - width), min(other * width, g.channels - width)
        s0, s1, s2, s3 = load(bias, c), load(bias, c + n), load(bias, d), load(bias, d + n)
        w, u = offset(weight, panel * g.taps * width), offset(weight, other * g.taps * width)
        for i in range(count):
            x, tap = load_pointer(entries, 2 * i, out), entries[2 * i + 1]
            s0 = fma(load(x, c), load(w, tap), s0)
            s1 = fma(load(x, c + n), load(w, tap + n), s1)
            s2 = fma(load(x, d), load(u, tap), s2)
            s3 = fma(load(x, d + n), load(u, tap + n), s3)
        store(out, c, s0)
        store(out, c + n, s1)
        store(out, d, s2)
        store(out, d + n, s3)


@device
def _pack_panels(weight, packed, first, last, taps, channels):
    """Some panels, ``packed[panel][tap][lane] = weight[channel][tap]``, the last of all panels moved back."""
    n = LINE_VECTORS * lanes(packed)
    for panel in range(first, last):
        channel = min(panel * n, channels - n)
        place = (panel - first) * taps * n
        copy_transposed(as_integers(weight), channel * taps, taps, as_integers(packed), place, n, n, taps)


@kernel
def conv_depthwise(
    block,
    scratch,
    source: "T*",
    weight: "T*",
    bias: "T*",
    out: "T*",
    activation: "int64",
    lists_d: "int64*",
    lists_h: "int64*",
    zones: "int64*",
    columns: "int64*",
    picks: "int64*",
    g: "Direct",
):
    """One block: a range of segments of destination rows x a range of panels.

    ``lists_*[q] .. lists_*[q + 1]`` are the numbers of the triples (kernel tap, source coordinate, unused), in the same
    array, that belong to destination coordinate q of an axis. `picks` are pairs (tap, source coordinate) along the
    width. `weight` is packed by `pack_channels`, unless blocks do that themselves. What follows the sums is told by
    `activation`: see `finish_row`.
    """
    panel_block = block % g.panel_blocks
    block //= g.panel_blocks
    last_panel = (panel_block + 1) * g.panels // g.panel_blocks
    table, entries = scratch, offset(scratch, _TAPS)
    width, positions = g.row_taps * LINE_VECTORS * lanes(out), g.out_h // g.out_w
    for first in range(panel_block * g.panels // g.panel_blocks, last_panel, g.pass_panels):
        last = min(first + g.pass_panels, last_panel)
        weights = weight
        if g.packs:
            packed = cast(offset(scratch, _WEIGHTS), out)
            _pack_panels(weight, packed, first, last, g.taps, g.channels)
            weights = offset(packed, -first * g.taps * LINE_VECTORS * lanes(out))
        unit, stop = _first_unit(block, g), _first_unit(block + 1, g)
        while unit < stop:
            sample, d, h, segment = place_of(unit, g)
            if h >= g.rows:
                unit += 1
                continue
            row = offset(out, sample * g.out_n + d * g.out_d + h * g.out_h)
            image = offset(source, sample * g.source_n)
            if g.shared == PAIRS and _is_pair(unit, stop, h, lists_h, g):
                entry = 3 * lists_h[h]
                step = lists_h[entry + 4] - lists_h[entry + 1]  # 1, or -1 where later taps read earlier rows
                later = int(step < 0)
                planes = put_rows(table, image, d, h + later, width, lists_d, lists_h, g) // WINDOW
                _pair(
                    table, planes, step * g.source_h, zones, first, last, weights, bias, offset(row, later * g.out_h),
                    step * g.out_h, g,
                )  # fmt: skip
                _finish_points(row, 0, positions, first, last, activation, g)
                _finish_points(offset(row, g.out_h), 0, positions, first, last, activation, g)
                unit += 2
                continue
            rows = put_rows(table, image, d, h, width, lists_d, lists_h, g)
            begin, end = positions_of(segment, positions, g)
            for i in range(g.zones):
                zone = offset(zones, i * ZONE_FIELDS)
                _zone(table, entries, rows, zone, begin, end, first, last, weights, bias, row, g)
            for i in range(g.columns):
                column = offset(columns, i * COLUMN_FIELDS)
                if begin <= column[COLUMN] < end:
                    count = _put_picks(entries, table, rows, column, picks, out, g)
                    _column(entries, count, first, last, weights, bias, offset(row, column[COLUMN] * g.out_w), g)
            _finish_points(row, begin, end, first, last, activation, g)
            unit += 1


@device
def _first_unit(block, g):
    """Where a block of rows begins. With pairs an odd row, as the first and last of an image have no partner."""
    unit = unit_of(block, g.unit_blocks, g)
    return unit | 1 if g.shared == PAIRS and 0 < unit < g.units else unit


@device
def _is_pair(unit, stop, h, lists_h, g):
    """Whether a row and the next one, in the same plane and block, both read all rows of the kernel."""
    if unit + 1 >= stop or unit % g.band + 1 >= g.band or h + 1 >= g.rows:
        return False
    return lists_h[h + 1] - lists_h[h] == WINDOW and lists_h[h + 2] - lists_h[h + 1] == WINDOW


@device
def _finish_points(row, begin, end, first, last, activation, g):
    """Apply an activation to some panels of a row's positions ``begin .. end``.

    Where the last panel is moved back, lanes of the panel before are written twice, perhaps by two threads: either
    applies the activation to what it wrote, and once more does no harm. A residual would be added twice.
    """
    n = LINE_VECTORS * lanes(row)
    c = min(first * n, g.channels - n)
    count = min(last * n, g.channels) - c
    finish_rows(offset(row, begin * g.out_w + c), g.out_w, end - begin, count, 0, activation)


@kernel
def pack_channels(block, weight: "T*", packed: "T*", taps: "int64", channels: "int64", step: "int64"):
    """One block: `step` panels."""
    n = LINE_VECTORS * lanes(packed)
    first = block * step
    last = min(first + step, (channels + n - 1) // n)
    _pack_panels(weight, offset(packed, first * taps * n), first, last, taps, channels)
