"""Several jobs as one, with nothing to wait for in between: `together` and `in_step`.

Four launches of two blocks each keep two cores waiting for each other four times; one of eight does so once.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ._atomic import call_entry
from ._build import kernel
from ._launch import HEADER, HEADER_SLOTS, is_shared, job_blocks
from ._serial import JOB_BLOCKS, JOB_ENTRY, JOB_SIZE
from .pointer import load_pointer, offset

if TYPE_CHECKING:
    from ._launch import Job

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


def together(jobs: list[Job]) -> Job:
    """One job out of several that write to different places and read nothing that another writes.

    Their blocks run in any order, or at the same time.
    """
    if len(jobs) == 1:
        return jobs[0]
    blocks = sum([job_blocks(record) for record, _ in jobs])
    return _as_one(run_one_of.load(()), blocks, b"", jobs)


def in_step(jobs: list[Job]) -> Job:
    """As `together`, of jobs of as many blocks each: block i of all is one block, for these lie side by side."""
    if len(jobs) == 1:
        return jobs[0]
    return _as_one(run_block_of_each.load(()), job_blocks(jobs[0][0]), struct.pack("=q", len(jobs)), jobs)


def _as_one(entry: int, blocks: int, first: bytes, jobs: list[Job]) -> Job:
    """A job whose arguments are `first` and the records of `jobs`."""
    body = b"".join([first, *[record for record, _ in jobs]])
    shared = any(is_shared(record) for record, _ in jobs)
    head = _HEADER.pack(entry, blocks, HEADER_SLOTS + len(body) // 8, shared)
    return head + body, tuple([arguments for _, arguments in jobs])
