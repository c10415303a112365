"""Weights turned around: those of the convolution that a data gradient without strides is."""

from __future__ import annotations

from ._build import kernel


@kernel
def turn_weights(block, weight: "T*", turned: "T*", in_channels: "int64", out_channels: "int64", taps: "int64"):
    """One block: an input channel, ``turned[ci][co][t] = weight[co][ci][taps - 1 - t]``."""
    for co in range(out_channels):
        row, last = (block * out_channels + co) * taps, (co * in_channels + block + 1) * taps - 1
        for t in range(taps):
            turned[row + t] = weight[last - t]
