"""The weight gradient of dense convolutions, as a matrix product whose two sides are copied for the tile.

``dW[tap][ci][co]`` sums ``x[position + tap][ci] * dY[position][co]`` over positions: a product of two matrices that are
both read along their rows. One side, the *right* one, gives a tile its vectors and the other, the *left* one, its six
rows. A block owns some left channels and some taps and *panels* (vectors' worth) of right channels. It keeps their
gradient in its thread's scratch (L2) while it walks over the positions, some hundred at a time:

- the rows of both sides that these positions read are listed, padding and strides included;
- the left channels are copied, six by six, so that a tile reads one short stretch of memory;
- every tap and panel comes in turn: all left channels run the outer-product tile over it, of which the first copies it
  into L1 for the others.

Where much of what taps read is padding by zeros, each tap walks by itself over the box of positions for which it reads
the image, so that the products with zeros are left out; otherwise all taps of a block share the steps.

So the tile meets neither strides that fall into few sets of the caches nor rows on many pages, and what is copied is
used many times over. Meanwhile the tiles ask for what comes next, a line or two per four positions: of the rows that
the next panel and step read, and in the last step of the gradient's.

Vectors run along the input channels as a rule, and are written to the gradient as they are. Where a single tap has few
or odd ones, they run along the output channels (`WeightConv.swapped`).
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from ._serial import SCRATCH_SLOTS
from .layout import copy_transposed
from .pointer import as_integers, cast, load_pointer, offset, prefetch_read, prefetch_write, store_pointer
from .simd import lanes, load, load_first, splat, store, store_first
from .sources import Sources, box_of_taps, following_row, in_box, locate, points_themselves, put_sources
from .tile import ASKED_LINES, MAX_LANES, MAX_ROWS, UNROLL, listed_outer_tile, packed_outer_tile

# Positions per step, at most: the copies of a panel and of six left channels then fill some half of a 32 KiB L1.
# Loading and storing a tile's twelve sums is spread over so many multiply-adds.
MAX_POINTS = 200
PANEL_SLOTS = MAX_POINTS * MAX_LANES // 2
# The scratch: pointers to left rows and right rows; a copied panel; copied left channels and sums.
TABLE_SLOTS = 2 * MAX_POINTS
WORK_SLOTS = SCRATCH_SLOTS - TABLE_SLOTS - PANEL_SLOTS
ROWS_TOGETHER = 8  # rows of which left channels are copied at a time: the ways of the first cache


class WeightConv(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    samples: int
    step: int  # positions per step
    asks: int  # whether what is needed next is worth asking for
    ahead: int  # elements of x from what one step reads to what the next one does, roughly
    groups: int
    in_channels: int  # of one group
    out_channels: int  # of one group
    swapped: int  # the left side is x and the right one dY; 0: the other way round
    width: int  # lanes of a tile
    line: int  # elements of a cache line
    left_step: int  # elements between the copies of one tile's left channels and the next's
    left_block: int  # left channels of a block
    left_blocks: int
    panel_block: int  # panels of a block
    panel_blocks: int
    tap_block: int  # taps of a block
    tap_blocks: int
    together: int  # taps that share steps, over the positions for which any of them reads more than zeros
    chunks: int  # parts of the positions, each with a partial sum


class Asks(NamedTuple):
    """What is asked for during a panel: a tile asks for `ASKED_LINES` of some rows, of the right side's or the left's.

    Places are elements from the beginning of the rows that are listed.
    """

    rows: int  # a tile asks for: as many as there is time for, so that what it reads itself need not wait
    right: int
    right_tiles: int
    left: int
    left_parts: int  # tiles that it takes to ask for so many lines of all left rows
    left_begin: int
    left_end: int


class Part(NamedTuple):
    """What a block owns."""

    group: int
    first_left: int  # left channels of the group
    left: int
    first_panel: int
    panels: int
    tap: int
    last_tap: int


@device
def _part(block, taps, g):
    """What a block of a chunk owns."""
    left_block = block % g.left_blocks
    block //= g.left_blocks
    panel_block = block % g.panel_blocks
    block //= g.panel_blocks
    tap_block = block % g.tap_blocks
    left = g.in_channels if g.swapped else g.out_channels
    right = g.out_channels if g.swapped else g.in_channels
    first_left, first_panel = left_block * g.left_block, panel_block * g.panel_block
    panels = (right + g.width - 1) // g.width
    tap = tap_block * g.tap_block
    return Part(
        block // g.tap_blocks,
        first_left,
        min(g.left_block, left - first_left),
        first_panel,
        min(g.panel_block, panels - first_panel),
        tap,
        min(tap + g.tap_block, taps),
    )


@device
def _list_sources(table, first, points, tap, source, zeros, s):
    """``table[p]``: the row of a source that a tap reads for each position of a step."""
    n, d, h, w = locate(first, s)
    p = 0
    while p < points:
        count = min(points - p, s.points_w - w)
        sample = offset(source, n * s.stride_n)
        at_d, at_h, at_w = s.first_d + d * s.slope_d, s.first_h + h * s.slope_h, s.first_w + w * s.slope_w
        put_sources(table, p, count, count, sample, zeros, at_d, at_h, at_w, tap, tap + 1, 1, s)
        p, w = p + count, 0
        n, d, h = following_row(n, d, h, s)


@device
def _list_rows(table, rows, points, stride):
    """``table[p]``: the row `p` of successive ones."""
    for p in range(points):
        store_pointer(table, p, offset(rows, p * stride))


@device
def _copy_channels(packed, table, points, channel, valid, width):
    """``packed[p * width + i]``: `valid` channels of the listed rows from `channel` on, and zeros up to `width`."""
    n = lanes(packed)
    zero = splat(packed, 0.0)
    for lane in range(0, width, n):
        for p in range(points):
            row = offset(load_pointer(table, p, packed), channel)
            store(packed, p * width + lane, load_first(row, lane, valid - lane, zero))


@kernel
def conv_weight(
    block,
    scratch,
    source: "T*",
    grad_output: "T*",
    partial: "T*",
    zeros: "T*",
    g: "WeightConv",
    s: "Sources",
):
    """One block: a chunk of positions, some left channels, panels and taps.

    ``partial[chunk][co][ci][tap]`` receives the chunk's sum.
    """
    taps = s.taps_d * s.taps_h * s.taps_w
    blocks = g.groups * g.tap_blocks * g.panel_blocks * g.left_blocks
    chunk = block // blocks
    part = _part(block - chunk * blocks, taps, g)
    tiles = (part.left + MAX_ROWS - 1) // MAX_ROWS

    copies = cast(offset(scratch, TABLE_SLOTS + PANEL_SLOTS), source)
    sums = offset(copies, tiles * g.left_step)
    sums_row = part.panels * g.width
    row = g.groups * g.out_channels
    out = offset(partial, (chunk * row + part.group * g.out_channels) * g.in_channels * taps)
    channels = offset(grad_output, part.group * g.out_channels)
    gradients, inputs = scratch, offset(scratch, MAX_POINTS)
    if g.swapped:
        gradients, inputs = inputs, gradients

    straight = taps == 1 and g.swapped == 0  # sums lie as they do in the gradient
    for first in range(part.tap, part.last_tap, g.together):  # 4th loop: taps that share steps
        last = min(first + g.together, part.last_tap)
        box = box_of_taps(first, last, g.samples, s)
        x_box, y_box = in_box(box, s), in_box(box, points_themselves(s, row))
        point, end = chunk * box.points // g.chunks, (chunk + 1) * box.points // g.chunks
        fresh = 1
        while point < end or fresh:  # 3rd loop: steps over the positions
            steps = max(1, (end - point + g.step - 1) // g.step)
            points = (end - point + steps - 1) // steps
            ends = point + points == end and last == part.last_tap
            _list_sources(gradients, point, points, 0, channels, zeros, y_box)
            if g.swapped:
                _list_sources(inputs, point, points, 0, source, zeros, x_box)
            _copy_left(scratch, copies, points, tiles, part, g)
            if ends and g.swapped == 0 and taps > 1:  # what these rows' list is for from here on
                place = (part.first_left * g.in_channels + part.first_panel * g.width) * taps + part.tap
                _list_rows(scratch, offset(out, place), part.left, g.in_channels * taps)
            for tap in range(first, last):  # 2nd loop: taps
                if g.swapped == 0:
                    _list_sources(inputs, point, points, tap, source, zeros, x_box)
                for panel in range(part.panels):  # 1st loop: panels
                    into, stride = offset(sums, (tap - part.tap) * _tap_sums(part, g) + panel * g.width), sums_row
                    if straight:
                        into, stride = sums, g.width  # of a last panel that is not whole
                        if (part.first_panel + panel + 1) * g.width <= g.in_channels:
                            place = part.first_left * g.in_channels + (part.first_panel + panel) * g.width
                            into, stride = offset(out, place), g.in_channels
                    asks = _asks(tap - first, last - first, panel, points, ends, taps, part, g)
                    _add_panel(scratch, copies, fresh, into, stride, points, tiles, panel, asks, part, g)
            point += points
            fresh = 0
    if g.swapped:
        _put_columns(out, sums, part, g)
    elif straight:
        _put_last(out, sums, part, g)
    else:
        _put_rows(out, sums, taps, part, g)


@device
def _tap_sums(part, g):
    """Elements from the sums of a tap to the next one's.

    A line more than there are, for else the same lines of all taps would often fall into the same places of the caches.
    """
    return part.left * part.panels * g.width + g.line


@device
def _left_channel(part, g):
    """The first left channel of a block in a row of its side; the gradient's rows are listed from their group on."""
    return part.first_left + (part.group * g.in_channels if g.swapped else 0)


