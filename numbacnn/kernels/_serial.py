"""Handing out blocks: what the drivers share, and the serial driver."""

from __future__ import annotations

from ._atomic import atomic_add, call_entry
from ._build import device, kernel
from ._launch import BACKWARDS, HEADER_SLOTS
from ._target import target
from .pointer import load_pointer, offset, stack_slots

# Slots of `_launch.HEADER`.
JOB_ENTRY, JOB_BLOCKS, JOB_SIZE, JOB_MODE = 0, 1, 2, 3

# Slots of the shared state: how many blocks of each share are taken, every counter on a cache line of its own.
TICKETS, TICKET_SLOTS = 64, 8

# 256 KiB of each thread's stack for its blocks' tables and packed rows: half of a typical L2 cache; twice as much
# beside vectors twice as wide, whose machines have larger ones. It is the drivers' and not the kernels' because LLVM
# spends seconds on a kernel's own arrays of this size.
_WIDTHS = max(1, target().vector_bytes // 32)
SCRATCH_SLOTS = 32768 * _WIDTHS
MOST_SCRATCH_SLOTS = 43008 * _WIDTHS  # for kernels that leave little else in that cache
thread_scratch = stack_slots(MOST_SCRATCH_SLOTS)


@device
def _block(taken, begin, end, mode):
    """The block to run after `taken` others of a range."""
    return end - 1 - taken if mode & BACKWARDS else begin + taken


@device
def take_blocks(state, entry, record, blocks, mode, worker, share, shares, scratch):
    """Run blocks until none is left: those of this thread's own share first, then what others have not begun.

    The blocks are cut into as many shares as there are threads, so that in one launch after the other a thread gets the
    same part of a tensor as a rule, and finds it in its own core's cache: where that holds only the end of the part, by
    running them backwards.
    """
    for i in range(shares):
        owner = (share + i) % shares
        begin, end = owner * blocks // shares, (owner + 1) * blocks // shares
        taken = atomic_add(state, TICKETS + TICKET_SLOTS * owner, 1)
        while taken < end - begin:
            call_entry(entry, record, _block(taken, begin, end, mode), worker, scratch)
            taken = atomic_add(state, TICKETS + TICKET_SLOTS * owner, 1)


@device
def run_alone(job, scratch):
    """Run all blocks of one job in the calling thread."""
    entry, record = load_pointer(job, JOB_ENTRY, job), offset(job, HEADER_SLOTS)
    for i in range(job[JOB_BLOCKS]):
        call_entry(entry, record, _block(i, 0, job[JOB_BLOCKS], job[JOB_MODE]), 0, scratch)


@kernel
def run_serial(block, jobs: "slots"):
    """Run jobs that fill `block` slots, one after the other, in the calling thread."""
    scratch = thread_scratch()
    at = 0
    while at < block:
        job = offset(jobs, at)
        run_alone(job, scratch)
        at += job[JOB_SIZE]
