"""Kernels of one tap at stride 1 without padding: a plain matrix product over all positions at once."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from . import indirect
from .finish import NOTHING, Finish

if TYPE_CHECKING:
    import numpy as np

    from ..geometry import ConvGeometry

name = "pointwise"
finishes = ("activation", "residual")


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    """None, or why this algorithm does not take the problem."""
    g = geometry
    if g.taps != 1:
        return f"the kernel has {g.taps} taps"
    if g.stride != (1, 1, 1):
        return f"the stride is {g.stride}"
    if any(g.pad_low) or any(g.pad_high):
        return "there is padding"
    return None


def forward(
    g: ConvGeometry,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray,
    follows: Finish = NOTHING,
) -> None:
    """Fill `out` (N, D, H, W, C_out) from `x` (N, D, H, W, C_in)."""
    indirect.forward(_one_line(g), x, weight, bias, out, follows)


def backward_data(
    g: ConvGeometry, grad_output: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray
) -> None:
    """Fill `out`, the gradient of the input, from `grad_output`."""
    indirect.backward_data(_one_line(g), grad_output, weight, bias, out)


def backward_weight(g: ConvGeometry, grad_output: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """Fill `out`, the (C_out, C_in / groups, 1) gradient of the weight."""
    indirect.backward_weight(_one_line(g), grad_output, x, out)


@functools.lru_cache(maxsize=512)
def _one_line(g: ConvGeometry) -> ConvGeometry:
    """The same products with every position a batch entry: memory is identical, and there is no lattice to walk."""
    points = g.batch * math.prod(g.output)
    return g._replace(batch=points, input=(1, 1, 1), output=(1, 1, 1))
