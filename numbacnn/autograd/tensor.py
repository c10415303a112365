"""`Tensor` and `Parameter`: an ndarray, its gradient, and the node of the tape that made it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..errors import GradientError, ShapeError
from . import tape
from ._arrays import numeric_array, require_float
from ._installed import Installed

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Parameter", "Tensor", "as_tensor", "tensor", "wrap"]

_Self = TypeVar("_Self", bound="Tensor")


class Tensor(Installed):
    """An array that remembers how it was computed, if its gradient is wanted.

    Parameters
    ----------
    data : array_like
        An ndarray is shared, not copied, and keeps its dtype. Lists and numbers of Python floats become float32.
    requires_grad : bool, default False
        Record what is computed from this tensor, so that `backward` fills its `grad`. Floating-point data only.

    Attributes
    ----------
    data : ndarray
        The values. Assigning replaces them; changing them in place is seen by everybody who shares the array.
    grad : ndarray or None
        The gradient, of the same shape and dtype; only tensors made by the user (leaves) get one, see `retain_grad`.
        It is never shared with another tensor. `backward` adds to it; set it to None to start afresh.

    Notes
    -----
    Operators and methods such as `sum` and `reshape` are functions of `numbacnn.functional`, differentiable and
    broadcasting as in NumPy. Comparisons return plain boolean arrays. Python numbers take the tensor's dtype.
    NumPy's own functions refuse tensors (they could not be differentiated); give them ``x.data``.

    Examples
    --------
    >>> x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> y = (x * x).sum()
    >>> y.backward()
    >>> x.grad
    array([2., 4., 6.], dtype=float32)
    """

    __slots__ = ("__weakref__", "_data", "_node", "_requires_grad", "_version", "grad")

    # ndarray + Tensor must call Tensor.__radd__; and np.exp(tensor) must fail rather than drop the gradient.
    __array_ufunc__ = None

    _data: np.ndarray
    _node: tape.Node | None
    grad: np.ndarray | None

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        self._data = self._prepare(data)
        self._node = None
        self._requires_grad = False
        self._version = 0
        self.grad = None
        if requires_grad:
            self.requires_grad = True

    @staticmethod
    def _prepare(data: Any) -> np.ndarray:
        """The array to hold, from whatever was given."""
        return _array(data)

    # -- data and gradient -------------------------------------------------------------------------------------

    @property
    def data(self) -> np.ndarray:
        """The values."""
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        array = self._prepare(value)
        if self._requires_grad:
            require_float(array.dtype)
        if self.grad is not None and (array.shape != self.grad.shape or array.dtype != self.grad.dtype):
            self.grad = None
        self._data = array
        self._version += 1

    @property
    def requires_grad(self) -> bool:
        """Whether computations with this tensor are recorded."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value:
            require_float(self._data.dtype)
        if not value and self._node is not None:
            raise GradientError("requires_grad of a computed tensor cannot be switched off; use .detach()")
        self._requires_grad = bool(value)

    def requires_grad_(self: _Self, requires_grad: bool = True) -> _Self:
        """Set `requires_grad` and return the tensor itself."""
        self.requires_grad = requires_grad
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """The extent of every axis."""
        return self._data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self._data.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim

    @property
    def nbytes(self) -> int:
        """Bytes that the values take."""
        return self._data.nbytes

    @property
    def is_leaf(self) -> bool:
        """Whether the tensor was made by the user rather than recorded by the tape."""
        return self._node is None

    def numel(self) -> int:
        """The number of elements."""
        return self._data.size

    def numpy(self) -> np.ndarray:
        """The values as an ndarray that shares memory with the tensor."""
        return self._data

    def item(self) -> Any:
        """The only element, as a Python number."""
        if self._data.size != 1:
            raise ShapeError(f"item() needs a tensor of one element, this one has shape {self.shape}")
        return self._data.item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self._data.tolist()

    def argmax(self, axis: int | None = None) -> Any:
        """Indices of the largest values along an axis, as a plain array; the first of equal ones."""
        return self._data.argmax(axis)

    def argmin(self, axis: int | None = None) -> Any:
        """Indices of the smallest values along an axis, as a plain array; the first of equal ones."""
        return self._data.argmin(axis)

    def detach(self) -> Tensor:
        """A tensor of the same values (shared, not copied) that the tape knows nothing of."""
        return wrap(self._data)

    def mark_changed(self) -> None:
        """Say that the values were changed in place.

        Optimisers and whoever else writes into `data` call this, so that a later `backward` through a graph that
        read the old values raises `GradientError` instead of mixing old and new.
        """
        self._version += 1

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    def retain_grad(self) -> None:
        """Ask `backward` to fill `grad` although the tensor is computed, not a leaf.

        Examples
        --------
        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> y = x * 3
        >>> y.retain_grad()
        >>> (y * y).sum().backward()
        >>> y.grad
        array([ 6., 12.], dtype=float32)
        """
        if not self._requires_grad:
            raise GradientError("retain_grad: this tensor does not require a gradient")
        if self._node is not None:
            self._node.watcher = weakref.ref(self)

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add the gradient of this tensor to the `grad` of every leaf it was computed from.

        Parameters
        ----------
        gradient : array_like, optional
            What each element counts: the gradient of some scalar with respect to this tensor, of its shape. A tensor
            of one element does not need it.
        retain_graph : bool, default False
            Keep what the recorded operations saved, so that backward can go through them again.

        Raises
        ------
        GradientError
            The tensor does not require a gradient, or has several elements and `gradient` is missing, or its graph
            was freed by an earlier call, or a parameter has changed since the forward pass.
        ShapeError
            `gradient` has another shape than the tensor.
        """
        if not self._requires_grad:
            raise GradientError(
                "backward: this tensor does not require a gradient: none of the tensors it was computed from has "
                "requires_grad=True, or it was computed under no_grad()"
            )
        gradient = self._initial_gradient(gradient)
        if self._node is None:
            tape.accumulate(self, gradient, private=False)
        else:
            tape.run_backward(self._node, gradient, retain_graph)

    def _initial_gradient(self, gradient: Any) -> np.ndarray:
        if gradient is None:
            if self._data.size != 1:
                raise GradientError(
                    f"backward of a tensor of shape {self.shape} needs a gradient of that shape; only a tensor of one "
                    "element has an obvious one. Reduce it first, e.g. with .sum() or .mean()"
                )
            return np.ones_like(self._data)
        array = _array(gradient)
        if array.shape != self._data.shape:
            raise ShapeError(f"gradient of shape {array.shape} does not fit the tensor of shape {self.shape}")
        return array.astype(self._data.dtype, copy=False)

    # -- Python protocols --------------------------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self._data if dtype is None else self._data.astype(dtype, copy=False)
        return array.copy() if copy and array is self._data else array

    def __len__(self) -> int:
        if not self._data.ndim:
            raise TypeError("len() of a tensor without axes")
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        if not self._data.ndim:
            raise TypeError("iteration over a tensor without axes")
        return (self[index] for index in range(len(self._data)))

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return self._data.__index__()

    def __repr__(self) -> str:
        name = type(self).__name__
        values = np.array2string(self._data, separator=", ", prefix=f"{name}(")
        recorded = f", from={self._node.name}" if self._node is not None else ""
        recorded = recorded or (", requires_grad=True" if self._requires_grad else "")
        return f"{name}({values}, dtype={self._data.dtype}{recorded})"

    # == compares values, so that equal tensors are not the same key.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Any:
        return self._data == _values(other)

    def __ne__(self, other: object) -> Any:
        return self._data != _values(other)

    def __lt__(self, other: Any) -> Any:
        return self._data < _values(other)

    def __le__(self, other: Any) -> Any:
        return self._data <= _values(other)

    def __gt__(self, other: Any) -> Any:
        return self._data > _values(other)

    def __ge__(self, other: Any) -> Any:
        return self._data >= _values(other)

    def __setitem__(self, index: Any, value: Any) -> None:
        if self._requires_grad and (self._node is not None or tape.is_grad_enabled()):
            raise GradientError(
                "a tensor that is part of a graph cannot be changed in place; use functional.where, or change a leaf "
                "under no_grad()"
            )
        self._data[_values(index)] = _values(value)
        self._version += 1

    def __reduce__(self) -> tuple[Any, ...]:
        self._require_leaf("pickled")
        return _rebuild, (type(self), self._data, self._requires_grad)

    def __deepcopy__(self: _Self, memo: dict[int, Any]) -> _Self:
        self._require_leaf("copied")
        duplicate = _rebuild(type(self), self._data.copy(order="K"), self._requires_grad)
        duplicate.grad = None if self.grad is None else self.grad.copy()
        memo[id(self)] = duplicate
        return duplicate

    def _require_leaf(self, action: str) -> None:
        if self._node is not None:
            raise GradientError(
                f"a tensor computed by {self._node.name!r} cannot be {action} without losing its graph; "
                "use .detach() first"
            )


class Parameter(Tensor):
    """A tensor that a module learns: `requires_grad` is True, and modules find it as an attribute.

    Its data is always C-contiguous, writable and of native byte order (copied if what was given is not), so that
    optimisers can update it in place through a flat view.

    Parameters
    ----------
    data : array_like
        Floating-point values.
    requires_grad : bool, default True
        False freezes it.

    Examples
    --------
    >>> Parameter([[1.0, 2.0]])
    Parameter([[1., 2.]], dtype=float32, requires_grad=True)
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)

    @staticmethod
    def _prepare(data: Any) -> np.ndarray:
        return np.require(_array(data), requirements=["C", "ALIGNED", "WRITEABLE"])


