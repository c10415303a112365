"""Even cuts."""

from __future__ import annotations


def split_evenly(total: int, largest: int) -> int:
    """Size of the blocks when `total` is cut into as few, as even blocks of at most `largest` as possible.

    Examples
    --------
    >>> split_evenly(256, 100), split_evenly(64, 100)
    (86, 64)
    """
    blocks = -(-total // max(largest, 1))
    return -(-total // blocks) if total else 1
