"""Copying the columns of matrices: how arrays are joined along an axis, and cut into pieces."""

from __future__ import annotations

from ._build import device, kernel
from .pointer import offset
from .runs import copy_ends, copy_run, even_part
from .simd import eighth, half, lanes, load, load_spread, quarter, splat, store, store_first, stream


@device
def copy_narrow(target, target_row, source, source_row, rows, width):
    """Rows of fewer elements than a vector has: what they are copied by is chosen once for all of them."""
    if width >= lanes(half(target)):
        for row in range(rows):
            copy_ends(offset(target, row * target_row), offset(source, row * source_row), width, half(target))
    elif width >= lanes(quarter(target)):
        for row in range(rows):
            copy_ends(offset(target, row * target_row), offset(source, row * source_row), width, quarter(target))
    elif width >= lanes(eighth(target)):
        for row in range(rows):
            copy_ends(offset(target, row * target_row), offset(source, row * source_row), width, eighth(target))
    else:  # a single column: less than an eighth of the widest vectors
        for row in range(rows):
            target[row * target_row] = source[row * source_row]


@kernel
def copy_columns(
    block,
    src: "T*",
    dst: "T*",
    rows: "int64",
    width: "int64",
    src_first: "int64",
    src_row: "int64",
    dst_first: "int64",
    dst_row: "int64",
    pieces: "int64",
    units: "int64",
    streamed: "int64",
):
    """``dst[row, column] = src[row, column]``: one block is `units` of the `pieces` that each row is cut into.

    If `streamed`, past the caches: rows and their pieces then begin and end at multiples of a vector.
    """
    n = lanes(dst)
    if width < n:
        first, end = block * units, min(rows, (block + 1) * units)
        target, source = offset(dst, dst_first + first * dst_row), offset(src, src_first + first * src_row)
        copy_narrow(target, dst_row, source, src_row, end - first, width)
        return
    for unit in range(block * units, min(rows * pieces, (block + 1) * units)):
        row, begin, length = unit, 0, width
        if pieces > 1:  # divisions would take longer than a short row
            row = unit // pieces
            begin, length = even_part(unit % pieces, pieces, width // n)
            begin, length = begin * n, length * n
            if unit % pieces == pieces - 1:
                length = width - begin
        s, t = src_first + row * src_row + begin, dst_first + row * dst_row + begin
        if streamed:
            for i in range(0, length, n):
                stream(dst, t + i, load(src, s + i))
        else:
            copy_run(offset(dst, t), offset(src, s), length)


@kernel
def join_narrow(
    block,
    x: "T*",
    y: "T*",
    out: "T*",
    lanes_of_x: "int64*",
    size: "int64",
    vectors: "int64",
    of_x: "int64",
    step: "int64",
):
    """Two matrices of narrow rows side by side in `out`, of `size` elements: one block is `step` groups of rows.

    A group is as few rows as fill whole vectors: `vectors` of them, with `of_x` elements of `x`. Which lanes of each
    are those, and how many came before it, `lanes_of_x` tells.
    """
    n = lanes(out)
    zeros = splat(out, 0.0)
    for group in range(block * step, (block + 1) * step):
        for k in range(vectors):
            at = (group * vectors + k) * n
            left = size - at
            if left <= 0:
                return
            bits, before = lanes_of_x[2 * k], group * of_x + lanes_of_x[2 * k + 1]
            if left >= n:
                store(out, at, load_spread(x, before, bits, load_spread(y, at - before, ~bits, zeros)))
            else:
                inside = (1 << left) - 1
                others = load_spread(y, at - before, ~bits & inside, zeros)
                store_first(out, at, load_spread(x, before, bits & inside, others), left)
