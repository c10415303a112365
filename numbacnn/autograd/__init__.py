"""Automatic differentiation: tensors, the tape that records what is computed from them, and a check of gradients.

Nothing here knows any operation; those are in `numbacnn.functional`.
"""

from .gradcheck import gradcheck
from .recording import apply
from .tape import enable_grad, is_grad_enabled, no_grad
from .tensor import Parameter, Tensor, as_tensor, tensor

__all__ = [
    "Parameter",
    "Tensor",
    "apply",
    "as_tensor",
    "enable_grad",
    "gradcheck",
    "is_grad_enabled",
    "no_grad",
    "tensor",
]
