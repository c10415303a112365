"""Convolution as indirect GEMM over channels-last memory, for any rank, stride, dilation, padding and direction.

One *lattice* of destination rows is filled: for every lattice point the sum over taps of a source row times a weight
block. What a tap of a lattice point reads is decided by three small tables, one per axis, so forward convolution,
every phase of a strided backward-data, and every padding mode are the same loop with other tables.

After Dukhan, "The Indirect Convolution Algorithm" (2019), with BLIS's blocking of the reduction and the columns.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .layout import copy_transposed
from .pointer import as_integers, cast, load_pointer, offset, prefetch_read, prefetch_write, store_pointer
from .simd import lanes as lanes_of
from .simd import load, store
from .tile import MAX_LANES, MAX_ROWS, MIN_GEMM_ROWS, dot_tile, gemm_tile

PACK_COLUMNS = 128  # columns that packing transposes at a time: long enough stretches, and their buffer stays in L1

# The scratch: where each tile's table begins, the tables of all row tiles for one block of taps; then the transposition
# buffer and the weights packed here.
FIRST_TABLE = 64
TABLE_SLOTS = FIRST_TABLE + 12 * 1024
TABLE_HEADER = 2


class GemmConv(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    lattice_d: int  # lattice points per sample, by axis
    lattice_h: int
    lattice_w: int
    taps_d: int  # taps, by axis
    taps_h: int
    taps_w: int
    points: int  # lattice points of the whole batch
    groups: int
    run: int  # source channels summed over per tap: those of one group
    lanes: int  # destination channels of one group
    source_n: int  # source elements per sample
    out_n: int  # destination elements between samples and between lattice points, by axis
    out_d: int
    out_h: int
    out_w: int
    vector: int  # lanes of one vector
    width: int  # lanes of a panel of packed weights
    weight_taps: int  # taps that the packed weights hold
    panels: int  # panels per group
    panel_blocks: int  # blocks of the panels of all groups
    point_blocks: int
    tap_block: int
    run_block: int
    packs: int  # 1: weights come as the user has them and each block packs what it needs; 0: they come packed
    run_stride: int  # of unpacked weights, in elements: between source channels, destination channels, groups
    lane_stride: int
    group_stride: int
    rows_stay: int  # 1: the panels are the innermost loop; 0: the tiles are
    dots: int  # 1: at most two destination channels at a time, vectors along the source channels; 0: full tiles
    tap_order: int  # 1: taps are packed in the kernel's order; -1: backwards


@device
def _rows_of(tile, tiles, points):
    """First point of row tile number `tile`, and how many it has: dealt out evenly."""
    first = tile * points // tiles
    return first, (tile + 1) * points // tiles - first


@device
def _put_sources(table, slot, step, source, zeros, d, h, w, tap, last, index_d, index_h, index_w, g):
    """Put the pointers that one lattice point reads for the taps from `tap` to `last` into every `step`-th slot."""
    row = tap // g.taps_w
    kw = tap - row * g.taps_w
    kd = row // g.taps_h
    kh = row - kd * g.taps_h
    w *= g.taps_w
    while tap < last:
        offset_d = index_d[d * g.taps_d + kd]
        offset_h = index_h[h * g.taps_h + kh]
        count = min(g.taps_w - kw, last - tap)
        if offset_d < 0 or offset_h < 0:
            for _ in range(count):
                store_pointer(table, slot, zeros)
                slot += step
        else:
            line = offset(source, offset_d + offset_h)
            for i in range(w + kw, w + kw + count):
                offset_w = index_w[i]
                store_pointer(table, slot, offset(line, offset_w) if offset_w >= 0 else zeros)
                slot += step
        tap += count
        kw = 0
        kh += 1
        if kh == g.taps_h:
            kh, kd = 0, kd + 1


@device
def _put_lines(table, slot, step, source, zeros, d, h, w, index_d, index_h, index_w, g):
    """As `_put_sources` for a point whose taps along W lie one after the other: one pointer per line of taps."""
    offset_w = index_w[w * g.taps_w]
    for kd in range(g.taps_d):
        offset_d = index_d[d * g.taps_d + kd]
        for kh in range(g.taps_h):
            offset_h = index_h[h * g.taps_h + kh]
            inside = offset_d >= 0 and offset_h >= 0
            store_pointer(table, slot, offset(source, offset_d + offset_h + offset_w) if inside else zeros)
            slot += step


@device
def _merges(w, rows, lines_w, g):
    """Whether the taps along W lie one after the other for all of `rows` lattice points from column `w` on."""
    if lines_w[0] < 0:
        return False
    for _ in range(rows):
        if lines_w[w] == 0:
            return False
        w += 1
        if w == g.lattice_w:
            w = 0
    return True


@device
def _put_tables(
    table, point, points, tiles, tap, last, source, weight, tap_step, out, zeros,
    index_d, index_h, index_w, lines_w, tap_weight, g,
):  # fmt: skip
    """Fill the tables of all row tiles of a block of points, for the taps from `tap` to `last`.

    Slot `tile` says where the tile's table begins. A table is: number of taps, taps along W that each stands for, then
    what `gemm_tile` reads. Weights of successive taps lie `tap_step` elements apart. Where possible a whole line of
    taps along W is one long tap.
    """
    n = point // (g.lattice_d * g.lattice_h * g.lattice_w)
    point -= n * g.lattice_d * g.lattice_h * g.lattice_w
    d = point // (g.lattice_h * g.lattice_w)
    point -= d * g.lattice_h * g.lattice_w
    h = point // g.lattice_w
    w = point - h * g.lattice_w
    slot = FIRST_TABLE
    for tile in range(tiles):
        table[tile] = slot
        valid = _rows_of(tile, tiles, points)[1]
        rows = max(valid, MIN_GEMM_ROWS)
        merged = _merges(w, valid, lines_w, g)
        table[slot] = g.taps_d * g.taps_h if merged else last - tap
        table[slot + 1] = g.taps_w if merged else 1
        slot += TABLE_HEADER
        for i in range(rows):
            store_pointer(table, slot + i, offset(out, n * g.out_n + d * g.out_d + h * g.out_h + w * g.out_w))
            sample = offset(source, n * g.source_n)
            at = slot + rows + i
            if merged:
                _put_lines(table, at, rows + 1, sample, zeros, d, h, w, index_d, index_h, index_w, g)
            else:
                _put_sources(table, at, rows + 1, sample, zeros, d, h, w, tap, last, index_d, index_h, index_w, g)
            if i + 1 < valid or i + 1 == rows:  # too few rows: the last is repeated
                w += 1
                if w == g.lattice_w:
                    w, h = 0, h + 1
                    if h == g.lattice_h:
                        h, d = 0, d + 1
                        if d == g.lattice_d:
                            d, n = 0, n + 1
        slot += rows
        for t in range(tap, last, g.taps_w if merged else 1):
            slot += rows
            store_pointer(table, slot, offset(weight, tap_weight[t] * tap_step))
            slot += 1


@kernel
def conv_gemm(
    block,
    scratch,
    source: "T*",
    weight: "T*",
    bias: "T*",
    out: "T*",
    zeros: "T*",
    index_d: "int64*",
    index_h: "int64*",
    index_w: "int64*",
    lines_w: "int64*",
    tap_weight: "int64*",
    g: "GemmConv",
):
    """One block: a range of lattice points x a range of weight panels, those of all groups numbered through.

    `index_*[point, tap]` is the offset which that axis adds to the source, or -1 for padding; `lines_w[point]` is 1
    where all taps along W read one stretch of memory, in step with the packed weights (-1 at the front: never);
    `tap_weight[tap]` is the number of the tap in a panel of packed weights; `zeros` is as long as the longest stretch.
    """
    first, points = _rows_of(block // g.panel_blocks, g.point_blocks, g.points)
    first_panel, panel_count = _rows_of(block % g.panel_blocks, g.panel_blocks, g.groups * g.panels)
    tiles = (points + MAX_ROWS - 1) // MAX_ROWS
    taps = g.taps_d * g.taps_h * g.taps_w
    panel_elements = g.weight_taps * g.run * g.width
    buffer = cast(offset(scratch, TABLE_SLOTS), weight)
    own = offset(buffer, PACK_COLUMNS * MAX_LANES)
    tap_weights = own if g.packs else weight
    tap_step = g.run if g.dots else (g.run_block if g.packs else g.run) * g.width

    tap = 0
    while True:  # 4th loop: blocks of taps
        last = min(tap + g.tap_block, taps)
        _put_tables(
            scratch,
            first,
            points,
            tiles,
            tap,
            last,
            source,
            tap_weights,
            tap_step,
            out,
            zeros,
            index_d,
            index_h,
            index_w,
            lines_w,
            tap_weight,
            g,
        )
        for channel in range(0, g.run, g.run_block):  # 3rd loop: blocks of source channels
            run = min(g.run_block, g.run - channel)
            # 2nd and 1st loop: panels of destination channels and tiles of lattice points. Either a panel's weights
            # stay in L1 while all tiles pass, or a tile's rows stay while all panels pass.
            for step in range(panel_count * tiles):
                if g.rows_stay:
                    tile = step // panel_count
                    panel = first_panel + step - tile * panel_count
                else:
                    panel = step // tiles
                    tile = step - panel * tiles
                    panel += first_panel
                group = panel // g.panels
                lane = (panel - group * g.panels) * g.width
                lanes = min(g.width, g.lanes - lane)
                x_offset = group * g.run + channel
                w_offset = panel * panel_elements + channel * g.width
                if g.packs:
                    w_offset = 0
                    if tile == 0:
                        _pack_panel(
                            offset(weight, group * g.group_stride + lane * g.lane_stride + channel * g.run_stride),
                            own,
                            buffer,
                            g.weight_taps,
                            g.tap_order,
                            run,
                            g.run_block,
                            g.run_stride,
                            lanes,
                            g.lane_stride,
                            g.width,
                        )
                out_offset = group * g.lanes + lane
                if tile + 1 < tiles:
                    new_run = run if taps == 1 and panel == first_panel else 0
                    _prefetch_tile(scratch, scratch[tile + 1] + TABLE_HEADER, source, out_offset, x_offset, new_run)
                valid = _rows_of(tile, tiles, points)[1]
                rows = max(valid, MIN_GEMM_ROWS)
                table = scratch[tile] + TABLE_HEADER
                start = offset(bias, panel * g.width)
                if g.dots:
                    dot_tile(
                        rows,
                        valid,
                        lanes,
                        offset(scratch, table),
                        scratch[table - 2],
                        x_offset,
                        run * scratch[table - 1],
                        w_offset,
                        g.weight_taps * g.run,
                        out_offset,
                        start,
                        tap + channel,
                    )
                    continue
                gemm_tile(
                    rows,
                    lanes > g.vector,
                    offset(scratch, table),
                    scratch[table - 2],
                    x_offset,
                    run * scratch[table - 1],
                    w_offset,
                    g.width,
                    out_offset,
                    start,
                    tap + channel,
                    lanes,
                )
        tap = last
        if tap >= taps:
            break


@device
def _prefetch_tile(table, slot, like, out_offset, x_offset, run):
    """Ask for the lines that the next tile will write and, if its input rows are long and new, read."""
    for i in range(MIN_GEMM_ROWS):
        prefetch_write(load_pointer(table, slot + i, like), out_offset)
        source = load_pointer(table, slot + MAX_ROWS + i, like)
        for k in range(0, run, 64 // 4):
            prefetch_read(source, x_offset + k)


@device
def _pack_panel(weight, packed, buffer, taps, tap_order, run, packed_run, run_stride, valid, lane_stride, width):
    """``packed[tap][r][lane] = weight[tap + r * run_stride + lane * lane_stride]``, zero from lane `valid` on.

    `packed` has room for `packed_run` >= `run` channels per tap. If `tap_order` is -1, tap 0 is packed last.
    """
    vector = lanes_of(weight)
    if run_stride == taps and tap_order == 1:  # (r, tap) lie one after the other: transpose stretches of them
        for lane in range(valid, width):
            for q in range(PACK_COLUMNS):
                buffer[q * width + lane] = 0
        r, tap = 0, 0
        for q in range(0, run * taps, PACK_COLUMNS):
            columns = min(PACK_COLUMNS, run * taps - q)
            copy_transposed(as_integers(weight), q, lane_stride, as_integers(buffer), 0, width, valid, columns)
            for column in range(columns):
                for lane in range(0, width, vector):
                    store(packed, (tap * packed_run + r) * width + lane, load(buffer, column * width + lane))
                tap += 1
                if tap == taps:
                    r, tap = r + 1, 0
        return
    row = packed_run * width * tap_order
    start = 0 if tap_order == 1 else (taps - 1) * packed_run * width
    for r in range(run):  # (lane, tap) lie one after the other
        source, out = offset(weight, r * run_stride), offset(packed, start + r * width)
        if taps == 1 and lane_stride == 1 and valid == width:
            for lane in range(0, width, vector):
                store(out, lane, load(source, lane))
        else:
            copy_transposed(as_integers(source), 0, lane_stride, as_integers(out), 0, row, valid, taps)
        for tap in range(taps):
            for lane in range(valid, width):
                out[tap * row + lane] = 0


@kernel
def pack_weights(
    block,
    scratch,
    weight: "T*",
    packed: "T*",
    taps: "int64",
    tap_order: "int64",
    run: "int64",
    run_stride: "int64",
    lanes: "int64",
    lane_stride: "int64",
    group_stride: "int64",
    width: "int64",
    panels: "int64",
):
    """One block: one panel, ``packed[panel][tap][r][lane]``; see `_pack_panel`."""
    group = block // panels
    lane = (block - group * panels) * width
    source = offset(weight, group * group_stride + lane * lane_stride)
    out = offset(packed, block * taps * run * width)
    valid = min(width, lanes - lane)
    _pack_panel(source, out, cast(scratch, weight), taps, tap_order, run, run, run_stride, valid, lane_stride, width)
