"""The tape: what was recorded, and the walk back through it.

The tape knows no operation. Each recorded call is a `Node` that holds a closure from the gradient of its output to
the gradients of its inputs; the closures are written next to the forward code they belong to.

Nodes are numbered as they are recorded, and a node's inputs always have smaller numbers, so the walk back is a heap
of nodes that pops the largest number first: by then every consumer of that node has delivered its gradient. There is
no recursion and no sorting pass; each gradient and each closure (with the arrays it saved) is freed as soon as it has
been used.

Ownership of gradient arrays
----------------------------
A closure may return fresh arrays, its `grad_output`, or views of it; it must not return memory that it keeps. The
tape writes into an array only where nobody else can see it: a sum it made itself, or a fresh result. What ends up in
`Tensor.grad` is therefore never shared with another tensor, and may be changed in place.

Parameters changed after the forward pass
-----------------------------------------
Optimisers update parameters in place, which would silently change what closures saved. Every leaf counts its
changes; a node remembers the counts it saw, and the walk back stops with `GradientError` where they differ.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import inspect
import itertools
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from ..errors import GradientError, ShapeError

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable, Iterator, Sequence

    from .tensor import Tensor

    Gradients = Sequence["np.ndarray | None"]
    Backward = Callable[[np.ndarray, tuple[bool, ...]], Gradients]

__all__ = ["Node", "enable_grad", "install_sum", "is_grad_enabled", "no_grad", "run_backward"]

_Function = TypeVar("_Function", bound="Callable[..., Any]")

is_recording: ContextVar[bool] = ContextVar("numbacnn_recording", default=True)
_next_order = itertools.count().__next__  # one C call, so numbers are unique across threads
_accumulating = threading.Lock()
_sum: Callable[..., np.ndarray] = np.add


def install_sum(function: Callable[..., np.ndarray]) -> None:
    """Let gradients be added by ``function(x, y, out=None)``, called as `numpy.add`.

    The tape knows no operation and cannot import a faster one; `numbacnn.functional` brings it.
    """
    global _sum
    _sum = function


class Node:
    """One recorded operation.

    Parameters
    ----------
    name : str
        The operation, for messages.
    inputs : tuple of Tensor
    shape : tuple of int
        The shape of the output, which its gradient must have.
    backward : callable
        ``backward(grad_output, needs)`` returns one gradient, or None for zero, per input.

    Attributes
    ----------
    sources : tuple of (Node, Tensor or None)
        Where the gradient of each input goes: to the node that made it, to a leaf, or nowhere. Tensors between two
        nodes are not held, so an activation lives only if a closure saved it.
    version : int
        Sum of the leaves' change counts, which only ever grow: equal sums mean that no leaf has changed.
    watcher : weak reference to Tensor, or None
        The output, if it asked for its gradient by `Tensor.retain_grad`.
    """

    __slots__ = ("backward", "name", "order", "shape", "sources", "version", "watcher")

    def __init__(
        self, name: str, inputs: tuple[Tensor, ...], shape: tuple[int, ...], backward: Backward | None
    ) -> None:
        sources: list[Node | Tensor | None] = []
        version = 0
        for tensor in inputs:
            if not tensor._requires_grad:
                sources.append(None)
            elif tensor._node is not None:
                sources.append(tensor._node)
            else:
                sources.append(tensor)
                version += tensor._version
        self.name = name
        self.order = _next_order()
        self.shape = shape
        self.sources = tuple(sources)
        self.version = version
        self.backward = backward
        self.watcher: weakref.ref[Tensor] | None = None

    def pull(self, grad_output: np.ndarray) -> Gradients:
        """The gradients of the inputs, given the gradient of the output."""
        if self.backward is None:
            raise GradientError(
                f"backward has already been through {self.name!r} and freed what it had saved; to go through a graph "
                "more than once, pass retain_graph=True to every backward but the last"
            )
        leaves = [source for source in self.sources if source is not None and not isinstance(source, Node)]
        version = sum([leaf._version for leaf in leaves])
        if version != self.version:
            raise GradientError(
                f"a parameter that {self.name!r} read was changed after the forward pass (by an optimiser step, "
                "load_state_dict or an assignment to .data), so its gradient would be wrong; call backward before "
                "the change, or run the forward pass again"
            )
        results = self.backward(grad_output, tuple([source is not None for source in self.sources]))
        if len(results) != len(self.sources):
            raise GradientError(
                f"backward of {self.name!r} returned {len(results)} gradients for {len(self.sources)} inputs"
            )
        return results

    def free(self) -> None:
        """Drop the closure and the links, so that what it saved dies now and long chains never die recursively."""
        self.backward = None
        self.sources = ()


def run_backward(root: Node, gradient: np.ndarray, retain_graph: bool = False) -> None:
    """Carry `gradient`, that of the root's output, back to every leaf that wants one.

    Parameters
    ----------
    root : Node
    gradient : ndarray
        Of the shape of the root's output; it is not changed.
    retain_graph : bool, default False
        Keep the closures for another walk.

    Raises
    ------
    GradientError
        A part of the graph was freed by an earlier walk, or a parameter was changed since the forward pass.
    ShapeError
        A closure returned a gradient of another shape than its input.
    """
    heap = [(-root.order, root)]
    gradients = {root.order: gradient}
    summed: set[int] = set()  # the gradients among them that are sums made here, and may be added to in place
    while heap:
        node = heapq.heappop(heap)[1]
        grad_output = gradients.pop(node.order)
        if node.watcher is not None and (tensor := node.watcher()) is not None:
            accumulate(tensor, grad_output, private=False)
        results = node.pull(grad_output)
        for source, result in zip(node.sources, results):  # noqa: B905 - pull has compared the lengths
            if source is None or result is None:
                continue
            if result.__class__ is not np.ndarray:
                result = np.asarray(result)  # NumPy's arithmetic turns arrays without axes into scalars
            if result.shape != source.shape:
                raise ShapeError(
                    f"backward of {node.name!r} returned a gradient of shape {result.shape} for an input of shape "
                    f"{source.shape}"
                )
            if not isinstance(source, Node):
                accumulate(source, result, _is_private(result, grad_output, results))
                continue
            order = source.order
            if order not in gradients:
                gradients[order] = result
                heapq.heappush(heap, (-order, source))
                continue
            if order in summed:
                _sum(gradients[order], result, out=gradients[order])
            elif _is_private(result, grad_output, results):
                gradients[order] = _sum(gradients[order], result, out=result)
            else:
                gradients[order] = _sum(gradients[order], result)
            summed.add(order)
        summed.discard(node.order)
        if not retain_graph:
            node.free()
        del grad_output, results, node


def accumulate(leaf: Tensor, gradient: np.ndarray, private: bool) -> None:
    """Add to a tensor's `.grad`; `private` says that nobody else sees the array, so that it may be kept as it is."""
    dtype = leaf._data.dtype
    with _accumulating:  # threads may share parameters
        if leaf.grad is None:
            leaf.grad = gradient if private and gradient.dtype == dtype else np.array(gradient, dtype, order="C")
        elif leaf.grad.flags.writeable:
            _sum(leaf.grad, gradient, out=leaf.grad)
        else:
            leaf.grad = _sum(leaf.grad, gradient)


