"""Our own thread pool: POSIX threads that wait in machine code, so a launch needs neither the GIL nor OpenMP.

The pool serves one launch at a time. A *gate* word holds a generation, an open bit and the number of workers inside.
The caller publishes the job and opens the gate; a worker joins by incrementing the count while the gate is open;
everybody, the caller included, takes blocks, its own share of them first; the caller closes the gate and waits for
the count to fall to zero. A worker that wakes too late finds the gate closed and costs nothing.
"""

from __future__ import annotations

import ctypes
import os
import threading

from ._atomic import (
    atomic_add,
    atomic_load,
    atomic_replace,
    pthread_cond_broadcast,
    pthread_cond_wait,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    sched_yield,
    spin_pause,
)
from ._build import device, kernel
from ._cache import keep_forever
from ._launch import HEADER_SLOTS, MAX_THREADS, SHARED
from ._serial import (
    JOB_BLOCKS,
    JOB_ENTRY,
    JOB_MODE,
    JOB_SIZE,
    TICKET_SLOTS,
    TICKETS,
    run_alone,
    take_blocks,
    thread_scratch,
)
from .pointer import load_pointer, offset, store_pointer

# Slots of the shared state (int64), eight to a cache line so that the gate's traffic disturbs nothing else.
GATE, WORKERS, SLEEPERS, BUSY = 0, 8, 16, 17
ENTRY, RECORD, BLOCKS, MODE, LIMIT = 24, 25, 26, 27, 28
MUTEX, CONDITION = 32, 48  # 128 bytes each: larger than any platform's
STATE_SLOTS = TICKETS + TICKET_SLOTS * MAX_THREADS

WORKERS_MASK = 0xFFFF
OPEN = 1 << 16
GENERATION = 1 << 17
GENERATION_SHIFT = 17

# Waiting awake catches the next kernel of a network. Waking a thread costs its caller and itself some 20 us each, and
# between two kernels there may be 100 us of Python: so for about 50 us a worker only spins, and for about 300 more it
# offers its core to whoever wants it between looks. After that it sleeps.
SPINS_BEFORE_YIELD = 2000
YIELDS_BEFORE_SLEEP = 400
SPINS_PER_YIELD = 20


@device
def is_new(gate, seen):
    return gate & OPEN != 0 and gate >> GENERATION_SHIFT != seen


@device
def wait_for_job(state, seen):
    """Wait, awake and then asleep, for an open gate of another generation than `seen`; return it."""
    for spin in range(SPINS_BEFORE_YIELD + SPINS_PER_YIELD * YIELDS_BEFORE_SLEEP):
        gate = atomic_load(state, GATE)
        if is_new(gate, seen):
            return gate
        spin_pause()
        if spin > SPINS_BEFORE_YIELD and spin % SPINS_PER_YIELD == 0:
            sched_yield(state, ())
    pthread_mutex_lock(state, (MUTEX,))
    atomic_add(state, SLEEPERS, 1)  # before the last look at the gate: the caller opens it, then looks for sleepers
    gate = atomic_load(state, GATE)
    while not is_new(gate, seen):
        pthread_cond_wait(state, (CONDITION, MUTEX))
        gate = atomic_load(state, GATE)
    atomic_add(state, SLEEPERS, -1)
    pthread_mutex_unlock(state, (MUTEX,))
    return gate


@kernel
def serve(block, state: "int64*"):
    """A worker's whole life."""
    seen = -1
    number = atomic_add(state, WORKERS, 1)
    scratch = thread_scratch()
    while True:
        gate = wait_for_job(state, seen)
        seen = gate >> GENERATION_SHIFT
        while gate & OPEN != 0 and gate >> GENERATION_SHIFT == seen and gate & WORKERS_MASK < state[LIMIT]:
            if atomic_replace(state, GATE, gate, gate + 1):
                take_blocks(
                    state,
                    load_pointer(state, ENTRY, state),
                    load_pointer(state, RECORD, state),
                    state[BLOCKS],
                    state[MODE],
                    (gate & WORKERS_MASK) + 1,
                    number % state[LIMIT] + 1,
                    state[LIMIT] + 1,
                    scratch,
                )
                atomic_add(state, GATE, -1)
                break
            gate = atomic_load(state, GATE)


