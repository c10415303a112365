"""How the products of a convolution of one tap are cut into blocks, by their extents alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ...kernels.conv_pointwise import OWN_BYTES, FewRows, Pointwise
from ...kernels.strided_rows import StridedRows
from ...kernels.strided_tile import COLUMNS_OF_TWO, MOST_COLUMNS, VECTORS_OF_ROWS, WIDE_VECTORS
from ...kernels.tile import MAX_ROWS, MIN_GEMM_ROWS, VECTORS, tile_lanes
from . import blocking
from .lattice import by_axis

if TYPE_CHECKING:
    from ..geometry import ConvGeometry

# Rows of a block: 16 tiles reuse each panel of weights, and 96 rows of 256 channels are a fifth of L2 ...
ROWS = 96
# ... more where they are short: fewer blocks to begin.
BLOCK_BYTES, MOST_ROWS = 64 * 1024, 512
# A panel's weights for as many source channels as are summed in one go: they come from L2 for every tile, as fast as
# they are used. (Half of L1, and sums that are put down in between, take up to a tenth longer.)
PANEL_BYTES = 128 * 1024
# Where no more rows share packed weights, each block packs its own panels: they then pass through memory once. With
# fewer panels than this there would be too few blocks. (Beside large second-level caches that is 1.1 to 1.5 times as
# fast for 256 to 512 rows, too.)
ROWS_OF_ONE, PANELS_OF_ONE = 512 if blocking.WIDE_VECTORS else 256, 4
# Where all weights packed at once would be too many, blocks pack them as well, for so many rows that it pays.
ROWS_OF_MANY = 512
# Rows so few that weights are read where they lie.
FEW_ROWS = {"forward": MOST_COLUMNS, "backward_data": MAX_ROWS}
# Enough of the weights, for a block of few rows, to be worth a thread.
FEW_ROWS_BYTES = 16 * 1024
# What a `columns_tile` reads is asked for in advance: of short rows whole tiles, some KiB away, of long ones what comes
# next in the same row, because L1 holds no more.
AHEAD_BYTES, TILE_AHEAD_BYTES, ROW_AHEAD_BYTES = 8 * 1024, 16 * 1024, 512
# Elements of four bytes read or written by one core: decides only whether a launch is worth a second one.
ELEMENTS_PER_NS = 4.0
# Rows that lie a stride apart are copied so many at a time: what is copied stays in the last cache.
COPIED_BYTES = 4 << 20
# Rows that one block copies.
COPIED_ROWS = 32


class Product(NamedTuple):
    """Extents of the products of all groups, and how weights lie."""

    rows: int
    groups: int
    depth: int
    lanes: int
    run_stride: int
    lane_stride: int

    def cost(self, itemsize: int) -> float:
        """Nanoseconds on one core, conservatively: of the operations or, if that is more, of the memory."""
        elements = self.depth * self.lanes + self.rows * (self.depth + self.lanes)
        operations = 2.0 * self.rows * self.depth * self.lanes
        return self.groups * itemsize / 4 * max(operations / blocking.FLOPS_PER_NS, elements / ELEMENTS_PER_NS)


def product(direction: str, g: ConvGeometry, rows: int) -> Product:
    """The product over `rows` of the output's positions."""
    if direction == "forward":
        return Product(rows, g.groups, g.in_per_group, g.out_per_group, 1, g.in_per_group)
    return Product(rows, g.groups, g.out_per_group, g.in_per_group, g.in_per_group, 1)


