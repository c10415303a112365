"""Data gradients of few positions and many weights: one matrix product with the weights as they lie, then summed.

The general algorithm packs weights, which takes longer than a few positions' products, and under a stride its phases
read them in pieces. Here they pass through memory once. See `kernels/conv_col2im.py`.

Which of both is chosen follows from a model of their times, see `data_choice`.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...kernels import conv_col2im
from ...kernels._operands import Operand
from ...kernels._serial import SCRATCH_SLOTS
from .._matmul_plan import plan as product_plan
from . import blocking, data_choice
from .bias import zero_row
from .lattice import Memory, forward_phase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...kernels._build import Prepared
    from ...kernels._program import Step
    from ..geometry import ConvGeometry

name = "col2im"

# The most positions of a sample: with more, packed weights are used so often that little is gained (at best 1.5 times,
# mostly nothing), and products pass through the caches.
MANY_POSITIONS = 2048
# Products that are made before they are summed; and the fewest channels that are worth a product of their own.
PRODUCT_BYTES, FEW_CHANNELS = 8 << 20, 16
# Products of a position that are turned around at a time: half of L1; and into how many parts they are cut at least.
TURNED_BYTES, MANY_PARTS = 16 * 1024, 8
# Summing, on one core: decides only whether a launch is worth a second core.
NS_PER_PRODUCT = 0.6


class Part(NamedTuple):
    """The products of some samples and channels."""

    samples: slice
    channel: int
    products: int
    multiply: Prepared
    add: Prepared


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g = geometry
    if direction != "backward_data":
        return "it is for data gradients"
    if g.groups != 1:
        return f"groups is {g.groups}, not 1"
    channels = min(g.in_channels, FEW_CHANNELS)
    if math.prod(g.output) * g.taps * channels * 8 > PRODUCT_BYTES or g.taps * FEW_CHANNELS > SCRATCH_SLOTS:
        return f"the products of {channels} channels take too much memory"
    return None


def declines(direction: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    """Why this algorithm, though it takes the problem, is not worth while."""
    points = math.prod(geometry.output)
    if points > MANY_POSITIONS:
        return f"{points} positions per sample share packed weights"
    ratio = data_choice.ratio(data_choice.columns, geometry, itemsize)
    return None if ratio < 1 else f"it is expected to take {ratio:.2f} times as long as the general algorithm"


def pays(g: ConvGeometry, itemsize: int) -> bool:
    """Whether a data gradient comes here if no algorithm before takes it."""
    direction = "backward_data"
    return accepts(direction, g) is None and declines(direction, g, itemsize) is None


def backward_data(
    g: ConvGeometry, grad_output: Operand, weight: Operand, bias: Operand | None, out: Operand
) -> list[Step]:
    """Fill `out`, the gradient of the input, from `grad_output`, both channels-last memory."""
    start = zero_row(out.dtype, g.in_channels) if bias is None else bias
    steps = []
    for part in _parts(g, out.dtype):
        products = Operand((part.products,), out.dtype)
        source = grad_output[part.samples]
        steps.append(part.multiply.on(source, weight.reshape(-1)[part.channel * g.taps :], source, products))
        image = out[part.samples].reshape(-1)[part.channel :]
        steps.append(part.add.on(products, start[part.channel :], image))
    return steps


@functools.lru_cache(maxsize=256)
def _parts(g: ConvGeometry, dtype: np.dtype[Any]) -> tuple[Part, ...]:
    return tuple(_cut(g, dtype))


def _cut(g: ConvGeometry, dtype: np.dtype[Any]) -> Iterator[Part]:
    """Some samples at a time; if not even the products of one fit their place, some channels at a time."""
    points = math.prod(g.output)
    channels = min(g.in_channels, PRODUCT_BYTES // (points * g.taps * dtype.itemsize))
    channels = blocking.split_evenly(g.in_channels, channels)
    samples = blocking.split_evenly(g.batch, PRODUCT_BYTES // (points * g.taps * channels * dtype.itemsize))
    for first in range(0, g.batch, samples):
        for channel in range(0, g.in_channels, channels):
            yield _part(g, dtype, first, min(samples, g.batch - first), channel, min(channels, g.in_channels - channel))


def _part(g: ConvGeometry, dtype: np.dtype[Any], first: int, samples: int, channel: int, channels: int) -> Part:
    itemsize = dtype.itemsize
    rows, columns = samples * math.prod(g.output), channels * g.taps
    strides = g.out_channels * itemsize, itemsize, g.in_channels * g.taps * itemsize, itemsize
    product = product_plan(rows, columns, g.out_channels, dtype, 1, strides, False)
    line = blocking.LINE_BYTES // itemsize
    block = min(TURNED_BYTES // (g.taps * itemsize), -(-channels // MANY_PARTS))
    record = conv_col2im.Columns(
        positions=math.prod(g.input),
        channels=g.in_channels,
        part=channels,
        pitch=columns,
        channel_block=max(line, block // line * line),
    )
    sources = forward_phase(g).sources(Memory(g.input, g.in_channels))
    blocks = samples * -(-channels // record.channel_block)
    cost = NS_PER_PRODUCT * rows * columns
    add = conv_col2im.add_columns.prepare((dtype,), blocks, record, sources, cost=cost)
    return Part(slice(first, first + samples), channel, rows * columns, product.single, add)
