"""Several steps as one, with nothing to wait for in between: `together` and `in_step`.

Four launches of two blocks each keep two cores waiting for each other four times; one of eight does so once.
"""

from __future__ import annotations

import struct

from ._atomic import call_entry
from ._build import kernel
from ._launch import HEADER, HEADER_SLOTS, is_worth_sharing
from ._program import Step
from ._serial import JOB_BLOCKS, JOB_ENTRY, JOB_SIZE
from .pointer import load_pointer, offset

_HEADER = struct.Struct("=" + HEADER)


@kernel
def run_one_of(block, worker, scratch, jobs: "slots"):
    """One block of the jobs, numbered through, whose records follow each other."""
    job = jobs
    while block >= job[JOB_BLOCKS]:
        block -= job[JOB_BLOCKS]
        job = offset(job, job[JOB_SIZE])
    call_entry(load_pointer(job, JOB_ENTRY, job), offset(job, HEADER_SLOTS), block, worker, scratch)


@kernel
def run_block_of_each(block, worker, scratch, jobs: "slots"):
    """The same block of all jobs, whose records follow their number."""
    job = offset(jobs, 1)
    for _ in range(jobs[0]):
        call_entry(load_pointer(job, JOB_ENTRY, job), offset(job, HEADER_SLOTS), block, worker, scratch)
        job = offset(job, job[JOB_SIZE])


def together(steps: list[Step]) -> Step:
    """One step out of several that write to different places and read nothing that another writes.

    Their blocks run in any order, or at the same time.
    """
    if len(steps) == 1:
        return steps[0]
    blocks = sum([step.blocks for step in steps])
    return _as_one(run_one_of.load(()), blocks, b"", steps)


def in_step(steps: list[Step]) -> Step:
    """As `together`, of steps of as many blocks each: block i of all is one block, for these lie side by side."""
    if len(steps) == 1:
        return steps[0]
    return _as_one(run_block_of_each.load(()), steps[0].blocks, struct.pack("=q", len(steps)), steps)


def _as_one(entry: int, blocks: int, first: bytes, steps: list[Step]) -> Step:
    """A step whose arguments are `first` and the records of `steps`."""
    cost = sum([step.cost for step in steps])  # of a block or two each, none may be worth sharing for itself
    slots = HEADER_SLOTS + (len(first) + sum([step.size for step in steps])) // 8
    head = _HEADER.pack(entry, blocks, slots, is_worth_sharing(blocks, cost))
    parts = [part for step in steps for part in step.parts]
    return Step(blocks, cost, (head + first, *parts), tuple([step.kept for step in steps]))