def plan(p: Product, itemsize: int) -> Pointwise:
    """Cut a product into blocks of rows and of panels."""
    width = tile_lanes(itemsize)
    vector, rest = width // VECTORS, p.lanes % width
    panels, last, columns = -(-p.lanes // width), width, 0
    if p.lanes > width and vector // 2 < rest <= vector:  # a last panel of three vectors instead of two and one
        panels, last = panels - 1, vector * WIDE_VECTORS
    elif 0 < rest <= min(vector, MOST_COLUMNS) and p.depth * rest * itemsize <= OWN_BYTES:
        columns = rest
    elif 0 < rest <= vector:
        last = vector
    padded = (panels - 1) * width + last
    all_panels = p.groups * panels
    too_large = p.groups * p.depth * padded * itemsize > blocking.PACKED_BYTES
    once = p.rows <= ROWS_OF_ONE and all_panels >= PANELS_OF_ONE
    if once:
        row_blocks, panel_blocks = 1, min(all_panels, blocking.MIN_BLOCKS)
    else:
        short = BLOCK_BYTES // (p.groups * max(p.depth, p.lanes) * itemsize)
        rows = ROWS_OF_MANY if too_large else max(ROWS, min(MOST_ROWS, short))
        row_blocks = max(-(-p.rows // rows), min(blocking.MIN_BLOCKS, -(-p.rows // (2 * MAX_ROWS))))
        panel_blocks = 1
    depth_block = blocking.split_evenly(p.depth, PANEL_BYTES // (max(last, width) * itemsize))
    most = min(panels, max(1, blocking.PANELS_BYTES // (depth_block * width * itemsize)))
    together = blocking.split_evenly(-(-all_panels // panel_blocks), most)
    return Pointwise(
        rows=p.rows,
        groups=p.groups,
        depth=p.depth,
        lanes=p.lanes,
        x_step=p.groups * p.depth,
        out_step=p.groups * p.lanes,
        width=width,
        last=last,
        panels=panels,
        padded=padded,
        columns=columns,
        run_stride=p.run_stride,
        lane_stride=p.lane_stride,
        group_stride=p.depth * p.lanes,
        packs=int(once or too_large),
        row_blocks=row_blocks,
        panel_blocks=panel_blocks,
        together=together,
        depth_block=depth_block,
        asks=int(not once and p.groups == 1 and depth_block == p.depth),
        ahead=_ahead(columns, p.groups * p.depth, itemsize),
    )


def has_few_rows(direction: str, p: Product, itemsize: int) -> bool:
    """Whether weights are read where they lie."""
    if direction == "forward" and p.rows > 1 and p.rows * p.depth * itemsize > OWN_BYTES:
        return False
    return p.rows <= FEW_ROWS[direction]


def plan_few_rows(direction: str, p: Product, itemsize: int) -> FewRows:
    """Cut a product of few rows into blocks of lanes."""
    vector = tile_lanes(itemsize) // VECTORS
    if direction == "forward":
        vectors = 2 if p.rows <= COLUMNS_OF_TWO else 1
    else:
        vectors = VECTORS_OF_ROWS[p.rows - 1] if p.rows < MIN_GEMM_ROWS else VECTORS
    width = vectors * vector
    panels = -(-p.lanes // width)
    worth = max(1, p.depth * p.lanes * itemsize // FEW_ROWS_BYTES)
    return FewRows(
        rows=p.rows,
        groups=p.groups,
        depth=p.depth,
        lanes=p.lanes,
        x_step=p.groups * p.depth,
        out_step=p.groups * p.lanes,
        width=width,
        panels=panels,
        padded=panels * width,
        run_stride=p.run_stride,
        lane_stride=p.lane_stride,
        group_stride=p.depth * p.lanes,
        parts=min(panels, worth, blocking.MIN_BLOCKS),
        depth_block=min(p.depth, OWN_BYTES // (width * itemsize)),
        ahead=_ahead(p.rows, p.depth, itemsize),
    )


def _ahead(columns: int, x_step: int, itemsize: int) -> int:
    """How many elements ahead of what a tile of `columns` reads to ask for."""
    rows = tile_lanes(itemsize) // VECTORS * (2 if columns <= COLUMNS_OF_TWO else 1)
    tile = rows * x_step
    if tile * itemsize > TILE_AHEAD_BYTES:
        return ROW_AHEAD_BYTES // itemsize
    return tile * max(1, AHEAD_BYTES // (tile * itemsize))


def strided_rows(g: ConvGeometry, channels: int) -> StridedRows:
    """The positions of the input that a convolution under a stride reads."""
    return StridedRows(
        rows=g.batch * math.prod(g.output),
        **by_axis("points", g.output),
        **by_axis("size", g.input),
        **by_axis("stride", g.stride),
        channels=channels,
        block_rows=COPIED_ROWS,
    )


def copied_rows(rows: int, channels: int, itemsize: int) -> int:
    """How many strided rows are copied at a time."""
    return blocking.split_evenly(rows, max(COPIED_ROWS, COPIED_BYTES // (channels * itemsize)))


def fewer_rows(record: Pointwise, rows: int) -> Pointwise:
    """The same blocks, of fewer rows in all."""
    return record._replace(rows=rows, row_blocks=max(1, record.row_blocks * rows // record.rows))
