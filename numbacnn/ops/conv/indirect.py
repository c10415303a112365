"""The general algorithm: indirect GEMM, for every geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import gemm_launch, weight_gradient
from .finish import NOTHING, Finish

if TYPE_CHECKING:
    from ...kernels._operands import Operand
    from ...kernels._program import Step
    from ..geometry import ConvGeometry

name = "indirect"
finishes = ("activation", "residual")


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None: it takes every problem."""
    return None


def forward(
    g: ConvGeometry,
    x: Operand,
    weight: Operand,
    bias: Operand | None,
    out: Operand,
    follows: Finish = NOTHING,
) -> list[Step]:
    """Fill `out` (N, D, H, W, C_out) from `x` (N, D, H, W, C_in)."""
    return gemm_launch.run(gemm_launch.prepare("forward", g, x.dtype), x, weight, bias, out, follows)


def backward_data(
    g: ConvGeometry, grad_output: Operand, weight: Operand, bias: Operand | None, out: Operand
) -> list[Step]:
    """Fill `out`, the gradient of the input, from `grad_output`."""
    return gemm_launch.run(gemm_launch.prepare("backward_data", g, out.dtype), grad_output, weight, bias, out)


def backward_weight(g: ConvGeometry, grad_output: Operand, x: Operand, out: Operand) -> list[Step]:
    """Fill `out`, the (C_out, C_in / groups, taps) gradient of the weight."""
    return weight_gradient.run(weight_gradient.prepare(g, x.dtype), grad_output, x, out)
