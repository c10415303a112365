"""Copying the columns of matrices: how arrays are joined along an axis, and cut into pieces."""

from __future__ import annotations

from ._build import kernel
from .pointer import offset
from .runs import copy_run


@kernel(I=("uint32", "uint64"))
def copy_columns(
    block,
    src: "I*",
    dst: "I*",
    rows: "int64",
    width: "int64",
    src_first: "int64",
    src_row: "int64",
    dst_first: "int64",
    dst_row: "int64",
    pieces: "int64",
    units: "int64",
):
    """``dst[row, column] = src[row, column]``: one block is `units` of the `pieces` that each row is cut into."""
    for unit in range(block * units, min(rows * pieces, (block + 1) * units)):
        row, begin, end = unit, 0, width
        if pieces > 1:  # divisions would take longer than a short row
            row, piece = unit // pieces, unit % pieces
            begin, end = piece * width // pieces, (piece + 1) * width // pieces
        s, t = src_first + row * src_row + begin, dst_first + row * dst_row + begin
        copy_run(offset(dst, t), offset(src, s), end - begin)
