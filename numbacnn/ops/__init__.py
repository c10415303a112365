"""Operations on NumPy arrays: they validate, allocate and launch kernels; no gradients are recorded.

Image-like arrays are (N, C, *spatial) with one to three spatial axes. Results have channels-last memory, which every
operation here takes without conversion; an array in any other layout is converted once.
"""

from __future__ import annotations

from .conv import conv_backward_bias, conv_backward_data, conv_backward_weight, conv_forward, explain

__all__ = ["conv_backward_bias", "conv_backward_data", "conv_backward_weight", "conv_forward", "explain"]
