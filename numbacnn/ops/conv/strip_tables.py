"""How rows become strips (see the kernels): the geometry of one direction as tables.

Along the width, point p and tap t of a *class* read source coordinate ``alpha * p + beta * t + gamma``: forward is one
class with alpha the stride and beta the dilation; the data gradient of a convolution with stride S has a class for
each residue of the destination coordinate, with alpha 1. With ``common = gcd(alpha, beta)`` and the points and taps
dealt out as ``p = (beta / common) * a + b`` and ``t = (alpha / common) * n + c``, the coordinate is
``step * (a + n) + alpha * b + beta * c + gamma`` with ``step = alpha * beta / common``: in the strip of every
`step`-th coordinate, point a + 1 reads what tap n + 1 of point a read. Stride and dilation are gone.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..padding import source_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..geometry import ConvGeometry


# Entries of a list: 768 KiB of them in a plan.
MOST_ENTRIES = 32 * 1024


class AxisList(NamedTuple):
    """What meets each destination coordinate of an axis: ``entries[starts[q]:starts[q + 1]]``, (tap, source) pairs."""

    starts: np.ndarray
    entries: np.ndarray

    @property
    def longest(self) -> int:
        """The most pairs of any coordinate."""
        return int(np.diff(self.starts).max(initial=0))

    def of(self, q: int) -> np.ndarray:
        """The pairs of coordinate `q`."""
        return self.entries[self.starts[q] : self.starts[q + 1]]

    def table(self, tap_scale: int, ring: int, ring_scale: int) -> np.ndarray:
        """Both in one array: numbers of triples in that same array, then (tap, source, place in the ring)."""
        first = -(-len(self.starts) // 3)
        table = np.zeros((first + len(self.entries), 3), np.int64)
        table[first:, :2] = self.entries * (tap_scale, 1)
        table[first:, 2] = self.entries[:, 1] % ring * ring_scale
        flat = table.ravel()
        flat[: len(self.starts)] = self.starts + first
        return flat


def axis_list(table: np.ndarray, extent: int | None = None) -> AxisList:
    """The list of a table ``source[output, tap]``; with `extent`, its transpose: the outputs that read every source."""
    output, tap = np.nonzero(table >= 0)
    source = table[output, tap]
    if extent is None:
        counts = np.bincount(output, minlength=len(table))
        pairs = np.stack([tap, source], axis=1)
    else:
        counts = np.bincount(source, minlength=extent)
        pairs = np.stack([tap, output], axis=1)[np.lexsort((output, tap, source))]
    return AxisList(np.concatenate([[0], np.cumsum(counts)]), pairs)


def plane_lists(g: ConvGeometry, transposed: bool) -> tuple[AxisList, AxisList]:
    """The lists of depth and height."""
    d, h = (axis_list(_sources(g, i), g.input[i] if transposed else None) for i in (0, 1))
    return d, h


def _sources(g: ConvGeometry, i: int) -> np.ndarray:
    args = (g.input[i], g.output[i], g.kernel[i], g.stride[i], g.dilation[i], g.pad_low[i])
    return source_index(*args, g.padding_mode[i])


def large_plane_lists(g: ConvGeometry) -> str | None:
    """Why the lists would take too much memory, if they do: they have an entry per row and kernel row."""
    rows = max(g.output[i] * g.kernel[i] for i in (0, 1))
    return f"{rows} rows times kernel rows are more than it lists" if rows > MOST_ENTRIES else None


def ring_extent(lists: AxisList, extent: int, group: int = 1) -> int:
    """How many source rows a ring must hold so that those of `group` successive destination rows have a place each.

    A row's place is its coordinate modulo the result. Regular rows lie within a span; where padding wraps or
    mirrors, some do not, and then a larger modulus may be needed.
    """
    coordinates = len(lists.starts) - 1
    windows = [
        np.unique(lists.entries[lists.starts[q] : lists.starts[min(q + group, coordinates)], 1])
        for q in range(coordinates)
    ]
    windows = [window for window in windows if len(window)]
    if not windows:
        return 1
    size = int(np.median([window[-1] - window[0] + 1 for window in windows]))
    size = max([size, *(len(window) for window in windows)])
    while size < extent and any(len(np.unique(window % size)) < len(window) for window in windows):
        size += 1
    return min(size, extent)


def rows_of_overlap(g: ConvGeometry, rows: int, whole_planes: bool = True) -> int:
    """How many rows of the result, of `rows` per plane, read what the rows behind them read as well.

    Of the same plane only without `whole_planes`.
    """
    planes_shared, rows_shared = ((g.span[i] - 1) // g.stride[i] for i in (0, 1))
    return planes_shared * rows * whole_planes or rows_shared


class Class(NamedTuple):
    """Destination coordinates ``start + stride * p`` that share their taps (in the order of growing source)."""

    start: int
    stride: int
    points: int
    taps: tuple[int, ...]
    alpha: int
    beta: int
    gamma: int
    leap: int = 1  # positions of a strip between points


def classes_of(g: ConvGeometry, transposed: bool) -> list[Class]:
    """The width of the forward convolution or (`transposed`) of its data gradient."""
    return backward_classes(g) if transposed else forward_classes(g)


def forward_classes(g: ConvGeometry) -> list[Class]:
    """The width of a forward convolution."""
    taps = tuple(range(g.kernel[2]))
    beta = g.dilation[2] if len(taps) > 1 else g.stride[2]
    return [Class(0, 1, g.output[2], taps, g.stride[2], beta, -g.pad_low[2])]


def backward_classes(g: ConvGeometry) -> list[Class]:
    """The width of the data gradient, as with padding by zeros."""
    stride, dilation, low = g.stride[2], g.dilation[2], g.pad_low[2]
    common = math.gcd(stride, dilation)
    beta = dilation // common if g.kernel[2] > stride // common else 1  # a class has taps stride / common apart
    classes = []
    for start in range(min(stride, g.input[2])):
        taps = tuple(t for t in reversed(range(g.kernel[2])) if (start + low - dilation * t) % stride == 0)
        gamma = (start + low - dilation * taps[0]) // stride if taps else 0
        classes.append(Class(start, stride, -(-(g.input[2] - start) // stride), taps, 1, beta, gamma))
    return classes


class Row(NamedTuple):
    """The width of one direction as tables; positions and weights counted in vectors."""

    step: int
    positions: int
    strips: np.ndarray
    phases: np.ndarray
    runs: np.ndarray
    picks: np.ndarray
    order: tuple[int, ...]  # the kernel's taps as weights are packed

    def cut(self, lengths: tuple[int, ...]) -> Row:
        """The same row with runs of no other than these numbers of taps, in each phase in their order.

        As long as they are enough, taps go to the runs of the first number, then to those of the next.
        """

        def pieces(runs: list[list[int]]) -> list[tuple[int, int, int]]:
            some = [piece for place, weight, taps in runs for piece in _pieces(place, weight, taps, lengths)]
            return sorted(some, key=lambda piece: lengths.index(piece[2]))

        return self._cut(pieces)

    def cut_evenly(self, most: int) -> Row:
        """The same row with runs of at most so many taps, those of one run as even as possible."""

        def pieces(runs: list[list[int]]) -> list[tuple[int, int, int]]:
            return [piece for place, weight, taps in runs for piece in _even_pieces(place, weight, taps, most)]

        return self._cut(pieces)

    def _cut(self, cut: Callable[[list[list[int]]], list[tuple[int, int, int]]]) -> Row:
        """The same row with other runs in place of those of each phase."""
        phases = self.phases.reshape(-1, 6).copy()
        pieces: list[tuple[int, int, int]] = []
        for phase in phases:
            first, count = phase[3:5].tolist()
            own = cut(self.runs[first : first + count].tolist())
            phase[3:5] = len(pieces), len(own)
            pieces += own
        return self._replace(phases=phases.ravel(), runs=np.array(pieces, np.int64).reshape(-1, 3))

    def list_lengths(self, longest_run: int) -> list[int]:
        """How many runs of at most `longest_run` taps each phase has."""
        return [
            sum(-(-taps // longest_run) for taps in self.runs[first : first + count, 2].tolist())
            for _, _, _, first, count, _ in self.phases.reshape(-1, 6).tolist()
        ]


def _pieces(place: int, weight: int, taps: int, lengths: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """A run of some taps, cut into runs of the first length, then of the next; the last must be 1."""
    for length in lengths:
        while taps >= length:
            yield place, weight, length
            place, weight, taps = place + length, weight + length, taps - length


def _even_pieces(place: int, weight: int, taps: int, most: int) -> Iterator[tuple[int, int, int]]:
    """A run of some taps, cut evenly into as few runs as possible of at most `most`."""
    parts = -(-taps // most)
    for begin, end in itertools.pairwise(part * taps // parts for part in range(parts + 1)):
        yield place + begin, weight + begin, end - begin


def joined(lists_d: np.ndarray, lists_h: np.ndarray, row: Row, outside: np.ndarray | None = None) -> np.ndarray:
    """The tables as one array, as the kernels take it: first where each of them begins in it."""
    nothing = np.zeros(0, np.int64)
    others = nothing if outside is None else outside, row.picks
    tables = [lists_d, lists_h, row.strips, row.phases, row.runs.ravel(), *others]
    return np.concatenate([len(tables) + np.cumsum([0, *map(len, tables[:-1])]), *tables])


def longest_phase(classes: list[Class]) -> int:
    """The most points of any phase."""
    return max(-(-c.points // deal(c)[1]) for c in classes)


def plan_row(g: ConvGeometry, classes: list[Class], segment: int, irregular: dict[int, np.ndarray]) -> Row:
    """Cut the width into strips, phases and runs, `segment` points of each phase at a time.

    `irregular` coordinates have pairs (tap, source) of their own: each becomes a phase of one point whose sources are
    picked one by one, and which is computed last.
    """
    order = [t for c in classes for part in parts_of(c) for t in part]
    order += sorted(set(range(g.kernel[2])).difference(order))
    step = max(deal(c)[0] for c in classes)
    phases: list[list[int]] = []
    runs: list[list[int]] = []
    ranges: dict[int, tuple[int, int]] = {}
    for c in classes:
        _, by, _ = deal(c)
        for b in range(min(by, c.points)):
            points = -(-(c.points - b) // by)
            parts = [(i, part) for i, part in enumerate(parts_of(c)) if part]
            phases.append([c.start + c.stride * b, c.stride * by, points, len(runs), len(parts), -1])
            for i, part in parts:
                place, residue = divmod(c.alpha * b + c.beta * i + c.gamma, step)
                first, last = ranges.get(residue, (place, place))
                end = place + c.leap * (min(segment, points) - 1) + len(part)
                ranges[residue] = (min(first, place), max(last, end))
                runs.append([residue, place, order.index(part[0]), len(part)])
    strips, begin, positions = [], {}, 0
    for residue, (first, last) in sorted(ranges.items()):
        begin[residue] = positions - first
        strips.append([positions, last - first, step * first + residue])
        positions += last - first
    table = [[begin[residue] + place, weight, n] for residue, place, weight, n in runs]
    picks: list[int] = []
    for q, pairs in irregular.items():
        c = classes[q % len(classes)]
        phases.append([q, 1, 1, len(table), len(pairs), q // c.stride // deal(c)[1] // segment])
        for tap, source in pairs.tolist():
            table.append([positions + len(picks), order.index(tap), 1])
            picks.append(source)
    return Row(
        step,
        positions + len(picks),
        np.array(strips, np.int64).ravel(),
        np.array(phases, np.int64).ravel(),
        np.array(table, np.int64).reshape(-1, 3),
        np.array(picks, np.int64),
        tuple(order),
    )


def deal(c: Class) -> tuple[int, int, int]:
    """`step`, into how many phases the points are dealt, and into how many parts the taps."""
    common = math.gcd(c.alpha, c.beta)
    return c.alpha * c.beta // common, c.beta // common, c.alpha // common


def parts_of(c: Class) -> list[tuple[int, ...]]:
    """The taps of a class, dealt out."""
    parts = deal(c)[2]
    return [c.taps[i::parts] for i in range(parts)]


def pairs_inside(g: ConvGeometry, q: int) -> list[tuple[int, int]]:
    """The (tap, output) pairs along the width that read input coordinate `q` itself, outputs growing."""
    pairs = []
    for tap in reversed(range(g.kernel[2])):
        output, rest = divmod(q + g.pad_low[2] - g.dilation[2] * tap, g.stride[2])
        if rest == 0 and 0 <= output < g.output[2]:
            pairs.append((tap, output))
    return pairs


def pairs_through_padding(g: ConvGeometry) -> dict[int, list[tuple[int, int]]]:
    """The (tap, output) pairs along the width that read an input coordinate through the padding."""
    pairs: dict[int, list[tuple[int, int]]] = {}
    mode, size, low, stride = g.padding_mode[2], g.input[2], g.pad_low[2], g.stride[2]
    if mode == "zeros":
        return pairs
    reach = g.span[2] - 1
    inside = range(-(-low // stride), min(g.output[2], (size - 1 - reach + low) // stride + 1))  # they read no padding
    for output in (*range(min(g.output[2], inside.start)), *range(max(inside.start, inside.stop), g.output[2])):
        row = source_index(size, 1, g.kernel[2], stride, g.dilation[2], low - stride * output, mode)[0].tolist()
        for tap, source in enumerate(row):
            if not 0 <= stride * output + g.dilation[2] * tap - low < size:
                pairs.setdefault(source, []).append((tap, output))
    return pairs


def irregular_coordinates(g: ConvGeometry) -> dict[int, np.ndarray]:
    """Input coordinates along the width whose gradient is not what it would be with padding by zeros."""
    return {q: np.array(sorted(pairs_inside(g, q) + pairs)) for q, pairs in sorted(pairs_through_padding(g).items())}


def outside_sources(g: ConvGeometry) -> tuple[int, int, np.ndarray]:
    """What the padding of the width reads, forward: how many positions before and after it, and their sources."""
    width, mode = g.input[2], g.padding_mode[2]
    low, high = (0, 0) if mode == "zeros" else (max(g.pad_low[2], 0), max(g.pad_high[2], 0))
    before, after = (source_index(width, n, 1, 1, 1, begin, mode)[:, 0] for n, begin in ((low, low), (high, -width)))
    return low, high, np.concatenate([before, after, [-1]])
