"""The machine's own ceilings: fused multiply-adds that never leave the registers, and copies that no cache holds."""

from __future__ import annotations

import math
import time

import numpy as np

from numbacnn.kernels._build import kernel
from numbacnn.kernels._launch import get_num_threads
from numbacnn.kernels._launch import threads as use_threads
from numbacnn.kernels._target import target
from numbacnn.kernels.flat import get, pace, put, span
from numbacnn.kernels.simd import fma, lanes, load, splat, store
from numbacnn.ops.memory import empty

CHAINS = 12  # independent sums: at least latency × pipes (4 × 2 on today's x86 cores), at most the registers allow
BANDWIDTH_BYTES = 1 << 27  # several times what caches hold
COPY_STEP = 1 << 14  # elements of a block
STEPS = 200_000  # about 0.6 ms per block: far above the cost of a launch


@kernel
def multiply_add(block, out: "T[:, :]", factor: "T", term: "T", steps: "int64"):  # noqa: F821, UP037
    """One block: `CHAINS` vectors, `steps` multiply-adds each; they come from memory and go back there, so that the
    compiler can neither merge them nor leave them out."""
    sums = out[block]
    n = lanes(sums)
    a = splat(sums, factor)
    b = splat(sums, term)
    s0, s1, s2 = load(sums, 0), load(sums, n), load(sums, 2 * n)
    s3, s4, s5 = load(sums, 3 * n), load(sums, 4 * n), load(sums, 5 * n)
    s6, s7, s8 = load(sums, 6 * n), load(sums, 7 * n), load(sums, 8 * n)
    s9, s10, s11 = load(sums, 9 * n), load(sums, 10 * n), load(sums, 11 * n)
    for _ in range(steps):
        s0, s1, s2 = fma(s0, a, b), fma(s1, a, b), fma(s2, a, b)
        s3, s4, s5 = fma(s3, a, b), fma(s4, a, b), fma(s5, a, b)
        s6, s7, s8 = fma(s6, a, b), fma(s7, a, b), fma(s8, a, b)
        s9, s10, s11 = fma(s9, a, b), fma(s10, a, b), fma(s11, a, b)
    for chain, value in enumerate((s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11)):
        store(sums, chain * n, value)


def peak_gflops(dtype: str, seconds: float = 0.1) -> float:
    """The best rate seen within `seconds` on as many threads as numbacnn uses, in GFLOP/s."""
    width = target().lanes(np.dtype(dtype).itemsize)
    blocks = get_num_threads()
    out = np.ones((blocks, CHAINS * width), dtype)
    flops = 2.0 * CHAINS * width * STEPS * blocks
    multiply_add(blocks, out, 0.999, 0.001, STEPS)
    best = float("inf")
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        start = time.perf_counter()
        multiply_add(blocks, out, 0.999, 0.001, STEPS)
        best = min(best, time.perf_counter() - start)
    return flops / best / 1e9


@kernel
def copy(block, x: "T*", out: "T*", size: "int64", step: "int64"):  # noqa: F722, F821, UP037
    """One block of a copy, written past the caches: what is overwritten need not be read first."""
    first, end = span(block, step, size)
    for i in range(first, end, pace(x)):
        put(out, i, get(x, i, end), end, 1)


def bandwidth(threads: int, seconds: float = 1.0) -> float:
    """Bytes read and written per second, in GB/s, when so many threads copy an array that no cache holds."""
    size = BANDWIDTH_BYTES // 4
    source, target = empty((size,)), empty((size,))  # aligned, as streams have to be
    source.fill(1)
    arguments = -(-size // COPY_STEP), source, target, size, COPY_STEP
    best = math.inf
    with use_threads(threads):
        copy(*arguments, cost=math.inf)  # compiles it, and maps the memory
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            start = time.perf_counter()
            copy(*arguments, cost=math.inf)
            best = min(best, time.perf_counter() - start)
    return 2 * BANDWIDTH_BYTES / best / 1e9