@device
def _copy_left(table, copies, points, tiles, part, g):
    """Copy the left channels of a step, each tile's behind the other's.

    A few rows at a time, for more of them, a power of two apart, would push each other out of the first cache before
    the next tile's channels are read. Whole vectors are stored: what is too much is overwritten by the next row.
    """
    channel, n = _left_channel(part, g), lanes(copies)
    zero = splat(copies, 0.0)
    fewest = part.left // tiles
    longer = part.left - fewest * tiles
    for start in range(0, points, ROWS_TOGETHER):
        end = min(start + ROWS_TOGETHER, points)
        for p in range(end, min(end + ROWS_TOGETHER, points)):
            row = offset(load_pointer(table, p, copies), channel)
            for i in range(0, part.left, g.line):
                prefetch_read(row, i)
        target, first = copies, 0
        for tile in range(tiles):
            left = part.left - first
            for p in range(start, end):
                row = offset(load_pointer(table, p, copies), channel + first)
                for lane in range(0, MAX_ROWS, n):
                    if left >= MAX_ROWS + n:
                        store(target, p * MAX_ROWS + lane, load(row, lane))
                    else:
                        store(target, p * MAX_ROWS + lane, load_first(row, lane, left - lane, zero))
            target, first = offset(target, g.left_step), first + (fewest + 1 if tile < longer else fewest)


