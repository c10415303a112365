"""A pool that recycles the memory of arrays.

Fresh pages from the operating system cost more than most kernels: touching 64 MB for the first time takes longer than
computing it. So arrays of 4 KB and more live in *blocks* that return to the pool when their array and every view of it
are gone, and are handed out again.

How a block comes back: a block is a NumPy array of a private subclass, and ``empty`` returns a plain array over its
buffer. NumPy shortens a chain of bases only as far as the types agree, so the base of every view, and of views of
views, is that plain array and never the block. A weak reference to the plain array therefore dies exactly when the
last view does, and its callback is the ``append`` of a list: no Python code runs at that moment, whatever thread or
garbage collection it happens in. The next call of ``empty`` does the book-keeping.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._check import check_integer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import DTypeLike

__all__ = [
    "MemoryStats",
    "Room",
    "borrow",
    "check_guards",
    "empty",
    "empty_like",
    "empty_strided",
    "give_back",
    "guard_memory",
    "memory_stats",
    "release_memory",
    "set_memory_limit",
]

_ndarray = np.ndarray  # a name of this module is found sooner, and this is looked up at every call
# One cache line, and one vector of the widest instruction set.
ALIGNMENT_BYTES = 64
# Below a page, malloc recycles well by itself and in a fifth of the time that our book-keeping takes.
POOLED_FROM_BYTES = 4096
# Idle blocks are memory that nobody else can use: by default at most this share of the machine's.
_DEFAULT_SHARE = 4

GUARD_BYTES = 1024
_GUARD_PATTERN = 0xA5
_FRESH_PATTERN = 0xFF  # NaN in every floating dtype, so that reading what was never written shows


class MemoryStats(NamedTuple):
    """What the pool holds. Arrays below 4 KB do not come from the pool and are not counted.

    Parameters
    ----------
    in_use_bytes : int
        In blocks whose array is alive.
    idle_bytes : int
        In blocks that wait to be handed out again.
    peak_bytes : int
        The largest `in_use_bytes` so far (or since it was last reset).
    hits, misses : int
        Requests served from idle blocks, and from fresh memory.
    limit_bytes : int
        What `idle_bytes` may reach.

    Examples
    --------
    >>> stats = memory_stats()
    >>> stats.in_use_bytes <= stats.peak_bytes
    True
    """

    in_use_bytes: int
    idle_bytes: int
    peak_bytes: int
    hits: int
    misses: int
    limit_bytes: int


class _Block(np.ndarray):
    """Raw bytes that own their memory. A type of its own: see the module's documentation."""

    __slots__ = ()


