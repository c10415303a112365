"""Convolution of few input channels: a small padded patch of the input, then one flat reduction per output position.

With 1 to 8 channels a kernel tap contributes only a handful of products, too few to be worth a pointer. So each block
(some output rows of one plane, or part of a row) first copies the input rows it reads into a patch on the stack,
padding included. In the patch, what a position reads lies at the same offsets from the position's own first element
whatever the position: the whole reduction over input channels and taps is one list of offsets. Where taps read each
element of the input about once, and no padding, such a list leads through the input itself, and nothing is copied.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .finish import finish_rows
from .layout import copy_transposed
from .offset_tile import HELD, NARROW, WIDE, offset_gemm, offset_outer
from .pointer import cast, offset, store_pointer
from .runs import clear_run, copy_run, even_part
from .simd import half, interleaved, load, load_first, splat, store
from .sources import ZEROS, source_at
from .tile import MAX_LANES

# How a thread's scratch memory is divided.
MAX_POINTS = 768  # positions per block, at most: one pointer each
POINT_BLOCK = 128  # positions that one pass of the weight gradient sums over: their dY takes 8 KiB of L1
ROW_SLOTS = POINT_BLOCK * MAX_LANES
PATCH_SLOTS = 24576  # 192 KiB

FEW_PRODUCTS = 36  # with fewer, the weight gradient reads dY so seldom that packing it is not worth it
COMBINE_ROWS = 64  # rows of the weight gradient that one block adds up and transposes


class RowsConv(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    channels: int  # of a patch: all input channels, or a vector of them (see `conv_weight_slices`)
    in_n: int  # input elements per sample, plane and row
    in_d: int
    in_h: int
    in_w: int  # and per column
    size_d: int  # input planes, rows and columns
    size_h: int
    size_w: int
    pad_d: int  # padding before the first of them
    pad_h: int
    pad_w: int
    mode_d: int  # what stands there: an index into `sources.MODES`
    mode_h: int
    mode_w: int
    out_d: int  # output planes, rows and columns
    out_h: int
    out_w: int
    stride_d: int
    stride_h: int
    stride_w: int
    taps_d: int
    taps_h: int
    dilation_d: int
    dilation_h: int
    span_h: int  # padded input rows and columns that one output position spans
    span_w: int
    pitch: int  # elements of a patch row
    plane: int  # elements of a patch plane; the patch has a plane per tap along D
    row_blocks: int  # parts that output rows and columns are cut into
    column_blocks: int
    count: int  # products per output value, or steps that are pairs of them or single ones
    part: int  # how many of them all positions of a group sum up in whole panels before the next, forward
    pairs: int  # how many are pairs; 0: none, and lanes are not paired
    lanes: int  # output channels
    vector: int  # lanes of one vector
    width: int  # lanes of a panel
    panels: int  # or slices
    blocks: int  # blocks of output positions
    chunks: int  # parts that they are cut into: of one launch, and with a partial sum each for the weight gradient
    panel_blocks: int  # parts that panels are cut into
    group: int  # positions that run over all panels before the next do
    left_out: int  # 1, 2: products are listed tap by tap along D, or H, forward, and what reads padding alone left out
    in_place: int  # 1: the input is read where it lies, and `pitch` and `plane` are its own


@device
def _copy_edge(patch, line, column, begin, end, g):
    """Patch columns from `begin` to `end`, all of them padding; patch column 0 is input column `column`."""
    if g.mode_w == ZEROS:
        clear_run(offset(patch, begin * g.channels), (end - begin) * g.channels)
    else:
        for j in range(begin, end):
            source = source_at(column + j, g.size_w, g.mode_w) * g.in_w
            for c in range(g.channels):
                patch[j * g.channels + c] = line[source + c]


@device
def _copy_row(patch, line, column, columns, g):
    """One patch row: columns from `column` on of the input row `line`, with padding where there are none."""
    begin = min(max(-column, 0), columns)
    end = min(max(g.size_w - column, begin), columns)
    _copy_edge(patch, line, column, 0, begin, g)
    inside, count = offset(line, (column + begin) * g.in_w), end - begin
    if g.in_w == g.channels:
        copy_run(offset(patch, begin * g.channels), inside, count * g.channels)
    else:
        for j in range(count):
            store(patch, (begin + j) * g.channels, load(inside, j * g.in_w))
    _copy_edge(patch, line, column, end, columns, g)


@device
def _copy_patch(patch, sample, d, row, rows, column, columns, g):
    """The input that an output plane reads from plane `d`, row `row` and column `column` on, padding included."""
    for tap in range(g.taps_d):
        source_d = source_at(d + tap * g.dilation_d, g.size_d, g.mode_d)
        for i in range(rows):
            line = offset(patch, tap * g.plane + i * g.pitch)
            source_h = source_at(row + i, g.size_h, g.mode_h)
            if source_d < 0 or source_h < 0:
                clear_run(line, columns * g.channels)
            else:
                _copy_row(line, offset(sample, source_d * g.in_d + source_h * g.in_h), column, columns, g)


@device
def _place(block, g):
    """The output plane of a block, those of all samples numbered through; its first row and column, and how many."""
    column, columns = even_part(block % g.column_blocks, g.column_blocks, g.out_w)
    block //= g.column_blocks
    row, rows = even_part(block % g.row_blocks, g.row_blocks, g.out_h)
    return block // g.row_blocks, row, rows, column, columns


@device
def load_patch(block, patch, source, g):
    """Fill the patch of a block. Returns its first position, rows and columns; its positions are consecutive."""
    plane, row, rows, column, columns = _place(block, g)
    n = plane // g.out_d
    d = plane - n * g.out_d
    sample = offset(source, n * g.in_n)
    _copy_patch(
        patch,
        sample,
        d * g.stride_d - g.pad_d,
        row * g.stride_h - g.pad_h,
        (rows - 1) * g.stride_h + g.span_h,
        column * g.stride_w - g.pad_w,
        (columns - 1) * g.stride_w + g.span_w,
        g,
    )
    return (plane * g.out_h + row) * g.out_w + column, rows, columns


@device
def _load_block(block, patch, table, source, g):
    """Fill the patch of a block, and the table with a pointer for each of its positions.

    Returns the first position and their number.
    """
    point, rows, columns = load_patch(block, patch, source, g)
    _put_pointers(table, patch, rows, columns, g)
    return point, rows * columns


@device
def _point_into(block, table, source, g):
    """As `_load_block` where the input is read in place: pointers into `source`."""
    plane, row, rows, column, columns = _place(block, g)
    n = plane // g.out_d
    place = n * g.in_n + (plane - n * g.out_d) * g.stride_d * g.in_d + row * g.stride_h * g.in_h
    _put_pointers(table, offset(source, place + column * g.stride_w * g.in_w), rows, columns, g)
    return (plane * g.out_h + row) * g.out_w + column, rows * columns


@device
def _put_pointers(table, first, rows, columns, g):
    """A pointer for each position of a block, the first of which begins at `first`."""
    for i in range(rows):
        for j in range(columns):
            place = i * g.stride_h * g.pitch + j * g.stride_w * g.channels
            store_pointer(table, i * columns + j, offset(first, place))


@device
def _products_inside(first, last, g):
    """Where products of those taps begin, and end, that reach into the input from any position from `first` to `last`.

    Of taps along D or H, as `left_out` says, and of positions that lie in memory as they are numbered.
    """
    if g.left_out == 0:
        return 0, g.count
    taps, size, stride, pad, dilation = g.taps_h, g.size_h, g.stride_h, g.pad_h, g.dilation_h
    top, bottom = first // g.out_w % g.out_h, last // g.out_w % g.out_h
    if g.left_out == 1:
        taps, size, stride, pad, dilation = g.taps_d, g.size_d, g.stride_d, g.pad_d, g.dilation_d
        top = bottom = first // (g.out_h * g.out_w) % g.out_d
    begin, end = 0, taps
    while begin < end and bottom * stride - pad + begin * dilation < 0:
        begin += 1
    while end > begin and top * stride - pad + (end - 1) * dilation >= size:
        end -= 1
    of_tap = g.count // taps
    return begin * of_tap, end * of_tap


@kernel
def conv_rows(
    block,
    scratch,
    source: "T*",
    weight: "T*",
    out: "T*",
    residual: "int64",
    activation: "int64",
    offsets: "int64*",
    g: "RowsConv",
):
    """One block: a chunk of the blocks of output positions, for some panels of output channels.

    `offsets` says where in the patch each product finds its input; `weight` is what `pack_rows` makes. What follows the
    sums is told by `residual` and `activation`: see `finish_row`.
    """
    first_panel, panels = even_part(block % g.panel_blocks, g.panel_blocks, g.panels)
    first_block, blocks = even_part(block // g.panel_blocks, g.chunks, g.blocks)
    patch = cast(offset(scratch, MAX_POINTS), source)
    for b in range(first_block, first_block + blocks):
        if g.in_place:
            point, points = _point_into(b, scratch, source, g)
        else:
            point, points = _load_block(b, patch, scratch, source, g)
        for first in range(0, points, g.group):
            count = min(g.group, points - first)
            begin, end = _products_inside(point + first, point + first + count - 1, g)
            for panel in range(first_panel, first_panel + panels):
                lane = panel * g.width
                lanes = min(g.width, g.lanes - lane)
                packed = offset(weight, panel * (1 + g.count) * g.width)
                rows = offset(out, (point + first) * g.lanes + lane)
                kind, part = (WIDE, g.part) if lanes > g.vector else (NARROW, g.count)
                parts = max((end - begin + part - 1) // part, 1)
                for i in range(parts):
                    step, products = even_part(i, parts, end - begin)
                    step += begin
                    offset_gemm(
                        HELD if i > 0 else kind,
                        offset(scratch, first),
                        count,
                        offset(offsets, step),
                        products,
                        offset(packed, (1 + step) * g.width),
                        g.width,
                        packed,
                        rows,
                        g.lanes,
                        lanes,
                    )
                finish_rows(rows, g.lanes, count, lanes, residual, activation)


@kernel
def pack_rows(
    block, weight: "T*", bias: "T*", packed: "T*", count: "int64", channels: "int64", planes: "int64",
    lanes: "int64", width: "int64",
):  # fmt: skip
    """One block: one panel, the bias in its first row, then ``packed[1 + k][lane]``, the `count` weights of each lane.

    Those lie in `channels` of so many `planes`, and are packed plane by plane, of all channels. Lanes beyond the last
    are zero.
    """
    lane = block * width
    valid = min(width, lanes - lane)
    panel = offset(packed, block * (1 + count) * width)
    for i in range(width):
        panel[i] = bias[lane + i] if i < valid else 0
    run = count // (channels * planes)
    for channel in range(channels):
        for plane in range(planes):
            first, to = lane * count + (channel * planes + plane) * run, 1 + (plane * channels + channel) * run
            copy_transposed(weight, first, count, panel, to * width, width, valid, run)
    for k in range(1, 1 + count):
        for i in range(valid, width):
            panel[k * width + i] = 0


@kernel
def pack_listed(
    block,
    weight: "T*",
    bias: "T*",
    packed: "T*",
    order: "int64*",
    together: "int64",
    steps: "int64",
    products: "int64",
    lanes: "int64",
    width: "int64",
):
    """One block: all of a panel, ``packed[1 + k][together * lane + i] = weight[lane][order[together * k + i]]``.

    With two `together`, lanes are paired: the bias is in the even ones of the first row, and where `order` is negative
    there is nothing, and 0.
    """
    clear_run(packed, (1 + steps) * width)
    for lane in range(lanes):
        packed[together * lane] = bias[lane]
        for i in range(together):
            column = offset(packed, width + together * lane + i)
            for k in range(steps):
                product = order[together * k + i]
                if product >= 0:
                    column[k * width] = weight[lane * products + product]


@device
def _pack_twice(packed, grad_output, points, g):
    """Rows of dY, one after the other, each lane twice side by side; zero beyond the last lane."""
    zero = half(packed)
    for p in range(points):
        row = load_first(grad_output, p * g.lanes, g.lanes, zero)
        store(packed, p * g.width, interleaved(row, row))


@device
def _pack_panel(packed, grad_output, points, lanes, g):
    """Rows of one panel of dY, one after the other; zero beyond the last lane."""
    zero = splat(packed, 0.0)
    for p in range(points):
        store(packed, p * g.width, load_first(grad_output, p * g.lanes, lanes, zero))
        if lanes > g.vector:
            second = load_first(grad_output, p * g.lanes + g.vector, lanes - g.vector, zero)
            store(packed, p * g.width + g.vector, second)


@kernel
def conv_rows_weight(
    block,
    scratch,
    source: "T*",
    grad_output: "T*",
    partial: "T*",
    offsets: "int64*",
    g: "RowsConv",
):
    """One block: the sum over a chunk of the blocks of output positions, for some panels of output channels.

    ``partial[chunk][panel][k][lane]`` receives it. The other arguments are those of `conv_rows`.
    """
    first_panel, panels = even_part(block % g.panel_blocks, g.panel_blocks, g.panels)
    chunk = block // g.panel_blocks
    first_block, blocks = even_part(chunk, g.chunks, g.blocks)
    panel_elements = g.count * g.width
    out = offset(partial, (chunk * g.panels + first_panel) * panel_elements)
    clear_run(out, panels * panel_elements)
    rows_of_panel = cast(offset(scratch, MAX_POINTS), source)
    patch = cast(offset(scratch, MAX_POINTS + ROW_SLOTS), source)
    for b in range(first_block, first_block + blocks):  # 4th loop: blocks of positions
        point, points = _load_block(b, patch, scratch, source, g)
        parts = (points + POINT_BLOCK - 1) // POINT_BLOCK
        for part in range(parts):  # 3rd loop: positions whose dY fits L1
            first, count = even_part(part, parts, points)
            following = offset(grad_output, (point + first + count) * g.lanes)
            for panel in range(panels):  # 2nd loop: panels of output channels
                lane = (first_panel + panel) * g.width
                lanes = min(g.width, g.lanes - lane)
                y, y_stride = offset(grad_output, (point + first) * g.lanes + lane), g.lanes
                if g.pairs > 0:
                    _pack_twice(rows_of_panel, y, count, g)
                    y, y_stride = rows_of_panel, g.width
                elif lanes < g.width or (g.count > FEW_PRODUCTS and g.lanes > g.width):
                    _pack_panel(rows_of_panel, y, count, lanes, g)
                    y, y_stride = rows_of_panel, g.width
                offset_outer(  # 1st loop: tiles of the reduction
                    lanes > g.vector,
                    g.pairs > 0,
                    g.count,
                    offset(scratch, first),
                    count,
                    offsets,
                    y,
                    y_stride,
                    offset(out, panel * panel_elements),
                    g.width,
                    offset(following, panel * count * g.lanes // panels),
                    count * g.lanes // panels,
                )


@device
def _add_chunks(total, rows, g):
    """Add some rows of a panel of all other chunks, in order, to those of the first."""
    for chunk in range(1, g.chunks):
        part = offset(total, chunk * g.panels * g.count * g.width)
        for i in range(rows * g.width):
            total[i] += part[i]


@kernel
def combine_rows(block, partial: "T*", out: "T*", g: "RowsConv"):
    """One block: `COMBINE_ROWS` rows of one panel of the gradient, chunks added in order, ``out[lane][k]``."""
    panel = block % g.panels
    first = block // g.panels * COMBINE_ROWS
    rows = min(COMBINE_ROWS, g.count - first)
    total = offset(partial, (panel * g.count + first) * g.width)
    _add_chunks(total, rows, g)
    lane = panel * g.width
    copy_transposed(total, 0, g.width, out, lane * g.count + first, g.count, rows, min(g.width, g.lanes - lane))


@kernel
def combine_pairs(block, partial: "T*", out: "T*", order: "int64*", products: "int64", g: "RowsConv"):
    """As `combine_rows` for paired lanes: ``out[lane][order[2 * k + i]]`` is what lane ``2 * lane + i`` sums up."""
    first = block * COMBINE_ROWS
    rows = min(COMBINE_ROWS, g.count - first)
    total = offset(partial, first * g.width)
    _add_chunks(total, rows, g)
    for k in range(rows):
        for i in range(2):
            product = order[2 * (first + k) + i]
            if product >= 0:
                for lane in range(g.lanes):
                    out[lane * products + product] = total[k * g.width + 2 * lane + i]
