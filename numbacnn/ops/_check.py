"""The one place that decides which dtypes and option values are accepted."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DTypeError, OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "check_choice",
    "check_float",
    "check_float_dtype",
    "check_integer",
    "check_per_axis",
    "check_same_dtype",
    "check_same_dtypes",
    "check_tensor_like",
    "is_sequence",
]

_ndarray = np.ndarray  # a name of this module is found sooner, and this is looked up at every call
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def check_float(name: str, array: Any) -> np.ndarray:
    """`array` as an ndarray of native float32 or float64.

    Nothing is converted: a conversion that the caller did not ask for costs memory and precision unseen.

    Parameters
    ----------
    name : str
        What the caller calls the array, for the message.
    array : array_like
        Lists of Python floats become float64, as in NumPy.

    Returns
    -------
    ndarray
        The array itself where it is one; no copy.

    Raises
    ------
    DTypeError
        The dtype is anything else (integer, bool, float16, complex, object, foreign byte order), or it is masked.

    Examples
    --------
    >>> check_float("x", np.zeros(3, np.float32)).dtype
    dtype('float32')
    >>> check_float("x", np.zeros(3, np.int64))
    Traceback (most recent call last):
        ...
    numbacnn.errors.DTypeError: x must be float32 or float64, got int64; convert it with x.astype(np.float32)
    """
    array = check_tensor_like(name, array)
    check_float_dtype(name, array.dtype)
    return array


def check_float_dtype(name: str, dtype: np.dtype[Any]) -> None:
    """Raise DTypeError unless `dtype` is native float32 or float64: see `check_float`."""
    if dtype in _FLOATS:
        return
    got = dtype.name if dtype.isnative else f"{dtype.name} in foreign byte order"
    hint = f"; convert it with {name}.astype(np.float32)" if dtype.kind in "biuf" else ""
    raise DTypeError(f"{name} must be float32 or float64, got {got}{hint}")


def check_tensor_like(name: str, array: Any) -> np.ndarray:
    """`array` as a plain ndarray of any numeric dtype; masked arrays, whose mask would be ignored, are refused."""
    if type(array) is _ndarray:
        return array
    if isinstance(array, np.ma.MaskedArray):
        raise DTypeError(f"{name} is a masked array, whose mask would be ignored; fill it with {name}.filled(value)")
    return np.asarray(array)


def check_same_dtype(**arrays: np.ndarray | None) -> np.dtype[Any]:
    """The dtype that all the named arrays share; ``None`` stands for an absent operand.

    Raises
    ------
    DTypeError
        Two arrays differ.

    Examples
    --------
    >>> check_same_dtype(x=np.zeros(2), weight=np.zeros(3), bias=None)
    dtype('float64')
    >>> check_same_dtype(x=np.zeros(2, np.float32), weight=np.zeros(3))
    Traceback (most recent call last):
        ...
    numbacnn.errors.DTypeError: x is float32 but weight is float64; convert one of them, e.g. weight.astype(np.float32)
    """
    return check_same_dtypes(**{name: None if array is None else array.dtype for name, array in arrays.items()})


def check_same_dtypes(**dtypes: np.dtype[Any] | None) -> np.dtype[Any]:
    """As `check_same_dtype`, of dtypes."""
    first, common = "", None
    for name, dtype in dtypes.items():
        if dtype is None:
            continue
        if common is None:
            first, common = name, dtype
        elif dtype != common:
            raise DTypeError(
                f"{first} is {common} but {name} is {dtype}; convert one of them, e.g. {name}.astype(np.{common.name})"
            )
    if common is None:
        raise TypeError("check_same_dtype needs at least one array")
    return common


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """`value` if it is one of `choices`.

    Raises
    ------
    OptionError
        It is not; the message lists the choices.

    Examples
    --------
    >>> check_choice("reduction", "mean", ("mean", "sum"))
    'mean'
    >>> check_choice("reduction", "avg", ("mean", "sum"))
    Traceback (most recent call last):
        ...
    numbacnn.errors.OptionError: reduction must be one of 'mean', 'sum'; got 'avg'
    """
    choices = tuple(choices)
    if isinstance(value, str) and value in choices:
        return value
    raise OptionError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")


def check_integer(name: str, value: Any, minimum: int) -> int:
    """`value` as a Python int of at least `minimum`; bool and float are refused, NumPy integers are welcome.

    Raises
    ------
    OptionError
        It is not an integer, or too small.

    Examples
    --------
    >>> check_integer("groups", np.int64(4), 1)
    4
    >>> check_integer("groups", 0, 1)
    Traceback (most recent call last):
        ...
    numbacnn.errors.OptionError: groups must be at least 1, got 0
    """
    if type(value) is not int:
        try:
            if isinstance(value, (bool, np.bool_)):
                raise TypeError
            value = operator.index(value)
        except TypeError:
            raise OptionError(f"{name} must be an integer, got {value!r}") from None
    if value < minimum:
        raise OptionError(f"{name} must be at least {minimum}, got {value}")
    return value


def check_per_axis(name: str, value: Any, rank: int, minimum: int) -> tuple[int, ...]:
    """One integer per spatial axis; a single integer stands for all axes.

    Parameters
    ----------
    name : str
        What the caller calls the option, for the message.
    value : int or sequence of int
        In the order of the array's axes, (D, H, W).
    rank : int
        Number of spatial axes.
    minimum : int
        The smallest legal value.

    Raises
    ------
    OptionError
        Not integers, too few or too many, or too small.

    Examples
    --------
    >>> check_per_axis("stride", 2, 3, 1)
    (2, 2, 2)
    >>> check_per_axis("stride", [1, 2], 3, 1)
    Traceback (most recent call last):
        ...
    numbacnn.errors.OptionError: stride must be an integer or 3 integers, one per spatial axis, got [1, 2]
    """
    if type(value) is int:
        if value < minimum:
            raise OptionError(f"{name} must be at least {minimum}, got {value}")
        return (value,) * rank
    if is_sequence(value):
        if len(value) != rank:
            count = "1 integer" if rank == 1 else f"{rank} integers"
            raise OptionError(f"{name} must be an integer or {count}, one per spatial axis, got {value!r}")
        return tuple(check_integer(name, item, minimum) for item in value)
    return (check_integer(name, value, minimum),) * rank


def is_sequence(value: Any) -> bool:
    """Whether an option's value is several values rather than one."""
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim == 1)
