"""What an algorithm runs for one problem, as a program: planned once, with only the arrays' addresses left open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...kernels._operands import Operand
from ...kernels._program import Program
from . import plan
from .finish import NOTHING, Finish

if TYPE_CHECKING:
    import numpy as np

    from ..geometry import ConvGeometry


def program(
    direction: str,
    algorithm: str,
    g: ConvGeometry,
    dtype: np.dtype[Any],
    has_bias: bool = False,
    has_residual: bool = False,
    activation: int = 0,
) -> Program:
    """What an algorithm runs, for arrays in memory: the image, the weight, the bias, the residual, and the result.

    Of a weight gradient: the gradient of the result, the image, and the gradient of the weight.
    """
    module = plan.module(algorithm)
    image = Operand((g.batch, *g.input, g.in_channels), dtype)
    result = Operand((g.batch, *g.output, g.out_channels), dtype)
    weight = Operand((g.out_channels, g.in_per_group, *g.kernel), dtype)
    if direction == "backward_weight":
        return Program(module.backward_weight(g, result, image, weight), (result, image, weight))
    source, out = (image, result) if direction == "forward" else (result, image)
    bias = Operand(out.shape[-1:], dtype) if has_bias else None
    residual = Operand(out.shape, dtype) if has_residual else None
    operands = source, weight, bias, residual, out
    follows = Finish(residual, activation)
    run = getattr(module, direction)
    if follows == NOTHING:
        return Program(run(g, source, weight, bias, out), operands)
    if direction == "forward" and follows.is_for(getattr(module, "finishes", ())):
        return Program(run(g, source, weight, bias, out, follows), operands)
    return Program([*run(g, source, weight, bias, out), follows.apply(out)], operands)
