"""The weight gradient of a single tap between few channels and many, as in segmentation heads.

``dW[i][j]`` sums ``few[position][i] * many[position][j]`` over positions: hardly any arithmetic, so what counts is that
the rows of many channels are read as memory gives them quickest. A block takes some positions. Of a few rows at a time,
which L1 holds, it adds up some vectors of columns after the other, for all of the few channels at once; meanwhile the
rows that come next are asked for, line by line, in the order in which they lie.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ._build import intrinsic, kernel
from ._target import LINE_BYTES
from .emitter import Emitter, emitted
from .pointer import cast, offset
from .runs import clear_run, even_part
from .simd import lanes
from .sources import Sources
from .tile_steps import add_products, load_rows, store_rows

MOST_FEW = 4
VECTORS = 4  # of columns, at most: with three rows of them, twelve chains and as many registers


class FewConv(NamedTuple):
    """Extents and strides (in elements) of one launch."""

    points: int
    step: int  # positions at a time
    few: int  # channels, at most `MOST_FEW`
    many: int
    swapped: int  # the few channels are those of the input; 0: of the output
    row: int  # elements between the sums of the few channels: whole vectors
    few_step: int  # of the gradient: between the few channels, and between the many
    many_step: int
    chunks: int


@intrinsic
def few_tile(typingctx, rows, vectors, few, few_step, many, many_step, valid, count, following, sums, sums_step):
    """Add ``few[p][i] * many[p][j]`` over `count` positions to ``sums[i][j]``.

    rows : how many `i` there are, 1 to `MOST_FEW`
    vectors : of `j`: 1, 2 or, for fewer than `MOST_FEW` rows, 4
    few, few_step, many, many_step : what the first position reads; elements from there to the next
    valid : columns that exist, if `vectors` is 1; the others are not read
    following : where what is needed next begins: as much as is read here is asked for
    sums, sums_step : whole vectors; elements from each row to the next
    """

    def emit(e, rows, vectors, *rest):
        for_vectors = {4: (3, 2, 1), 2: (4, 3, 2, 1), 1: (4, 3, 2, 1)}
        e.choose(
            vectors,
            tuple(for_vectors),
            lambda vectors: e.choose(rows, for_vectors[vectors], lambda rows: _few(e, rows, vectors, *rest)),
        )

    return emitted(emit, few, rows, vectors, few, few_step, many, many_step, valid, count, following, sums, sums_step)


def _few(
    e: Emitter, rows: int, vectors: int, few: Any, few_step: Any, many: Any, many_step: Any, valid: Any, count: Any,
    following: Any, sums: Any, sums_step: Any,
) -> None:  # fmt: skip
    """Emit the tile for some rows and vectors."""
    builder = e.builder
    mask = e.mask(valid) if vectors == 1 else None
    places = [e.at(sums, builder.mul(sums_step, e.i64(i))) for i in range(rows)]

    def position(p, sums):
        for at in range(0, vectors * e.lanes, LINE_BYTES // e.itemsize):
            e.prefetch(e.at(following, builder.add(e.times(p, vectors * e.lanes), e.i64(at))))
        left, right = e.at(few, builder.mul(p, few_step)), e.at(many, builder.mul(p, many_step))
        return add_products(e, [(e.at(left, i),) for i in range(rows)], right, sums, mask)

    store_rows(e, e.carry(count, load_rows(e, places, vectors), position), places)


@kernel
def conv_weight_few(
    block, scratch, source: "T*", grad_output: "T*", partial: "T*", zeros: "T*", g: "FewConv", s: "Sources"
):
    """One block: a chunk of positions; ``partial[chunk][co][ci]`` receives its sum.

    There is no padding to read zeros for, and sources lie at constant distances.
    """
    few, many, n = grad_output, source, lanes(source)
    if g.swapped:
        few, many = source, grad_output
    sums = cast(scratch, source)
    clear_run(sums, g.few * g.row)
    first, points = even_part(block, g.chunks, g.points)
    for p in range(first, first + points, g.step):
        count = min(g.step, first + points - p)
        rows = offset(many, p * g.many)
        following = offset(rows, count * g.many)
        column = 0
        while column < g.many:
            left = g.many - column
            vectors = VECTORS if left >= VECTORS * n and g.few < MOST_FEW else 2 if left >= 2 * n else 1
            few_tile(
                g.few, vectors, offset(few, p * g.few), g.few, offset(rows, column), g.many, left, count,
                offset(following, column * count), offset(sums, column), g.row,
            )  # fmt: skip
            column += vectors * n
    out = offset(partial, block * g.few * g.many)
    for i in range(g.few):
        for j in range(g.many):
            out[i * g.few_step + j * g.many_step] = sums[i * g.row + j]
