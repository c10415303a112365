"""The pool: which blocks there are, which of them wait to be handed out again, and how they come back.

A block is a NumPy array of a private subclass, and an array that is handed out is a plain view of it. NumPy shortens a
chain of bases only as far as the types agree, so the base of every view of the view is that plain array and never the
block. A weak reference to the plain array therefore dies exactly when the last view does, and its callback is the
``append`` of a list: no Python code runs at that moment, whatever thread or garbage collection it happens in. The next
request does the book-keeping.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

import numpy as np

from .blocks import GUARD_BYTES, Lease, Slot, size_class

if TYPE_CHECKING:
    from .arrays import Room

_ndarray = np.ndarray  # a name of this module is found sooner, and this is looked up at every call
# Idle blocks are memory that nobody else can use: by default at most this share of the machine's.
_DEFAULT_SHARE = 4


class Pool:
    """Blocks by their size class, and numbers of them. Locked, but for what one atomic step of a list does."""

    def __init__(self) -> None:
        # Reentrant: a garbage collection inside a locked section may run a stranger's __del__ that allocates here.
        self.lock = threading.RLock()
        self.slots: set[Slot] = set()  # all there are
        self.idle: dict[int, list[Slot]] = {}
        self.workspaces: list[Slot] = []  # idle, too: the latest returned last
        self.dead: list[Lease] = []
        self.bury = self.dead.append
        self.faults: list[str] = []
        self.guarding = False
        self.limit = _default_limit()
        self.in_use = self.idle_bytes = self.peak = self.hits = self.misses = self.clock = 0

    def lease(self, room: Room) -> np.ndarray:
        """An array in a block of the room's size class."""
        guarding = self.guarding
        if guarding:
            slot = self.take(size_class(room.nbytes + 2 * GUARD_BYTES))
        else:
            slot = self.take_last(room.size) or self.take(room.size)
        try:
            if guarding or slot.room is not room:
                slot.furnish(room, guarding)
            array = slot.image.view(_ndarray)
        except BaseException:
            self.give_back(slot)
            raise
        lease = slot.lease = Lease(array, self.bury)
        lease.slot = slot
        return array

    def take_last(self, size: int) -> Slot | None:
        """The block of the array that died last, if it is of this size class: nothing to enter in any book but a hit.

        So it is where a function is called in a loop, and calls of other ops' results that are alike. No lock: what was
        popped is nobody else's.
        """
        if not self.dead:
            return None
        try:
            last = self.dead.pop()
        except IndexError:  # others may take it between a look and a `pop`
            return None
        slot = last.slot
        if slot.size == size and slot.guard is None and size <= self.limit:
            self.hits += 1
            return slot
        self.bury(last)
        return None

    def take(self, size: int) -> Slot:
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

    def allocate(self, size: int) -> Slot:
        """A fresh block; what waits idle makes room for it if need be."""
        try:
            slot = Slot(size)
        except MemoryError:
            self.release()
            slot = Slot(size)
        self.slots.add(slot)
        return slot

    def collect(self) -> None:
        """Take back the blocks of arrays that died. The lock is held."""
        while self.dead:
            try:
                last = self.dead.pop()
            except IndexError:
                return
            self.put_back(last.slot)

    def give_back(self, slot: Slot) -> None:
        with self.lock:
            self.put_back(slot)

    def put_back(self, slot: Slot) -> None:
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


pool = Pool()
pool.guarding = os.environ.get("NUMBACNN_GUARD", "") not in ("", "0")


def _after_fork() -> None:
    """Another thread of the parent may have held the lock; it does not exist in the child."""
    pool.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
