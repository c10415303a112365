"""Tensors joined along an axis, and cut along one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import ops
from ..autograd import Tensor, apply, as_tensor
from ..errors import ShapeError
from ..ops._check import check_integer, check_same_dtype, is_sequence
from .shape import check_axis, getitem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "concatenate",
    "split",
    "stack",
]


def concatenate(tensors: Iterable[Any], axis: int = 0) -> Tensor:
    """Tensors joined along an existing axis.

    Parameters
    ----------
    tensors : iterable of Tensor or array_like
        Equal in dtype, and in shape but for `axis`.
    axis : int, default 0

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        There are no tensors, or their shapes differ in another axis than `axis`.
    DTypeError
        The dtypes differ.
    OptionError
        There is no such axis.

    Examples
    --------
    >>> concatenate([[1.0, 2.0], [3.0]])
    Tensor([1., 2., 3.], dtype=float32)
    """
    operands = _operands("concatenate", tensors)
    shapes = [x.shape for x in operands]
    at = check_axis("axis", axis, operands[0].ndim)
    if len({(*shape[:at], *shape[at + 1 :]) if len(shape) > at else None for shape in shapes}) > 1:
        raise ShapeError(f"concatenate along axis {axis}: shapes {shapes} differ in another axis")
    extents = [shape[at] for shape in shapes]

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> list[np.ndarray | None]:
        return ops.joining.split(grad, extents, at, needs)

    return apply("concatenate", operands, ops.joining.concatenate([x.data for x in operands], at), backward)


def stack(tensors: Iterable[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis.

    Parameters
    ----------
    tensors : iterable of Tensor or array_like
        Equal in dtype and shape.
    axis : int, default 0
        Where the new axis comes to lie.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        There are no tensors, or their shapes differ.
    DTypeError
        The dtypes differ.
    OptionError
        There is no such place for an axis.

    Examples
    --------
    >>> stack([[1.0, 2.0], [3.0, 4.0]], axis=1)
    Tensor([[1., 3.],
            [2., 4.]], dtype=float32)
    """
    operands = _operands("stack", tensors)
    shapes = [x.shape for x in operands]
    if len(set(shapes)) > 1:
        raise ShapeError(f"stack: shapes {shapes} differ")
    at = check_axis("axis", axis, operands[0].ndim + 1)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray, ...]:
        return tuple(np.moveaxis(grad, at, 0))

    return apply("stack", operands, np.stack([x.data for x in operands], axis=at), backward)


def split(input: Any, split_size_or_sections: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """The input cut along an axis.

    Parameters
    ----------
    input : Tensor or array_like
    split_size_or_sections : int or sequence of int
        The extent of every piece (the last may be smaller), or of each.
    axis : int, default 0

    Returns
    -------
    tuple of Tensor

    Raises
    ------
    ShapeError
        The sections do not add up to the extent of the axis.
    OptionError
        There is no such axis, or a size is not a number of elements.

    Examples
    --------
    >>> [piece.shape for piece in split(np.zeros(5), 2)]
    [(2,), (2,), (1,)]
    """
    x = as_tensor(input)
    at = check_axis("axis", axis, x.ndim)
    extent = x.shape[at]
    if is_sequence(split_size_or_sections):
        sections = [check_integer("split_size_or_sections", size, 0) for size in split_size_or_sections]  # type: ignore[union-attr]
        if sum(sections) != extent:
            raise ShapeError(f"split: sections {sections} do not add up to the {extent} elements of axis {axis}")
    else:
        size = check_integer("split_size_or_sections", split_size_or_sections, 1)
        sections = [min(size, extent - start) for start in range(0, extent, size)]
    ends = np.cumsum(sections).tolist()
    before = (slice(None),) * at
    return tuple(getitem(x, (*before, slice(end - size, end))) for size, end in zip(sections, ends, strict=True))


def _operands(name: str, tensors: Iterable[Any]) -> tuple[Tensor, ...]:
    operands = tuple(as_tensor(item) for item in tensors)
    if not operands:
        raise ShapeError(f"{name} needs at least one tensor")
    check_same_dtype(**{f"tensors[{position}]": x.data for position, x in enumerate(operands)})
    return operands
