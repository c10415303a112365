"""A pool that recycles the memory of arrays.

Fresh pages from the operating system cost more than most kernels: touching 64 MB for the first time takes longer than
computing it. So arrays of 4 KB and more live in *blocks* that return to the pool when their array and every view of it
are gone, and are handed out again; `recycling` tells how.
"""

from .arrays import Room, empty, empty_like, empty_strided
from .blocks import size_class
from .guards import check_guards, guard_memory
from .limits import MemoryStats, memory_stats, release_memory, set_memory_limit
from .workspaces import borrow, give_back

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
    "size_class",
]
