"""The driver on Numba's thread pool: for platforms without POSIX threads, and to share one pool with other Numba code.

Numba's ``parallel_for`` is called by its address with one iteration per thread, so no ``prange`` is ever compiled.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any

from ._build import kernel
from ._launch import HEADER_SLOTS, run_alone, split
from ._serial import JOB_BLOCKS, JOB_ENTRY, JOB_MODE, TICKET_SLOTS, TICKETS, take_blocks, thread_scratch
from .pointer import load_pointer, offset

# One row of slots per thread, which Numba hands to it: the job, the state that its threads share, the worker's number,
# how many there are.
JOB, STATE, WORKER, THREADS, ROW_SLOTS = 0, 1, 2, 3, 8

_parallel_for: Any = None
_unusable = False
_lock = threading.Lock()


@kernel
def run_share(block, row: "int64*"):
    """One thread's share of a job. Numba passes an array of pointers, one to each argument's row: our record."""
    job = load_pointer(row, JOB, row)
    state = load_pointer(row, STATE, row)
    entry, record = load_pointer(job, JOB_ENTRY, job), offset(job, HEADER_SLOTS)
    worker, blocks, mode = row[WORKER], job[JOB_BLOCKS], job[JOB_MODE]
    take_blocks(state, entry, record, blocks, mode, worker, worker, row[THREADS], thread_scratch())


def run(records: bytes, threads: int) -> bool:
    """Run jobs on `threads` threads of Numba's pool; False where that would not be safe. Records follow each other."""
    with _lock:
        parallel_for = _start()
    if parallel_for is None:
        return False
    for record, blocks, shared in split(records):
        if shared:
            _run_one(parallel_for, record, min(threads, blocks))
        else:
            run_alone(record)
    return True


def _run_one(parallel_for: Any, record: bytes, threads: int) -> None:
    state = (ctypes.c_int64 * (TICKETS + TICKET_SLOTS * threads))()
    job = ctypes.create_string_buffer(record)
    rows = (ctypes.c_int64 * (ROW_SLOTS * threads))()
    for worker in range(threads):
        rows[worker * ROW_SLOTS + JOB] = ctypes.addressof(job)
        rows[worker * ROW_SLOTS + STATE] = ctypes.addressof(state)
        rows[worker * ROW_SLOTS + WORKER] = worker
        rows[worker * ROW_SLOTS + THREADS] = threads
    arguments = (ctypes.c_void_p * 1)(ctypes.addressof(rows))
    iterations = (ctypes.c_size_t * 1)(threads)
    steps = (ctypes.c_size_t * 1)(8 * ROW_SLOTS)
    parallel_for(run_share.load(()), arguments, iterations, steps, None, 0, 1, threads)


def _start() -> Any:
    """Numba's ``parallel_for``, its pool started; None where only workqueue is left or a fork made OpenMP deadly."""
    global _parallel_for, _unusable
    if _parallel_for is not None or _unusable:
        return _parallel_for
    _unusable = True
    from numba.core import config
    from numba.np.ufunc import parallel

    try:
        if str(config.THREADING_LAYER).lower() == "workqueue":
            return None
        from numba.np.ufunc import omppool  # noqa: F401  (present: "default" never falls through to workqueue)
    except ImportError:
        return None
    parallel._launch_threads()
    if parallel.threading_layer() not in ("tbb", "omp"):
        return None
    import llvmlite.binding as llvm

    address = llvm.address_of_symbol("numba_parallel_for")
    if not address:
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    prototype = ctypes.CFUNCTYPE(None, pointer, pointer, pointer, pointer, pointer, size, size, ctypes.c_int)
    _parallel_for, _unusable = prototype(address), False
    return _parallel_for


def _after_fork() -> None:
    """In a forked child GNU OpenMP aborts at its first parallel region, whoever started it: never touch it there."""
    global _parallel_for, _unusable, _lock
    _parallel_for, _unusable, _lock = None, True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
