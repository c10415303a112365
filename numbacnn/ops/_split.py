"""Even cuts."""

from __future__ import annotations

# Of so many blocks a core may get one more than another.
MANY_BLOCKS = 32


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


def in_step(blocks: int, beside: int = 1) -> int:
    """`blocks`, or up to a third more, so that four cores, or at least two, finish together.

    `beside` times as many run at a time. Of five blocks one of two cores gets three: 1.2 times the time that six take.

    Examples
    --------
    >>> [in_step(n) for n in (1, 2, 3, 5, 7, 9, 13, 16, 33)], in_step(5, beside=2)
    ([1, 2, 4, 6, 8, 12, 16, 16, 33], 6)
    """
    if blocks * beside >= MANY_BLOCKS:
        return blocks
    for cores in (4, 2):
        more = next(n for n in range(blocks, blocks + cores) if n * beside % cores == 0)
        if 3 * more <= 4 * blocks:
            return more
    return blocks
