"""What a direction of Winograd convolution reads and writes, and how it cuts taps that are not those of a tile.

Where a kernel has more taps than a tile, or a stride, its taps along H and W are cut into *stretches* of two to five,
each of which is a tap along D: what it reads is a plane of the source, the same memory from another coordinate on.
Under a stride a stretch has every so many taps. Forward, as many stretches as the stride is long read what lies between
the coordinates that one of them reads; the data gradient has as many images of outputs instead, which read the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .lattice import strides
from .winograd_tiles import best_tile, share_for_eight, tiles_along

if TYPE_CHECKING:
    from ..geometry import ConvGeometry, Triple

T = TypeVar("T")

# Taps of a stretch, which has six or eight points.
STRETCHES = (5, 4, 3, 2)


class Axis(NamedTuple):
    """The taps along an axis, and where its outputs lie."""

    taps: int  # of the whole kernel
    reach: int  # coordinates of the source that the outputs read
    size: int  # coordinates of the destination
    stretches: int = 1
    phases: int = 1  # stretches that begin one tap after the other
    apart: int = 1  # taps from one of a stretch to the next
    # Outputs of a tile lie so many coordinates apart; where the first one lies that has the first weights.
    step: int = 1
    first: int = 0


class Side(NamedTuple):
    """Which way a direction runs: what is read and written, and the weights' order."""

    batch: int
    source: Triple
    source_strides: tuple[int, int, int, int]
    source_channels: int
    out: Triple  # what tiles cover
    out_channels: int
    run: int  # source channels of one group
    lanes: int  # destination channels of one group
    kernel: Triple
    stride: Triple
    dilation: Triple
    pad: Triple
    weight_run: int
    weight_lane: int
    backwards: bool
    small: tuple[bool, bool, bool]  # axes along which images are three points between zeros, under their dilation
    axes: tuple[Axis, Axis, Axis]
    stretched: bool = False

    @property
    def outputs(self) -> int:
        """How many images of outputs there are, each with weights of its own, which read the same."""
        return math.prod(axis.step for axis in self.axes)

    @property
    def one_axis(self) -> bool:
        """Whether taps of one axis alone, H or W, are transformed."""
        return 1 in self.kernel[1:]


def side_of(g: ConvGeometry, direction: str) -> Side:
    """What a direction reads and writes; the weight gradient runs over the tiles of the forward direction."""
    back = direction == "backward_data"
    source, out = (g.input, g.in_channels, g.in_per_group), (g.output, g.out_channels, g.out_per_group)
    if back:
        source, out = out, source
    pads = [span - 1 - pad if back else pad for span, pad in zip(g.span, g.pad_low, strict=True)]
    reaches = [(n - 1) * s + span for n, s, span in zip(out[0], g.stride, g.span, strict=True)]
    axes = [Axis(taps, reach, size) for taps, reach, size in zip(g.kernel, reaches, out[0], strict=True)]
    weight = (g.taps, g.in_per_group * g.taps)
    side = Side(
        batch=g.batch,
        source=source[0],
        source_strides=strides(*source[:2]),
        source_channels=source[1],
        out=out[0],
        out_channels=out[1],
        run=source[2],
        lanes=out[2],
        kernel=g.kernel,
        stride=g.stride,
        dilation=g.dilation,
        pad=(pads[0], pads[1], pads[2]),
        weight_run=weight[back],
        weight_lane=weight[not back],
        backwards=back,
        small=(False, _is_small(g, source[0], out[0], pads, 1), _is_small(g, source[0], out[0], pads, 2)),
        axes=(axes[0], axes[1], axes[2]),
    )
    if not is_stretched(g):
        return side
    for axis in (1, 2):
        if back and g.stride[axis] > 1:
            side = _spread_outputs(side, g, axis)
        side = _stretch(side, axis)
    return _over_planes(side)