class _Slot:
    """A block, where its aligned part begins, when it came back, and what is known of the array that lives in it."""

    __slots__ = ("address", "guard", "lease", "memory", "offset", "returned", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.memory = _Block(size + ALIGNMENT_BYTES, np.uint8)
        begin = self.memory.__array_interface__["data"][0]
        self.offset = -begin % ALIGNMENT_BYTES
        self.address = begin + self.offset
        self.returned = 0
        self.lease: _Lease | None = None
        self.guard: _Guard | None = None

    def watch(self, nbytes: int, name: str) -> int:
        """Fill the block with the guard's pattern, and room for an array with NaN; where that begins in the block."""
        first = self.offset + GUARD_BYTES
        self.guard = _Guard(first, first + nbytes, name)
        self.memory.fill(_GUARD_PATTERN)
        self.memory[first : first + nbytes] = _FRESH_PATTERN
        return first


class _Lease(weakref.ref):
    """A weak reference to an array that was handed out, and the block below it."""

    __slots__ = ("slot",)
    __hash__ = object.__hash__  # a weak reference would ask its array, which has no hash
    __eq__ = object.__eq__

    slot: _Slot


class _Guard(NamedTuple):
    """Where the array lies in its guarded block, and what to call it when its surroundings were overwritten."""

    first: int
    stop: int
    name: str

    def faults(self, memory: np.ndarray) -> list[str]:
        before = np.flatnonzero(memory[: self.first] != _GUARD_PATTERN)
        after = np.flatnonzero(memory[self.stop :] != _GUARD_PATTERN)
        found = []
        if before.size:
            found.append(f"{self.name}: overwritten from {self.first - before[0]} bytes before its beginning")
        if after.size:
            found.append(f"{self.name}: overwritten up to {after[-1] + 1} bytes after its end")
        return found


class _Pool:
    def __init__(self) -> None:
        # Reentrant: a garbage collection inside a locked section may run a stranger's __del__ that allocates here.
        self.lock = threading.RLock()
        self.slots: set[_Slot] = set()  # all there are
        self.idle: dict[int, list[_Slot]] = {}
        self.workspaces: list[_Slot] = []  # idle, too: the latest returned last
        self.dead: list[_Lease] = []
        self.bury = self.dead.append
        self.faults: list[str] = []
        self.guarding = False
        self.limit = _default_limit()
        self.in_use = self.idle_bytes = self.peak = self.hits = self.misses = self.clock = 0

    def lease(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        nbytes: int,
        size: int,
        strides: tuple[int, ...] | None = None,
    ) -> np.ndarray:
        """An array of `nbytes` bytes in a block of the class `size`."""
        if self.guarding:
            slot = self.take(size_class(nbytes + 2 * GUARD_BYTES))
            first = slot.watch(nbytes, f"{dtype} array of shape {shape}")
        else:
            slot = self.take(size)
            first = slot.offset
        try:
            array = _ndarray(shape, dtype, slot.memory, first, strides)
        except BaseException:
            self.give_back(slot)
            raise
        lease = slot.lease = _Lease(array, self.bury)
        lease.slot = slot
        return array

    def take(self, size: int) -> _Slot:
        """An idle block of this size class, else a fresh one."""
        with self.lock:
            if self.dead:
                self.collect()
            self.in_use += size
            if self.in_use > self.peak:
                self.peak = self.in_use
            slots = self.idle.get(size)
            if slots:
                self.hits += 1
                self.idle_bytes -= size
                return slots.pop()  # the latest returned: the likeliest to be in cache
            self.misses += 1
        try:
            return self.allocate(size)
        except MemoryError:
            with self.lock:
                self.in_use -= size
            raise

    def allocate(self, size: int) -> _Slot:
        """A fresh block; what waits idle makes room for it if need be."""
        try:
            slot = _Slot(size)
        except MemoryError:
            self.release()
            slot = _Slot(size)
        self.slots.add(slot)
        return slot

    def collect(self) -> None:
        """Take back the blocks of arrays that died. The lock is held."""
        while self.dead:
            self.put_back(self.dead.pop().slot)

    def give_back(self, slot: _Slot) -> None:
        with self.lock:
            self.put_back(slot)

    def put_back(self, slot: _Slot) -> None:
        """Let a block wait to be used again, and free the oldest if too many wait. The lock is held."""
        slot.lease = None
        if slot.guard is not None:
            self.faults += slot.guard.faults(slot.memory)
            slot.guard = None
        size = slot.size
        self.in_use -= size
        self.clock += 1
        slot.returned = self.clock
        if size in self.idle:
            self.idle[size].append(slot)
        else:
            self.idle[size] = [slot]
        self.idle_bytes += size
        if self.idle_bytes > self.limit:
            self.trim(self.limit)

    def trim(self, limit: int) -> None:
        """Free the blocks that have been idle longest until `limit` bytes are left. The lock is held."""
        while self.idle_bytes > limit:
            oldest = min((slots for slots in self.idle.values() if slots), key=lambda slots: slots[0].returned)
            slot = oldest.pop(0)
            self.slots.discard(slot)
            self.idle_bytes -= slot.size

    def recall(self) -> None:
        """Let idle workspaces be blocks like others. The lock is held."""
        while self.workspaces:
            self.put_back(self.workspaces.pop())

    def release(self) -> None:
        with self.lock:
            self.collect()
            self.recall()
            self.trim(0)
            self.idle.clear()


def _default_limit() -> int:
    """A quarter of the machine's memory or of its cgroup's limit, whichever is less; 1 GiB if neither is known."""
    totals = []
    with contextlib.suppress(AttributeError, OSError, ValueError):
        totals.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            totals.append(int(file.read()))  # "max" is no limit
    return min((total for total in totals if total > 0), default=_DEFAULT_SHARE << 30) // _DEFAULT_SHARE


_pool = _Pool()
_pool.guarding = os.environ.get("NUMBACNN_GUARD", "") not in ("", "0")


def empty(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
    """An uninitialised C-contiguous array whose memory comes from the pool and returns there by itself.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype, default float32

    Returns
    -------
    ndarray
        A plain NumPy array. From 4 KB on it begins at a multiple of 64 bytes; smaller ones as NumPy aligns them.

    Examples
    --------
    >>> empty((2, 1024)).shape
    (2, 1024)
    """
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    if (nbytes < POOLED_FROM_BYTES and not _pool.guarding) or nbytes <= 0 or dtype.hasobject:
        return np.empty(shape, dtype)
    return _pool.lease(shape, dtype, nbytes, size_class(nbytes))


class Room:
    """Arrays as from `empty`, one after the other: what follows from their shape is done once.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    strides : tuple of int, optional
        Which the array fills without gaps.

    Examples
    --------
    >>> room = Room((3, 2), np.dtype(np.float32), (4, 12))
    >>> room().strides
    (4, 12)
    """

    __slots__ = ("_dtype", "_nbytes", "_shape", "_size", "_strides")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], strides: tuple[int, ...] | None = None) -> None:
        self._shape, self._dtype, self._strides = shape, dtype, strides
        self._nbytes = math.prod(shape) * dtype.itemsize
        self._size = size_class(self._nbytes) if self._nbytes else 0

    def __call__(self) -> np.ndarray:
        """An uninitialised array."""
        nbytes = self._nbytes
        if nbytes >= POOLED_FROM_BYTES or (_pool.guarding and nbytes):
            return _pool.lease(self._shape, self._dtype, nbytes, self._size, self._strides)
        return _ndarray(self._shape, self._dtype, None, 0, self._strides)


