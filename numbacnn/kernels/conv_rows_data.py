"""Data gradient of few input channels: all taps' products of a position at once, then added up in a padded patch.

With 1 to 8 channels of the image, a position of it receives only a handful of values per tap: too few for a tile. But
all taps together are as many columns as tiles like, and a row of the output's gradient times all of them is a plain
matrix product. Its results are added to a patch of the image, where the columns of one line of taps lie side by side.
The patch is padded, so nothing is tested; what falls on padding is dropped when the patch is written out.

A block is a band of output rows, or of output columns, in all planes. What a band adds to the first rows of the next,
its *rim*, is kept apart and added when all bands are done: the order of summation depends on the geometry alone.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from ._serial import SCRATCH_SLOTS
from .pointer import cast, offset, store_pointer
from .runs import copy_run, even_part
from .simd import load, load_first, splat, store
from .tile import MAX_ROWS, MIN_GEMM_ROWS, gemm_tile

# How a thread's scratch memory is divided: a table per tile of positions, whose last slot says how many rows it has;
# where in the patch each position begins; the products of some positions; the patch.
MAX_POINTS = 96  # positions that go through together
TABLE_STEP, TILE_ROWS = 2 * MAX_ROWS + 4, 2 * MAX_ROWS + 3
PLACES = TABLE_STEP * -(-MAX_POINTS // MAX_ROWS)
PRODUCTS = PLACES + MAX_POINTS
PRODUCT_SLOTS = 6144  # 48 KiB
PATCH = PRODUCTS + PRODUCT_SLOTS
PATCH_SLOTS = SCRATCH_SLOTS - PATCH - 8  # sums are whole vectors, so that one may begin at the last element


class RowsData(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    channels: int  # of the image
    in_n: int  # elements of the image per sample, plane and row
    in_d: int
    in_h: int
    size_d: int  # planes, rows and columns of the image
    size_h: int
    size_w: int
    pad_d: int  # padding before the first of them
    pad_h: int
    pad_w: int
    out_d: int  # planes, rows and columns of the output
    out_h: int
    out_w: int
    stride_d: int
    stride_h: int
    stride_w: int
    row_blocks: int  # bands per sample: parts that output rows, or columns, are cut into
    column_blocks: int
    rim_h: int  # rows or columns of the rim; 0 of what is not cut
    rim_w: int
    rim: int  # elements of the rim of one band
    pitch: int  # elements of a patch row
    plane: int  # elements of a patch plane
    ring: int  # patch planes: those under the kernel, used in turn
    taps_d: int
    dilation_d: int
    runs: int  # lines of taps of a kernel plane that lie side by side in the patch
    run: int  # elements of such a line
    apart: int  # positions so far from each other do not touch the same vectors
    depth: int  # output channels
    count: int  # products per position
    vector: int  # lanes of one vector
    width: int  # lanes of a panel
    panels: int
    product_pitch: int  # elements between the products of one position and the next
    points: int  # positions that go through together
    biased: int  # 1: the result begins at the bias; 0: at zero


@device
def _bounds(i, parts, total, stride, pad, size):
    """The first image coordinate that part `i` of the output owns, and the first that it does not, padding included."""
    begin = 0 if i == 0 else max(i * total // parts * stride - pad, 0)
    return begin, size if i == parts - 1 else (i + 1) * total // parts * stride - pad


@device
def _begin_plane(patch, bias, rows, columns, g):
    """A patch plane before anything is added. `rows` and `columns` are where what the band owns begins and ends."""
    zero = splat(patch, 0.0)
    for i in range(0, g.plane, g.vector):
        store(patch, i, zero)
    if g.biased:
        for h in range(rows[0], rows[1]):
            for w in range(columns[0], columns[1]):
                for c in range(g.channels):
                    patch[h * g.pitch + w * g.channels + c] = bias[c]


@device
def _write_plane(patch, image, rim, top, bottom, left, right, g):
    """A finished patch plane, whose element 0 is image row 0, column 0: what the band owns, then its rim."""
    for h in range(top, min(bottom + g.rim_h, g.size_h)):
        line = offset(patch, h * g.pitch)
        if h < bottom:
            first, last = left * g.channels, min(right, g.size_w) * g.channels
            copy_run(offset(image, h * g.in_h + first), offset(line, first), last - first)
            first, last = max(right, 0), min(right + g.rim_w, g.size_w)
            place = (h * g.rim_w + first - right) * g.channels
            copy_run(offset(rim, place), offset(line, first * g.channels), (last - first) * g.channels)
        else:
            copy_run(offset(rim, (h - bottom) * g.size_w * g.channels), line, g.size_w * g.channels)


@device
def _put_places(table, columns, first, count, g):
    """Where in a patch plane positions `first` to ``first + count`` of a band begin."""
    i = first // columns
    j = first - i * columns
    for p in range(count):
        table[PLACES + p] = i * g.stride_h * g.pitch + j * g.stride_w * g.channels
        j += 1
        if j == columns:
            i, j = i + 1, 0


@device
def _multiply(table, source, count, weight, zeros, products, g):
    """The products of `count` positions, whose rows of `depth` channels follow on each other from `source` on."""
    tiles = (count + MAX_ROWS - 1) // MAX_ROWS
    fewest = count // tiles
    longer = count - fewest * tiles
    first = 0
    for tile in range(tiles):
        valid = fewest + 1 if tile < longer else fewest
        rows = max(valid, MIN_GEMM_ROWS)
        place = offset(table, tile * TABLE_STEP)
        place[TILE_ROWS] = rows
        for i in range(rows):
            p = first + min(i, valid - 1)
            store_pointer(place, i, offset(products, p * g.product_pitch))
            store_pointer(place, rows + i, offset(source, p * g.depth))
        store_pointer(place, 2 * rows, weight)
        first += valid
    for panel in range(g.panels):
        lane = panel * g.width
        lanes = min(g.width, g.count - lane)
        for tile in range(tiles):
            place = offset(table, tile * TABLE_STEP)
            gemm_tile(
                place[TILE_ROWS], lanes > g.vector, place, 1, 0, g.depth, lane * g.depth, g.width, lane, zeros, 0, lanes
            )  # fmt: skip


@device
def _add_run(patch, places, count, products, g):
    """Add a line of taps' products of `count` positions to the patch.

    Neighbours, which touch the same vectors, go through apart: a load of what has just been stored, but not as a whole,
    waits for the cache.
    """
    whole = g.run - g.run % g.vector
    zero = splat(patch, 0.0)
    for first in range(min(g.apart, count)):
        for p in range(first, count, g.apart):
            target, source = offset(patch, places[p]), offset(products, p * g.product_pitch)
            for i in range(0, whole, g.vector):
                store(target, i, load(target, i) + load(source, i))
            if whole < g.run:
                store(target, whole, load(target, whole) + load_first(source, whole, g.run - whole, zero))


@kernel
def conv_rows_data(
    block,
    scratch,
    source: "T*",
    weight: "T*",
    bias: "T*",
    out: "T*",
    rims: "T*",
    zeros: "T*",
    offsets: "int64*",
    g: "RowsData",
):
    """One block: a band of one sample.

    `offsets` says where in the patch each line of taps begins; `weight` is what `pack_rows_data` makes.
    """
    rim = offset(rims, block * g.rim)
    column_block = block % g.column_blocks
    block //= g.column_blocks
    row_block = block % g.row_blocks
    n = block // g.row_blocks
    row, rows = even_part(row_block, g.row_blocks, g.out_h)
    column, columns = even_part(column_block, g.column_blocks, g.out_w)
    top, bottom = _bounds(row_block, g.row_blocks, g.out_h, g.stride_h, g.pad_h, g.size_h)
    left, right = _bounds(column_block, g.column_blocks, g.out_w, g.stride_w, g.pad_w, g.size_w)
    origin_h, origin_w = row * g.stride_h - g.pad_h, column * g.stride_w - g.pad_w
    owned_h = top - origin_h, min(bottom, g.size_h) - origin_h
    owned_w = left - origin_w, min(right, g.size_w) - origin_w
    products, patch = cast(offset(scratch, PRODUCTS), source), cast(offset(scratch, PATCH), source)
    for slot in range(g.ring):
        _begin_plane(offset(patch, slot * g.plane), bias, owned_h, owned_w, g)
    done = 0  # planes, those of the padding included
    # Positions go through as they lie in memory one after the other: those of whole rows, or of a part of one.
    together = rows * columns if g.column_blocks == 1 else columns
    for d in range(g.out_d):
        from_first = offset(source, (((n * g.out_d + d) * g.out_h + row) * g.out_w + column) * g.depth)
        first = 0
        while first < rows * columns:
            place = first // together
            count = min(g.points, (place + 1) * together - first)
            place = place * g.out_w + first - place * together
            _multiply(scratch, offset(from_first, place * g.depth), count, weight, zeros, products, g)
            _put_places(scratch, columns, first, count, g)
            for tap in range(g.taps_d):
                plane = offset(patch, (d * g.stride_d + tap * g.dilation_d) % g.ring * g.plane)
                for run in range(g.runs):
                    values = offset(products, (tap * g.runs + run) * g.run)
                    _add_run(offset(plane, offsets[run]), offset(scratch, PLACES), count, values, g)
            first += count
        last = (d + 1) * g.stride_d if d + 1 < g.out_d else g.size_d + g.pad_d
        for at in range(done, last):
            plane = offset(patch, at % g.ring * g.plane)
            at_d = at - g.pad_d
            if at_d >= 0 and at_d < g.size_d:
                from_zero = offset(plane, -origin_h * g.pitch - origin_w * g.channels)
                image = offset(out, n * g.in_n + at_d * g.in_d)
                plane_rim = offset(rim, at_d * (g.rim // g.size_d))
                _write_plane(from_zero, image, plane_rim, top, bottom, left, right, g)
            _begin_plane(plane, bias, owned_h, owned_w, g)
        done = last


@kernel
def add_rims(block, rims: "T*", out: "T*", g: "RowsData"):
    """One block: what one band adds to the next, unless it is a sample's last."""
    rim = offset(rims, block * g.rim)
    column_block = block % g.column_blocks
    block //= g.column_blocks
    row_block = block % g.row_blocks
    n = block // g.row_blocks
    if row_block + column_block + 2 == g.row_blocks + g.column_blocks:
        return
    bottom = _bounds(row_block, g.row_blocks, g.out_h, g.stride_h, g.pad_h, g.size_h)[1]
    right = _bounds(column_block, g.column_blocks, g.out_w, g.stride_w, g.pad_w, g.size_w)[1]
    for d in range(g.size_d):
        image, plane = offset(out, n * g.in_n + d * g.in_d), offset(rim, d * (g.rim // g.size_d))
        if g.rim_w > 0:
            first, last = max(right, 0), min(right + g.rim_w, g.size_w)
            for h in range(g.size_h):
                line = offset(plane, (h * g.rim_w + first - right) * g.channels)
                place = h * g.in_h + first * g.channels
                for i in range((last - first) * g.channels):
                    image[place + i] += line[i]
        else:
            for h in range(max(bottom, 0), min(bottom + g.rim_h, g.size_h)):
                line = offset(plane, (h - bottom) * g.size_w * g.channels)
                for i in range(g.size_w * g.channels):
                    image[h * g.in_h + i] += line[i]


@kernel
def pack_rows_data(block, weight: "T*", packed: "T*", taps: "int64", g: "RowsData"):
    """One block: one panel, ``packed[panel][r][lane] = weight[r][lane % channels][lane // channels]``."""
    first = block * g.width
    panel = offset(packed, first * g.depth)
    for r in range(g.depth):
        row = offset(weight, r * g.count)
        tap = first // g.channels
        c = first - tap * g.channels
        for lane in range(g.width):
            panel[r * g.width + lane] = row[c * taps + tap] if tap < taps else 0
            c += 1
            if c == g.channels:
                c, tap = 0, tap + 1
