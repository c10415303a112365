"""The weight gradient in Winograd's domain: per point, outer products of transformed input and transformed gradient.

Tiles are taken a portion at a time. All input under them and all their gradients are transformed into two buffers (the
input by `winograd_inputs`); then every point, tap along D, and tile of channels adds its outer products over the
portion's tiles to sums in memory. At the end the sums are transformed back to taps. Where one portion is all, a block
takes all points of a few channels, and their sums stay in its scratch.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .layout import copy_transposed
from .pointer import as_integers, cast, load_pointer, offset, prefetch_write, store_pointer
from .runs import clear_run
from .simd import lanes
from .tile import MAX_ROWS, outer_tile
from .winograd_domain import (
    BETWEEN,
    FIRST_PASS,
    FIRST_PRODUCT,
    MAX_POINTS,
    PASS_VECTORS,
    PRODUCT_SLOTS,
    SOURCES,
    TARGETS,
    Winograd,
    columns_of,
    first_taps,
    planes_of,
    put_between,
    tile_start,
)
from .winograd_transform import gradient_points, weight_gradient

MAX_TILES = PRODUCT_SLOTS  # pointers to a portion's tiles
# Where one portion is all: so many source channels and panels have their sums in the scratch, behind the pointers; at
# most so many channels times points.
AT_ONCE_TILES, AT_ONCE_RUN, AT_ONCE_PANELS, AT_ONCE_SUMS = 1152, 12, 4, 432
# Elements of the gradient of so many source channels lie side by side, and wait in a buffer to be put there.
TAPS_RUN = 12


class WinogradSums(NamedTuple):
    """What the weight gradient needs beside `Winograd`; strides in elements."""

    blocks: int  # blocks of tiles in the portion
    tiles: int  # tiles in the largest portion
    gradient_n: int  # elements of the gradient between samples and positions, by axis
    gradient_d: int
    gradient_h: int
    gradient_w: int
    gradients_row: int  # elements of a row of transformed gradient
    slices: int  # into how many parts the destination channels are cut for the transform
    row: int  # lanes of a row of sums: those of all panels of a group
    point_blocks: int  # into how many parts points, source channels and (all tiles at once) panels are cut
    run_blocks: int
    panel_blocks: int
    taps_run: int  # source channels whose taps fit a block's buffer


@device
def _first_tile(tile_block, g):
    """Number of the block's first tile among all tiles in the order of blocks."""
    column, columns, depth, _ = columns_of(tile_block, g)
    return column * g.out_d + columns * depth


@device
def _transform_gradient(scratch, corner, zeros, target, point_stride, h, w, count, g, s):
    """``target[point * point_stride]`` receives `count` channels of one tile."""
    for i in range(g.outputs_h):
        for j in range(g.outputs_w):
            down, right = i * g.dilation_h, j * g.dilation_w
            inside = h + down < g.out_h and w + right < g.out_w
            place = offset(corner, down * s.gradient_h + right * s.gradient_w)
            store_pointer(scratch, SOURCES + i * g.outputs_w + j, place if inside else zeros)
    for i in range(g.points_h * g.points_w):
        store_pointer(scratch, TARGETS + i, offset(target, i * point_stride))
    first = SOURCES
    if g.points_h > 1:
        first = BETWEEN if g.points_w > 1 else TARGETS
        for j in range(g.outputs_w):
            gradient_points(
                g.form_h,
                g.outputs_h,
                scratch,
                SOURCES + j,
                g.outputs_w,
                scratch,
                first + j,
                g.outputs_w,
                count,
                target,
            )
    if g.points_w > 1:
        for i in range(g.points_h):
            row = first + i * g.outputs_w
            target_row = TARGETS + i * g.points_w
            gradient_points(g.form_w, g.outputs_w, scratch, row, 1, scratch, target_row, 1, count, target)


