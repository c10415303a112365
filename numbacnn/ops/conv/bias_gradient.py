"""The bias gradient: the sum of the output's gradient over batch and positions."""

from __future__ import annotations

import numpy as np

from ...kernels.conv_bias import sum_rows
from .. import memory

# Rows per partial sum: short enough that float32 sums keep their accuracy, long enough to stream.
ROWS_PER_BLOCK = 512


def run(grad_output: np.ndarray) -> np.ndarray:
    """(C_out,) sums of an (N, D, H, W, C_out) memory, in float64 across blocks."""
    channels = grad_output.shape[-1]
    rows = grad_output.size // channels if channels else 0
    blocks = -(-rows // ROWS_PER_BLOCK)
    partial = memory.empty((blocks, channels), grad_output.dtype)
    sum_rows(blocks, grad_output, partial, rows, ROWS_PER_BLOCK, cost=grad_output.nbytes / 10.0)
    if blocks == 1:
        return partial[0]
    return partial.sum(axis=0, dtype=np.float64).astype(grad_output.dtype)
