"""Workspaces: memory of the pool that a call borrows and gives back itself."""

from __future__ import annotations

from .blocks import GUARD_BYTES, Slot, size_class
from .recycling import pool


def borrow(nbytes: int) -> Slot:
    """Memory from ``.address`` on, until it is given back: what a call needs besides its arguments and its result.

    Borrowers get the block that was returned last, or a larger one, so that it lies in the caches.

    Examples
    --------
    >>> workspace = borrow(1000)
    >>> workspace.address % 64
    0
    >>> give_back(workspace)
    """
    workspaces = pool.workspaces
    if pool.guarding:
        slot = pool.take(size_class(nbytes + 2 * GUARD_BYTES))
        slot.address += slot.watch(nbytes, f"workspace of {nbytes} bytes") - slot.offset
        return slot
    try:
        slot = workspaces.pop()
    except IndexError:
        return pool.take(size_class(nbytes))
    if slot.size >= nbytes:
        return slot
    pool.give_back(slot)
    return pool.take(size_class(nbytes))


def give_back(slot: Slot) -> None:
    """Let others use what was borrowed."""
    if slot.guard is not None:
        slot.address -= GUARD_BYTES
        pool.give_back(slot)
    elif slot.size > pool.limit:
        pool.give_back(slot)
    else:
        pool.workspaces.append(slot)