def borrow(nbytes: int) -> _Slot:
    """Memory from ``.address`` on, until it is given back: what a call needs besides its arguments and its result.

    Borrowers get the block that was returned last, or a larger one, so that it lies in the caches.

    Examples
    --------
    >>> workspace = borrow(1000)
    >>> workspace.address % 64
    0
    >>> give_back(workspace)
    """
    workspaces = _pool.workspaces
    if _pool.guarding:
        slot = _pool.take(size_class(nbytes + 2 * GUARD_BYTES))
        slot.address += slot.watch(nbytes, f"workspace of {nbytes} bytes") - slot.offset
        return slot
    try:
        slot = workspaces.pop()
    except IndexError:
        return _pool.take(size_class(nbytes))
    if slot.size >= nbytes:
        return slot
    _pool.give_back(slot)
    return _pool.take(size_class(nbytes))


def give_back(slot: _Slot) -> None:
    """Let others use what was borrowed."""
    if slot.guard is not None:
        slot.address -= GUARD_BYTES
        _pool.give_back(slot)
    elif slot.size > _pool.limit:
        _pool.give_back(slot)
    else:
        _pool.workspaces.append(slot)


def empty_strided(shape: tuple[int, ...], dtype: np.dtype[Any], strides: tuple[int, ...], nbytes: int) -> np.ndarray:
    """An uninitialised array as from `empty` of `nbytes` bytes, which its strides fill without gaps.

    Examples
    --------
    >>> empty_strided((3, 2), np.dtype(np.float32), (4, 12), 24).strides
    (4, 12)
    """
    if (nbytes < POOLED_FROM_BYTES and not _pool.guarding) or nbytes <= 0:
        return np.ndarray(shape, dtype, strides=strides)
    return _pool.lease(shape, dtype, nbytes, size_class(nbytes), strides)


def empty_like(x: np.ndarray) -> np.ndarray:
    """An uninitialised array as from `empty` with the shape, dtype and strides of the dense array `x`.

    Examples
    --------
    >>> empty_like(np.zeros((3, 2), np.float32).T).strides
    (4, 8)
    """
    nbytes = x.nbytes
    if (nbytes < POOLED_FROM_BYTES and not _pool.guarding) or nbytes <= 0:
        return np.empty_like(x, subok=False)
    return _pool.lease(x.shape, x.dtype, nbytes, size_class(nbytes), x.strides)


