"""Dropout: random numbers that are a function of a key and the element's number, so that no mask is stored."""

from __future__ import annotations

import numpy as np

from ._build import device, kernel

# SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014) at position i of
# the sequence that starts at the key: any element can be drawn by itself, on any thread.
GAMMA = np.uint64(0x9E3779B97F4A7C15)
MIX1 = np.uint64(0xBF58476D1CE4E5B9)
MIX2 = np.uint64(0x94D049BB133111EB)
SHIFT1, SHIFT2, SHIFT3 = np.uint64(30), np.uint64(27), np.uint64(31)
HIGH_HALF = np.uint64(32)


@device
def random_bits(key, i):
    """32 random bits, as uint64."""
    z = key + np.uint64(i + 1) * GAMMA
    z = (z ^ (z >> SHIFT1)) * MIX1
    z = (z ^ (z >> SHIFT2)) * MIX2
    return (z ^ (z >> SHIFT3)) >> HIGH_HALF


@kernel
def dropout(
    block,
    x: "T*",
    out: "T*",
    size: "int64",
    key: "int64",
    threshold: "int64",
    scale: "T",
    step: "int64",
):
    """``out = x * scale`` where the element's 32 bits reach the threshold, ``x * 0`` elsewhere."""
    start, limit = np.uint64(key), np.uint64(threshold)
    zero = scale - scale
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = x[i] * (scale if random_bits(start, i) >= limit else zero)
