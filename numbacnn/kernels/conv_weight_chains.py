"""The weight gradient of few channels, read where they lie: taps along W share what they read, in chains.

``dW[co][ci][tap]`` sums ``dY[position][co] * x[position + tap][ci]``. A block owns some panels, a vector of output
channels each, and keeps their gradient in its thread's scratch (L2) while it walks over the positions, some lines of a
plane at a time, whose gradients fit L1: the rows of x that these read are listed once, a pointer for each line, kernel
row and input channel, and every chain of taps runs the tile over all of them. Padding along W and D is left out; along
H, there are zeros to be read.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from ._serial import SCRATCH_SLOTS
from .chain_weight_tile import MOST_LINKS, MOST_ROWS, chain_weight_tile
from .layout import copy_transposed
from .pointer import as_integers, cast, offset, store_pointer
from .runs import clear_run, even_part
from .simd import load, load_first, splat, store
from .tile import MAX_LANES

MOST_POINTS = 256  # positions at a time: a panel's gradients then fill a third of L1
# The scratch: pointers; gradients of a panel; sums.
TABLE_SLOTS = 8192
PACK_SLOTS = MOST_POINTS * MAX_LANES // 4
SUM_SLOTS = SCRATCH_SLOTS - TABLE_SLOTS - PACK_SLOTS


class ChainsConv(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    channels: int
    in_n: int  # input elements per sample, plane and row
    in_d: int
    in_h: int
    size_d: int  # input planes, rows and columns
    size_h: int
    size_w: int
    pad_d: int  # zeros before the first of them
    pad_h: int
    pad_w: int
    out_d: int  # output planes, rows and columns
    out_h: int
    out_w: int
    stride_d: int
    stride_h: int
    stride_w: int
    dilation_d: int
    dilation_h: int
    taps_d: int
    taps_h: int
    taps_w: int
    row_blocks: int  # parts that output rows and columns are cut into
    column_blocks: int
    blocks: int  # parts of all positions
    chunks: int  # of these, each with a partial sum
    lanes: int  # output channels
    width: int  # lanes of a panel
    panels: int
    panel_blocks: int  # parts that panels are cut into


class Soon(NamedTuple):
    """What is needed soon: the first element of each side, and how many."""

    x: int
    x_count: int
    y: int
    y_count: int


@kernel
def conv_weight_chains(
    block,
    scratch,
    source: "T*",
    grad_output: "T*",
    partial: "T*",
    zeros: "T*",
    g: "ChainsConv",
    places: "int64*",
):
    """One block: the sum over a chunk of the positions, for some panels of output channels.

    ``partial[chunk][co][ci][tap]`` receives it. `places` says where among a panel's sums, ``[ci][tap][lane]``, those of
    each plane and row of taps and input channel begin. A whole row of the input can be read from `zeros`.
    """
    first_panel, panels = even_part(block % g.panel_blocks, g.panel_blocks, g.panels)
    chunk = block // g.panel_blocks
    first_block, blocks = even_part(chunk, g.chunks, g.blocks)
    count = g.channels * g.taps_d * g.taps_h * g.taps_w
    packed = cast(offset(scratch, TABLE_SLOTS), source)
    sums = cast(offset(scratch, TABLE_SLOTS + PACK_SLOTS), source)
    clear_run(sums, panels * count * g.width)
    for b in range(first_block, first_block + blocks):  # 4th loop: blocks of positions
        column, columns = even_part(b % g.column_blocks, g.column_blocks, g.out_w)
        b //= g.column_blocks
        row, lines = even_part(b % g.row_blocks, g.row_blocks, g.out_h)
        plane = b // g.row_blocks
        first_d, last_d = _list_rows(scratch, plane, row, lines, source, zeros, g)
        point = (plane * g.out_h + row) * g.out_w + column
        soon = _soon(plane, row, lines, column, columns, last_d, point, g)
        for panel in range(panels if first_d < last_d else 0):  # 3rd loop: panels of output channels
            lane = (first_panel + panel) * g.width
            _pack_panel(packed, offset(grad_output, point * g.lanes + lane), lines, columns, g.lanes - lane, g)
            into = offset(sums, panel * count * g.width)
            first, asked = even_part(panel, panels, soon.y_count)
            x_first, x_asked = even_part(panel, panels, soon.x_count)
            soon_x, soon_y = offset(source, soon.x + x_first), offset(grad_output, soon.y + first)
            _add_points(
                scratch, packed, lines, column, columns, first_d, last_d, places, into,
                soon_x, x_asked, soon_y, asked, g,
            )  # fmt: skip
    for panel in range(panels):
        lane = (first_panel + panel) * g.width
        copy_transposed(
            as_integers(sums), panel * count * g.width, g.width, as_integers(partial), (chunk * g.lanes + lane) * count,
            count, count, min(g.width, g.lanes - lane),
        )  # fmt: skip


@device
def _list_rows(table, plane, row, lines, source, zeros, g):
    """``table[line][(kd, kh, ci)]``: the row of x that is read, for the planes of taps that read any.

    Returns the first of these, and one beyond the last.
    """
    n = plane // g.out_d
    d = (plane - n * g.out_d) * g.stride_d - g.pad_d
    first_d = min((max(-d, 0) + g.dilation_d - 1) // g.dilation_d, g.taps_d)
    last_d = min((max(g.size_d - d, 0) + g.dilation_d - 1) // g.dilation_d, g.taps_d)
    for line in range(lines):
        h = (row + line) * g.stride_h - g.pad_h
        entry = (line * g.taps_d + first_d) * g.taps_h * g.channels
        for kd in range(first_d, last_d):
            sample = offset(source, n * g.in_n + (d + kd * g.dilation_d) * g.in_d)
            for kh in range(g.taps_h):
                source_h = h + kh * g.dilation_h
                inside = source_h >= 0 and source_h < g.size_h
                first = offset(sample, source_h * g.in_h) if inside else zeros
                for ci in range(g.channels):
                    store_pointer(table, entry + ci, offset(first, ci))
                entry += g.channels
    return first_d, last_d


@device
def _soon(plane, row, lines, column, columns, last_d, point, g):
    """What the next positions read first, roughly: it begins where that of these positions ends."""
    n = plane // g.out_d
    d = (plane - n * g.out_d) * g.stride_d - g.pad_d + (last_d - 1) * g.dilation_d
    h = (row + lines - 1) * g.stride_h - g.pad_h + (g.taps_h - 1) * g.dilation_h
    w = (column + columns) * g.stride_w * g.channels
    x = n * g.in_n + d * g.in_d + h * g.in_h + w
    count = lines * columns * g.lanes
    return Soon(x, lines * g.stride_h * g.in_h // g.column_blocks, point * g.lanes + count, count)


@device
def _pack_panel(packed, y, lines, columns, valid, g):
    """The gradients of a panel, of which `valid` lanes exist or more, position after position; zero beyond the last."""
    zero = splat(packed, 0.0)
    for line in range(lines):
        first, to = line * g.out_w * g.lanes, line * columns * g.width
        if valid >= g.width:
            for p in range(columns):
                store(packed, to + p * g.width, load(y, first + p * g.lanes))
        else:
            for p in range(columns):
                store(packed, to + p * g.width, load_first(y, first + p * g.lanes, valid, zero))


@device
def _add_points(
    table, y, lines, column, columns, first_d, last_d, places, sums, soon_x, x_count, soon_y, y_count, g
):  # fmt: skip
    """Add what some positions contribute to the sums of a panel: chain by chain.

    Every tile asks for its share of what is needed soon: many lines at a time would keep what it reads itself waiting.
    """
    rows_d = g.taps_h * g.channels
    first, rows = first_d * rows_d, (last_d - first_d) * rows_d
    tiles = (rows + MOST_ROWS - 1) // MOST_ROWS
    turn, turns = 0, tiles * ((g.taps_w + MOST_LINKS - 1) // MOST_LINKS)
    y_turns = max(1, turns * y_count // (x_count + y_count))
    for phase in range(min(g.stride_w, g.taps_w)):
        taps = (g.taps_w - phase + g.stride_w - 1) // g.stride_w
        chains = (taps + MOST_LINKS - 1) // MOST_LINKS
        for chain in range(chains):
            tap, links = even_part(chain, chains, taps)
            tap = phase + tap * g.stride_w
            # The column of x that the first link reads for the first point, and which elements from there on exist.
            w = column * g.stride_w + tap - g.pad_w
            begin = (max(-w, 0) + g.stride_w - 1) // g.stride_w
            end = min((max(g.size_w - w, 0) + g.stride_w - 1) // g.stride_w, columns + links - 1)
            for tile in range(tiles):
                row, count = even_part(tile, tiles, rows)
                row += first
                if turn < y_turns:
                    begins, asked = even_part(turn, y_turns, y_count)
                    soon = offset(soon_y, begins)
                else:
                    begins, asked = even_part(turn - y_turns, max(1, turns - y_turns), x_count)
                    soon = offset(soon_x, begins)
                turn += 1
                chain_weight_tile(
                    count, links, offset(table, row), g.taps_d * rows_d, w * g.channels, g.stride_w * g.channels,
                    y, lines, columns, begin, end,
                    offset(places, row), offset(sums, tap * g.width), g.stride_w * g.width,
                    soon, asked // (lines * columns) + 1,
                )  # fmt: skip
