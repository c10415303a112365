"""Handing out blocks: what the drivers share, and the serial driver."""

from __future__ import annotations

from ._atomic import atomic_add, call_entry
from ._build import device, kernel
from ._launch import HEADER_SLOTS
from .pointer import load_pointer, offset, stack_slots

# Slots of `_launch.HEADER`.
JOB_STATE, JOB_ENTRY, JOB_BLOCKS, JOB_HELPERS = 0, 1, 2, 3

TICKET = 8  # slot of the shared state: the next block's number, on a cache line of its own

# 256 KiB of each thread's stack for its blocks' tables and packed rows: half of a typical L2 cache. It is the drivers'
# and not the kernels' because LLVM spends seconds on a kernel's own arrays of this size.
SCRATCH_SLOTS = 32768
thread_scratch = stack_slots(SCRATCH_SLOTS)


@device
def take_blocks(state, entry, record, blocks, worker, scratch):
    """Run blocks until none is left."""
    block = atomic_add(state, TICKET, 1)
    while block < blocks:
        call_entry(entry, record, block, worker, scratch)
        block = atomic_add(state, TICKET, 1)


@kernel
def run_serial(block, job: "slots"):
    """Run all blocks of a job in the calling thread."""
    entry = load_pointer(job, JOB_ENTRY, job)
    scratch = thread_scratch()
    for i in range(job[JOB_BLOCKS]):
        call_entry(entry, offset(job, HEADER_SLOTS), i, 0, scratch)
