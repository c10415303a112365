"""Patches that hardly overlap, as a transformer cuts images: copied to the rows of a matrix, which one tap multiplies.

A row holds what a position reads, in the order of the weights, so that all there is about products of one tap serves.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from ...kernels._operands import Operand
from ...kernels.arithmetic import add_scaled
from ...kernels.patch_rows import gather_patches
from ...kernels.tile import tile_lanes
from .._dense import STEP
from . import blocking, pointwise
from .finish import NOTHING, Finish
from .lattice import Memory, forward_phase

if TYPE_CHECKING:
    import numpy as np

    from ...kernels._build import Prepared
    from ...kernels._program import Step
    from ..geometry import ConvGeometry

name = "patches"
finishes = pointwise.finishes

# More are read where they lie.
MAX_CHANNELS = 16
# Copies of patches at a time, and what a block copies: enough to be handed out, and enough blocks for many cores.
PORTION_BYTES, BLOCK_BYTES = 3 << 20, 32 * 1024
# If all of them take no more than this, they are copied at once; otherwise what portions give is another gradient of
# the weight, which is added, and of at most so many bytes. With all else, a call stays below 16 MB of extra memory.
WHOLE_BYTES, GRADIENT_BYTES = 7 << 20, 12 << 20
# Elements in more patches than this are better copied once, to where all patches find them.
MANY_TIMES = {"forward": 2, "backward_weight": 3}
# Products of an output position with a line of the kernel that are worth a copy of what the line reads; and weights
# that are too many to pass from the last cache for every few positions, as they do in `row_runs`.
MANY_PRODUCTS, WEIGHT_BYTES = 8000, 400 * 1024
# Elements of a patch that, as rows of the weights' gradient, are worth the copies; and panels of elements that are so
# whatever overlaps, if there are no more positions than output channels: the gradient itself is larger then. (Random
# problems: 1.2 times as fast, up to 2.)
MANY_ELEMENTS, MANY_PANELS = 64, 8
# Copying an element, on one core: decides only whether a launch is worth a second core.
NS_PER_ELEMENT = 0.4


class Portion(NamedTuple):
    """Some positions: their numbers, the copying of their patches, and the products as those of a single tap."""

    first: int
    last: int
    gather: Prepared
    geometry: ConvGeometry


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g = geometry
    if direction == "backward_data":
        return "it is not for data gradients"
    if g.groups != 1:
        return f"groups is {g.groups}, not 1"
    if g.in_channels > MAX_CHANNELS:
        return f"{g.in_channels} input channels are more than {MAX_CHANNELS}"
    if g.in_channels * g.taps * 8 > PORTION_BYTES:
        return "a patch takes too much memory"
    return None


def declines(direction: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    """Why this algorithm, though it takes the problem, is not worth while."""
    g = geometry
    few = direction == "backward_weight" and _copies_little(g, itemsize)
    if g.taps > MANY_TIMES[direction] * math.prod(g.stride) and not few:
        return f"patches overlap: elements are read more than {MANY_TIMES[direction]} times"
    products = g.in_channels * g.kernel[2] * g.out_channels
    if products < MANY_PRODUCTS and not few:
        return f"{products} products per position and line are too few for a copy"
    if direction == "backward_weight" and g.in_channels * g.taps < MANY_ELEMENTS:
        return f"patches of {g.in_channels * g.taps} elements are too few rows of the gradient"
    weight_bytes = g.in_channels * g.taps * g.out_channels * itemsize
    if direction == "forward" and weight_bytes < WEIGHT_BYTES:
        return f"{weight_bytes} bytes of weights stay in the caches"
    copied_bytes = g.batch * math.prod(g.output) * g.in_channels * g.taps * itemsize
    if direction == "backward_weight" and copied_bytes > WHOLE_BYTES and weight_bytes > GRADIENT_BYTES:
        return "another gradient of the weight takes too much memory"
    return None


def _copies_little(g: ConvGeometry, itemsize: int) -> bool:
    """Whether the copies of a weight gradient are small beside the gradient, which is many panels."""
    positions = g.batch * math.prod(g.output)
    return positions <= g.out_channels and g.in_channels * g.taps >= MANY_PANELS * tile_lanes(itemsize)


def forward(
    g: ConvGeometry,
    x: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
    follows: Finish = NOTHING,
) -> list[Step]:
    """Fill `out` (N, OD, OH, OW, C_out) from `x` (N, D, H, W, C_in)."""
    steps: list[Step] = []
    out, residual = _rows(out), None if follows.residual is None else _rows(follows.residual)
    for portion in _portions(g, x.dtype):
        part = slice(portion.first, portion.last)
        finish = Finish(residual and residual[part], follows.activation)
        rows = _copied(portion, x, steps)
        steps += pointwise.forward(portion.geometry, rows, weight, bias, out[part], finish)
    return steps


def backward_weight(g: ConvGeometry, grad_output: Operand, x: Operand, out: Operand) -> list[Step]:
    """Fill `out`, the contiguous (C_out, C_in, *kernel) weight, from two channels-last memories.

    What each portion of positions gives is added to what those before have left.
    """
    steps: list[Step] = []
    for portion in _portions(g, x.dtype):
        rows = _copied(portion, x, steps)
        grad = _rows(grad_output)[portion.first : portion.last]
        part = out if portion.first == 0 else Operand(out.shape, x.dtype)
        steps += pointwise.backward_weight(portion.geometry, grad, rows, part)
        if portion.first > 0:
            steps.append(_add(out.size, x.dtype).on(out, part, out))
    return steps


@functools.lru_cache(maxsize=64)
def _add(size: int, dtype: np.dtype[Any]) -> Prepared:
    """A sum of two arrays."""
    return add_scaled.prepare((dtype,), -(-size // STEP), 1.0, size, STEP, 0, cost=NS_PER_ELEMENT * size)


def _rows(image: Operand) -> Operand:
    """The channels of every position as a row."""
    return image.reshape(math.prod(image.shape[:-1]), image.shape[-1])


def _copied(portion: Portion, x: Operand, steps: list[Step]) -> Operand:
    """The patches of a portion, and the step that copies them."""
    rows = Operand((portion.last - portion.first, portion.geometry.in_channels), x.dtype)
    steps.append(portion.gather.on(x, rows, portion.first, portion.last))
    return rows


@functools.lru_cache(maxsize=256)
def _portions(g: ConvGeometry, dtype: np.dtype[Any]) -> tuple[Portion, ...]:
    count = g.in_channels * g.taps
    positions = g.batch * math.prod(g.output)
    row_bytes = count * dtype.itemsize
    size = blocking.split_evenly(positions, PORTION_BYTES // row_bytes)
    if positions * row_bytes <= WHOLE_BYTES:
        size = positions
    block = max(1, BLOCK_BYTES // row_bytes)
    sources = forward_phase(g).sources(Memory(g.input, g.in_channels))
    one = 1, 1, 1
    none = 0, 0, 0
    product = g._replace(
        in_channels=count, input=one, kernel=one, output=one, stride=one, dilation=one, pad_low=none, pad_high=none
    )
    portions = []
    for first in range(0, max(positions, 1), max(size, 1)):
        rows = min(size, positions - first)
        cost = NS_PER_ELEMENT * rows * count
        gather = gather_patches.prepare((dtype,), -(-rows // block), g.in_channels, block, sources, cost=cost)
        zeros = "zeros", "zeros", "zeros"
        portions.append(Portion(first, first + rows, gather, product._replace(batch=rows, padding_mode=zeros)))
    return tuple(portions)
