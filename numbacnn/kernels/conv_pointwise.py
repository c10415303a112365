"""Convolution of one tap without padding: matrix products of rows that lie at constant distances.

``out[row][lane] = bias[lane] + sum over k of x[row][k] * weight[k][lane]`` for the rows of all samples, group by group.
Nothing is tabulated, and `x` is read where it lies. Every sum is one chain of multiply-adds in the order of k, in each
of the kernels here: which of them runs, and how its work is cut, changes no bit.

After Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008); the names of the loops are
BLIS's.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from ._serial import SCRATCH_SLOTS
from .columns import pack_columns
from .finish import finish_rows
from .layout import copy_transposed
from .pointer import as_integers, cast, offset, prefetch_read, prefetch_write
from .runs import clear_run, copy_run, even_part
from .simd import lanes as lanes_of
from .simd import line as line_of
from .simd import load, load_first, splat, store
from .strided_tile import (
    COLUMNS_OF_TWO,
    SHORTEST_RUNS,
    WIDE_ROWS,
    columns_tile,
    few_rows_tile,
    narrow_tile,
    streamed_tile,
    strided_tile,
    wide_tile,
)
from .tile import MAX_ROWS

# Rows of weights that lie far apart, which no hardware foresees, are asked for so many source channels ahead.
PACK_AHEAD = 8

# The scratch: what the sums of a `columns_tile` begin with; copies of too few rows for one, so many elements of each;
# then weights that are packed here.
START_SLOTS = 64
ROW_COPY, ROW_SLOTS = 64, 1024
OWN = START_SLOTS + ROW_SLOTS
OWN_BYTES = 8 * (SCRATCH_SLOTS - OWN)


class Pointwise(NamedTuple):
    """Extents, strides (in elements) and block sizes of one launch."""

    rows: int  # of all samples
    groups: int
    depth: int  # source channels summed over: those of one group
    lanes: int  # destination channels of one group
    x_step: int  # elements between rows
    out_step: int
    width: int  # lanes of a panel
    last: int  # of a group's last panel: as many, or those of one vector or of three
    panels: int  # per group
    padded: int  # lanes of a group's packed weights and of its bias: whole panels
    columns: int  # lanes of the last panel of a group if a `columns_tile` computes them, else 0
    run_stride: int  # of the weights as the user has them: between source channels, destination channels, groups
    lane_stride: int
    group_stride: int
    packs: int  # 1: each block packs what it needs of these weights; 0: they come packed, panel after panel
    row_blocks: int
    panel_blocks: int
    together: int  # panels whose weights stay in L2 while all rows of a block pass
    depth_block: int
    asks: int  # 1: tiles ask for what the next ones read, a line at a time; 0: it is in L2 or near, or not in one piece
    ahead: int  # how many elements before a `columns_tile` reads them cache lines are asked for


class FewRows(NamedTuple):
    """As `Pointwise`, for so few rows that weights are read where they lie."""

    rows: int
    groups: int
    depth: int
    lanes: int
    x_step: int
    out_step: int
    width: int  # lanes that are computed together
    panels: int  # per group
    padded: int  # lanes of a group's bias: whole panels
    run_stride: int
    lane_stride: int
    group_stride: int
    parts: int  # of a group's panels: each is a block
    depth_block: int
    ahead: int


@device
def _pack(weight, packed, run, lanes, width, packed_step, run_stride, lane_stride):
    """``packed[panel * packed_step + k * width + lane] = weight[k][panel * width + lane]`` for all panels of `lanes`.

    Zero for lanes of the last panel that do not exist. One of the strides is 1.
    """
    vector = lanes_of(weight)
    if lane_stride == 1:  # rows of all panels at once: as far as they reach, they lie in memory one after the other
        zero = splat(packed, 0.0)
        for k in range(run):
            row, place, left = offset(weight, k * run_stride), offset(packed, k * width), lanes
            for i in range(0, lanes, line_of(weight)):
                prefetch_read(row, min(PACK_AHEAD, run - 1 - k) * run_stride + i)
            while left >= width:
                for lane in range(0, width, vector):
                    store(place, lane, load(row, lane))
                row, place, left = offset(row, width), offset(place, packed_step), left - width
            if left > 0:
                for lane in range(0, width, vector):
                    store(place, lane, load_first(row, lane, left - lane, zero))
        return
    for first in range(0, lanes, width):
        count = min(width, lanes - first)
        panel, place = offset(weight, first * lane_stride), offset(packed, first // width * packed_step)
        whole = count - count % vector
        for lane in range(0, whole, vector):
            pack_columns(offset(panel, lane * lane_stride), lane_stride, run, offset(place, lane), width)
        if whole < width:
            for k in range(run):
                for lane in range(whole, width):
                    place[k * width + lane] = 0
            rest = offset(panel, whole * lane_stride)
            copy_transposed(as_integers(rest), 0, lane_stride, as_integers(place), whole, width, count - whole, run)


@device
def _pack_columns(weight, packed, run, columns, run_stride, lane_stride):
    """``packed[k * columns + j] = weight[k][j]``, as `columns_tile` reads it. One of the strides is 1."""
    if lane_stride == 1:
        for k in range(run):
            for j in range(columns):
                packed[k * columns + j] = weight[k * run_stride + j]
    else:
        copy_transposed(as_integers(weight), 0, lane_stride, as_integers(packed), 0, columns, columns, run)


@device
def _panel(panel, g):
    """The group of a panel, its first lane there and how many it has, and for how many its weights are packed."""
    group = panel // g.panels
    number = panel - group * g.panels
    lane = number * g.width
    lanes = g.width if number + 1 < g.panels else g.lanes - lane
    return group, lane, lanes, g.last if number + 1 == g.panels else g.width


@device
def _panels_together(panel, end, g):
    """How many panels from `panel` on, all before `end`, are multiplied in turn by each tile of rows."""
    left = g.panels - panel % g.panels
    if left > 1 and (g.columns > 0 or g.last != g.width):  # the last of a group is not like the others
        left -= 1
    return min(left, end - panel, g.together)


@device
def _pack_panels(weight, packed, panel, lanes, k, run, g):
    """Pack what the panels from `panel` on, which have `lanes` lanes, need for `run` source channels from `k` on."""
    group, lane, _, width = _panel(panel, g)
    source = offset(weight, group * g.group_stride + lane * g.lane_stride + k * g.run_stride)
    if lanes == g.columns:
        _pack_columns(source, packed, run, lanes, g.run_stride, g.lane_stride)
    else:
        _pack(source, packed, run, lanes, width, run * width, g.run_stride, g.lane_stride)


@kernel
def pack_panels(block, weight: "T*", packed: "T*", g: "Pointwise"):
    """One block: one panel, whole."""
    group, lane, lanes, _ = _panel(block, g)
    _pack_panels(weight, offset(packed, (group * g.padded + lane) * g.depth), block, lanes, 0, g.depth, g)


@device
def _times_columns(
    x, x_step, rows, run, ahead, w, columns, bias, bias_row, bias_lane, scratch, out, out_row, out_lane
):  # fmt: skip
    """Rows times a few columns; bias and results lie `_row` elements apart by rows and `_lane` by columns."""
    most = (2 if columns <= COLUMNS_OF_TWO else 1) * lanes_of(x)
    start = cast(scratch, x)
    for group in range((rows + most - 1) // most):
        first = max(0, min(group * most, rows - most))  # the last rows once more, rather than rows that do not exist
        if group == 0 or bias_row > 0:
            for j in range(columns):
                for r in range(most):
                    start[j * most + r] = bias[min(first + r, rows - 1) * bias_row + j * bias_lane]
        if rows >= most:
            target = offset(out, first * out_row)
            columns_tile(columns, offset(x, first * x_step), x_step, run, ahead, w, start, target, out_row, out_lane)
        else:
            _copied_times_columns(x, x_step, rows, run, w, columns, most, start, cast(offset(scratch, START_SLOTS), x))
            for r in range(rows):
                for j in range(columns):
                    out[r * out_row + j * out_lane] = start[j * most + r]


@device
def _copied_times_columns(x, x_step, rows, run, w, columns, most, sums, copies):
    """Fewer rows than a `columns_tile` has times a few columns, added to `sums`: rows that do not exist are zeros."""
    clear_run(copies, most * ROW_COPY)
    for k in range(0, run, ROW_COPY):
        count = min(ROW_COPY, run - k)
        for r in range(rows):
            copy_run(offset(copies, r * ROW_COPY), offset(x, r * x_step + k), count)
        columns_tile(columns, copies, ROW_COPY, count, 0, offset(w, k * columns), sums, sums, 1, most)


@kernel
def conv_pointwise(
    block,
    scratch,
    x: "T*",
    weight: "T*",
    bias: "T*",
    out: "T*",
    residual: "int64",
    activation: "int64",
    g: "Pointwise",
):
    """One block: some rows x some of the panels of all groups, which are numbered through.

    What follows the sums is told by `residual` and `activation`: see `finish_row`.
    """
    first, rows = even_part(block // g.panel_blocks, g.row_blocks, g.rows)
    panel, panels = even_part(block % g.panel_blocks, g.panel_blocks, g.groups * g.panels)
    last_panel = panel + panels
    own = cast(offset(scratch, OWN), x)
    while panel < last_panel:  # 5th loop: panels whose weights stay in L2
        together = _panels_together(panel, last_panel, g)
        group, lane, lanes, width = _panel(panel, g)
        x_panel = offset(x, first * g.x_step + group * g.depth)
        out_panel = offset(out, first * g.out_step + group * g.lanes + lane)
        start = offset(bias, group * g.padded + lane)
        packed = offset(weight, (group * g.padded + lane) * g.depth)
        if lanes == g.columns:
            if g.packs:
                _pack_panels(weight, own, panel, lanes, 0, g.depth, g)
                packed = own
            _times_columns(
                x_panel, g.x_step, rows, g.depth, g.ahead, packed, lanes, start, 0, 1, scratch, out_panel, g.out_step, 1
            )  # fmt: skip
            finish_rows(out_panel, g.out_step, rows, lanes, residual, activation)
        else:
            if together > 1:
                lanes = min(together * g.width, g.lanes - lane)
            for k in range(0, g.depth, g.depth_block):  # 4th loop: blocks of source channels
                run = min(g.depth_block, g.depth - k)
                w, w_panel = offset(packed, k * width), g.depth * width
                if g.packs:
                    w, w_panel = own, run * width
                    _pack_panels(weight, own, panel, lanes, k, run, g)
                source = offset(x_panel, k)
                _times_panels(
                    source, rows, run, w, width, w_panel, out_panel, start, k, lanes, residual, activation, g
                )  # fmt: skip
        panel += together


@device
def _times_panels(x, rows, run, w, width, w_panel, out, start, k, lanes, residual, activation, g):
    """Rows times panels that lie `w_panel` elements apart, for `run` source channels from `k` on."""
    if g.depth <= SHORTEST_RUNS and width == g.width:
        for panel in range(lanes // width):
            lane = panel * width
            streamed_tile(
                rows, x, g.x_step, run, offset(w, panel * w_panel), width, offset(out, lane), g.out_step,
                offset(start, lane),
            )  # fmt: skip
        whole = lanes - lanes % width
        finish_rows(out, g.out_step, rows, whole, residual, activation)
        w, out, start = offset(w, lanes // width * w_panel), offset(out, whole), offset(start, whole)
        lanes -= whole
        if lanes == 0:
            return
    most = WIDE_ROWS if width > g.width else MAX_ROWS
    tiles = (rows + most - 1) // most
    for tile in range(tiles):  # 2nd loop: tiles of rows. The 1st, over panels, is the tile's
        row, valid = even_part(tile, tiles, rows)
        source, target = offset(x, row * g.x_step), offset(out, row * g.out_step)
        for i in range(valid):  # the next tile's first results: in pieces far apart, which no hardware foresees
            prefetch_write(target, (valid + i) * g.out_step)
        if width == g.width:
            strided_tile(valid, source, g.x_step, run, g.asks, w, w_panel, target, g.out_step, start, k, lanes)
        elif width < g.width:
            narrow_tile(valid, source, g.x_step, run, g.asks, w, target, g.out_step, start, k, lanes)
        else:
            wide_tile(valid, source, g.x_step, run, g.asks, w, target, g.out_step, start, k, lanes)
        if k + run == g.depth:
            finish_rows(target, g.out_step, valid, lanes, residual, activation)


@kernel
def few_rows_forward(
    block,
    scratch,
    x: "T*",
    weight: "T*",
    bias: "T*",
    out: "T*",
    residual: "int64",
    activation: "int64",
    g: "FewRows",
):
    """One block: all rows x some of a group's destination channels, whose weights lie along the source channels.

    The roles are exchanged: weights are the rows of the tile, and rows of `x` its columns.
    """
    group = block // g.parts
    first, panels = even_part(block % g.parts, g.parts, g.panels)
    lane = first * g.width
    lanes = min(panels * g.width, g.lanes - lane)
    x = offset(x, group * g.depth)
    columns = x
    if g.rows > 1:
        columns = cast(offset(scratch, OWN), x)
        _pack_columns(x, columns, g.depth, g.rows, 1, g.x_step)
    channel = group * g.lanes + lane
    target = offset(out, channel)
    _times_columns(
        offset(weight, group * g.group_stride + lane * g.lane_stride), g.lane_stride, lanes, g.depth, g.ahead,
        columns, g.rows, offset(bias, channel), 1, 0, scratch, target, 1, g.out_step,
    )  # fmt: skip
    finish_rows(target, g.out_step, g.rows, lanes, residual, activation)


@kernel
def few_rows_backward(
    block,
    scratch,
    x: "T*",
    weight: "T*",
    bias: "T*",
    out: "T*",
    residual: "int64",
    activation: "int64",
    g: "FewRows",
):
    """One block: all rows x some of a group's destination channels, along which weights lie.

    A last panel that is not whole reads on into the weights of the next source channels; only where there are none
    left it has them packed, lest more is read than there is.
    """
    group = block // g.parts
    first, panels = even_part(block % g.parts, g.parts, g.panels)
    own = cast(offset(scratch, OWN), x)
    weight = offset(weight, group * g.group_stride)
    for k in range(0, g.depth, g.depth_block):
        run = min(g.depth_block, g.depth - k)
        for panel in range(first, first + panels):
            lane = panel * g.width
            lanes = min(g.width, g.lanes - lane)
            w, start = offset(weight, k * g.run_stride + lane), offset(bias, group * g.padded + lane)
            source, target = offset(x, group * g.depth + k), offset(out, group * g.lanes + lane)
            beyond = (g.width - lanes + g.run_stride - 1) // g.run_stride  # source channels whose weights are read on
            whole = max(0, min(run, g.depth - k - beyond))
            held, left = k, run
            while left > 0:
                count, w_step = whole, g.run_stride
                if whole == 0:
                    count, w_step = left, g.width
                    _pack(w, own, count, lanes, g.width, 0, g.run_stride, 1)
                    w = own
                few_rows_tile(g.rows, source, g.x_step, count, w, w_step, target, g.out_step, start, held, lanes)
                source, w = offset(source, count), offset(w, count * w_step)
                held, left, whole = held + count, left - count, 0
            if held == g.depth:
                finish_rows(target, g.out_step, g.rows, lanes, residual, activation)
