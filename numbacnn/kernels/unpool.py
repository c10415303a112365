"""Max unpooling: elements back to where a max pool found them."""

from __future__ import annotations

from ._build import kernel
from .pointer import offset


@kernel
def unpool(
    block, x: "T*", indices: "int64*", out: "T*", positions: "int64", plane: "int64", C: "int64",
    channel_blocks: "int64", channel_step: "int64",
):  # fmt: skip
    """One block: some channels of a sample: zeros, but ``out[indices[p]] = x[p]``; the last of equal indices."""
    n = block // channel_blocks
    channel = (block - n * channel_blocks) * channel_step
    channel_end = min(channel + channel_step, C)
    x_n, indices_n, out_n = offset(x, n * positions * C), offset(indices, n * positions * C), offset(out, n * plane * C)
    for p in range(plane):
        for c in range(channel, channel_end):
            out_n[p * C + c] = 0
    for p in range(positions):
        for c in range(channel, channel_end):
            out_n[indices_n[p * C + c] * C + c] = x_n[p * C + c]


@kernel
def unpool_backward(
    block, grad: "T*", indices: "int64*", out: "T*", positions: "int64", plane: "int64", C: "int64", step: "int64",
    results: "int64",
):  # fmt: skip
    """One block of positions of ``out[p] = grad[indices[p]]``."""
    for row in range(block * step, min((block + 1) * step, results)):
        grad_n = offset(grad, row // positions * plane * C)
        for i in range(row * C, (row + 1) * C):
            out[i] = grad_n[indices[i] * C + i - row * C]
