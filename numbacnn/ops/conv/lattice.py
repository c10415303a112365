"""Which source coordinates each destination coordinate sums over, axis by axis.

A direction of a convolution is a list of *phases*. An `AxisPhase` is a set of destination coordinates ``start,
start + step, ...`` whose taps read source coordinates ``first + slope * point + spread * tap``; a phase combines one of
each axis. Forward has a single phase. The data gradient of a strided convolution has one per residue of the stride,
each with the taps that can hit it, so no product with a zero between strides is ever formed.

Where padding mirrors, clamps or wraps, border coordinates of the input were read through the padding too. Each stretch
of the padding adds phases of its own to the data gradient, which only the border takes part in; a phase never needs
more than a few integers, however long the axis, the kernel or the padding.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

from ...kernels.sources import MODES, Sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..geometry import ConvGeometry

Triple = tuple[int, int, int]


class Memory(NamedTuple):
    """Channels-last memory of one side of a convolution."""

    extents: Triple
    channels: int


def strides(extents: Triple, channels: int) -> tuple[int, int, int, int]:
    """Elements between samples, planes, rows and positions of channels-last memory."""
    d, h, w = extents
    return d * h * w * channels, h * w * channels, w * channels, channels


class AxisPhase(NamedTuple):
    """Destination coordinates, and what each tap reads for them."""

    start: int  # destination coordinate of point 0
    step: int  # destination coordinates between points
    points: int
    taps: int
    first: int  # source coordinate that tap 0 reads for point 0
    slope: int  # source coordinates between points
    spread: int  # source coordinates between taps
    kernel_first: int  # kernel position that tap 0's weights come from
    kernel_step: int
    mode: str = "zeros"  # padding mode: what is read where the source does not reach
    copies: int = 1  # everything is read again so many times in all, one source coordinate further each time
    adds: bool = False  # to what earlier phases have written
    width: int = 1  # neighbouring destination coordinates that a point stands for; see `side_by_side`


class Phase(NamedTuple):
    """One phase of each axis (D, H, W)."""

    axes: tuple[AxisPhase, AxisPhase, AxisPhase]

    @property
    def points(self) -> int:
        """Lattice points per sample."""
        return math.prod(axis.points for axis in self.axes)

    @property
    def taps(self) -> int:
        return math.prod(axis.taps for axis in self.axes)

    @property
    def adds(self) -> bool:
        return any(axis.adds for axis in self.axes)

    def weight_places(self, kernel: Triple) -> tuple[int, Triple]:
        """Flat kernel position of the first tap, and of the next tap along each axis how many further."""
        d, h, w = self.axes
        first = (d.kernel_first * kernel[1] + h.kernel_first) * kernel[2] + w.kernel_first
        return first, (d.kernel_step * kernel[1] * kernel[2], h.kernel_step * kernel[2], w.kernel_step)

    def sources(self, source: Memory) -> Sources:
        """The phase as the kernels need it."""
        stride_n, *steps = strides(*source)
        return Sources(
            **by_axis("points", (axis.points for axis in self.axes)),
            **by_axis("taps", (axis.taps for axis in self.axes)),
            **by_axis("first", (axis.first for axis in self.axes)),
            **by_axis("slope", (axis.slope for axis in self.axes)),
            **by_axis("spread", (axis.spread for axis in self.axes)),
            **by_axis("size", source.extents),
            **by_axis("mode", (MODES.index(axis.mode) for axis in self.axes)),
            stride_n=stride_n,
            **by_axis("stride", steps),
        )


def by_axis(name: str, values: Iterable[int]) -> dict[str, int]:
    """Values for (D, H, W) as the fields of a kernel's record."""
    return {f"{name}_{axis}": value for axis, value in zip("dhw", values, strict=True)}


def forward_phase(g: ConvGeometry) -> Phase:
    """The single phase of a forward convolution: source is the input, destination the output."""
    d, h, w = (
        AxisPhase(
            start=0,
            step=1,
            points=g.output[axis],
            taps=g.kernel[axis],
            first=-g.pad_low[axis],
            slope=g.stride[axis],
            spread=g.dilation[axis],
            kernel_first=0,
            kernel_step=1,
            mode=g.padding_mode[axis],
        )
        for axis in range(3)
    )
    return Phase((d, h, w))


def backward_data_phases(g: ConvGeometry) -> list[Phase]:
    """The phases of the data gradient: source is the output's gradient, destination the input's.

    Those that add to the result of others come after them; each destination is written by exactly one other.
    """
    d, h, w = (list(_transposed(g, axis)) for axis in range(3))
    if g.groups == 1:
        w = side_by_side(w)
    phases = [Phase(axes) for axes in itertools.product(d, h, w)]
    return sorted((phase for phase in phases if phase.taps or not phase.adds), key=lambda phase: phase.adds)


def side_by_side(phases: list[AxisPhase]) -> list[AxisPhase]:
    """Join phases whose destinations are neighbours and which read the same source coordinates.

    They differ in the kernel position alone, one further for each: in channels-last memory that is one phase with so
    many times the channels. Without padding, a kernel as long as a multiple of the stride has only one.
    """
    joined: list[AxisPhase] = []
    for phase in phases:
        if joined and joined[-1].copies == 1 and not joined[-1].adds:
            last = joined[-1]
            if phase == last._replace(
                start=last.start + last.width, kernel_first=last.kernel_first + last.width, width=1
            ):
                joined[-1] = last._replace(width=last.width + 1)
                continue
        joined.append(phase)
    return joined


