"""Putting what is computed on the tape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .tape import Node, is_recording
from .tensor import wrap

if TYPE_CHECKING:
    from .tape import Backward
    from .tensor import Tensor

__all__ = ["apply"]


def apply(name: str, inputs: tuple[Tensor, ...], value: Any, backward: Backward) -> Tensor:
    """The result of an operation as a tensor, recorded if any input requires a gradient and recording is on.

    Parameters
    ----------
    name : str
        What messages call the operation.
    inputs : tuple of Tensor
        The differentiable operands; keep options and integer arrays in the closure instead.
    value : ndarray or NumPy scalar
        The result, not copied.
    backward : callable
        ``backward(grad_output, needs)`` returns a sequence with, for each input, the gradient (an ndarray of the
        input's shape and dtype) or None for zero. ``needs`` holds a bool per input: gradients that are not needed
        may be None. It must neither change `grad_output` nor return memory that it keeps; `grad_output` may have any
        strides.

    Examples
    --------
    >>> from numbacnn.autograd import Tensor, as_tensor
    >>> def square(x):
    ...     x = as_tensor(x)
    ...     return apply("square", (x,), x.data**2, lambda grad_output, needs: (2 * x.data * grad_output,))
    >>> x = Tensor([1.0, 3.0], requires_grad=True)
    >>> square(x).sum().backward()
    >>> x.grad
    array([2., 6.], dtype=float32)
    """
    output = wrap(value if type(value) is np.ndarray else np.asarray(value))
    if is_recording.get():
        for operand in inputs:
            if operand._requires_grad:
                output._requires_grad = True
                output._node = Node(name, inputs, output._data.shape, backward)
                break
    return output
