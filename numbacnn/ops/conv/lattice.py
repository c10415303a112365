"""Which source rows each destination row sums over: tables per axis for forward and backward-data.

A direction of a convolution is described axis by axis. An `AxisPhase` is a set of destination coordinates ``start,
start + step, ...`` together with a table: ``source[point, tap]`` is the source coordinate that a tap reads for a point,
-1 for none. Forward has one phase per axis. The data gradient of a strided convolution has one per residue of the
stride, each with the taps that can hit it, so no product with a zero between strides is ever formed.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..padding import source_index

if TYPE_CHECKING:
    from ..geometry import ConvGeometry


class AxisPhase(NamedTuple):
    """Destination coordinates ``start + step * point`` and what each tap reads for them."""

    start: int
    step: int
    source: np.ndarray  # (points, taps) int64, -1: nothing
    kernel_taps: np.ndarray  # (taps,) which kernel position each tap's weights come from


class Phase(NamedTuple):
    """One phase of each axis (D, H, W)."""

    axes: tuple[AxisPhase, AxisPhase, AxisPhase]

    @property
    def points(self) -> tuple[int, int, int]:
        d, h, w = (len(axis.source) for axis in self.axes)
        return d, h, w

    def weight_taps(self, kernel: tuple[int, int, int]) -> np.ndarray:
        """Flat kernel position of every tap, in the order (D, H, W)."""
        d, h, w = (axis.kernel_taps for axis in self.axes)
        return ((d[:, None, None] * kernel[1] + h[:, None]) * kernel[2] + w).ravel()


def forward_phase(geometry: ConvGeometry) -> Phase:
    """The single phase of a forward convolution: source is the input, destination the output."""
    d, h, w = (AxisPhase(0, 1, _axis_source(geometry, axis), np.arange(geometry.kernel[axis])) for axis in range(3))
    return Phase((d, h, w))


def backward_data_phases(geometry: ConvGeometry) -> list[Phase]:
    """The phases of the data gradient: source is the output's gradient, destination the input's."""
    axes = [_transpose(_axis_source(geometry, axis), geometry.input[axis], geometry.stride[axis]) for axis in range(3)]
    return [Phase((d, h, w)) for d, h, w in itertools.product(*axes)]


def _axis_source(g: ConvGeometry, axis: int) -> np.ndarray:
    return source_index(
        g.input[axis],
        g.output[axis],
        g.kernel[axis],
        g.stride[axis],
        g.dilation[axis],
        g.pad_low[axis],
        g.padding_mode[axis],
    )


def _transpose(source: np.ndarray, input_size: int, stride: int) -> list[AxisPhase]:
    """Invert an axis's table: for every input coordinate the (tap, output) pairs that read it.

    With zero padding an input coordinate meets each tap at most once. Mirrored, clamped or wrapped padding lets one
    tap read it for several outputs: such a tap is listed as often as needed, with -1 where it does not apply.
    """
    output, tap = np.nonzero(source >= 0)
    target = source[output, tap]
    order = np.lexsort((output, tap, target))
    target, tap, output = target[order], tap[order], output[order]
    # Number of earlier pairs with the same coordinate and tap.
    same = np.zeros(len(target), dtype=np.int64)
    if len(target) > 1:
        starts = np.flatnonzero(np.r_[True, (target[1:] != target[:-1]) | (tap[1:] != tap[:-1])])
        lengths = np.diff(np.r_[starts, len(target)])
        same = np.arange(len(target)) - np.repeat(starts, lengths)
    phases = []
    for start in range(min(stride, input_size)):
        mine = target % stride == start
        # The last tap first: so the outputs that an input meets lie in ascending order.
        columns, column = np.unique(np.stack([-tap[mine], same[mine]], axis=1), axis=0, return_inverse=True)
        table = np.full((-(-(input_size - start) // stride), len(columns)), -1, dtype=np.int64)
        table[target[mine] // stride, column.ravel()] = output[mine]
        phases.append(AxisPhase(start, stride, table, -columns[:, 0] if len(columns) else np.empty(0, np.int64)))
    return phases


def source_offsets(axis: AxisPhase, stride: int) -> np.ndarray:
    """The table as element offsets into a source whose coordinates are `stride` elements apart; -1 stays."""
    return np.where(axis.source >= 0, axis.source * stride, -1)
