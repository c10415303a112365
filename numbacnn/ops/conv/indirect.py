"""The general algorithm: indirect GEMM, for every geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import gemm, weight_gradient

if TYPE_CHECKING:
    import numpy as np

    from ..geometry import ConvGeometry

name = "indirect"


def accepts(direction: str, geometry: ConvGeometry) -> str | None:
    return None


def forward(g: ConvGeometry, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray) -> None:
    gemm.run(gemm.plan_forward(g, x.dtype.itemsize), x, weight, bias, out)


def backward_data(
    g: ConvGeometry, grad_output: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray
) -> None:
    gemm.run(gemm.plan_backward_data(g, out.dtype.itemsize), grad_output, weight, bias, out)


def backward_weight(g: ConvGeometry, grad_output: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    weight_gradient.run(weight_gradient.plan(g, x.dtype.itemsize), grad_output, x, out)
