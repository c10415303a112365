"""Catching kernels that write outside their arrays, or read what was never written."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from .recycling import pool

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    >>> from numbacnn.ops.memory import empty
    >>> with guard_memory():
    ...     x = empty((2, 3))
    >>> x
    array([[nan, nan, nan],
           [nan, nan, nan]], dtype=float32)
    """
    before, pool.guarding = pool.guarding, True
    try:
        yield
    finally:
        pool.guarding = before
    check_guards()


def check_guards() -> None:
    """Check the surroundings of every guarded array, alive or dead since the last check; see `guard_memory`.

    Raises
    ------
    RuntimeError
        Some were overwritten; the message names the arrays.
    """
    with pool.lock:
        pool.collect()
        faults, pool.faults = pool.faults, []
        for slot in list(pool.slots):
            if slot.guard is not None:
                faults += slot.guard.faults(slot.memory)
    if faults:
        raise RuntimeError("memory outside an array was overwritten:\n" + "\n".join(faults))
