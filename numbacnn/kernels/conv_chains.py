"""Convolution of few input channels, at most one vector of output channels: patches as in `conv_rows`, and chains."""

from __future__ import annotations

from ._build import kernel
from .chain_tile import chain_gemm
from .conv_rows import MAX_POINTS, RowsConv, load_patch
from .finish import finish_rows
from .pointer import cast, offset
from .runs import even_part


@kernel
def conv_chains(
    block,
    scratch,
    source: "T*",
    weight: "T*",
    out: "T*",
    residual: "int64",
    activation: "int64",
    counts: "int64*",
    offsets: "int64*",
    g: "RowsConv",
):
    """One block: a chunk of the blocks of output positions.

    `counts` and `offsets` are those of `chain_tile.chain_gemm`; `weight` is what `pack_listed` makes. What follows the
    sums is told by `residual` and `activation`: see `finish_row`.
    """
    first_block, blocks = even_part(block, g.chunks, g.blocks)
    patch = cast(offset(scratch, MAX_POINTS), source)
    for b in range(first_block, first_block + blocks):
        point, rows, columns = load_patch(b, patch, source, g)
        for i in range(rows):
            results = offset(out, (point + i * columns) * g.lanes)
            chain_gemm(
                g.pairs > 0,
                columns,
                offset(patch, i * g.stride_h * g.pitch),
                g.stride_w * g.channels,
                offsets,
                counts,
                offset(weight, g.width),
                weight,
                results,
                g.lanes,
                g.lanes,
            )
            finish_rows(results, g.lanes, columns, g.lanes, residual, activation)
