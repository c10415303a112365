"""Operations on NumPy arrays: they validate, allocate and launch kernels; no gradients are recorded.

Image-like arrays are (N, C, *spatial) with one to three spatial axes. Results have channels-last memory, which every
operation here takes without conversion; an array in any other layout is converted once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import _lazy

if TYPE_CHECKING:
    from .conv import conv_backward_bias, conv_backward_data, conv_backward_weight, conv_forward, explain

__getattr__, __dir__ = _lazy.attach(
    __name__,
    {"conv": ["conv_backward_bias", "conv_backward_data", "conv_backward_weight", "conv_forward", "explain"]},
    [
        "activation",
        "adaptive_pool",
        "arithmetic",
        "joining",
        "linear",
        "loss",
        "matmul",
        "memory",
        "norm",
        "pool",
        "unpool",
    ],
)

__all__ = ["conv_backward_bias", "conv_backward_data", "conv_backward_weight", "conv_forward", "explain"]
