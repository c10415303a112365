"""Even cuts."""

from __future__ import annotations


def split_evenly(total: int, largest: int, unit: int = 1) -> int:
    """Size of the blocks when `total` is cut into as few, as even blocks of at most `largest` as possible.

    Blocks, but for the last, are multiples of `unit` unless `largest` is less.

    Examples
    --------
    >>> split_evenly(256, 100), split_evenly(64, 100), split_evenly(256, 100, 16)
    (86, 64, 96)
    """
    if unit > 1 and largest >= unit:
        return min(total, unit * split_evenly(-(-total // unit), largest // unit))
    blocks = -(-total // max(largest, 1))
    return -(-total // blocks) if total else 1