@kernel
def winograd_gradients(
    block,
    scratch,
    gradient: "T*",
    zeros: "T*",
    gradients: "T*",
    first_block: "int64",
    g: "Winograd",
    s: "WinogradSums",
):
    """One block: a slice of the channels of one group for one block of tiles of the portion from `first_block` on."""
    part = block % s.slices
    block //= s.slices
    group = block % g.groups
    tile_block = first_block + block // g.groups
    put_between(scratch, cast(offset(scratch, FIRST_PASS), gradients))
    column, columns, depth, depths = columns_of(tile_block, g)
    tile = _first_tile(tile_block, g) - _first_tile(first_block, g)
    first, last = part * g.lanes // s.slices, (part + 1) * g.lanes // s.slices
    most = PASS_VECTORS * lanes(gradients)
    parts = (last - first + most - 1) // most
    point_stride = s.tiles * s.gradients_row
    for i in range(columns * depths):
        col = column + i // depths
        w = tile_start(col % g.tiles_w, g.outputs_w, g.dilation_w)
        h = tile_start(col // g.tiles_w % g.tiles_h, g.outputs_h, g.dilation_h)
        n = col // (g.tiles_w * g.tiles_h)
        place = n * s.gradient_n + (depth + i % depths) * s.gradient_d + h * s.gradient_h + w * s.gradient_w
        target = offset(gradients, (tile + i) * s.gradients_row + group * s.row)
        for k in range(parts):
            c = first + k * (last - first) // parts
            count = first + (k + 1) * (last - first) // parts - c
            corner = offset(gradient, place + group * g.lanes + c)
            _transform_gradient(scratch, corner, zeros, offset(target, c), point_stride, h, w, count, g, s)
        if last == g.lanes:
            for point in range(g.points_h * g.points_w):
                for lane in range(last, s.row):
                    target[point * point_stride + lane] = 0


@device
def _put_tiles(table, values, tap, first_block, g, s):
    """Pointers to the rows of transformed input that tap `tap` along D reads for all tiles of the portion; how many."""
    slot = 0
    region = g.points_h * g.points_w * g.values_point
    for block in range(s.blocks):
        _, columns, depth, depths = columns_of(first_block + block, g)
        plane, planes = planes_of(depth, depths, g)
        for col in range(columns):
            for i in range(depths):
                d = depth + i + tap * g.dilation_d - g.pad_d
                row = col * planes + d - plane if 0 <= d and d < g.in_d else columns * planes
                store_pointer(table, slot, offset(values, block * region + row * g.values_row))
                slot += 1
    return slot


@device
def _add_products(table, tiles, values, gradients, target, row, count, panels, g, s):
    """``target[r * row + lane]`` += the outer products of one point, for `count` source channels."""
    row_tiles = (count + MAX_ROWS - 1) // MAX_ROWS
    for panel in range(panels):
        for row_tile in range(row_tiles):
            r = row_tile * count // row_tiles
            outer_tile(
                (row_tile + 1) * count // row_tiles - r,
                True,
                table,
                tiles,
                values + r,
                offset(gradients, panel * g.width),
                s.gradients_row,
                offset(target, r * row + panel * g.width),
                row,
            )


@device
def _put_tap_targets(scratch, taps, row, plane, g):
    """Where the taps of a plane go, or those of a stretch, among all; of the latter some may not exist."""
    if not g.stretched:
        for tap in range(g.taps_h * g.taps_w):
            store_pointer(scratch, TARGETS + tap, offset(taps, tap * row))
        return
    tap_h, tap_w = first_taps(plane, 0, g)
    dummy = load_pointer(scratch, BETWEEN + MAX_POINTS, taps)
    for i in range(g.taps_h):
        for j in range(g.taps_w):
            h, w = tap_h + i * g.apart_h, tap_w + j * g.apart_w
            place = offset(taps, (h * g.all_w + w) * row) if h < g.all_h and w < g.all_w else dummy
            store_pointer(scratch, TARGETS + i * g.taps_w + j, place)


@device
def _transform_back(scratch, sums, point_stride, taps, row, width, plane, g):
    """``taps[tap * row]``: a plane of the kernel and one source channel, for up to eight vectors of lanes.

    Or those of all taps that are a stretch.
    """
    _put_tap_targets(scratch, taps, row, plane, g)
    for i in range(g.points_h * g.points_w):
        store_pointer(scratch, SOURCES + i, offset(sums, i * point_stride))
    first = SOURCES
    if g.points_h > 1:
        first = BETWEEN if g.points_w > 1 else TARGETS
        for j in range(g.points_w):
            weight_gradient(
                g.form_h, g.taps_h, scratch, SOURCES + j, g.points_w, scratch, first + j, g.points_w, width, sums
            )
    if g.points_w > 1:
        for i in range(g.taps_h):
            source, target = first + i * g.points_w, TARGETS + i * g.taps_w
            weight_gradient(g.form_w, g.taps_w, scratch, source, 1, scratch, target, 1, width, sums)


@device
def _put_taps(out, taps, row, count, valid, g):
    """``out[lane][i] = taps[i][lane]`` for `count` elements of each lane, which lie side by side.

    The lanes lie far apart, often a power of two, so that few of their lines have places in the first cache. What the
    next lanes get is asked for meanwhile.
    """
    step = row // PASS_VECTORS
    for lane in range(0, valid, step):
        some, soon = min(step, valid - lane), min(step, valid - lane - step)
        for i in range(0, count, 2 * step):
            part = min(2 * step, count - i)
            for j in range(soon):
                prefetch_write(out, (lane + step + j) * g.weight_lane + i)
            source, target = i * row + lane, lane * g.weight_lane + i
            copy_transposed(as_integers(taps), source, row, as_integers(out), target, g.weight_lane, part, some)


@kernel
def winograd_sums(
    block,
    scratch,
    values: "T*",
    gradients: "T*",
    sums: "T*",
    first_block: "int64",
    g: "Winograd",
    s: "WinogradSums",
):
    """One block: some points and source channels of one group; ``sums[group][tap_d][point][r][lane]``."""
    run_block = block % s.run_blocks
    block //= s.run_blocks
    point_block = block % s.point_blocks
    group = block // s.point_blocks
    points = g.points_h * g.points_w
    first = run_block * g.run // s.run_blocks
    count = (run_block + 1) * g.run // s.run_blocks - first
    table = offset(scratch, FIRST_PRODUCT)
    for tap in range(g.taps_d):
        tiles = _put_tiles(table, values, tap, first_block, g, s)
        for point in range(point_block * points // s.point_blocks, (point_block + 1) * points // s.point_blocks):
            target = offset(sums, (((group * g.taps_d + tap) * points + point) * g.run + first) * s.row)
            if first_block == 0:
                clear_run(target, count * s.row)
            source = offset(gradients, point * s.tiles * s.gradients_row + group * s.row)
            place = point * g.values_point + group * g.run + first
            _add_products(table, tiles, place, source, target, s.row, count, g.panels, g, s)


@device
def _first_tap(plane, g):
    """Where the taps of a plane begin among all; those of a stretch lie anywhere among them."""
    return 0 if g.stretched else plane * g.taps_h * g.taps_w


@kernel
def winograd_sums_to_taps(block, scratch, sums: "T*", out: "T*", g: "Winograd", s: "WinogradSums"):
    """One block: some source channels of one group; `out` has the strides of the weights."""
    blocks = (g.run + s.taps_run - 1) // s.taps_run
    group = block // blocks
    first = (block - group * blocks) * s.taps_run
    count = min(s.taps_run, g.run - first)
    points, taps = g.points_h * g.points_w, g.all_taps
    put_between(scratch, cast(offset(scratch, FIRST_PASS), sums))
    buffer = cast(offset(scratch, FIRST_PRODUCT), sums)
    row = PASS_VECTORS * lanes(sums)
    for lane in range(0, g.lanes, row):
        width = min(row, s.row - lane)
        for i in range(count * g.taps_d):
            r, tap = i // g.taps_d, i % g.taps_d
            source = offset(sums, ((group * g.taps_d + tap) * points * g.run + first + r) * s.row + lane)
            place = offset(buffer, (r * taps + _first_tap(tap, g)) * row)
            _transform_back(scratch, source, g.run * s.row, place, row, width, tap, g)
        target = offset(out, group * g.weight_group + lane * g.weight_lane + first * g.weight_run)
        _put_taps(target, buffer, row, count * taps, min(row, g.lanes - lane), g)


@kernel
def winograd_weight(
    block,
    scratch,
    values: "T*",
    gradients: "T*",
    out: "T*",
    first_block: "int64",
    g: "Winograd",
    s: "WinogradSums",
):
    """One block: some source channels and panels of one group, whose sums over all tiles stay in the scratch."""
    panel_block = block % s.panel_blocks
    block //= s.panel_blocks
    run_block = block % s.run_blocks
    group = block // s.run_blocks
    points = g.points_h * g.points_w
    taps = g.all_taps
    first = run_block * g.run // s.run_blocks
    count = (run_block + 1) * g.run // s.run_blocks - first
    panel = panel_block * g.panels // s.panel_blocks
    panels = (panel_block + 1) * g.panels // s.panel_blocks - panel
    width, lane = panels * g.width, panel * g.width
    put_between(scratch, cast(offset(scratch, FIRST_PASS), out))
    table = offset(scratch, FIRST_PRODUCT)
    sums = cast(offset(table, AT_ONCE_TILES), out)
    buffer, row = offset(sums, points * count * width), PASS_VECTORS * lanes(sums)
    target = offset(out, group * g.weight_group + lane * g.weight_lane + first * g.weight_run)
    together = count <= s.taps_run  # the taps of all planes of the kernel are put at the end
    for tap in range(g.taps_d):
        tiles = _put_tiles(table, values, tap, first_block, g, s)
        for point in range(points):
            into = offset(sums, point * count * width)
            clear_run(into, count * width)
            source = offset(gradients, point * s.tiles * s.gradients_row + group * s.row + lane)
            place = point * g.values_point + group * g.run + first
            _add_products(table, tiles, place, source, into, width, count, panels, g, s)
        for r in range(count):
            first_tap = r * taps + _first_tap(tap, g)
            done = offset(buffer, first_tap * row if together else 0)
            _transform_back(scratch, offset(sums, r * width), count * width, done, row, width, tap, g)
            last = r + 1 == count and tap + 1 == g.taps_d
            if last or not together:
                place, put = (0, count * taps) if together else (first_tap, g.taps_h * g.taps_w)
                _put_taps(offset(target, place), buffer, row, put, min(width, g.lanes - lane), g)
