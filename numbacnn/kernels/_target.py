"""What the code generator may emit on this machine: CPU, features, vector width.

Read without importing Numba (a warm cache never needs it), from the same source Numba reads: LLVM's host
description, unless `NUMBA_CPU_NAME` / `NUMBA_CPU_FEATURES` override it.
"""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

LINE_BYTES = 64  # a cache line of today's processors


class Target(NamedTuple):
    """The machine kernels are compiled for.

    `vector_bytes` is the width of one vector value, `registers` how many of them the machine has, and `fma` whether a
    fused multiply-add is one instruction (otherwise it would be a library call per lane).
    """

    triple: str
    cpu: str
    features: str
    isa: str
    vector_bytes: int
    registers: int
    fma: bool

    def lanes(self, itemsize: int) -> int:
        """Number of elements of `itemsize` bytes in one vector."""
        return self.vector_bytes // itemsize


@functools.cache
def target() -> Target:
    """The target of this process (computed once)."""
    import llvmlite.binding as llvm

    triple = llvm.get_process_triple()
    cpu = os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        # "generic" promises nothing beyond the architecture's baseline, whatever the host has.
        features = "" if cpu == "generic" else llvm.get_host_cpu_features().flatten()
    return Target(triple, cpu, features, *_classify(triple, frozenset(features.split(","))))


def _classify(triple: str, features: frozenset[str]) -> tuple[str, int, int, bool]:
    machine = triple.partition("-")[0]
    if machine in ("x86_64", "amd64"):
        if {"+avx512f", "+avx512vl", "+avx512dq"} <= features:
            return "avx512", 64, 32, True
        if {"+avx2", "+fma"} <= features:
            return "avx2", 32, 16, True
        return "sse2", 16, 16, False
    if machine in ("aarch64", "arm64"):
        return "neon", 16, 32, True
    return "plain", 16, 16, False