def as_tensor(data: Any) -> Tensor:
    """`data` itself if it is a tensor, else a tensor around it, sharing memory with an ndarray.

    Examples
    --------
    >>> as_tensor([1.0, 2.0])
    Tensor([1., 2.], dtype=float32)
    """
    return data if isinstance(data, Tensor) else Tensor(data)


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor that owns a copy of the data.

    Parameters
    ----------
    data : array_like
        Python floats become float32 unless `dtype` says otherwise; arrays keep their dtype.
    dtype : dtype, optional
    requires_grad : bool, default False

    Examples
    --------
    >>> tensor([[1, 2], [3, 4]])
    Tensor([[1, 2],
            [3, 4]], dtype=int64)
    >>> tensor([1, 2], dtype="float64", requires_grad=True)
    Tensor([1., 2.], dtype=float64, requires_grad=True)
    """
    if dtype is None:
        return Tensor(_array(data).copy(order="K"), requires_grad)
    return Tensor(np.array(_values(data), dtype=dtype), requires_grad)


def wrap(array: np.ndarray) -> Tensor:
    """A tensor around an ndarray known to be good, without the checks of the constructor."""
    wrapped = Tensor.__new__(Tensor)
    wrapped._data = array
    wrapped._node = None
    wrapped._requires_grad = False
    wrapped._version = 0
    wrapped.grad = None
    return wrapped


def _rebuild(kind: type[_Self], data: np.ndarray, requires_grad: bool) -> _Self:
    return kind(data, requires_grad)


def _array(data: Any) -> np.ndarray:
    """What a tensor made from `data` holds: an array of numbers, without a copy where it is one."""
    return data._data if isinstance(data, Tensor) else numeric_array(data)


def _values(operand: Any) -> Any:
    """Tensors as their arrays, also inside an index tuple; anything else as it is."""
    if isinstance(operand, Tensor):
        return operand._data
    if type(operand) is tuple:
        return tuple([_values(item) for item in operand])
    return operand
