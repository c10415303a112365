"""Blocks of memory, what is known of the array or workspace in one, and the zones that guard it."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from .arrays import Room

# One cache line, and one vector of the widest instruction set.
ALIGNMENT_BYTES = 64

GUARD_BYTES = 1024
_GUARD_PATTERN = 0xA5
_FRESH_PATTERN = 0xFF  # NaN in every floating dtype, so that reading what was never written shows


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


class Block(np.ndarray):
    """Raw bytes that own their memory. A type of its own: see `recycling`."""

    __slots__ = ()


class Slot:
    """A block, where its aligned part begins, when it came back, and what is known of the array that lives in it.

    An array is made of its `image`, a block of its shape: that takes a quarter of the time if it is as the last one.
    """

    __slots__ = ("address", "guard", "image", "lease", "memory", "offset", "returned", "room", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.memory = Block(size + ALIGNMENT_BYTES, np.uint8)
        begin = self.memory.__array_interface__["data"][0]
        self.offset = -begin % ALIGNMENT_BYTES
        self.address = begin + self.offset
        self.returned = 0
        self.lease: Lease | None = None
        self.room: Room | None = None
        self.image = self.memory
        self.guard: Guard | None = None

    def furnish(self, room: Room, guarded: bool) -> None:
        """Have an image of the arrays of a room."""
        first = self.offset
        if guarded:
            first = self.watch(room.nbytes, f"{room.dtype} array of shape {room.shape}")
        self.image = Block(room.shape, room.dtype, self.memory, first, room.strides)  # type: ignore[arg-type]
        self.room = None if guarded else room

    def watch(self, nbytes: int, name: str) -> int:
        """Fill the block with the guard's pattern, and room for an array with NaN; where that begins in the block."""
        first = self.offset + GUARD_BYTES
        self.guard = Guard(first, first + nbytes, name)
        self.memory.fill(_GUARD_PATTERN)
        self.memory[first : first + nbytes] = _FRESH_PATTERN
        return first


class Lease(weakref.ref):
    """A weak reference to an array that was handed out, and the block below it."""

    __slots__ = ("slot",)
    __hash__ = object.__hash__  # a weak reference would ask its array, which has no hash
    __eq__ = object.__eq__

    slot: Slot


class Guard(NamedTuple):
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
