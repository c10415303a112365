"""What register tiles of rows x vectors have in common: one step of their sums, and loading and storing these.

A tile's sums are a list, row after row, of Values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .emitter import Emitter
from .value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

UNROLL = 4  # times that hot loops are written out: one test and jump per so many steps


def add_products(
    e: Emitter, lefts: list[tuple[Any, ...]], right: Any, sums: list[Value], mask: Any = None, side_by_side: int = 1
) -> list[Value]:
    """The step of a tile: each row's element times the vectors that lie at `right`.

    `lefts` points to the element of each row, or to several that the vectors take in turn; each may be several elements
    `side_by_side`, which lanes take in turn. What is not in `mask`, that of a single vector, is not read.
    """
    vectors = len(sums) // len(lefts)
    row = [e.load(right, j, mask) for j in range(vectors)]
    new = []
    for i, places in enumerate(lefts):
        values = [e.broadcast(place, side_by_side) for place in places]
        new += [values[j % len(values)].fma(row[j], sums[i * vectors + j]) for j in range(vectors)]
        if len(places) > 1:  # so many broadcasts leave no register free for what comes next
            e.keep_order()
    return new


def steps(
    e: Emitter, count: Any, start: list[Any], step: Callable[[Any, list[Any]], list[Any]], ask: Callable[[Any], None]
) -> list[Any]:
    """``e.carry(count, start, step, UNROLL)``, where every `UNROLL` steps first ``ask(how many times before)``.

    What is needed later is asked for a line at a time: many at once would keep what the tile itself reads waiting.
    """
    builder = e.builder

    def some(q, sums):
        ask(q)
        for i in range(UNROLL):
            sums = step(builder.add(e.times(q, UNROLL), e.i64(i)), sums)
        return sums

    whole = builder.sdiv(count, e.i64(UNROLL))
    done = e.times(whole, UNROLL)
    sums = e.carry(whole, start, some)
    return e.carry(builder.sub(count, done), sums, lambda i, sums: step(builder.add(done, i), sums))


def load_rows(e: Emitter, rows: list[Any], vectors: int, lanes: Any = None) -> list[Value]:
    """The values at `rows`; 0 in the lanes at and beyond `lanes`, whose memory is not touched."""
    masks = [None if lanes is None else e.mask(lanes, j) for j in range(vectors)]
    return [e.load(row, j, masks[j]) for row in rows for j in range(vectors)]


def store_rows(e: Emitter, values: list[Value], rows: list[Any], lanes: Any = None) -> None:
    """Store the values to `rows`, the lanes at and beyond `lanes` left as they are."""
    vectors = len(values) // len(rows)

    def store(masks: list[Any]) -> list[Value]:
        for i, row in enumerate(rows):
            for j in range(vectors):
                e.store(values[i * vectors + j], row, j, masks[j])
        return []

    if lanes is None:
        store([None] * vectors)
        return
    full = e.builder.icmp_signed(">=", lanes, e.i64(vectors * e.lanes))
    e.either(full, lambda: store([None] * vectors), lambda: store([e.mask(lanes, j) for j in range(vectors)]))


def row_numbers(e: Emitter, written: int, rows: Any, repeat: bool) -> list[Any]:
    """Numbers of the rows that a tile computes; `repeat`: those that do not exist are the last again."""
    numbers = [e.i64(i) for i in range(written)]
    if not repeat:
        return numbers
    last = e.builder.sub(rows, e.i64(1))
    return [e.builder.select(e.builder.icmp_signed("<", i, last), i, last) for i in numbers]


def ask_for_panel(e: Emitter, rows: list[Any], width: int, first: Any, lanes: Any) -> None:
    """Ask for what a tile will write of `rows` with the panel after that of `width` lanes which begins at `first`."""
    last = e.builder.sub(lanes, e.i64(1))  # what lies beyond may be another thread's
    # Of two lines one is enough: neighbours come in pairs. (To ask for both took 1.02 to 1.05 times as long.)
    written = e.builder.add(first, e.i64(2 * width - 1))
    written = e.builder.select(e.builder.icmp_signed("<", written, last), written, last)
    for row in rows:
        e.prefetch(e.at(row, written), write=True)
