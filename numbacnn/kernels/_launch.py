"""Running the blocks of kernels: jobs, thread policy and the drivers.

A kernel is machine code ``void entry(record*, block, worker, scratch*)``. A *job* is a kernel with its record: a driver
calls it for every block number, each exactly once. Which thread runs a block is a race; what a block computes is not,
so every driver and thread count gives the same bits. Jobs that follow on each other travel to the driver together: no
Python runs between them.

==========  ==================================================================================================
driver      what it is
==========  ==================================================================================================
``serial``  a loop in the calling thread
``own``     our own POSIX threads (see `_own_pool`): the default; one caller at a time, others run serially
``numba``   Numba's pool (tbb or OpenMP, never workqueue, which aborts the process on concurrent use)
==========  ==================================================================================================
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import importlib
import os
import struct
import sys
import threading
from threading import get_ident as _get_ident
from typing import TYPE_CHECKING, Any

from . import _cache
from ._target import target

if TYPE_CHECKING:
    from collections.abc import Iterator

DRIVERS = ("serial", "own", "numba")
DEFAULT_DRIVER = "own" if os.name == "posix" else "numba"

# Waking a second core and joining again costs a few microseconds; below this, one core is done sooner. Costs are those
# of machines with narrow vectors. Beside vectors of 64 bytes such work lasts half as long, and others are at it after a
# microsecond.
SERIAL_BELOW_NS, SERIAL_BELOW_NS_WIDE = 15_000.0, 8_000.0
MAX_THREADS = 256

# What a job's record begins with: kernel entry, blocks, slots of the whole record, how to run the blocks (`SHARED`: on
# several threads, `BACKWARDS`: each thread from the end of its own). The kernel's slots follow.
HEADER = "qqqq"
HEADER_SLOTS = 4
SHARED, BACKWARDS = 1, 2
_MODE_BYTE = 24 if sys.byteorder == "little" else 31

# A driver is compiled as a kernel. Where a kernel is given a block, it is given the number of slots of all jobs. ctypes
# passes bytes and small integers as they should be, in two thirds of the time if it is not told their types.
_SERIAL_TYPE = ctypes.CFUNCTYPE(None)

_serial: Any = None
_pools: dict[str, Any] = {}

_threads: contextvars.ContextVar[int | None] = contextvars.ContextVar("numbacnn_threads", default=None)
_driver: contextvars.ContextVar[str | None] = contextvars.ContextVar("numbacnn_driver", default=None)
_scoped_threads, _scoped_driver = _threads.get, _driver.get
_global_threads: int | None = None
_main_thread = threading.main_thread().ident


def run(record: bytes) -> None:
    """Run a job; return when it is done. The arrays whose addresses are in its record must live as long."""
    (run_shared if record[_MODE_BYTE] & SHARED else run_alone)(record)


def run_shared(records: bytes) -> None:
    """Run jobs, whose records follow each other, on several threads if there are several and a pool is to be had."""
    threads = get_num_threads()
    if threads != 1:
        driver = _scoped_driver() or DEFAULT_DRIVER
        if driver != "serial" and (_pools.get(driver) or _load(driver)).run(records, threads):
            return
    run_alone(records)


def _load(driver: str) -> Any:
    with _cache.lock:  # no fork in the midst of an import: its child could never import the module
        pool = _pools[driver] = importlib.import_module(f"._{driver}_pool", __package__)
    return pool


def is_worth_sharing(blocks: int, cost: float) -> bool:
    """Whether blocks that take one core `cost` nanoseconds, all together, should be shared among threads."""
    return blocks > 1 and cost >= (SERIAL_BELOW_NS_WIDE if target().wide else SERIAL_BELOW_NS)


def split(records: bytes) -> Iterator[tuple[bytes, int, bool]]:
    """The record of each job, how many blocks it has, and whether they are worth sharing."""
    while records:
        _, blocks, slots, mode = struct.unpack_from("=" + HEADER, records)
        yield records[: 8 * slots], blocks, bool(mode & SHARED)
        records = records[8 * slots :]


def run_alone(records: bytes) -> None:
    """Run jobs, whose records follow each other, in the calling thread."""
    (_serial or load_serial())(records, len(records) >> 3)


def load_serial() -> Any:
    """The serial driver, which is `_serial` from now on."""
    global _serial
    with _cache.lock:
        from ._serial import run_serial

        _serial = _SERIAL_TYPE(run_serial.load(()))
    return _serial


def get_num_threads() -> int:
    """Number of threads the next launch may use.

    Inside `threads` its value; in a Python thread other than the main one, 1; else what `set_num_threads` said,
    or the default (see `default_num_threads`).

    Examples
    --------
    >>> with threads(1):
    ...     get_num_threads()
    1
    """
    scoped = _scoped_threads()
    if scoped is not None:
        return scoped
    if _get_ident() != _main_thread:
        return 1
    return _global_threads or default_num_threads()


def set_num_threads(n: int) -> None:
    """Set the number of threads for the whole process (the main thread's launches).

    Parameters
    ----------
    n : int
        From 1 to 256. More than the machine's cores is legal and changes no result.

    Examples
    --------
    >>> before = get_num_threads()
    >>> set_num_threads(2)
    >>> get_num_threads()
    2
    >>> set_num_threads(before)
    """
    global _global_threads
    _global_threads = _check_threads(n)


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """Use `n` threads inside a ``with`` block, in this Python thread only.

    This is also how a worker thread of your own asks for more than the single thread it gets by default.

    Examples
    --------
    >>> with threads(3):
    ...     get_num_threads()
    3
    """
    token = _threads.set(_check_threads(n))
    try:
        yield
    finally:
        _threads.reset(token)


@contextlib.contextmanager
def driver(name: str) -> Iterator[None]:
    """Run kernels on the driver `name` ("serial", "own" or "numba") inside a ``with`` block."""
    if name not in DRIVERS:
        raise ValueError(f"driver must be one of {', '.join(DRIVERS)}; got {name!r}")
    token = _driver.set(name)
    try:
        yield
    finally:
        _driver.reset(token)


def _check_threads(n: int) -> int:
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"number of threads must be an integer, got {n!r}")
    n = n.__index__()
    if not 1 <= n <= MAX_THREADS:
        raise ValueError(f"number of threads must be from 1 to {MAX_THREADS}, got {n}")
    return n


def _after_fork() -> None:
    """The thread that forked is the child's main thread."""
    global _main_thread
    _main_thread = threading.main_thread().ident


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


_default: int | None = None


def default_num_threads() -> int:
    """NUMBACNN_NUM_THREADS; else the cores this process may use, capped by OMP_NUM_THREADS and NUMBA_NUM_THREADS.

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
                    quota, period = _read(prefix + "/cpu.max").split()
                else:
                    quota = _read(prefix + "/cpu.cfs_quota_us")
                    period = _read(prefix + "/cpu.cfs_period_us")
                if quota != "max" and int(quota) > 0:
                    quotas.append(-(-int(quota) // int(period)))
    return min(quotas, default=None)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()
