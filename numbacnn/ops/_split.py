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


def for_all_cores(blocks: int, beside: int = 1, one_more: bool = False) -> int:
    """`blocks`, or up to a third more, so that four cores, or at least two, finish together.

    `beside` times as many run at a time. Of five blocks one of two cores gets three: 1.2 times the time that six take.
    If there is still an odd number, `one_more` adds a block, whatever share of them that is.

    Examples
    --------
    >>> [for_all_cores(n) for n in (1, 2, 3, 5, 7, 9, 13, 16, 33)]
    [1, 2, 4, 6, 8, 12, 16, 16, 33]
    >>> for_all_cores(5, beside=2), for_all_cores(1, beside=3), for_all_cores(1, beside=3, one_more=True)
    (6, 1, 2)
    """
    for cores in (4, 2) if blocks * beside < MANY_BLOCKS else ():
        more = next(n for n in range(blocks, blocks + cores) if n * beside % cores == 0)
        if 3 * more <= 4 * blocks:
            return more
    return blocks + (one_more and blocks * beside % 2)
