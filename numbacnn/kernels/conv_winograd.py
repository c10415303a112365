"""Winograd convolution over channels-last memory: forward and data gradient.

The output is cut into tiles of 2 to 6 positions along the axes that are transformed (H and W, or one of them). A block
takes a few tiles, transforms the input under them, multiplies by the transformed weights at every point apart (one
small matrix product per point, by the tile of indirect GEMM), and transforms the products back. Everything in between
stays in the thread's scratch memory, or, for many channels, the transformed input in a buffer all blocks share.

Taps along D are taps of the matrix products: they sum in the transformed domain. Tiles that differ in D alone lie
together in a block, which so transforms each plane of input once for all its taps.
"""

from __future__ import annotations

from ._build import device, kernel
from .finish import finish_row
from .pointer import cast, load_pointer, offset, prefetch_read, prefetch_write, store_pointer
from .simd import lanes
from .tile import MAX_ROWS, MIN_GEMM_ROWS, gemm_tile
from .winograd_domain import (
    BETWEEN,
    FIRST_PASS,
    FIRST_PRODUCT,
    MAX_POINTS,
    SOURCES,
    TABLES,
    TARGETS,
    Winograd,
    columns_of,
    following_tile,
    planes_of,
    put_between,
    tile_of,
    tile_start,
    transform_columns,
    transform_weights,
    value_place,
)
from .winograd_transform import output_values


@device
def _put_tables(table, tile_block, values, weight, products, g):
    """The tables of a block's matrix products, for point 0 and panel 0; returns the number of row tiles.

    Each begins with its number of rows.
    """
    _, columns, depth, depths = columns_of(tile_block, g)
    plane, planes = planes_of(depth, depths, g)
    tiles = columns * depths
    row_tiles = (tiles + MAX_ROWS - 1) // MAX_ROWS
    slot = 0
    for row_tile in range(row_tiles):
        first = row_tile * tiles // row_tiles
        valid = (row_tile + 1) * tiles // row_tiles - first
        rows = max(valid, MIN_GEMM_ROWS)
        table[slot] = rows
        slot += 1
        for i in range(rows):
            tile = first + min(i, valid - 1)
            store_pointer(table, slot + i, offset(products, tile * g.step_panels * g.width))
            col = tile // depths
            for tap in range(g.taps_d):
                d = depth + tile - col * depths + tap * g.dilation_d - g.pad_d
                row = col * planes + d - plane if 0 <= d and d < g.in_d else columns * planes
                place = slot + rows + tap * (rows + 1) + i
                store_pointer(table, place, offset(values, row * g.values_row))
        for tap in range(g.taps_d):
            step = tap * g.points_h * g.points_w * g.weight_point
            store_pointer(table, slot + rows + tap * (rows + 1) + rows, offset(weight, step))
        slot += rows + g.taps_d * (rows + 1)
    return row_tiles


@device
def _ask_for_values(table, rows, x_offset, run, line, like):
    """Ask for what a tile reads of its rows of transformed input, tap 0 along D."""
    for i in range(rows):
        row = load_pointer(table, rows + i, like)
        for k in range(0, run, line):
            prefetch_read(row, x_offset + k)


@device
def _multiply(table, row_tiles, x_offset, run, panel, panels, w_offset, zeros, accumulate, g):
    """The matrix products of all points for `panels` panels, over `run` source channels.

    Rows that all blocks share come from beyond L2. Where what is read of them lies far apart, too short for the
    hardware to foresee, that of the next point is asked for while one is multiplied.
    """
    points = g.points_h * g.points_w
    panel_elements = g.taps_d * points * g.weight_point
    for point in range(points):
        for i in range(panels):
            slot = 0
            for _ in range(row_tiles):
                rows = table[slot]
                slot += 1
                if i == 0 and not g.own_values and g.values_run > g.run_step:
                    following = x_offset + (point + 1) * g.values_point
                    _ask_for_values(offset(table, slot), rows, following, run, g.line, zeros)
                gemm_tile(
                    rows,
                    g.width > g.vector,
                    offset(table, slot),
                    g.taps_d,
                    x_offset + point * g.values_point,
                    run,
                    (panel + i) * panel_elements + point * g.weight_point + w_offset,
                    g.width,
                    point * g.products_point + i * g.width,
                    zeros,
                    accumulate,
                    g.width,
                )
                slot += rows + g.taps_d * (rows + 1)


@device
def _is_output(h, w, g):
    """Whether there is such a position."""
    return 0 <= h and h < g.size_h and 0 <= w and w < g.size_w


@device
def _put_targets(scratch, corner, dummy, h, w, count, ahead, g):
    """Where the outputs of a tile go; those of the tile `ahead` elements further are asked for."""
    for i in range(g.outputs_h):
        for j in range(g.outputs_w):
            down, right = i * g.dilation_h * g.step_h, j * g.dilation_w * g.step_w
            inside = _is_output(h + down, w + right, g)
            place = offset(corner, down * g.out_sh + right * g.out_sw)
            store_pointer(scratch, TARGETS + i * g.outputs_w + j, place if inside else dummy)
            for k in range(0, count, g.line):
                prefetch_write(place, ahead + k)


