"""Handing out blocks: what the drivers share, and the serial driver."""

from __future__ import annotations

from ._atomic import atomic_add, call_entry
from ._build import device, kernel
from ._launch import HEADER_SLOTS
from .pointer import load_pointer, offset

# Slots of `_launch.HEADER`.
JOB_STATE, JOB_ENTRY, JOB_BLOCKS, JOB_HELPERS = 0, 1, 2, 3

TICKET = 8  # slot of the shared state: the next block's number, on a cache line of its own


@device
def take_blocks(state, entry, record, blocks, worker):
    """Run blocks until none is left."""
    block = atomic_add(state, TICKET, 1)
    while block < blocks:
        call_entry(entry, record, block, worker)
        block = atomic_add(state, TICKET, 1)


@kernel
def run_serial(block, job: "slots"):
    """Run all blocks of a job in the calling thread."""
    entry = load_pointer(job, JOB_ENTRY, job)
    for i in range(job[JOB_BLOCKS]):
        call_entry(entry, offset(job, HEADER_SLOTS), i, 0)
