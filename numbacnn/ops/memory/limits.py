"""What the pool holds, and how much of it may wait idle."""

from __future__ import annotations

from typing import NamedTuple

from .._check import check_integer
from .recycling import pool


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


def memory_stats(*, reset_peak: bool = False) -> MemoryStats:
    """What the pool holds now.

    Parameters
    ----------
    reset_peak : bool, default False
        Let `peak_bytes` start again from what is in use, after reading it.

    Examples
    --------
    >>> from numbacnn.ops.memory import empty
    >>> before = memory_stats(reset_peak=True).in_use_bytes
    >>> x = empty((64, 1024))
    >>> memory_stats().peak_bytes - before
    262144
    """
    with pool.lock:
        pool.collect()
        waiting = sum([slot.size for slot in pool.workspaces])
        in_use, idle = pool.in_use - waiting, pool.idle_bytes + waiting
        stats = MemoryStats(in_use, idle, max(in_use, pool.peak - waiting), pool.hits, pool.misses, pool.limit)
        if reset_peak:
            pool.peak = pool.in_use
    return stats


def release_memory() -> None:
    """Give all idle blocks back to the operating system. Arrays in use are not touched.

    Examples
    --------
    >>> release_memory()
    >>> memory_stats().idle_bytes
    0
    """
    pool.release()


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
    with pool.lock:
        pool.limit = limit
        pool.collect()
        pool.recall()
        pool.trim(limit)
