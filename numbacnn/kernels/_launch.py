"""Running the blocks of a kernel: thread policy and the drivers.

A kernel is machine code ``void entry(record*, block, worker, scratch*)``. A driver calls it for every block number,
each exactly once. Which thread runs a block is a race; what a block computes is not, so every driver and thread count
gives the same bits.

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
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DRIVERS = ("serial", "own", "numba")
_DEFAULT_DRIVER = "own" if os.name == "posix" else "numba"

# Waking a second core and joining again costs a few microseconds; below this, one core is done sooner.
SERIAL_BELOW_NS = 15_000.0
MAX_THREADS = 256

ENTRY_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)

# What every driver's record begins with: shared state, kernel entry, blocks, helpers. The kernel's slots follow.
HEADER = "qqqq"
HEADER_SLOTS = 4

_drivers: dict[str, Any] = {}

_scoped_threads: contextvars.ContextVar[int | None] = contextvars.ContextVar("numbacnn_threads", default=None)
_scoped_driver: contextvars.ContextVar[str | None] = contextvars.ContextVar("numbacnn_driver", default=None)
_global_threads: int | None = None


def run(pack: Callable[..., bytes], entry: int, slots: list[Any], blocks: int, cost: float = float("inf")) -> None:
    """Call ``entry(record, block, worker)`` for every block below `blocks` and return when all are done.

    Parameters
    ----------
    pack : callable
        Packs `HEADER` and the kernel's slots into the one record that travels to the driver.
    entry : int
        Address of the kernel.
    slots : list
        The kernel's argument slots.
    cost : float
        Nanoseconds that all blocks together take one core, roughly.
    """
    if blocks > 1 and cost >= SERIAL_BELOW_NS:
        threads = min(get_num_threads(), blocks)
        driver = _scoped_driver.get() or _DEFAULT_DRIVER
        if threads > 1 and driver != "serial":
            pool = _driver_module(driver)
            if pool.run(pack, entry, slots, blocks, threads):  # it may be busy or not to be had
                return
    serial = _drivers.get("serial")
    if serial is None:
        from . import _serial

        serial = _drivers["serial"] = ENTRY_TYPE(_serial.run_serial.load(()))
    serial(pack(0, entry, blocks, 0, *slots), 0, 0)


def _driver_module(name: str) -> Any:
    module = _drivers.get(name)
    if module is None:
        module = _drivers[name] = importlib.import_module(f"._{name}_pool", __package__)
    return module


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
    """Run kernels on the driver `name` ("serial", "own" or "numba") inside a ``with`` block."""
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