def _is_small(g: ConvGeometry, source: Triple, out: Triple, pads: list[int], axis: int) -> bool:
    """Whether three taps meet at most three inputs and outputs, which lie opposite to each other."""
    most = 3 * g.dilation[axis]
    plain = g.kernel[axis] == 3 and g.stride[axis] == 1 and g.padding_mode[axis] == "zeros"
    return plain and pads[axis] == g.dilation[axis] and source[axis] <= most and out[axis] <= most


def is_stretched(g: ConvGeometry) -> bool:
    """Whether taps along H and W are cut into stretches."""
    axes = [axis for axis in range(3) if g.kernel[axis] > 1 or g.stride[axis] > 1]
    if not axes or axes[0] == 0:
        return False
    return any(g.stride[axis] > 1 or g.kernel[axis] not in (3, 4, 5) for axis in axes)


def _spread_outputs(side: Side, g: ConvGeometry, axis: int) -> Side:
    """The data gradient under a stride along `axis`: as many images of outputs.

    Through tap ``taps - 1 - k`` an output ``i = stride * q + before - k % stride`` reads coordinate ``q + k // stride``
    of the source, where `before` is ``taps - 1`` less the padding. So all ``k % stride`` read the same for the same
    `q`, and taps that do not exist are the last. The first `q` and the last coordinate are those of existing outputs.
    """
    taps, stride, size = g.kernel[axis], g.stride[axis], g.input[axis]
    before = taps - 1 - g.pad_low[axis]
    least, most = -(before // stride), -((before - size + 1) // stride)
    last = (size - 1 + g.pad_low[axis]) // stride
    spread = Axis(taps, reach=last - least + 1, size=size, apart=stride, step=stride, first=stride * least + before)
    return side._replace(
        out=_with(side.out, axis, most - least + 1),
        stride=_with(side.stride, axis, 1),
        pad=_with(side.pad, axis, -least),
        axes=_with(side.axes, axis, spread),
    )


def _stretch(side: Side, axis: int) -> Side:
    """Cut the taps along `axis` into stretches whose tiles take the fewest multiplications."""
    a, phases = side.axes[axis], side.stride[axis]
    if a.taps == 1:
        return side
    taps = -(-a.taps // a.step)  # of an image of outputs

    def work(stretch: int) -> int:
        share = share_for_eight(side, stretch)
        points, outputs = best_tile(stretch, [(6, 7 - stretch)], side.out[axis], side.dilation[axis], share)
        return stretches_of(taps, phases, stretch) * points * tiles_along(side.out[axis], outputs, side.dilation[axis])

    stretch = min(STRETCHES, key=work)
    cut = a._replace(stretches=stretches_of(taps, phases, stretch), phases=phases, apart=max(phases, a.apart))
    return side._replace(kernel=_with(side.kernel, axis, stretch), axes=_with(side.axes, axis, cut))


def stretches_of(taps: int, stride: int, stretch: int) -> int:
    """Stretches of at most `stretch` taps that are `stride` apart.

    Examples
    --------
    >>> stretches_of(7, 1, 4), stretches_of(17, 4, 4)
    (2, 5)
    """
    return sum(-(-len(range(phase, taps, stride)) // stretch) for phase in range(stride))


def _over_planes(side: Side) -> Side:
    """Make the stretches taps along D, and what they read planes."""
    planes = math.prod(axis.stretches for axis in side.axes)
    source_n, _, source_h, source_w = side.source_strides
    return side._replace(
        batch=side.batch * side.out[0],
        source=_with(side.source, 0, planes),
        source_strides=(source_n // side.source[0], 0, source_h, source_w),
        out=_with(side.out, 0, 1),
        kernel=_with(side.kernel, 0, planes),
        stretched=True,
    )


def _with(values: tuple[T, T, T], axis: int, value: T) -> tuple[T, T, T]:
    """A triple with another value for one axis."""
    first, second, third = (value if i == axis else values[i] for i in range(3))
    return first, second, third
