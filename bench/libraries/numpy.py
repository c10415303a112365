"""Plain NumPy, as textbooks write it: gather the patches, multiply matrices. A yardstick that is always installed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..cases import Case, ConvCase, MatmulCase
from . import Call, Unsupported


def connect(threads: int) -> NumPy:
    return NumPy()


class NumPy:
    """Forward and backward-weight convolutions by im2col and BLAS; matrix products by BLAS."""

    version = np.__version__

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        return array

    def release(self) -> None:
        """Nothing to do: NumPy caches only small arrays."""

    def pool_counts(self) -> None:
        """No pool."""

    def prepare(self, case: Case, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        if isinstance(case, MatmulCase):
            return {"contiguous": lambda: arrays["a"] @ arrays["b"]}
        if not isinstance(case, ConvCase) or direction not in ("forward", "backward_weight"):
            raise Unsupported(f"no {direction} of {type(case).__name__}")
        x, weight, grad = arrays["x"], arrays["weight"], arrays["grad_output"]
        call = {
            "forward": lambda: _forward(case, x, weight),
            "backward_weight": lambda: _backward_weight(case, x, grad),
        }[direction]
        return {"contiguous": call}


def _forward(case: ConvCase, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    filters = weight.reshape(case.groups, -1, weight[0].size)
    return (filters @ _patches(case, x)).reshape(case.output_shape)


def _backward_weight(case: ConvCase, x: np.ndarray, grad: np.ndarray) -> np.ndarray:
    grads = grad.reshape(case.batch, case.groups, case.out_channels // case.groups, -1)
    return (grads @ _patches(case, x).swapaxes(-1, -2)).sum(0).reshape(case.weight_shape)


def _patches(case: ConvCase, x: np.ndarray) -> np.ndarray:
    """im2col: (N, groups, C_in / groups × taps, positions)."""
    rank = len(case.spatial)
    axes = tuple(range(2, 2 + rank))
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in case.padding)])
    reach = tuple(d * (k - 1) + 1 for k, d in zip(case.kernel, case.dilation, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axes)
    strides = tuple(slice(None, None, s) for s in case.stride)
    taps = tuple(slice(None, None, d) for d in case.dilation)
    windows = windows[(slice(None), slice(None), *strides, *taps)]
    windows = windows.transpose(0, 1, *(a + rank for a in axes), *axes)
    return windows.reshape(case.batch, case.groups, case.weight_shape[1] * np.prod(case.kernel), -1)
