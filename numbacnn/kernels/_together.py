"""Several jobs as one: their blocks run in any order, or at the same time, with nothing to wait for in between.

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


def together(jobs: list[Job]) -> Job:
    """One job out of several that write to different places and read nothing that another writes."""
    if len(jobs) == 1:
        return jobs[0]
    records = [record for record, _ in jobs]
    blocks = sum(map(job_blocks, records))
    shared = any(map(is_shared, records))
    head = _HEADER.pack(run_one_of.load(()), blocks, HEADER_SLOTS + sum(map(len, records)) // 8, shared)
    return head + b"".join(records), tuple([arguments for _, arguments in jobs])
