"""The average over all positions: sums of the columns of a matrix (positions, channels).

Windows as large as the input need no table of taps, and there are too few of them for one block each. So a block sums
a *segment* of positions into a row of partial sums, a few rows of memory at a time, in the order in which they lie
there; the partial sums are added up afterwards. With few channels, several positions make one row.
"""

from __future__ import annotations

from ._build import device, kernel
from .pointer import offset

# Rows summed per pass over the partial sums; the loop below spells them out. Eight of them, a power of two apart, would
# drive the sums out of the first-level cache.
ROWS = 4


@device
def average_segments(n, partial, out, positions, C, width, segments):
    """``out[n] = (sum of the partial sums of sample n) / positions``."""
    start = n * segments * width
    count = segments * width // C
    for j in range(start + C, start + count * C, C):
        for c in range(C):
            partial[start + c] += partial[j + c]
    for c in range(C):
        out[n * C + c] = partial[start + c] / positions


@kernel
def sum_segments(
    block,
    x: "T*",
    partial: "T*",
    out: "T*",
    positions: "int64",
    C: "int64",
    width: "int64",
    segments: "int64",
    rows: "int64",
):
    """One block: one segment of `rows` rows of `width` elements; `out` as well if a sample is one segment.

    `width` is a multiple of `C`. Elements after the last whole row count to the last segment.
    """
    n = block // segments
    segment = block - n * segments
    begin = n * positions * C + segment * rows * width
    end = (n + 1) * positions * C if segment == segments - 1 else begin + rows * width
    row = begin
    sums = offset(partial, block * width)
    for i in range(width):
        sums[i] = 0
    while row + ROWS * width <= end:
        r = offset(x, row)
        for i in range(width):
            sums[i] += (r[i] + r[i + width]) + (r[i + 2 * width] + r[i + 3 * width])
        row += ROWS * width
    while row < end:
        for i in range(min(width, end - row)):
            sums[i] += x[row + i]
        row += width
    if segments == 1:
        average_segments(n, partial, out, positions, C, width, segments)


@kernel
def combine_segments(
    block, partial: "T*", out: "T*", positions: "int64", C: "int64", width: "int64", segments: "int64"
):
    """One block: one sample."""
    average_segments(block, partial, out, positions, C, width, segments)
