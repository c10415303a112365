"""A row times a matrix whose rows lie in memory: each of its elements is needed once, and read where it lies."""

from __future__ import annotations

from typing import Any

from ._build import device, intrinsic
from ._target import target
from .emitter import Emitter, emitted
from .pointer import offset
from .simd import lanes
from .tile_steps import load_rows, store_rows

# Vectors of sums in registers: half of these, for long stretches of each row, and enough chains to hide the latency.
VECTORS = target().registers // 2
UNROLL = 2  # rows
_WIDTHS = tuple(VECTORS >> i for i in range(VECTORS.bit_length()))


@intrinsic
def _row_tile(typingctx, vectors, x, count, w, row, start, out, valid):
    """`row_times_rows` for one of `_WIDTHS` vectors of columns, of which a single one need not be whole."""

    def emit(e, vectors, *rest):
        e.choose(vectors, _WIDTHS, lambda vectors: _emit_tile(e, vectors, *rest))

    return emitted(emit, x, vectors, x, count, w, row, start, out, valid)


def _emit_tile(
    e: Emitter, vectors: int, x: Any, count: Any, w: Any, row: Any, start: Any, out: Any, valid: Any
) -> None:
    mask = e.mask(valid) if vectors == 1 else None

    def step(k, sums):
        left, right = e.broadcast(e.at(x, k)), e.at(w, e.builder.mul(k, row))
        return [left.fma(e.load(right, j, mask), total) for j, total in enumerate(sums)]

    sums = e.carry(count, load_rows(e, [start], vectors), step, UNROLL)
    store_rows(e, sums, [out], valid if vectors == 1 else None)


@device
def row_times_rows(x, count, w, row, start, out, columns):
    """``out[j] = start[j] + sum over k < count of x[k] * w[k * row + j]`` for ``j < columns``.

    `start` is read as whole vectors.
    """
    n, vectors, j = lanes(x), VECTORS, 0
    while j < columns:
        while vectors > 1 and j + vectors * n > columns:
            vectors //= 2
        _row_tile(vectors, x, count, offset(w, j), row, offset(start, j), offset(out, j), columns - j)
        j += vectors * n
