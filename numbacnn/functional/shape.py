"""Shape, order and selection of elements: reshape, permute, pad, indexing and their like.

Elements are ordered as in NumPy (row-major, last axis fastest) whatever the memory layout: flattening an image whose
memory is channels-last copies it. Results share memory with the input where NumPy can do so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import Tensor, apply, as_tensor
from ..errors import OptionError, ShapeError
from ..ops._check import check_choice, check_integer, is_sequence
from ..ops.padding import source_index
from .arithmetic import unbroadcast

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "broadcast_to",
    "flatten",
    "getitem",
    "pad",
    "permute",
    "reshape",
    "squeeze",
    "transpose",
    "unsqueeze",
]

_PAD_MODES = ("constant", "reflect", "replicate", "circular")


def reshape(input: Any, *shape: Any) -> Tensor:
    """The same elements, in row-major order, in another shape.

    Parameters
    ----------
    input : Tensor or array_like
    *shape : int, or one tuple of int
        One extent may be -1: it follows from the others.

    Raises
    ------
    ShapeError
        The numbers of elements differ.

    Examples
    --------
    >>> reshape([[1.0, 2.0], [3.0, 4.0]], -1)
    Tensor([1., 2., 3., 4.], dtype=float32)
    """
    x = as_tensor(input)
    target = _unpack(shape)
    try:
        value = x.data.reshape(target)
    except ValueError:
        raise ShapeError(f"reshape: {x.numel()} elements of shape {x.shape} do not fit into shape {target}") from None
    original = x.shape
    return apply("reshape", (x,), value, lambda grad, needs: (grad.reshape(original),))


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes `start_dim` to `end_dim` (included) merged into one.

    Parameters
    ----------
    input : Tensor or array_like
    start_dim : int, default 0
    end_dim : int, default -1

    Returns
    -------
    Tensor
        A view where memory allows it.

    Raises
    ------
    OptionError
        There is no such axis, or `start_dim` lies after `end_dim`.

    Examples
    --------
    >>> flatten(np.zeros((8, 16, 4, 4)), start_dim=1).shape
    (8, 256)
    """
    x = as_tensor(input)
    if not x.ndim:
        return reshape(x, 1)
    first, last = check_axis("start_dim", start_dim, x.ndim), check_axis("end_dim", end_dim, x.ndim)
    if first > last:
        raise OptionError(f"flatten: start_dim={start_dim} is after end_dim={end_dim} in a tensor of {x.ndim} axes")
    merged = int(np.prod(x.shape[first : last + 1]))  # not -1, which is ambiguous for an empty batch
    return reshape(x, *x.shape[:first], merged, *x.shape[last + 1 :])


def permute(input: Any, *axes: Any) -> Tensor:
    """The axes in another order; no copy.

    Parameters
    ----------
    input : Tensor or array_like
    *axes : int, or one tuple of int
        Axis ``axes[i]`` of the input becomes axis ``i``.

    Raises
    ------
    OptionError
        The axes are not a permutation of the input's.

    Examples
    --------
    >>> permute(np.zeros((8, 32, 32, 3)), 0, 3, 1, 2).shape
    (8, 3, 32, 32)
    """
    x = as_tensor(input)
    order = tuple(check_axis("axes", axis, x.ndim) for axis in _unpack(axes))
    if sorted(order) != list(range(x.ndim)):
        raise OptionError(f"permute: axes {_unpack(axes)} are not a permutation of the {x.ndim} axes of {x.shape}")
    inverse = tuple(np.argsort(order))
    return apply("permute", (x,), x.data.transpose(order), lambda grad, needs: (grad.transpose(inverse),))


def transpose(input: Any, axis0: int, axis1: int) -> Tensor:
    """Two axes exchanged; no copy.

    Parameters
    ----------
    input : Tensor or array_like
    axis0, axis1 : int

    Returns
    -------
    Tensor

    Raises
    ------
    OptionError
        There is no such axis.

    Examples
    --------
    >>> transpose(np.zeros((2, 3, 5)), 1, 2).shape
    (2, 5, 3)
    """
    x = as_tensor(input)
    first, second = check_axis("axis0", axis0, x.ndim), check_axis("axis1", axis1, x.ndim)
    value = x.data.swapaxes(first, second)
    return apply("transpose", (x,), value, lambda grad, needs: (grad.swapaxes(first, second),))


