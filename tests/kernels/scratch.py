"""The serial driver once more, in Python: it catches kernels that write outside their scratch."""

from __future__ import annotations

import ctypes
import struct
import threading

import numpy as np

from numbacnn.kernels import _build, _launch
from numbacnn.kernels._serial import MOST_SCRATCH_SLOTS

ZONE_SLOTS = 8192
_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


class GuardedScratch(threading.local):
    """Stands in for `_launch._serial`. Each thread's scratch lies between two zones of a known pattern.

    Before each job the scratch holds the pattern, too: NaN, and pointers to nowhere.
    """

    def __init__(self) -> None:
        memory = np.empty(MOST_SCRATCH_SLOTS + 2 * ZONE_SLOTS + 8, np.int64)
        beside = -(memory.ctypes.data // 8) % 8  # to a cache line
        self._memory = memory[beside : beside + MOST_SCRATCH_SLOTS + 2 * ZONE_SLOTS]

    def __call__(self, records: bytes, slots: int) -> None:
        assert len(records) == 8 * slots
        place = ctypes.create_string_buffer(records, len(records))
        job = ctypes.addressof(place)
        for record, blocks, _ in _launch.split(records):
            self._run(job, struct.unpack_from("=q", record)[0], blocks)
            job += len(record)

    def _run(self, job: int, entry: int, blocks: int) -> None:
        self._memory[:] = -1
        run, scratch = _ENTRY(entry), self._memory[ZONE_SLOTS:].ctypes.data
        for block in range(blocks):
            run(job + 8 * _launch.HEADER_SLOTS, block, 0, scratch)
        before = np.flatnonzero(self._memory[:ZONE_SLOTS] != -1)
        after = np.flatnonzero(self._memory[-ZONE_SLOTS:] != -1)
        if before.size or after.size:
            where = f"from slot {before[0] - ZONE_SLOTS}" if before.size else f"{after[-1] + 1} slots beyond its end"
            raise RuntimeError(f"{_name(entry)} wrote outside its scratch: {where}")


def _name(entry: int) -> str:
    return next(kernel.name for kernel in _build.registry() if entry in kernel._entries.values())