def _is_private(gradient: np.ndarray, grad_output: np.ndarray, results: Gradients) -> bool:
    """Whether a closure's result shares memory with neither its argument nor another result."""
    if not gradient.flags.writeable:
        return False
    owner = _owner(gradient)
    if _shares(gradient, owner, grad_output):
        return False
    others = 0
    for result in results:
        if result is not None and (result is gradient or _shares(gradient, owner, np.asarray(result))):
            others += 1
    return others == 1


def _owner(array: np.ndarray) -> np.ndarray | None:
    """The array that owns the memory that this one is a view of; None if something else does."""
    base: Any = array.base
    while base is not None:
        if not isinstance(base, np.ndarray):
            return None
        array, base = base, base.base
    return array if array.flags.owndata else None


def _shares(array: np.ndarray, owner: np.ndarray | None, other: np.ndarray) -> bool:
    """Whether two arrays may share memory, given the first one's owner: usually both have one, and it decides."""
    if owner is not None and (other_owner := _owner(other)) is not None:
        return owner is other_owner
    return np.may_share_memory(array, other)


class _GradMode(contextlib.ContextDecorator):
    """Switch recording on or off within a ``with`` block or a function; one instance may be entered many times."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._tokens: list[Any] = []

    def __call__(self, function: _Function) -> _Function:
        if not inspect.isgeneratorfunction(function):
            return super().__call__(function)

        # A generator runs in pieces: the switch must hold inside each of them and nowhere between.
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Iterator[Any]:
            generator = function(*args, **kwargs)
            while True:
                with self._recreate_cm():
                    try:
                        item = next(generator)
                    except StopIteration as stop:
                        return stop.value
                yield item

        return run  # type: ignore[return-value]

    def _recreate_cm(self) -> _GradMode:
        return _GradMode(self._enabled)  # calls of a decorated function in several threads need their own tokens

    def __enter__(self) -> None:
        self._tokens.append(is_recording.set(self._enabled))

    def __exit__(self, *exception: object) -> None:
        is_recording.reset(self._tokens.pop())


@overload
def no_grad() -> _GradMode: ...
@overload
def no_grad(function: _Function) -> _Function: ...
def no_grad(function: Any = None) -> Any:
    """Record nothing: a context manager, or a decorator with or without parentheses.

    What is computed inside takes no memory for gradients. The switch belongs to the thread (and to the task, in
    asynchronous code) that sets it.

    Examples
    --------
    >>> import numbacnn as nc
    >>> x = nc.Tensor([1.0, 2.0], requires_grad=True)
    >>> with nc.no_grad():
    ...     print((x * 2).requires_grad)
    False
    >>> @nc.no_grad()
    ... def double(x):
    ...     return x * 2
    >>> double(x).requires_grad
    False
    """
    return _GradMode(False) if function is None else _GradMode(False)(function)


@overload
def enable_grad() -> _GradMode: ...
@overload
def enable_grad(function: _Function) -> _Function: ...
def enable_grad(function: Any = None) -> Any:
    """Record again inside a `no_grad` block: a context manager, or a decorator with or without parentheses.

    Examples
    --------
    >>> import numbacnn as nc
    >>> with nc.no_grad(), nc.enable_grad():
    ...     nc.is_grad_enabled()
    True
    """
    return _GradMode(True) if function is None else _GradMode(True)(function)


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread.

    Examples
    --------
    >>> import numbacnn as nc
    >>> nc.is_grad_enabled()
    True
    """
    return is_recording.get()