@device
def _transform_back(scratch, products, start, zeros, dummy, out, tile_block, output, count, residual, activation, g):
    """Outputs of a block's tiles, `count` channels, from the products, finished (see `finish_row`).

    Of neighbouring outputs with weights of their own, they are those at place `output`.
    """
    before_h, before_w = output // g.step_w, output % g.step_w
    column, columns, depth, depths = columns_of(tile_block, g)
    padded = (count + lanes(out) - 1) // lanes(out) * lanes(out)
    ahead = g.out_sw * g.step_w * (g.outputs_w if g.dilation_w == 1 else 1) if depths == 1 else g.out_sd
    n, tile_h, tile_w = tile_of(column, g)
    d = 0
    for tile in range(columns * depths):
        h = tile_start(tile_h, g.outputs_h, g.dilation_h) * g.step_h + g.first_h - before_h
        w = tile_start(tile_w, g.outputs_w, g.dilation_w) * g.step_w + g.first_w - before_w
        corner = offset(out, n * g.out_sn + (depth + d) * g.out_sd + h * g.out_sh + w * g.out_sw)
        _put_targets(scratch, corner, dummy, h, w, count, ahead, g)
        d += 1
        if d == depths:
            d = 0
            n, tile_h, tile_w = following_tile(n, tile_h, tile_w, g)
        for i in range(g.points_h * g.points_w):
            place = i * g.products_point + tile * g.step_panels * g.width
            store_pointer(scratch, SOURCES + i, offset(products, place))
        first = SOURCES
        if g.points_h > 1:
            last = g.points_w == 1
            first = TARGETS if last else BETWEEN
            for j in range(g.points_w):
                output_values(
                    g.form_h, g.outputs_h, scratch, SOURCES + j, g.points_w, scratch, first + j, g.points_w,
                    start if last else zeros, count if last else padded, g.adds if last else 0, out,
                )  # fmt: skip
        if g.points_w > 1:
            for i in range(g.outputs_h):
                output_values(
                    g.form_w, g.outputs_w, scratch, first + i * g.points_w, 1, scratch, TARGETS + i * g.outputs_w, 1,
                    start, count, g.adds, out,
                )  # fmt: skip
        if residual != 0 or activation != 0:
            for i in range(g.outputs_h * g.outputs_w):
                place = load_pointer(scratch, TARGETS + i, out)
                down, right = i // g.outputs_w * g.dilation_h, i % g.outputs_w * g.dilation_w
                if _is_output(h + down * g.step_h, w + right * g.step_w, g):
                    finish_row(place, count, residual, activation)


@device
def _split(i, second, third):
    """Three indices from one; `second` and `third` values of the latter two."""
    rest = i // third
    return rest // second, rest % second, i - rest * third


@kernel
def conv_winograd(
    block,
    scratch,
    source: "T*",
    values: "T*",
    weight: "T*",
    bias: "T*",
    zeros: "T*",
    out: "T*",
    first_block: "int64",
    residual: "int64",
    activation: "int64",
    g: "Winograd",
):
    """One block: some panels of one group for one block of tiles, those from `first_block` on.

    What follows the sums is told by `residual` and `activation`: see `finish_row`.
    """
    if g.own_values:  # panels go to the threads that have transformed their weights
        tile_blocks = g.depth_blocks * ((g.columns + g.block_columns - 1) // g.block_columns)
        group, panel_block, block = _split(block, g.panel_blocks, tile_blocks)
    else:  # tiles go to the threads that have transformed their input
        block, group, panel_block = _split(block, g.groups, g.panel_blocks)
    tile_block = first_block + block
    between = cast(offset(scratch, FIRST_PASS), out)
    products = cast(offset(scratch, FIRST_PRODUCT), out)
    points = g.points_h * g.points_w
    put_between(scratch, between)
    dummy = load_pointer(scratch, BETWEEN + MAX_POINTS, out)
    if g.own_values:
        own = offset(products, points * g.products_point)
        own_source = offset(source, group * g.run)
        transform_columns(scratch, own_source, zeros, own, tile_block, 0, g.run, g)
        region, channel = own, 0
    else:
        region, channel = offset(values, block * points * g.values_point), group * g.run
    table = offset(scratch, TABLES)
    own_weights = offset(products, points * g.products_point)
    row_tiles = _put_tables(table, tile_block, region, own_weights if g.own_run else weight, products, g)
    panel = panel_block * g.panels // g.panel_blocks
    end = (panel_block + 1) * g.panels // g.panel_blocks
    while panel < end:
        output = panel // g.lane_panels
        first = panel - output * g.lane_panels
        panels = min(g.step_panels, end - panel, g.lane_panels - first)
        this = group * g.panels + panel
        for r in range(0, g.run, g.run_step):
            run = min(g.run_step, g.run - r)
            if g.own_run:
                transform_weights(scratch, weight, own_weights, this, r, r + run, g)
            first_panel, w_offset = (0, 0) if g.own_run else (this, r * g.width)
            x_offset = value_place(0, channel + r, g)
            _multiply(table, row_tiles, x_offset, run, first_panel, panels, w_offset, zeros, r, g)
        lane = first * g.width
        _transform_back(
            scratch,
            products,
            offset(bias, group * g.lane_panels * g.width + lane),
            zeros,
            dummy,
            offset(out, group * g.lanes + lane),
            tile_block,
            output,
            min(panels * g.width, g.lanes - lane),
            residual,
            activation,
            g,
        )
        panel += panels
