"""What the code generator may emit on this machine: CPU, features, vector width.

Read without importing Numba (a warm cache never needs it), from the same source Numba reads: LLVM's host
description, unless `NUMBA_CPU_NAME` / `NUMBA_CPU_FEATURES` override it. `NUMBACNN_VECTOR_BYTES` overrides the width of
a vector, so that what is made for other machines can be tested: LLVM makes several vectors of one that is too wide.
"""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

LINE_BYTES = 64  # a cache line of today's processors
_WIDTHS = (16, 32, 64)


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

    @property
    def wide(self) -> bool:
        """Whether a vector is a whole cache line."""
        return self.vector_bytes >= LINE_BYTES

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
    machine = Target(triple, cpu, features, *_classify(triple, frozenset(features.split(","))))
    wanted = os.environ.get("NUMBACNN_VECTOR_BYTES", "")
    return _of_width(machine, wanted) if wanted else machine


def _of_width(machine: Target, wanted: str) -> Target:
    """A machine with vectors of `wanted` bytes, and as many of them as machines with such vectors have."""
    if wanted not in map(str, _WIDTHS):
        raise ValueError(f"NUMBACNN_VECTOR_BYTES must be one of {', '.join(map(str, _WIDTHS))}; got {wanted!r}")
    width = int(wanted)
    on_x86 = machine.isa in ("avx512", "avx2", "sse2")
    return machine._replace(vector_bytes=width, registers=(32 if width == 64 else 16) if on_x86 else machine.registers)


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
