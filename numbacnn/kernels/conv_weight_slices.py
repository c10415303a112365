"""The weight gradient of few output channels: vectors run along the input channels, a *slice* of them at a time.

A block sums over a chunk of the positions for one slice. As in `conv_rows`, what some rows of positions read is copied
into a patch, padding included: there, every tap finds its vectors at one offset, in L1, however far apart rows lie in
the image. If input channels are no whole vectors, the last slice begins in the one before; what it sums up once more is
dropped.
"""

from __future__ import annotations

from ._build import device, kernel
from ._serial import SCRATCH_SLOTS
from .conv_rows import RowsConv, load_patch
from .layout import copy_transposed
from .pointer import as_integers, cast, offset
from .runs import clear_run, even_part
from .tap_tile import MOST_ROWS, MOST_SUMS, MOST_TAPS, tap_outer_tile

# The scratch: a patch, and the sums of a slice.
PATCH_SLOTS = SCRATCH_SLOTS // 4
SUM_SLOTS = SCRATCH_SLOTS - PATCH_SLOTS


@kernel
def conv_weight_slices(
    block,
    scratch,
    source: "T*",
    grad_output: "T*",
    partial: "T*",
    zeros: "T*",
    g: "RowsConv",
    offsets: "int64*",
):
    """One block: a chunk of the blocks of output positions, one slice: a panel of `g`.

    ``partial[chunk][co][ci][tap]`` receives the chunk's sum. `offsets` says where in the patch each tap finds its
    vector. Padding is in the patch, so no `zeros` are read.
    """
    chunk = block // g.panels
    number = block - chunk * g.panels
    first = min(number * g.width, g.in_w - g.width)
    first_block, blocks = even_part(chunk, g.chunks, g.blocks)
    patch = cast(scratch, source)
    sums = cast(offset(scratch, PATCH_SLOTS), source)
    row, tap_row = g.width, g.lanes * g.width
    clear_run(sums, g.count * tap_row)
    for b in range(first_block, first_block + blocks):
        point, lines, columns = load_patch(b, patch, offset(source, first), g)
        _add_points(sums, patch, offset(grad_output, point * g.lanes), offsets, lines, columns, g)
    done = number * g.width - first  # by the slice before
    for co in range(g.lanes):
        out = offset(partial, ((chunk * g.lanes + co) * g.in_w + first + done) * g.count)
        place = co * row + done
        copy_transposed(as_integers(sums), place, tap_row, as_integers(out), 0, g.count, g.count, row - done)


@device
def _add_points(sums, patch, y, offsets, lines, columns, g):
    """Add what the positions of a patch contribute: tiles of channels and taps, cut as evenly as possible."""
    row_tiles = (g.lanes + MOST_ROWS - 1) // MOST_ROWS
    for row_tile in range(row_tiles):
        co, rows = even_part(row_tile, row_tiles, g.lanes)
        tap_tiles = (g.count - 1) // min(MOST_TAPS, MOST_SUMS // rows) + 1  # see `most_taps`
        for tap_tile in range(tap_tiles):
            tap, taps = even_part(tap_tile, tap_tiles, g.count)
            tap_outer_tile(
                rows, taps, patch, g.stride_h * g.pitch, g.stride_w * g.width, offset(offsets, tap), offset(y, co),
                g.out_w * g.lanes, g.lanes, lines, columns, offset(sums, (tap * g.lanes + co) * g.width),
                g.lanes * g.width, g.width,
            )  # fmt: skip
