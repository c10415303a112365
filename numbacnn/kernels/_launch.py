"""Running the blocks of a kernel: thread policy and the drivers.

A kernel is machine code ``void entry(record*, block, worker)``. A driver calls it for every block number, each exactly
once. Which thread runs a block is a race; what a block computes is not, so every driver and thread count gives the
same bits.

==========  ==================================================================================================
driver      what it is
==========  ==================================================================================================
``serial``  a loop in the calling thread
``pool``    our own POSIX threads (see `_pool`): the default; one caller at a time, others run serially
``numba``   Numba's pool (tbb or OpenMP, never workqueue, which aborts the process on concurrent use)
==========  ==================================================================================================
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DRIVERS = ("serial", "pool", "numba")
_DEFAULT_DRIVER = "pool" if os.name == "posix" else "numba"

# Waking a second core and joining again costs a few microseconds; below this, one core is done sooner.
SERIAL_BELOW_NS = 15_000.0
MAX_THREADS = 256

ENTRY_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_callables: dict[int, Callable[[int, int, int], None]] = {}

_scoped_threads: contextvars.ContextVar[int | None] = contextvars.ContextVar("numbacnn_threads", default=None)
_scoped_driver: contextvars.ContextVar[str | None] = contextvars.ContextVar("numbacnn_driver", default=None)
_global_threads: int | None = None


def run(entry: int, record: int, blocks: int, cost: float = float("inf")) -> None:
    """Call ``entry(record, block, worker)`` for every block below `blocks` and return when all are done."""
    if blocks > 1 and cost >= SERIAL_BELOW_NS:
        threads = min(get_num_threads(), blocks)
        driver = _scoped_driver.get() or _DEFAULT_DRIVER
        if threads > 1 and driver != "serial" and _run_parallel(driver, entry, record, blocks, threads):
            return
    if blocks == 1:
        _callable(entry)(record, 0, 0)
    else:
        _run_serial(entry, record, blocks)


def _run_parallel(driver: str, entry: int, record: int, blocks: int, threads: int) -> bool:
    """Whether the driver ran the job; it may be busy or not to be had, and then has done nothing."""
    if driver == "numba":
        from . import _numba_pool

        return _numba_pool.run(entry, record, blocks, threads)
    from . import _pool

    return _pool.run(entry, record, blocks, threads)


def _run_serial(entry: int, record: int, blocks: int) -> None:
    from . import _pool

    job = (ctypes.c_int64 * 3)(entry, record, blocks)
    _callable(_pool.run_serial.load(()))(ctypes.addressof(job), 0, 0)


def _callable(entry: int) -> Callable[[int, int, int], None]:
    call = _callables.get(entry)
    if call is None:
        call = _callables[entry] = ENTRY_TYPE(entry)
    return call


def get_num_threads() -> int:
    """Number of threads the next launch may use.

    Inside `threads` its value; in a Python thread other than the main one, 1; else what `set_num_threads` said,
    or the default (see `default_num_threads`).
    """
    scoped = _scoped_threads.get()
    if scoped is not None:
        return scoped
    if threading.current_thread() is not threading.main_thread():
        return 1
    return _global_threads or default_num_threads()


def set_num_threads(n: int) -> None:
    """Set the number of threads for the whole process (the main thread's launches).

    Parameters
    ----------
    n : int
        From 1 to 256. More than the machine's cores is legal and changes no result.
    """
    global _global_threads
    _global_threads = _check_threads(n)


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """Use `n` threads inside a ``with`` block, in this Python thread only.

    This is also how a worker thread of your own asks for more than the single thread it gets by default.
    """
    token = _scoped_threads.set(_check_threads(n))
    try:
        yield
    finally:
        _scoped_threads.reset(token)


@contextlib.contextmanager
def driver(name: str) -> Iterator[None]:
    """Run kernels on the driver `name` ("serial", "pool" or "numba") inside a ``with`` block."""
    if name not in DRIVERS:
        raise ValueError(f"driver must be one of {', '.join(DRIVERS)}; got {name!r}")
    token = _scoped_driver.set(name)
    try:
        yield
    finally:
        _scoped_driver.reset(token)


def _check_threads(n: int) -> int:
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"number of threads must be an integer, got {n!r}")
    n = n.__index__()
    if not 1 <= n <= MAX_THREADS:
        raise ValueError(f"number of threads must be from 1 to {MAX_THREADS}, got {n}")
    return n


_default: int | None = None


def default_num_threads() -> int:
    """NUMBACNN_NUM_THREADS if set; else the cores this process may use, capped by OMP_NUM_THREADS and NUMBA_NUM_THREADS.

    The cores it may use: its CPU affinity and, in a container, its cgroup's CPU quota (rounded up).
    """
    global _default
    if _default is None:
        _default = max(1, min(MAX_THREADS, _environment("NUMBACNN_NUM_THREADS") or _allowed_cores()))
    return _default


def _allowed_cores() -> int:
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [affinity, _cgroup_cores(), _environment("OMP_NUM_THREADS"), _environment("NUMBA_NUM_THREADS")]
    return min(limit for limit in limits if limit)


def _environment(name: str) -> int | None:
    value = os.environ.get(name, "").partition(",")[0].strip()  # OMP_NUM_THREADS may be a list, one per level
    return int(value) if value.isdigit() and int(value) > 0 else None


def _cgroup_cores(root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> int | None:
    """Cores that the cgroup's CPU quota amounts to (versions 2 and 1), or None without a quota."""
    folders = [""]
    with contextlib.suppress(OSError), open(membership) as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if controllers == "" or "cpu" in controllers.split(","):
                parts = [part for part in path.split("/") if part]
                folders += ["/" + "/".join(parts[: i + 1]) for i in range(len(parts))]
    quotas = []
    for folder in dict.fromkeys(folders):
        for prefix, two in ((root + folder, True), (root + "/cpu" + folder, False)):
            with contextlib.suppress(OSError, ValueError):
                if two:
                    quota, period = open(prefix + "/cpu.max").read().split()
                else:
                    quota = open(prefix + "/cpu.cfs_quota_us").read()
                    period = open(prefix + "/cpu.cfs_period_us").read()
                if quota != "max" and int(quota) > 0:
                    quotas.append(-(-int(quota) // int(period)))
    return min(quotas, default=None)
