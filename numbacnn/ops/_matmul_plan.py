"""How a matrix product is cut into blocks, and its launch."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..kernels import gemm
from ..kernels._target import target
from ..kernels.row_tile import MOST_ROWS
from ..kernels.tile import MAX_ROWS, tile_lanes
from ._split import split_evenly

if TYPE_CHECKING:
    from typing import Any

    from ..kernels._build import Prepared

WIDE = target().wide
# Enough blocks that two to eight cores finish together; but what blocks copy grows with their number. So of 4 times the
# operations, whose copies are 2.5 times as many, are made 2 times as many blocks.
MANY_BLOCKS, OPERATIONS_OF_TWO = 16, 1 << 20
LEAST_OF_TWO = 1 << 19 if WIDE else OPERATIONS_OF_TWO  # more than one block from here on
# Beginning and ending a tile takes as long as so many operations.
TILE_OPERATIONS = 3000
# A block copies its columns, which costs least where it is high. Rows that it copies as well cost as much; those that
# it reads where they lie, a fraction; and a row of results that is written in pieces, as much as so many elements.
# This is low, and narrow. Rows that the last-level cache keeps for no other block cost more.
ROWS_IN_PLACE, FAR_ROWS_IN_PLACE, PIECE_OF_RESULTS = 1 / 8, 1 / 2, 150
KEPT_ROWS_BYTES = 1 << 24
# What is copied of a row at a time, so that L1 holds many beside columns: stretches twice as long, which there is
# room for beside vectors of 64 bytes, took up to 1.1 times as long.
COPIED_BYTES = 1024
FEW_ROWS = FEW_COLUMNS = 48
# Few rows are multiplied as fast as `b` is read: elements of it per block, and bytes of its rows, where they lie along
# memory (short stretches are read slowly, above all where nothing is computed meanwhile; but L1 holds all rows' sums).
ELEMENTS_PER_BLOCK, STREAM_BYTES = 1 << 16, 1024
DIRECT_STREAM_BYTES, DIRECT_SUMS_BYTES = 3072 if WIDE else 1536, 12288
# Beside vectors of 64 bytes a register tile reads `b` where it lies: for few rows if the second-level caches of two
# cores hold it; for as many as let its copying show, if L1 does.
CACHED_BYTES, L1_BYTES, L1_ROWS = 1 << 21, 1 << 15, 100
# Rows so few that `b`, where its rows lie in one piece, is read where it lies: up to three times as fast.
DIRECT_ROWS = 8
# Rows so far apart share few places of the first cache, and drive each other out unless they are copied; which does not
# matter where a block has so few panels of columns, nor where there are more such places than rows of a tile: twelve
# beside vectors of 64 bytes.
CONFLICT_BYTES, FEW_PANELS = 4096, 2
PLACES_FOR_ROWS = WIDE
# Operands of so many bytes do not stay in second-level caches: while a block multiplies, it asks for the rows of `a`
# that come next, so that they need not be copied either; and copying `b` it asks for more rows ahead (1.03 to 1.1 times
# as fast). That needs time to do so: few rows or panels took up to 1.2 times as long. Unmeasured beside wide vectors.
FAR_BYTES, FEWEST_FAR_ROWS = 1 << 22, 100
# One core, conservatively: decides only whether a launch is worth a second core.
OPERATIONS_PER_NS, BYTES_PER_NS = 60.0, 10.0

_NO_PLACES = np.zeros(2, np.int64)


class Plan(NamedTuple):
    """How one product is cut."""

    record: gemm.Gemm
    blocks: int
    cost: float
    single: Prepared  # the launch of one product


@functools.lru_cache(maxsize=1024)
def plan(
    rows: int,
    columns: int,
    depth: int,
    dtype: np.dtype[Any],
    count: int,
    strides: tuple[int, ...],
    has_bias: bool,
) -> Plan:
    """A product of `count`, with an optional row of initial values.

    `strides` are those of the operands' rows and columns, in bytes.
    """
    itemsize = dtype.itemsize
    a_row, a_depth, b_depth, b_column = (stride // itemsize for stride in strides)
    in_place = b_column == 1 and is_read_in_place(rows, columns * depth * itemsize)
    if in_place:
        direct = rows <= MOST_ROWS
    else:
        direct = a_depth == 1 and ((b_column == 1 and rows <= DIRECT_ROWS) or rows == b_depth == 1)
    full = tile_lanes(itemsize)
    width = full if columns > full // 2 else full // 2
    panels = -(-columns // width)
    streams = b_column == 1 and rows <= gemm.ROW_COPIES  # what is read is read once: long stretches of memory, then
    longest = (gemm.ROW_SLOTS * 8 if a_depth == 1 else COPIED_BYTES) // itemsize // (4 if streams else 1)
    if a_depth == 1 and panels <= FEW_PANELS:  # rows of `a` are read once: long stretches of those
        longest = gemm.COLUMN_SLOTS * 8 // itemsize // (panels * width) - 64 // itemsize
    depth_block = split_evenly(depth, longest)
    panel = depth_block * width + 64 // itemsize
    operations = 2.0 * rows * panels * width * depth + TILE_OPERATIONS * panels * -(-rows // MAX_ROWS)
    operations *= itemsize / 4  # of float32, twice as many of which are done at once
    most = gemm.START_SLOTS * 8 // (width * itemsize)
    if direct:
        wanted = 1 + columns * depth // ELEMENTS_PER_BLOCK
    else:
        wanted = 1 + int(max(math.sqrt(count * operations / OPERATIONS_OF_TWO), count * operations >= LEAST_OF_TWO))
        most = min(most, gemm.COLUMN_SLOTS * 8 // (panel * itemsize))
    wanted = -(-_power_of_two(min(MANY_BLOCKS, wanted)) // count)
    fewest = -(-panels // most)
    stretch = min(DIRECT_STREAM_BYTES, DIRECT_SUMS_BYTES // rows) if direct else STREAM_BYTES
    far = (
        (rows + columns) * depth * itemsize > FAR_BYTES and rows >= FEWEST_FAR_ROWS and panels > FEW_PANELS and not WIDE
    )
    conflict = a_row * itemsize % CONFLICT_BYTES == 0 and not (PLACES_FOR_ROWS or far)
    narrow = panels * width * itemsize // stretch if streams else -(-columns // FEW_COLUMNS)
    narrow = max(_power_of_two(narrow), min(2, panels))
    copied = a_depth != 1 or (conflict and panels > FEW_PANELS * narrow)
    in_place_price = FAR_ROWS_IN_PLACE if far and rows * depth * itemsize >= KEPT_ROWS_BYTES else ROWS_IN_PLACE
    price = (1 if copied else in_place_price) + PIECE_OF_RESULTS / depth
    squared = max(wanted, fewest) * price * rows / columns
    row_blocks = _power_of_two(min(math.sqrt(2 * squared), wanted, -(-rows // FEW_ROWS)))
    column_blocks = max(min(-(-wanted // row_blocks), narrow), fewest)
    record = gemm.Gemm(
        rows=rows,
        columns=columns,
        depth=depth,
        a_row=a_row,
        a_depth=a_depth,
        b_depth=b_depth,
        b_column=b_column,
        vector=full // 2,
        width=width,
        panel=panel,
        row_blocks=row_blocks,
        column_blocks=column_blocks,
        depth_block=depth_block,
        copy_rows=int(a_depth != 1 or (conflict and panels > FEW_PANELS * column_blocks)),
        far=int(far),
        has_bias=int(has_bias),
        direct=int(direct),
        in_place=int(in_place),
    )
    cost = operations / OPERATIONS_PER_NS + (rows + columns) * depth * itemsize / BYTES_PER_NS
    blocks = row_blocks * column_blocks
    return Plan(record, blocks, cost, gemm.gemm.prepare((dtype,), blocks, _NO_PLACES, record, cost=cost))


def is_read_in_place(rows: int, nbytes: int) -> bool:
    """Whether a register tile reads `b`, whose rows lie along memory, where it lies."""
    return WIDE and (nbytes <= CACHED_BYTES if rows <= MOST_ROWS else nbytes <= L1_BYTES and rows <= L1_ROWS)


def _power_of_two(x: float) -> int:
    """The largest that is not larger, or 1."""
    return 1 << max(0, int(x).bit_length() - 1)
