"""Convolution by Fourier transforms, for kernels of very many taps: their number hardly matters.

In float32 errors are about 1e-7 to 1e-6 of the largest output: those of a block's transforms grow with the logarithm
of its length and with the root of the sum of its squares. What is not finite makes all outputs of a block so, and of
the block next to it, with which it is transformed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import blocking, fft_dense, fft_depthwise, fft_plan, winograd, winograd_side

if TYPE_CHECKING:
    from ...kernels._operands import Operand
    from ...kernels._program import Step
    from ..geometry import ConvGeometry

name = "fft"
exact = False

# Below this nothing is worth estimating, and below many taps not what Winograd's algorithm takes, unless it is in
# stretches; else transforms are to be clearly cheaper, for they round more and spread what is not finite.
MIN_TAPS, MANY_TAPS, MARGIN = 12, 32, 1.2


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g = geometry
    if g.taps == 1:
        return "the kernel has a single tap"
    if direction == "backward_data" and set(g.padding_mode) != {"zeros"}:
        return f"padding_mode {g.padding_mode} adds gradients up"
    side = fft_plan.side_of(g, direction)
    if not fft_plan.fits(side):
        return f"blocks longer than a kernel of {tuple(axis.span for axis in side.axes)} take too much memory"
    return None


def declines(direction: str, geometry: ConvGeometry, itemsize: int) -> str | None:
    """None, or why another algorithm is expected to be as fast."""
    if geometry.taps < MIN_TAPS:
        return f"{geometry.taps} taps are few"
    share = winograd.share_of_general(direction, geometry, itemsize)
    if share < 1 and geometry.taps < MANY_TAPS and not winograd_side.side_of(geometry, direction).stretched:
        return f"{geometry.taps} taps are few beside Winograd's algorithm"
    judged = blocking.judged(direction, geometry)
    cut, ratio = fft_plan.cut_of(geometry, direction), 1.0
    for g in judged:
        transforms = fft_plan.cost(cut, g, direction, itemsize)
        direct = share * fft_plan.direct_cost(g, direction, itemsize)
        ratio *= (transforms / direct) ** (1 / len(judged))
    return None if ratio * MARGIN < 1 else f"transforms would take about {ratio:.2g} times as long as sums of products"


def forward(g: ConvGeometry, x: Operand, weight: Operand, bias: Operand | None, out: Operand) -> list[Step]:
    """Fill `out` (N, D, H, W, C_out) from `x` (N, D, H, W, C_in)."""
    return _module(g).run(g, "forward", x, weight, bias, out)


def backward_data(
    g: ConvGeometry, grad_output: Operand, weight: Operand, bias: Operand | None, out: Operand
) -> list[Step]:
    """Fill `out`, the gradient of the input, from `grad_output`."""
    return _module(g).run(g, "backward_data", grad_output, weight, bias, out)


def backward_weight(g: ConvGeometry, grad_output: Operand, x: Operand, out: Operand) -> list[Step]:
    """Fill `out`, the (C_out, C_in / groups, taps) gradient of the weight."""
    return _module(g).run_weight(g, grad_output, x, out)


def _module(g: ConvGeometry) -> Any:
    return fft_depthwise if fft_plan.is_depthwise(g) else fft_dense