def joined_stretches(g: ConvGeometry) -> int:
    """How many stretches of joined columns there are along W: each has its weights packed for itself."""
    return sum(phase.width > 1 for phase in side_by_side(list(_transposed(g, 2))))


class _Run(NamedTuple):
    """Input coordinates ``start + p`` that padded coordinates ``coordinate + slope * p`` stand for.

    Or, where padding repeats one input coordinate, a single such point and how many padded coordinates stand for it.
    """

    start: int
    points: int
    coordinate: int
    slope: int
    copies: int = 1


def _transposed(g: ConvGeometry, axis: int) -> Iterator[AxisPhase]:
    """The phases of one axis: an input coordinate meets all outputs that read a padded coordinate standing for it."""
    stride, low = g.stride[axis], g.pad_low[axis]
    for number, run in enumerate([_Run(0, g.input[axis], 0, 1), *_padding_runs(g, axis)]):
        for residue in range(min(stride, max(run.points, run.copies))):
            place = run.coordinate + run.slope * residue + low
            taps, kernel_first, kernel_step = _taps_that_read(place, g.kernel[axis], stride, g.dilation[axis])
            yield AxisPhase(
                start=run.start + min(residue, run.points - 1),
                step=stride,
                points=max(-(-(run.points - residue) // stride), 1),
                taps=taps,
                first=(place - g.dilation[axis] * kernel_first) // stride,
                slope=run.slope,
                spread=-g.dilation[axis] * kernel_step // stride,
                kernel_first=kernel_first,
                kernel_step=kernel_step,
                copies=max(-(-(run.copies - residue) // stride), 1),
                adds=number > 0,
            )


def _taps_that_read(place: int, kernel: int, stride: int, dilation: int) -> tuple[int, int, int]:
    """The taps t for which ``stride * output + dilation * t == place`` has a solution: how many, the first, the step.

    The last comes first, so that the outputs ascend.
    """
    common = math.gcd(stride, dilation)
    period = stride // common
    least = place // common * pow(dilation // common, -1, period) % period
    if place % common or least >= kernel:
        return 0, 0, -period
    taps = (kernel - 1 - least) // period + 1
    return taps, least + (taps - 1) * period, -period


def _padding_runs(g: ConvGeometry, axis: int) -> Iterator[_Run]:
    """The padding that is read, cut where the input coordinate that stands there jumps or turns round."""
    size, low, mode = g.input[axis], g.pad_low[axis], g.padding_mode[axis]
    last = g.stride[axis] * (g.output[axis] - 1) + g.span[axis] - 1 - low
    high = last + 1 - size
    if mode == "zeros":
        return
    if mode == "replicate" or size == 1:
        if low > 0:
            yield _Run(0, 1, -low, 1, low)
        if high > 0:
            yield _Run(size - 1, 1, size, 1, high)
        return
    # Stretch m of the padded axis begins m periods after the input does; every other one is reversed if mirrored.
    period = size if mode == "circular" else size - 1
    for m in range(-1, -low // period - 1, -1):
        yield _stretch(m, period, max(m * period, -low), (m + 1) * period, mode)
    for m in range(1, -(-high // period) + 1):
        begin = size + (m - 1) * period
        yield _stretch(m, period, begin, min(begin + period, size + high), mode)


def _stretch(m: int, period: int, begin: int, end: int, mode: str) -> _Run:
    if mode == "reflect" and m % 2:
        return _Run((m + 1) * period - (end - 1), end - begin, end - 1, -1)
    return _Run(begin - m * period, end - begin, begin, 1)


def range_inside(g: ConvGeometry, axis: int, first: int, last: int) -> tuple[int, int]:
    """Where the positions along an axis begin and end that `positions_inside` counts."""
    if g.padding_mode[axis] != "zeros":
        return 0, g.output[axis]
    low, high = g.pad_low[axis] - last * g.dilation[axis], g.pad_low[axis] - first * g.dilation[axis] + g.input[axis]
    begin, end = (min(max(-(-at // g.stride[axis]), 0), g.output[axis]) for at in (low, high))
    return begin, max(begin, end)


def positions_inside(g: ConvGeometry, axis: int, first: int, last: int) -> int:
    """Positions along an axis for which any tap from `first` to `last` reads more than padding by zeros."""
    begin, end = range_inside(g, axis, first, last)
    return end - begin


def taps_inside(g: ConvGeometry, axis: int) -> int:
    """How many taps of all positions along an axis read more than padding by zeros."""
    return sum(positions_inside(g, axis, tap, tap) for tap in range(g.kernel[axis]))


def taps_met(g: ConvGeometry, direction: str, axis: int, tile: int) -> tuple[int, int]:
    """How many taps of all destination positions along an axis tiles of `tile` positions meet, and how many there are.

    A tile leaves out a tap that reads padding for all of its positions. Under a stride, a data gradient's positions
    read a share of the taps each: what is counted is those of a phase.
    """
    taps, stride = g.kernel[axis], g.stride[axis]
    positions = g.output[axis] if direction == "forward" else -(-g.input[axis] // stride)
    if g.padding_mode[axis] != "zeros":
        return taps * positions, taps * positions
    met = 0
    for tap in range(taps):
        begin, end = range_inside(g, axis, tap, tap)
        before = begin if direction == "forward" else begin + (tap * g.dilation[axis] - g.pad_low[axis]) // stride
        after = positions - before - (end - begin)
        met += positions - before // tile * tile - after // tile * tile if end > begin else 0
    return met, taps * positions
