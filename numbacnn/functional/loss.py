"""Losses with their gradients; names and argument order are PyTorch's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..autograd import Tensor, apply, as_tensor, is_grad_enabled
from ..errors import OptionError
from ..ops import loss as ops
from ..ops.reduce import sum_of_squares

__all__ = ["cross_entropy", "l1_loss", "l2_penalty", "mse_loss", "smooth_l1_loss"]


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    from_probabilities: bool = False,
) -> Tensor:
    r"""Cross-entropy between the target and the softmax of `input` over axis 1.

    .. math:: L = -\sum_c w_c\, q_c \log \mathrm{softmax}(x)_c

    Parameters
    ----------
    input : Tensor or ndarray, shape (N, C) or (N, C, *spatial)
        Logits, float32 or float64; or probabilities, with `from_probabilities`.
    target : ndarray
        Class indices, of shape (N, *spatial) and any integer dtype; or the shares q of the classes (one-hot or soft),
        of the shape of `input`.
    weight : ndarray, shape (C,), optional
        What each class counts.
    ignore_index : int, default -100
        A class index whose positions count nothing.
    reduction : {"mean", "sum", "none"}, default "mean"
        For class indices the mean divides by the sum of the weights of the targets that are not ignored (without
        weights, by their number); for shares by the number of positions.
    label_smoothing : float, default 0.0
        Share of the target, from 0 to 1, that is spread evenly over the classes.
    from_probabilities : bool, default False
        `input` holds probabilities rather than logits. They are clipped to [1e-7, 1 - 1e-7], where the gradient is 0.

    Returns
    -------
    Tensor
        Of shape () or, for "none", (N, *spatial).

    Raises
    ------
    ShapeError
        The shapes do not fit.
    OptionError
        A class index is out of range; the message names it and where it is. An option is out of range.
    DTypeError
        The input is not float32 or float64, or the target is neither integers nor of the input's dtype.

    Examples
    --------
    >>> round(cross_entropy(np.log([[0.5, 0.25, 0.25]]), np.array([0])).item(), 6)
    0.693147
    """
    x = as_tensor(input)
    compute = functools.partial(
        ops.cross_entropy,
        x.data,
        _array(target),
        None if weight is None else _array(weight),
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        from_probabilities=from_probabilities,
    )
    value, gradient = _value_and_gradient(compute, x.requires_grad)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        return (gradient(grad if reduction != "none" else np.expand_dims(grad, 1)),)

    return apply("cross_entropy", (x,), value, backward)


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """``(input - target)**2``: the mean over all elements, the sum, or each.

    Parameters
    ----------
    input, target : Tensor or ndarray
        Of one shape and dtype; both may require gradients.
    reduction : {"mean", "sum", "none"}, default "mean"

    Returns
    -------
    Tensor
        Of shape () or, for "none", that of `input`.

    Raises
    ------
    ShapeError
        The shapes differ.

    Examples
    --------
    >>> mse_loss(np.array([1.0, 3.0]), np.zeros(2)).item()
    5.0
    """
    return _difference_loss("mse_loss", ops.squared_error, {}, input, target, reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """``|input - target|``: the mean over all elements, the sum, or each. The gradient is 0 where they are equal.

    Parameters
    ----------
    input, target : Tensor or ndarray
        Of one shape and dtype; both may require gradients.
    reduction : {"mean", "sum", "none"}, default "mean"

    Returns
    -------
    Tensor
        Of shape () or, for "none", that of `input`.

    Raises
    ------
    ShapeError
        The shapes differ.

    Examples
    --------
    >>> l1_loss(np.array([1.0, -3.0]), np.zeros(2)).item()
    2.0
    """
    return _difference_loss("l1_loss", ops.absolute_error, {}, input, target, reduction)


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """``d**2 / (2 * beta)`` for ``d = |input - target|`` below `beta`, ``d - beta / 2`` above.

    Parameters
    ----------
    input, target : Tensor or ndarray
        Of one shape and dtype; both may require gradients.
    reduction : {"mean", "sum", "none"}, default "mean"
    beta : float, default 1.0
        Where quadratic becomes linear; 0 gives `l1_loss`.

    Returns
    -------
    Tensor
        Of shape () or, for "none", that of `input`.

    Raises
    ------
    ShapeError
        The shapes differ.
    OptionError
        `beta` is negative.

    Examples
    --------
    >>> smooth_l1_loss(np.array([0.5, 3.0]), np.zeros(2), reduction="sum").item()
    2.625
    """
    return _difference_loss("smooth_l1_loss", ops.absolute_error, {"beta": beta}, input, target, reduction)


def l2_penalty(parameters: Any, strength: float) -> Tensor:
    r"""``strength`` times the sum of the squares of all parameters, to be added to a loss.

    .. math:: \lambda \lVert\theta\rVert_2^2 \quad\text{with gradient}\quad 2 \lambda \theta

    An optimiser's ``weight_decay`` of the same size has half that gradient.

    Parameters
    ----------
    parameters : Tensor or iterable of Tensor
        float32 or float64, all of one dtype.
    strength : float
        The factor, not negative.

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    OptionError
        `strength` is negative, or there are no parameters.

    Examples
    --------
    >>> import numbacnn as nc
    >>> theta = nc.Tensor(np.array([3.0, 4.0]), requires_grad=True)
    >>> penalty = l2_penalty([theta], 0.1)
    >>> penalty.item()
    2.5
    >>> penalty.backward()
    >>> theta.grad
    array([0.6, 0.8])
    """
    if not strength >= 0:
        raise OptionError(f"strength must not be negative, got {strength}")
    single = isinstance(parameters, (Tensor, np.ndarray)) or not isinstance(parameters, Iterable)
    tensors = tuple(as_tensor(p) for p in ([parameters] if single else parameters))
    if not tensors:
        raise OptionError("l2_penalty needs at least one parameter")
    value = strength * sum(sum_of_squares(t.data) for t in tensors)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        factor = 2 * strength * float(grad)
        return tuple(t.data * t.dtype.type(factor) if need else None for t, need in zip(tensors, needs, strict=True))

    return apply("l2_penalty", tensors, np.asarray(value, tensors[0].dtype), backward)


def _difference_loss(
    name: str, function: Any, options: dict[str, float], input: Any, target: Any, reduction: str
) -> Tensor:
    x, y = as_tensor(input), as_tensor(target)
    compute = functools.partial(function, x.data, y.data, reduction=reduction, **options)
    value, gradient = _value_and_gradient(compute, x.requires_grad or y.requires_grad)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        grad_input = gradient(grad)
        return grad_input if needs[0] else None, -grad_input if needs[1] else None

    return apply(name, (x, y), value, backward)


def _value_and_gradient(compute: Any, needed: bool) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """The loss, and the function from its gradient to that of the input.

    The gradient comes out of the forward pass. It is given away at the first call, for the tape owns what a closure
    returns; a second walk through the graph computes it again.
    """
    value, first = compute(with_grad=needed and is_grad_enabled())
    ready = [first]

    def gradient(grad_output: np.ndarray) -> np.ndarray:
        result = ready.pop() if ready else compute(with_grad=True)[1]
        if grad_output.size != 1 or grad_output.item() != 1:
            result *= grad_output
        return result

    return value, gradient


def _array(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value