def squeeze(input: Any, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """Without axes of extent 1: all of them, or those given (an axis of another extent is left alone, as in PyTorch).

    Parameters
    ----------
    input : Tensor or array_like
    axis : int or tuple of int, optional

    Returns
    -------
    Tensor

    Raises
    ------
    OptionError
        There is no such axis.

    Examples
    --------
    >>> squeeze(np.zeros((1, 3, 1))).shape
    (3,)
    >>> squeeze(np.zeros((1, 3, 1)), -1).shape
    (1, 3)
    """
    x = as_tensor(input)
    given = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    dropped = {check_axis("axis", candidate, x.ndim) for candidate in given}
    return reshape(x, tuple(extent for at, extent in enumerate(x.shape) if extent != 1 or at not in dropped))


def unsqueeze(input: Any, axis: int) -> Tensor:
    """With a new axis of extent 1 at position `axis`.

    Parameters
    ----------
    input : Tensor or array_like
    axis : int
        From ``-ndim - 1`` to ``ndim``.

    Returns
    -------
    Tensor

    Raises
    ------
    OptionError
        There is no such place for an axis.

    Examples
    --------
    >>> unsqueeze([1.0, 2.0], 0).shape
    (1, 2)
    """
    x = as_tensor(input)
    at = check_axis("axis", axis, x.ndim + 1)
    return reshape(x, *x.shape[:at], 1, *x.shape[at:])


def broadcast_to(input: Any, shape: Sequence[int]) -> Tensor:
    """The input repeated to `shape` by NumPy's rules, without a copy; the values are read-only.

    Parameters
    ----------
    input : Tensor or array_like
    shape : sequence of int

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        The input does not broadcast to `shape`.

    Examples
    --------
    >>> broadcast_to([1.0, 2.0], (2, 2))
    Tensor([[1., 2.],
            [1., 2.]], dtype=float32)
    """
    x = as_tensor(input)
    try:
        value = np.broadcast_to(x.data, tuple(shape))
    except ValueError:
        raise ShapeError(f"broadcast_to: shape {x.shape} does not broadcast to {tuple(shape)}") from None
    original = x.shape
    return apply("broadcast_to", (x,), value, lambda grad, needs: (unbroadcast(grad, original),))


def getitem(input: Any, index: Any) -> Tensor:
    """``input[index]``, with NumPy's basic and advanced indexing; also by tensors of integers or bools.

    Parameters
    ----------
    input : Tensor or array_like
    index : int, slice, None, Ellipsis, array_like, Tensor, or a tuple of these

    Returns
    -------
    Tensor

    Examples
    --------
    >>> getitem([1.0, 2.0, 3.0], slice(1, None))
    Tensor([2., 3.], dtype=float32)
    """
    x = as_tensor(input)
    items = tuple(_index_item(item) for item in (index if isinstance(index, tuple) else (index,)))
    # Only integer arrays can name an element twice, and only then must gradients be added one by one.
    repeats = any(isinstance(item, np.ndarray) and item.dtype.kind in "iu" for item in items)
    shape, dtype, order = x.shape, x.dtype, _memory_order(x.data)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        grad_input = np.zeros([shape[axis] for axis in order], dtype).transpose(np.argsort(order))
        if repeats:
            np.add.at(grad_input, items, grad)
        else:
            grad_input[items] = grad
        return (grad_input,)

    return apply("getitem", (x,), x.data[items], backward)


def pad(input: Any, pad: Sequence[Any], mode: str = "constant", value: float = 0.0) -> Tensor:
    """The input with a border.

    Parameters
    ----------
    input : Tensor or array_like
    pad : sequence of int, or of (int, int)
        Either integers from the last axis backwards, as in PyTorch: ``(left, right, top, bottom, ...)``; or one
        ``(low, high)`` pair for every axis in order, as in NumPy.
    mode : {"constant", "reflect", "replicate", "circular"}
        What the border holds: `value`; the input mirrored without repeating its edge; its edge; its other end. All
        of them repeat as often as the border needs.
    value : number, default 0
        For mode "constant".

    Examples
    --------
    >>> pad([1.0, 2.0, 3.0], (1, 2))
    Tensor([0., 1., 2., 3., 0., 0.], dtype=float32)
    >>> pad([1.0, 2.0, 3.0], [(2, 0)], mode="reflect")
    Tensor([3., 2., 1., 2., 3.], dtype=float32)
    """
    x = as_tensor(input)
    widths = _pad_widths(pad, x.ndim)
    check_choice("mode", mode, _PAD_MODES)
    padded_axes = [axis for axis, width in enumerate(widths) if any(width)]
    if mode != "constant" and any(x.shape[axis] == 0 for axis in padded_axes):
        raise ShapeError(f"pad: nothing to fill a border with in a tensor of shape {x.shape}")
    padded_shape = tuple(low + extent + high for extent, (low, high) in zip(x.shape, widths, strict=True))
    inner = tuple(slice(low, low + extent) for extent, (low, _) in zip(x.shape, widths, strict=True))
    out = np.empty_like(x.data, shape=padded_shape)
    if mode == "constant":
        out.fill(value)
    out[inner] = x.data
    # Per axis, the indices of the border and of what stands there. Axis after axis, a border is filled from the
    # lines inside; corners come from the borders of the axes before.
    borders = (
        [] if mode == "constant" else [(axis, *_border(x.shape[axis], *widths[axis], mode)) for axis in padded_axes]
    )
    for axis, border, source in borders:
        out[_along(axis, border)] = out[_along(axis, source)]

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        if not borders:
            return (grad[inner],)
        folded = grad.copy(order="K")
        for axis, border, source in reversed(borders):
            for to, line in zip(source.tolist(), border.tolist(), strict=True):
                folded[_along(axis, to)] += folded[_along(axis, line)]
        return (folded[inner],)

    return apply("pad", (x,), out, backward)


def _border(extent: int, low: int, high: int, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """The indices of the border lines along an axis, and of the inner lines that they repeat."""
    source = low + source_index(extent, low + extent + high, 1, 1, 1, low, mode)[:, 0]
    border = np.concatenate([np.arange(low), np.arange(low + extent, low + extent + high)])
    return border, source[border]


def _along(axis: int, index: Any) -> tuple[Any, ...]:
    return (*(slice(None),) * axis, index)


def _pad_widths(pad: Sequence[Any], ndim: int) -> list[tuple[int, int]]:
    """One (low, high) pair per axis, from either form."""
    if is_sequence(pad) and len(pad) == ndim and all(is_sequence(pair) and len(pair) == 2 for pair in pad):
        flat = [side for pair in pad for side in pair]
    elif is_sequence(pad) and len(pad) % 2 == 0 and len(pad) <= 2 * ndim and not any(map(is_sequence, pad)):
        flat = [side for at in range(len(pad) - 2, -1, -2) for side in pad[at : at + 2]]
        flat = [0] * (2 * ndim - len(flat)) + flat
    else:
        raise OptionError(
            f"pad must be (low, high) integers from the last axis backwards, or {ndim} such pairs, one per axis in "
            f"order; got {pad!r} for {ndim} axes"
        )
    sides = [check_integer("pad", side, 0) for side in flat]
    return list(zip(sides[::2], sides[1::2], strict=True))


def _memory_order(array: np.ndarray) -> list[int]:
    """The axes from the slowest to the fastest in memory."""
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


def _index_item(item: Any) -> Any:
    """One item of an index: tensors and lists as arrays."""
    if isinstance(item, (Tensor, list)):
        item = np.asarray(item.data if isinstance(item, Tensor) else item)
        return item if item.size or item.dtype.kind in "biu" else item.astype(np.intp)
    return item


def _unpack(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    """``(2, 3)`` or ``((2, 3),)``: extents may be given one by one or as one sequence."""
    return tuple(arguments[0]) if len(arguments) == 1 and is_sequence(arguments[0]) else arguments


def check_axis(name: str, axis: Any, ndim: int) -> int:
    """An axis as a non-negative index."""
    at = check_integer(name, axis, -ndim)
    if at >= ndim:
        raise OptionError(f"{name} must be below {ndim}, the number of axes, got {axis}")
    return at % ndim
