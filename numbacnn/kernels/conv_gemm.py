"""Convolution as indirect GEMM over channels-last memory, for any rank, stride, dilation, padding and direction.

One *lattice* of destination rows is filled: for every lattice point the sum over taps of a source row times a weight
block. What a tap of a lattice point reads is a matter of a few integers per axis (see `sources`), so forward
convolution, every phase of a strided backward-data, and every padding mode are the same loop with other integers.

Groups of as many destination channels as a vector has lanes go through in pairs: each fills one of a tile's vectors.

After Dukhan, "The Indirect Convolution Algorithm" (2019), with BLIS's blocking of the reduction and the columns.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from ._serial import SCRATCH_SLOTS
from .columns import PACK_AHEAD, pack_lanes
from .finish import finish_row
from .pointer import cast, is_other, load_pointer, offset, prefetch_read, prefetch_write, store_pointer
from .runs import ask_for, even_part
from .simd import lanes as lanes_of
from .simd import load, store
from .sources import Sources, following_row, locate, put_sources, put_steps
from .tile import MAX_ROWS, MIN_GEMM_ROWS, dot_tile, gemm_panels_tile, paired_gemm_tile

# Vectors of a row of weights from what is packed to what is asked for: eight cache lines.
ASKED_VECTORS = 16

# The scratch: where each tile's table begins; where each tap of a block of taps finds its source and its weights; the
# tables of all row tiles; then the weights packed here.
MAX_TAPS = 64
MAX_TILES = 128
TAP_WEIGHTS = MAX_TILES
FIRST_TABLE = TAP_WEIGHTS + MAX_TAPS
TABLE_SLOTS = FIRST_TABLE + 12 * 1024
OWN_BYTES = 8 * (SCRATCH_SLOTS - TABLE_SLOTS)
TABLE_HEADER = 3


class GemmConv(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    points: int  # lattice points of the whole batch
    groups: int  # or pairs of groups
    run: int  # source channels summed over per tap: those of one group
    pair: int  # source channels from one group of a pair to the other; 0: groups go through one by one
    group_run: int  # source channels from one group, or pair, to the next
    lanes: int  # destination channels of one group, or pair
    out_n: int  # destination elements between samples and between lattice points, by axis
    out_d: int
    out_h: int
    out_w: int
    vector: int  # lanes of one vector
    width: int  # lanes of a panel of packed weights
    weight_taps: int  # taps that the packed weights hold
    weight_first: int  # which of them the first tap has, and how many further those of the next along each axis are
    weight_d: int
    weight_h: int
    weight_w: int
    panels: int  # panels per group
    panel_blocks: int  # blocks of the panels of all groups
    point_blocks: int
    together: int  # points that are dealt out to tiles together: those of a line; 1: those of a block
    tap_block: int
    run_block: int
    packs: int  # 1: weights come as the user has them and each block packs what it needs; 0: they come packed
    run_stride: int  # of unpacked weights, in elements: between source channels, destination channels, groups
    lane_stride: int
    group_stride: int  # or pairs of groups
    pair_stride: int  # between the groups of a pair; 0: there are no pairs
    panels_together: int  # panels that each tile meets in turn: their weights stay in L2 while all tiles pass
    dots: int  # 1: at most two destination channels at a time, vectors along the source channels; 0: full tiles
    tap_order: int  # 1: taps are packed in the kernel's order; -1: backwards
    merges: int  # 1: taps along W that lie inside the source read one stretch of memory, in step with packed weights
    adds: int  # 1: to what the destination holds; 0: to the bias
    copies_d: int  # everything is summed again so often, each time one source coordinate further
    copies_h: int
    copies_w: int


@device
def _merges(w, first, rows, g, s):
    """Whether all taps along W lie inside the source for all of `rows` lattice points from column `w` on."""
    if g.merges == 0:
        return False
    for _ in range(rows):
        at = first + w * s.slope_w
        if at < 0 or at + (s.taps_w - 1) * s.spread_w >= s.size_w:
            return False
        w += 1
        if w == s.points_w:
            w = 0
    return True


@device
def _drop_zeros(table, slot, entries, rows, zeros):
    """Drop from the table of a tile, whose first tap is at `slot`, the taps that read zeros for all of its points."""
    kept = slot
    for entry in range(slot, slot + entries * (rows + 1), rows + 1):
        needed = False
        for i in range(rows):
            needed |= is_other(table, entry + i, zeros)
        if needed:
            for i in range(rows + 1):
                table[kept + i] = table[entry + i]
            kept += rows + 1
    return (kept - slot) // (rows + 1)


@device
def _put_tables(table, point, tiles, stretch, copy, tap, last, source, weight, tap_step, out, zeros, g, s):
    """Fill the tables of all row tiles of a block of points, for the taps from `tap` to `last`.

    Every `stretch` points are dealt out to tiles of their own.

    Slot `tile` says where the tile's table begins. A table is: number of points, pointers per point, taps that each
    stands for, then what `gemm_tile` reads. Weights of successive taps lie `tap_step` elements apart. Where possible a
    whole line of taps along W is one long tap.
    """
    n, d, h, w = locate(point, s)
    first_w = s.first_w + copy % g.copies_w
    copy //= g.copies_w
    first_h = s.first_h + copy % g.copies_h
    first_d = s.first_d + copy // g.copies_h
    put_steps(table, TAP_WEIGHTS, tap, last, g.weight_d, g.weight_h, g.weight_w, s)
    slot, tiles_of_stretch = FIRST_TABLE, (stretch + MAX_ROWS - 1) // MAX_ROWS
    for tile in range(tiles):
        table[tile] = slot
        valid = even_part(tile % tiles_of_stretch, tiles_of_stretch, stretch)[1]
        rows = max(valid, MIN_GEMM_ROWS)
        merged = s.taps_w if _merges(w, first_w, valid, g, s) else 1
        entries = (last - tap) // merged
        table[slot] = valid
        table[slot + 1] = entries
        table[slot + 2] = merged
        slot += TABLE_HEADER
        i, blank = 0, 0
        while i < valid:  # as many points as lie side by side
            count = min(valid - i, s.points_w - w)
            row = offset(out, n * g.out_n + d * g.out_d + h * g.out_h)
            for k in range(count):
                store_pointer(table, slot + i + k, offset(row, (w + k) * g.out_w))
            blank += put_sources(
                table,
                slot + rows + i,
                rows + 1,
                count,
                offset(source, n * s.stride_n),
                zeros,
                first_d + d * s.slope_d,
                first_h + h * s.slope_h,
                first_w + w * s.slope_w,
                tap,
                last,
                merged,
                s,
            )
            i, w = i + count, w + count
            if w == s.points_w:
                w = 0
                n, d, h = following_row(n, d, h, s)
        for i in range(valid, rows):  # too few rows: the last is repeated
            table[slot + i] = table[slot + valid - 1]
            for entry in range(slot + rows, slot + rows + entries * (rows + 1), rows + 1):
                table[entry + i] = table[entry + valid - 1]
        slot += rows
        for entry in range(entries):
            place = (g.weight_first + table[TAP_WEIGHTS + entry * merged]) * tap_step
            store_pointer(table, slot + entry * (rows + 1) + rows, offset(weight, place))
        if blank > 0:
            entries = _drop_zeros(table, slot, entries, rows, zeros)
            table[slot - rows - TABLE_HEADER + 1] = entries
        slot += entries * (rows + 1)


@device
def _multiply(tables, slot, x_offset, run, w_offset, out_offset, start, held, lanes, g):
    """The row tile whose table begins at `slot` times one panel: on the tile that this launch is made for.

    `run` source channels are summed over per tap, from `x_offset` and `w_offset` on, and added to what the destination
    holds if `held`, else to `start`.
    """
    valid, pointers, stretch = tables[slot], tables[slot + 1], run * tables[slot + 2]
    rows = max(valid, MIN_GEMM_ROWS)
    table = offset(tables, slot + TABLE_HEADER)
    if g.dots:
        panel_step = g.weight_taps * g.run
        dot_tile(
            rows, valid, lanes, table, pointers, x_offset, stretch, w_offset, panel_step, out_offset, start, held
        )  # fmt: skip
    elif g.pair > 0:
        paired_gemm_tile(
            rows, table, pointers, x_offset, g.pair, stretch, w_offset, g.width, out_offset, start, held, lanes
        )  # fmt: skip
    else:
        w_panel = g.weight_taps * g.width * (g.run_block if g.packs else g.run)
        gemm_panels_tile(
            rows, lanes > g.vector, table, pointers, x_offset, stretch, w_offset, g.width, w_panel, out_offset, start,
            held, lanes,
        )  # fmt: skip


@kernel
def conv_gemm(
    block,
    scratch,
    source: "T*",
    weight: "T*",
    bias: "T*",
    out: "T*",
    zeros: "T*",
    residual: "int64",
    activation: "int64",
    g: "GemmConv",
    s: "Sources",
):
    """One block: a range of lattice points x a range of weight panels, those of all groups numbered through.

    `zeros` is as long as the longest stretch of the source that one pointer stands for. What follows the sums is told
    by `residual` and `activation`: see `finish_row`.
    """
    first, points = even_part(block // g.panel_blocks, g.point_blocks, g.points // g.together)
    first_panel, panel_count = even_part(block % g.panel_blocks, g.panel_blocks, g.groups * g.panels)
    last_panel = first_panel + panel_count
    stretch, stretches = (points, 1) if g.together == 1 else (g.together, points)
    tiles = stretches * ((stretch + MAX_ROWS - 1) // MAX_ROWS)
    taps = s.taps_d * s.taps_h * s.taps_w
    panel_elements = g.weight_taps * g.run * g.width
    own = cast(offset(scratch, TABLE_SLOTS), weight)
    tap_weights = own if g.packs else weight
    tap_step = g.run if g.dots else (g.run_block if g.packs else g.run) * g.width

    finishes = residual != 0 or activation != 0
    asks = g.dots != 0 or g.pair > 0  # other tiles ask for what comes next themselves
    tap, copy = 0, 0
    while True:  # 4th loop: blocks of taps, as often as everything is summed
        last = min(tap + g.tap_block, taps)
        point = first * g.together
        _put_tables(
            scratch, point, tiles, stretch, copy, tap, last, source, tap_weights, tap_step, out, zeros, g, s
        )  # fmt: skip
        held = g.adds + copy + tap
        for channel in range(0, g.run, g.run_block):  # 3rd loop: blocks of source channels
            run = min(g.run_block, g.run - channel)
            # 2nd and 1st loop: tiles of lattice points, whose rows stay in L1, times some panels, and then others.
            tile, panel, begin = 0, first_panel, first_panel
            end = min(begin + g.panels_together, last_panel)
            while begin < last_panel:
                group = panel // g.panels if g.groups > 1 else 0
                lane = (panel - group * g.panels) * g.width
                alike = _panels_alike(panel - group * g.panels, end - panel, g)
                lanes = min(alike * g.width, g.lanes - lane)
                x_offset = group * g.group_run + channel
                w_offset = panel * panel_elements + channel * g.width
                if g.packs:
                    w_offset = (panel - begin) * g.weight_taps * tap_step
                    for i in range(alike if tile == 0 else 0):
                        packed, one = offset(own, w_offset + i * g.weight_taps * tap_step), i * g.width
                        valid = min(g.width, lanes - one)
                        _pack(weight, packed, group, lane + one, valid, channel, run, g.run_block, g)
                out_offset = group * g.lanes + lane
                if tile + 1 < tiles:
                    next_table = scratch[tile + 1] + TABLE_HEADER
                    if asks and panel == begin and (begin == first_panel or g.panels_together > 1):
                        _ask_for_rows(scratch, next_table, source, x_offset, run)
                    _ask_for_results(scratch, next_table, source, out_offset)
                start = offset(bias, panel * g.width)
                _multiply(scratch, scratch[tile], x_offset, run, w_offset, out_offset, start, held + channel, lanes, g)
                if finishes and last == taps and channel + run == g.run:
                    _finish_tile(scratch, scratch[tile], out, out_offset, lanes, residual, activation)
                panel += alike
                if panel == end:
                    panel, tile = begin, tile + 1
                    if tile == tiles:
                        tile, panel, begin = 0, end, end
                        end = min(begin + g.panels_together, last_panel)
        tap = last
        if tap >= taps:
            tap, copy = 0, copy + 1
            if copy >= g.copies_d * g.copies_h * g.copies_w:
                break


@device
def _panels_alike(number, most, g):
    """How many panels of a group, from panel `number` on, one tile multiplies: at most `most`."""
    if g.dots or g.pair > 0:
        return 1
    left = g.panels - number
    if left > 1 and g.lanes - (g.panels - 1) * g.width <= g.vector < g.width:  # the last is a single vector
        left -= 1
    return min(left, most)


@device
def _finish_tile(tables, slot, like, out_offset, lanes, residual, activation):
    """Finish what the row tile whose table begins at `slot` has written."""
    for i in range(tables[slot]):
        row = load_pointer(tables, slot + TABLE_HEADER + i, like)
        finish_row(offset(row, out_offset), lanes, residual, activation)


@device
def _ask_for_results(tables, table, like, out_offset):
    """Ask for the lines that the tile whose table begins at slot `table` will write."""
    for i in range(tables[table - TABLE_HEADER]):
        prefetch_write(load_pointer(tables, table + i, like), out_offset)


@device
def _ask_for_rows(tables, table, like, x_offset, run):
    """Ask for the lines that the tile whose table begins at slot `table` newly reads, `run` elements of each row.

    What no tile before it has read is what its last tap reads: the rest came with the rows above and to the left.
    """
    entries = tables[table - 2]
    if entries > 0:
        rows = max(tables[table - 3], MIN_GEMM_ROWS)
        last = table + rows + (entries - 1) * (rows + 1)
        first = x_offset + (tables[table - 1] - 1) * run
        for i in range(rows):
            ask_for(offset(load_pointer(tables, last + i, like), first), run)


@device
def _pack_lanes(weight, packed, run, packed_run, valid, filled, g):
    """``packed[tap][r][lane] = weight[lane][r][tap]`` for one panel. Lanes from `valid` to `filled` get any numbers.

    `packed` has room for `packed_run` >= `run` channels per tap, and for `width` lanes. If `tap_order` is -1, tap 0 is
    packed last.
    """
    n, taps, width, lane_stride = lanes_of(weight), g.weight_taps, g.width, g.lane_stride
    row = packed_run * width * g.tap_order
    packed = offset(packed, 0 if g.tap_order == 1 else (1 - taps) * row)
    together = run if g.run_stride == taps else 1  # source channels whose taps lie one after the other
    for r in range(0, run, together):
        source, out = offset(weight, r * g.run_stride), offset(packed, r * width)
        if taps == 1 and lane_stride == 1 and valid == filled:
            prefetch_read(source, min(PACK_AHEAD, run - 1 - r) * g.run_stride)
            prefetch_write(out, PACK_AHEAD * width)
            for lane in range(0, filled, n):
                store(out, lane, load(source, lane))
            continue
        # Lines of the same rows, or else of the source channels that follow.
        ahead = ASKED_VECTORS * n if together == run else min(PACK_AHEAD, run - 1 - r) * g.run_stride
        pack_lanes(source, lane_stride, ahead, together * taps, taps, out, width, row, valid, filled)


@device
def _pack(weight, packed, group, lane, valid, channel, run, packed_run, g):
    """Pack `run` source channels from `channel` on of the panel that begins at `lane`: see `_pack_lanes`.

    Of a pair of groups, each fills one half of the lanes.
    """
    source = offset(weight, group * g.group_stride + lane * g.lane_stride + channel * g.run_stride)
    if g.pair_stride == 0:
        _pack_lanes(source, packed, run, packed_run, valid, g.width, g)
        return
    half = g.width // 2
    for k in range(2):
        _pack_lanes(offset(source, k * g.pair_stride), offset(packed, k * half), run, packed_run, half, half, g)


@kernel
def pack_weights(block, weight: "T*", packed: "T*", g: "GemmConv"):
    """One block: one panel, ``packed[panel][tap][r][lane]``; see `_pack`."""
    group = block // g.panels
    lane = (block - group * g.panels) * g.width
    out = offset(packed, block * g.weight_taps * g.run * g.width)
    _pack(weight, out, group, lane, min(g.width, g.lanes - lane), 0, g.run, g.run, g)
