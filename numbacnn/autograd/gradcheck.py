"""Check a function's gradients against finite differences, along random directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DTypeError, GradientError
from .tape import no_grad
from .tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["gradcheck"]


def gradcheck(
    function: Callable[..., Tensor],
    inputs: Any,
    *,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    directions: int = 2,
    seed: int = 0,
) -> bool:
    """Whether the gradients that `backward` computes for `function` are right; an error if they are not.

    A random cotangent ``v`` makes the output a scalar, ``s(x) = sum(v * function(x))``, whose derivative along a
    random direction ``u`` is compared with the central difference ``(s(x + eps*u) - s(x - eps*u)) / (2*eps)``. That
    takes two calls per input and direction, whatever the number of elements, and misses an error only by a
    coincidence of probability zero.

    It also checks what a finite difference cannot see: that each input alone gets the same gradient as all together
    (the ``needs`` argument), that gradients do not depend on the memory layout of the cotangent, and that neither
    the inputs nor the cotangent are changed.

    Parameters
    ----------
    function : callable
        From tensors to one tensor; deterministic.
    inputs : array_like of float64, or a sequence of them
        Where to differentiate; away from kinks.
    eps : float, default 1e-6
        Half the step of the difference.
    rtol, atol : float
        Tolerance, relative to the larger of the derivative and the norm of the gradient, and relative to ``s``.
    directions : int, default 2
        Random directions per input.
    seed : int, default 0

    Returns
    -------
    bool
        True.

    Raises
    ------
    GradientError
        A gradient is wrong; the message says of which input, and by how much.
    DTypeError
        An input is not float64.

    Examples
    --------
    >>> import numbacnn as nc
    >>> nc.autograd.gradcheck(lambda x, y: x * y.exp(), [np.ones((2, 3)), np.zeros(3)])
    True
    """
    arrays = _check_inputs(inputs)
    generator = np.random.default_rng(seed)
    with no_grad():
        shape = function(*map(Tensor, arrays)).shape
    cotangent = generator.standard_normal(shape)
    gradients = _gradients(function, arrays, cotangent, tuple(range(len(arrays))))
    _check_layouts(function, arrays, cotangent, gradients)
    for position, (array, gradient) in enumerate(zip(arrays, gradients, strict=True)):
        alone = _gradients(function, arrays, cotangent, (position,))[0]
        _require_equal(alone, gradient, f"gradient of input {position} differs when no other input requires one")
        for _ in range(directions):
            direction = generator.standard_normal(array.shape)
            lower, upper = (
                _scalar(function, [*arrays[:position], array + step * direction, *arrays[position + 1 :]], cotangent)
                for step in (-eps, eps)
            )
            numeric = (upper - lower) / (2 * eps)
            analytic = float(np.vdot(gradient, direction))
            scale = max(abs(numeric), abs(analytic), float(np.linalg.norm(gradient)))
            tolerance = rtol * scale + atol * max(abs(upper), abs(lower), 1.0)
            if not abs(numeric - analytic) <= tolerance:
                raise GradientError(
                    f"gradient of input {position} (shape {array.shape}) is wrong: along a random direction backward "
                    f"gives {analytic:.9g}, finite differences give {numeric:.9g}"
                )
    return True


def _check_inputs(inputs: Any) -> list[np.ndarray]:
    sequence: Sequence[Any] = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    arrays = [item.data if isinstance(item, Tensor) else np.asarray(item) for item in sequence]
    for position, array in enumerate(arrays):
        if array.dtype != np.float64:
            raise DTypeError(f"gradcheck needs float64 inputs, input {position} is {array.dtype}")
    return arrays


def _scalar(function: Callable[..., Tensor], arrays: list[np.ndarray], cotangent: np.ndarray) -> float:
    with no_grad():
        return float(np.vdot(cotangent, function(*map(Tensor, arrays)).data))


def _gradients(
    function: Callable[..., Tensor], arrays: list[np.ndarray], cotangent: np.ndarray, wanted: tuple[int, ...]
) -> list[np.ndarray]:
    """The gradients of the wanted inputs; zero where the output does not depend on one."""
    tensors = [Tensor(array, requires_grad=position in wanted) for position, array in enumerate(arrays)]
    originals = [array.copy() for array in (*arrays, cotangent)]
    output = function(*tensors)
    if output.requires_grad:
        output.backward(cotangent)
    for array, original in zip((*arrays, cotangent), originals, strict=True):
        _require_equal(array, original, "an input or the output's gradient was changed in place")
    found = [tensors[position].grad for position in wanted]
    return [
        np.zeros_like(arrays[position]) if grad is None else grad for position, grad in zip(wanted, found, strict=True)
    ]


def _check_layouts(
    function: Callable[..., Tensor], arrays: list[np.ndarray], cotangent: np.ndarray, expected: list[np.ndarray]
) -> None:
    """The same cotangent in Fortran order and as every other element of a larger array must give the same."""
    strided = np.full((*cotangent.shape, 2), np.nan)
    strided[..., 0] = cotangent
    for layout in (np.asfortranarray(cotangent) if cotangent.ndim else cotangent, strided[..., 0]):
        found = _gradients(function, arrays, layout, tuple(range(len(arrays))))
        for position, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            message = f"gradient of input {position} depends on the memory layout of the output's gradient"
            _require_equal(ours, theirs, message)


def _require_equal(found: np.ndarray, expected: np.ndarray, message: str) -> None:
    """Equal up to rounding: another layout may add in another order."""
    finite = np.abs(expected[np.isfinite(expected)])
    if not np.allclose(found, expected, rtol=1e-9, atol=1e-9 * float(np.max(finite, initial=0.0)), equal_nan=True):
        raise GradientError(message)