@functools.lru_cache(maxsize=4096)
def size_class(nbytes: int) -> int:
    """The block size for a request: eight sizes per doubling, so at most an eighth is wasted.

    Examples
    --------
    >>> size_class(4096), size_class(4097)
    (4096, 4608)
    """
    step = max(1 << max((nbytes - 1).bit_length() - 4, 0), ALIGNMENT_BYTES)
    return -(-nbytes // step) * step


def memory_stats(*, reset_peak: bool = False) -> MemoryStats:
    """What the pool holds now.

    Parameters
    ----------
    reset_peak : bool, default False
        Let `peak_bytes` start again from what is in use, after reading it.

    Examples
    --------
    >>> before = memory_stats(reset_peak=True).in_use_bytes
    >>> x = empty((64, 1024))
    >>> memory_stats().peak_bytes - before
    262144
    """
    with _pool.lock:
        _pool.collect()
        waiting = sum([slot.size for slot in _pool.workspaces])
        in_use, idle = _pool.in_use - waiting, _pool.idle_bytes + waiting
        stats = MemoryStats(in_use, idle, max(in_use, _pool.peak - waiting), _pool.hits, _pool.misses, _pool.limit)
        if reset_peak:
            _pool.peak = _pool.in_use
    return stats


def release_memory() -> None:
    """Give all idle blocks back to the operating system. Arrays in use are not touched.

    Examples
    --------
    >>> release_memory()
    >>> memory_stats().idle_bytes
    0
    """
    _pool.release()


def set_memory_limit(limit_bytes: int) -> None:
    """Let at most this many bytes wait idle in the pool; the longest idle are freed first.

    The default is a quarter of the memory that the machine, or the container, has: a training step finds everything
    it needs again, and other programs keep the rest. Arrays in use are not limited.

    Parameters
    ----------
    limit_bytes : int
        0 turns recycling off.

    Examples
    --------
    >>> before = memory_stats().limit_bytes
    >>> set_memory_limit(1 << 30)
    >>> memory_stats().limit_bytes
    1073741824
    >>> set_memory_limit(before)
    """
    limit = check_integer("limit_bytes", limit_bytes, 0)
    with _pool.lock:
        _pool.limit = limit
        _pool.collect()
        _pool.recall()
        _pool.trim(limit)


@contextlib.contextmanager
def guard_memory() -> Iterator[None]:
    """Catch kernels that write outside their arrays, or read what was never written, inside a ``with`` block.

    Every array of the pool lies between two zones of a known pattern, and holds NaN until it is written. The zones
    are checked when an array dies and when the block ends. Slow: for tests. The environment variable
    ``NUMBACNN_GUARD=1`` does the same for the whole process, with the check left to `check_guards`.

    Raises
    ------
    RuntimeError
        At the end of the ``with`` block, naming the arrays whose surroundings were overwritten.

    Examples
    --------
    >>> with guard_memory():
    ...     x = empty((2, 3))
    >>> x
    array([[nan, nan, nan],
           [nan, nan, nan]], dtype=float32)
    """
    before, _pool.guarding = _pool.guarding, True
    try:
        yield
    finally:
        _pool.guarding = before
    check_guards()


def check_guards() -> None:
    """Check the surroundings of every guarded array, alive or dead since the last check; see `guard_memory`.

    Raises
    ------
    RuntimeError
        Some were overwritten; the message names the arrays.
    """
    with _pool.lock:
        _pool.collect()
        faults, _pool.faults = _pool.faults, []
        for slot in list(_pool.slots):
            if slot.guard is not None:
                faults += slot.guard.faults(slot.memory)
    if faults:
        raise RuntimeError("memory outside an array was overwritten:\n" + "\n".join(faults))


def _after_fork() -> None:
    """Another thread of the parent may have held the lock; it does not exist in the child."""
    _pool.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
