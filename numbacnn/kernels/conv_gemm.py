"""Convolution as indirect GEMM over channels-last memory, for any rank, stride, dilation, padding and direction.

One *lattice* of destination rows is filled: for every lattice point the sum over taps of a source row times a weight
block. What a tap of a lattice point reads is decided by three small tables, one per axis, so forward convolution,
every phase of a strided backward-data, and every padding mode are the same loop with other tables.

After Dukhan, "The Indirect Convolution Algorithm" (2019), with BLIS's blocking of the reduction and the columns.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .pointer import offset, stack_slots, store_pointer
from .tile import MAX_ROWS, MIN_GEMM_ROWS, gemm_tile

TABLE_SLOTS = 8192  # 64 KiB of stack: pointers for all row panels of a block, for one block of taps


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
    panel_blocks: int
    point_blocks: int
    tap_block: int
    run_block: int


_table = stack_slots(TABLE_SLOTS)


@device
def _put_sources(table, slot, step, source, zeros, d, h, w, tap, last, index_d, index_h, index_w, g):
    """Put the pointers that one lattice point reads for the taps from `tap` to `last` into every `step`-th slot."""
    row = tap // g.taps_w
    kw = tap - row * g.taps_w
    while tap < last:
        kd = row // g.taps_h
        offset_d = index_d[d * g.taps_d + kd]
        offset_h = index_h[h * g.taps_h + row - kd * g.taps_h]
        count = min(g.taps_w - kw, last - tap)
        if offset_d < 0 or offset_h < 0:
            for _ in range(count):
                store_pointer(table, slot, zeros)
                slot += step
        else:
            line = offset(source, offset_d + offset_h)
            first = w * g.taps_w + kw
            for i in range(first, first + count):
                offset_w = index_w[i]
                store_pointer(table, slot, offset(line, offset_w) if offset_w >= 0 else zeros)
                slot += step
        tap += count
        row += 1
        kw = 0


@device
def _rows_of(tile, tiles, points):
    """First point of row tile number `tile`, and how many it has: dealt out evenly."""
    first = tile * points // tiles
    return first, (tile + 1) * points // tiles - first


@device
def _put_tables(table, first, points, tiles, tap, last, source, weight, out, zeros, index_d, index_h, index_w, tap_weight, g):
    """Fill the pointer tables of all row tiles of a block of points, for the taps from `tap` to `last`."""
    per_plane = g.lattice_h * g.lattice_w
    slot = 0
    for tile in range(tiles):
        begin, valid = _rows_of(tile, tiles, points)
        rows = max(valid, MIN_GEMM_ROWS)
        for i in range(rows):
            point = first + begin + min(i, valid - 1)  # too few rows: repeat the last
            n = point // (g.lattice_d * per_plane)
            point -= n * g.lattice_d * per_plane
            d = point // per_plane
            point -= d * per_plane
            h = point // g.lattice_w
            w = point - h * g.lattice_w
            store_pointer(table, slot + i, offset(out, n * g.out_n + d * g.out_d + h * g.out_h + w * g.out_w))
            sample = offset(source, n * g.source_n)
            _put_sources(
                table, slot + rows + i, rows + 1, sample, zeros, d, h, w, tap, last, index_d, index_h, index_w, g
            )
        slot += rows
        for t in range(tap, last):
            slot += rows
            store_pointer(table, slot, offset(weight, tap_weight[t] * g.run * g.width))
            slot += 1


@kernel
def conv_gemm(
    block,
    source: "T*",
    weight: "T*",
    bias: "T*",
    out: "T*",
    zeros: "T*",
    index_d: "int64*",
    index_h: "int64*",
    index_w: "int64*",
    tap_weight: "int64*",
    g: "GemmConv",
):
    """One block: a range of lattice points x a range of weight panels of one group.

    `index_*[point, tap]` is the offset which that axis adds to the source, or -1 for padding; `tap_weight[tap]` is the
    number of the tap in a panel of packed weights; `zeros` has as many elements as the source has channels.
    """
    panel_block = block % g.panel_blocks
    group = block // g.panel_blocks % g.groups
    first, points = _rows_of(block // (g.panel_blocks * g.groups), g.point_blocks, g.points)
    first_panel, panel_count = _rows_of(panel_block, g.panel_blocks, g.panels)
    tiles = (points + MAX_ROWS - 1) // MAX_ROWS
    taps = g.taps_d * g.taps_h * g.taps_w
    panel_elements = g.weight_taps * g.run * g.width
    group_panels = group * g.panels
    table = _table()

    tap = 0
    while True:  # 4th loop: blocks of taps
        last = min(tap + g.tap_block, taps)
        _put_tables(
            table, first, points, tiles, tap, last, source, weight, out, zeros, index_d, index_h, index_w, tap_weight, g
        )
        for channel in range(0, g.run, g.run_block):  # 3rd loop: blocks of source channels
            run = min(g.run_block, g.run - channel)
            for panel in range(first_panel, first_panel + panel_count):  # 2nd loop: panels of destination channels
                lane = panel * g.width
                lanes = min(g.width, g.lanes - lane)
                w_offset = (group_panels + panel) * panel_elements + channel * g.width
                slot = 0
                for tile in range(tiles):  # 1st loop: tiles of lattice points
                    rows = max(_rows_of(tile, tiles, points)[1], MIN_GEMM_ROWS)
                    gemm_tile(
                        rows,
                        lanes > g.vector,
                        offset(table, slot),
                        last - tap,
                        group * g.run + channel,
                        run,
                        w_offset,
                        g.width,
                        group * g.lanes + lane,
                        offset(bias, (group_panels + panel) * g.width),
                        tap + channel,
                        lanes,
                    )
                    slot += rows + (last - tap) * (rows + 1)
        tap = last
        if tap >= taps:
            break


@kernel
def pack_weights(
    block,
    weight: "T*",
    packed: "T[:]",
    offsets: "int64[:]",
    run: "int64",
    run_stride: "int64",
    lanes: "int64",
    lane_stride: "int64",
    group_stride: "int64",
    width: "int64",
    panels: "int64",
):
    """One block: one panel, ``packed[tap][r][lane] = weight[offsets[tap] + r*run_stride + lane*lane_stride]``.

    Lanes beyond the last are zero.
    """
    taps = offsets.shape[0]
    group = block // panels
    lane_0 = (block - group * panels) * width
    valid = min(width, lanes - lane_0)
    base = group * group_stride + lane_0 * lane_stride
    start = block * taps * run * width
    for r in range(run):
        for t in range(taps):
            place = start + (t * run + r) * width
            origin = base + offsets[t] + r * run_stride
            for lane in range(valid):
                packed[place + lane] = weight[origin + lane * lane_stride]
            for lane in range(valid, width):
                packed[place + lane] = 0
