"""What an algorithm runs for one problem, as a program: planned once, with only the arrays' addresses left open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...kernels._operands import Operand
from ...kernels._program import Program
from . import plan
from .finish import NOTHING, Finish

if TYPE_CHECKING:
    from ...kernels._program import Step
    from ..geometry import ConvGeometry


def program(*problem: Any) -> Program:
    """The program of what `describe` is given."""
    return Program(*describe(*problem))


def table_bytes(steps: list[Step]) -> int:
    """How much memory the constant arrays take that a program of these steps keeps alive."""
    return sum({id(x): x.nbytes for step in steps for x in step.kept if isinstance(x, np.ndarray)}.values())


def describe(
    direction: str,
    algorithm: str,
    g: ConvGeometry,
    dtype: np.dtype[Any],
    has_bias: bool = False,
    has_residual: bool = False,
    activation: int = 0,
) -> tuple[list[Step], tuple[Operand | None, ...]]:
    """The steps of an algorithm, and the arguments of their program, which are arrays in memory.

    The image, the weight, the bias, the residual, and the result; of a weight gradient, the gradient of the result, the
    image, and the gradient of the weight.
    """
    module = plan.module(algorithm)
    image = Operand((g.batch, *g.input, g.in_channels), dtype)
    result = Operand((g.batch, *g.output, g.out_channels), dtype)
    weight = Operand((g.out_channels, g.in_per_group, *g.kernel), dtype)
    if direction == "backward_weight":
        return module.backward_weight(g, result, image, weight), (result, image, weight)
    source, out = (image, result) if direction == "forward" else (result, image)
    bias = Operand(out.shape[-1:], dtype) if has_bias else None
    residual = Operand(out.shape, dtype) if has_residual else None
    operands = source, weight, bias, residual, out
    follows = Finish(residual, activation)
    run = getattr(module, direction)
    if follows == NOTHING:
        return run(g, source, weight, bias, out), operands
    if direction == "forward" and follows.is_for(getattr(module, "finishes", ())):
        return run(g, source, weight, bias, out, follows), operands
    return [*run(g, source, weight, bias, out), follows.apply(out)], operands