@device
def run_shared(state, helpers, job, scratch):
    """Run a job with at most `helpers` workers beside the caller; they must not be running another."""
    entry, record, blocks = load_pointer(job, JOB_ENTRY, job), offset(job, HEADER_SLOTS), job[JOB_BLOCKS]
    shares = min(helpers + 1, blocks)
    for i in range(shares):  # nobody else looks at anything but the gate until it opens
        state[TICKETS + TICKET_SLOTS * i] = 0
    store_pointer(state, ENTRY, entry)
    store_pointer(state, RECORD, record)
    state[BLOCKS], state[MODE] = blocks, job[JOB_MODE]
    state[LIMIT] = shares - 1
    atomic_add(state, GATE, GENERATION + OPEN)
    if atomic_load(state, SLEEPERS) > 0:
        pthread_mutex_lock(state, (MUTEX,))
        pthread_cond_broadcast(state, (CONDITION,))
        pthread_mutex_unlock(state, (MUTEX,))
    take_blocks(state, entry, record, blocks, job[JOB_MODE], 0, 0, shares, scratch)
    atomic_add(state, GATE, -OPEN)
    spins = 0
    while atomic_load(state, GATE) & WORKERS_MASK != 0:
        spin_pause()
        spins += 1
        if spins > SPINS_BEFORE_YIELD:  # more threads than cores: let the worker we wait for run
            sched_yield(state, ())


@kernel
def run_pooled(block, worker, scratch, jobs: "slots"):
    """Run jobs that fill `block` slots, one after the other, with `worker` helpers; `scratch` is the pool's state.

    If the pool works for another caller, without helpers.
    """
    own_scratch = thread_scratch()
    helped = atomic_replace(scratch, BUSY, 0, 1)
    at = 0
    while at < block:
        job = offset(jobs, at)
        if helped and job[JOB_MODE] & SHARED:
            run_shared(scratch, worker, job, own_scratch)
        else:
            run_alone(job, own_scratch)
        at += job[JOB_SIZE]
    if helped:
        atomic_add(scratch, BUSY, -1)


# Jobs, their slots, helpers, state. No types, as in `_launch`.
_DRIVER_TYPE = ctypes.CFUNCTYPE(None)


class _Workers:
    """The pool's state and its threads. Memory and threads live as long as the process."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        self._slots = (ctypes.c_int64 * (STATE_SLOTS + 8))()
        place = (ctypes.addressof(self._slots) + 63) & ~63
        self.state = ctypes.c_void_p(place)
        self._libc.pthread_mutex_init(ctypes.c_void_p(place + 8 * MUTEX), None)
        self._libc.pthread_cond_init(ctypes.c_void_p(place + 8 * CONDITION), None)
        self._serve_record = (ctypes.c_int64 * 1)(place)
        self.run = _DRIVER_TYPE(run_pooled.load(()))
        self.count = 0

    def grow(self, count: int) -> None:
        """Start threads until there are `count`, or fewer if the system refuses."""
        serve_entry = serve.load(())
        while self.count < count:
            thread = ctypes.c_void_p()
            record = ctypes.c_void_p(ctypes.addressof(self._serve_record))
            if self._libc.pthread_create(ctypes.byref(thread), None, ctypes.c_void_p(serve_entry), record):
                return
            self._libc.pthread_detach(thread)
            self.count += 1


_workers: _Workers | None = None
_growing = threading.Lock()


def run(records: bytes, threads: int) -> bool:
    """Run jobs, whose records follow each other, on `threads` threads. True: they have run, as with every driver."""
    workers = _workers
    if workers is None or workers.count < threads - 1:
        workers = _grown(threads - 1)
    workers.run(records, len(records) >> 3, threads - 1, workers.state)
    return True


def _grown(count: int) -> _Workers:
    """The pool, with `count` threads if the system allows them."""
    global _workers
    with _growing:
        if _workers is None:
            _workers = keep_forever(_Workers())
        _workers.grow(count)
    return _workers


def _forget() -> None:
    """In a forked child: the parent's threads do not exist here and its locks may be held for ever."""
    global _workers, _growing
    _workers, _growing = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