@device
def _asks(tap, together, panel, points, ends, taps, part, g):
    """What the tiles of a panel ask for. `tap` counts the taps that share the step, `together` of them.

    Of the right rows, the next panel of this step; after the last one, or with the last tap, that of the next step.
    Of the left rows, a share of the next step's: each tap and panel has its own. In the last step, their list names
    the rows of the gradient.
    """
    right = (part.first_panel + panel) * g.width + (0 if g.swapped else part.group * g.in_channels) + g.width
    if panel + 1 == part.panels or (tap > 0 and tap + 1 == together):
        right += g.step * g.groups * g.out_channels if g.swapped else g.ahead
        right -= (panel + 1 if tap == 0 else 1) * g.width
    left = _left_channel(part, g) + (g.ahead if g.swapped else g.step * g.groups * g.out_channels)
    turn, turns = tap * part.panels + panel, together * part.panels
    rows = max(1, points // UNROLL)
    line = ASKED_LINES * g.line
    parts, lines = UNROLL, (part.left + line - 1) // line
    if ends:
        left, parts = 0, (part.left + rows - 1) // rows
        lines = 0 if g.swapped or taps == 1 else (part.panels * g.width * taps + line - 1) // line
    wanted = parts * lines if g.asks or ends else 0
    return Asks(
        rows, right + g.line - 1, g.asks * UNROLL * g.width // line,
        left, parts, turn * wanted // turns, (turn + 1) * wanted // turns,
    )  # fmt: skip


@device
def _asked(asks, tile, g):
    """Slots of the first row that a tile asks for and between one row and the next, and the place in these rows."""
    if tile < asks.right_tiles:
        return MAX_POINTS + tile % UNROLL * asks.rows, 1, asks.right + tile // UNROLL * ASKED_LINES * g.line
    tile += asks.left_begin - asks.right_tiles
    if tile < asks.left_end:
        return tile % asks.left_parts * asks.rows, 1, asks.left + tile // asks.left_parts * ASKED_LINES * g.line
    return 0, 0, 0  # nothing: the same line all the time


@device
def _add_panel(table, copies, fresh, sums, stride, points, tiles, panel, asks, part, g):
    """Add what a step contributes to the sums of one tap and panel, rows of them `stride` elements apart."""
    right = g.out_channels if g.swapped else g.in_channels
    first = (part.first_panel + panel) * g.width
    channel = first + (0 if g.swapped else part.group * g.in_channels)
    rows = offset(table, MAX_POINTS)
    packed = cast(offset(table, TABLE_SLOTS), sums)
    whole = first + g.width <= right
    if not whole:
        _copy_channels(packed, rows, points, channel, right - first, g.width)
    fewest = part.left // tiles
    longer = part.left - fewest * tiles
    for tile in range(tiles):
        count = fewest + 1 if tile < longer else fewest
        if tile == 0 and whole:
            listed_outer_tile(count, copies, MAX_ROWS, rows, channel, packed, points, fresh, sums, stride)
        else:
            slot, slots, place = _asked(asks, tile - 1, g)
            soon = offset(table, slot)
            packed_outer_tile(count, copies, MAX_ROWS, packed, points, fresh, sums, stride, soon, slots, place)
        copies, sums = offset(copies, g.left_step), offset(sums, count * stride)


@device
def _put_last(out, sums, part, g):
    """``out[co][ci]`` from ``sums[co][lane]`` for a last panel that is not whole."""
    first = (part.first_panel + part.panels - 1) * g.width
    valid = min(g.width, g.in_channels - first)
    for i in range(part.left if valid < g.width else 0):
        target = (part.first_left + i) * g.in_channels + first
        for lane in range(0, valid, lanes(sums)):
            store_first(out, target + lane, load(sums, i * g.width + lane), valid - lane)


@device
def _put_rows(out, sums, taps, part, g):
    """``out[co][ci][tap]`` from ``sums[tap][co][ci]``; what the next `co` gets is asked for: it lies far away."""
    count, first = part.last_tap - part.tap, part.first_panel * g.width
    sums_row, row = part.panels * g.width, g.in_channels * taps
    valid = min(sums_row, g.in_channels - first)
    for i in range(part.left):
        target = (part.first_left + i) * row + first * taps + part.tap
        for line in range(0, valid * taps, g.line):
            prefetch_write(out, target + row + line)
        copy_transposed(
            as_integers(sums), i * sums_row, _tap_sums(part, g), as_integers(out), target, taps, count, valid
        )


@device
def _put_columns(out, sums, part, g):
    """``out[co][ci]`` from ``sums[ci][co]``."""
    first, sums_row = part.first_panel * g.width, part.panels * g.width
    valid = min(sums_row, g.out_channels - first)
    target = first * g.in_channels + part.first_left
    copy_transposed(as_integers(sums), 0, sums_row, as_integers(out), target, g.in_channels, part.left, valid)


@kernel
def add_chunks(block, partial: "T*", out: "T*", size: "int64", chunks: "int64", step: "int64"):
    """One block: `step` of the gradient's `size` elements, the chunks' sums added in order.

    A cache line of every chunk at a time, for chunks are often powers of two apart.
    """
    n = lanes(partial)
    i, end = block * step, min(size, (block + 1) * step)
    while i + 2 * n <= end:
        a, b = load(partial, i), load(partial, i + n)
        for chunk in range(1, chunks):
            place = chunk * size + i
            a, b = a + load(partial, place), b + load(partial, place + n)
        store(out, i, a)
        store(out, i + n, b)
        i += 2 * n
    for j in range(i, end):
        total = partial[j]
        for chunk in range(1, chunks):
            total += partial[chunk * size + j]
        out[j] = total
