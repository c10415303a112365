"""`Module`: a layer or a net, found by its attributes.

Registration needs no bookkeeping: parameters, buffers and submodules are ordinary attributes, and whoever asks for
them looks at the instance's attributes in order of assignment. So modules pickle and copy like any Python object.
"""

from __future__ import annotations

import itertools
import textwrap
import weakref
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from ..autograd import Parameter, Tensor
from ..errors import DTypeError, StateDictError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ..ops.complexity import ReceptiveField

    Shape = tuple[int, ...]

__all__ = ["HookHandle", "IncompatibleKeys", "Module"]

_Self = TypeVar("_Self", bound="Module")
_next_hook = itertools.count().__next__


class IncompatibleKeys(NamedTuple):
    """What `Module.load_state_dict` left aside with ``strict=False``.

    Examples
    --------
    >>> import numbacnn as nc
    >>> nc.nn.Linear(2, 1).load_state_dict({"scale": 1.0}, strict=False)
    IncompatibleKeys(missing_keys=['weight', 'bias'], unexpected_keys=['scale'])
    """

    missing_keys: list[str]
    unexpected_keys: list[str]


class HookHandle:
    """Removes a hook: by `remove`, or at the end of a ``with`` block.

    Examples
    --------
    >>> import numbacnn as nc
    >>> layer = nc.nn.Flatten()
    >>> with layer.register_forward_hook(lambda module, inputs, output: print(output.shape)):
    ...     _ = layer(nc.Tensor([[[1.0, 2.0]]]))
    (1, 2)
    >>> _ = layer(nc.Tensor([[[1.0, 2.0]]]))  # silent
    """

    def __init__(self, module: Module, table: str, key: int) -> None:
        self._module = weakref.ref(module)
        self._table = table
        self._key = key

    def remove(self) -> None:
        """Remove the hook; harmless if it is gone already."""
        module = self._module()
        if module is not None:
            vars(module).get(self._table, {}).pop(self._key, None)

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Module:
    """The base of all layers and nets.

    A subclass assigns parameters, buffers and other modules to attributes in ``__init__``, and defines `forward`.

    Attributes
    ----------
    training : bool
        Whether the module is in training mode (the default) or in evaluation mode; see `train` and `eval`.

    Examples
    --------
    >>> import numbacnn as nc
    >>> class Scale(nc.nn.Module):
    ...     def __init__(self, channels):
    ...         super().__init__()
    ...         self.weight = nc.nn.Parameter(np.ones(channels, np.float32))
    ...
    ...     def forward(self, input):
    ...         return input * self.weight
    >>> layer = Scale(3)
    >>> layer(np.ones((1, 3), np.float32))
    Tensor([[1., 1., 1.]], dtype=float32, from=mul)
    >>> list(layer.state_dict())
    ['weight']
    """

    training: bool = True
    # Instances get their own tables when the first buffer or hook is registered.
    _buffer_names: Mapping[str, bool] = MappingProxyType({})  # name -> whether it belongs to the state dict
    _forward_hooks: Mapping[int, Callable[..., Any]] = MappingProxyType({})
    _forward_pre_hooks: Mapping[int, Callable[..., Any]] = MappingProxyType({})

    # -- computing ---------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; every subclass defines it. Call the module itself, so that hooks run."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._forward_pre_hooks and not self._forward_hooks:
            return self.forward(*args, **kwargs)
        for hook in tuple(self._forward_pre_hooks.values()):
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        output = self.forward(*args, **kwargs)
        for hook in tuple(self._forward_hooks.values()):
            changed = hook(self, args, output)
            if changed is not None:
                output = changed
        return output

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call ``hook(module, args)`` before every `forward`; what it returns, unless None, replaces the arguments.

        Returns
        -------
        HookHandle
            ``handle.remove()`` removes the hook.
        """
        return self._register_hook("_forward_pre_hooks", hook)

    def register_forward_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call ``hook(module, args, output)`` after every `forward`; what it returns, unless None, replaces the output.

        Examples
        --------
        >>> import numbacnn as nc
        >>> layer = nc.nn.Identity()
        >>> with layer.register_forward_hook(lambda module, args, output: print(output.shape)):
        ...     _ = layer(nc.Tensor([1.0, 2.0]))
        (2,)
        """
        return self._register_hook("_forward_hooks", hook)

    def _register_hook(self, table: str, hook: Callable[..., Any]) -> HookHandle:
        key = _next_hook()
        vars(self).setdefault(table, {})[key] = hook
        return HookHandle(self, table, key)

    # -- parameters, buffers, submodules -----------------------------------------------------------------------

    def register_buffer(self, name: str, array: Any, persistent: bool = True) -> None:
        """Make an attribute part of the module's state that is not learned, such as running statistics.

        Parameters
        ----------
        name : str
        array : array_like or None
            Kept as an ndarray.
        persistent : bool, default True
            Whether it belongs to the state dict.
        """
        vars(self).setdefault("_buffer_names", {})[name] = persistent
        setattr(self, name, array)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(self.__dict__.get(name), Parameter) and not (value is None or isinstance(value, Parameter)):
            raise TypeError(
                f"{type(self).__name__}.{name} is a parameter and cannot become a {type(value).__name__}; assign a "
                f"Parameter, or new values to {name}.data"
            )
        if name in self._buffer_names and value is not None:
            value = value.data if isinstance(value, Tensor) else np.asarray(value)
        object.__setattr__(self, name, value)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules with their names."""
        return ((name, value) for name, value in tuple(vars(self).items()) if isinstance(value, Module))

    def children(self) -> Iterator[Module]:
        """The direct submodules."""
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, each once, with dotted names; its own name is `prefix`."""
        return _first_of_each(self._walk(prefix))

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """All parameters, each once, with the dotted names they have in the state dict.

        Examples
        --------
        >>> import numbacnn as nc
        >>> net = nc.nn.Sequential(nc.nn.Linear(3, 2), nc.nn.ReLU())
        >>> [(name, parameter.shape) for name, parameter in net.named_parameters()]
        [('0.weight', (2, 3)), ('0.bias', (2,))]
        """
        modules = self.named_modules(prefix) if recurse else [(prefix, self)]
        return _first_of_each(
            (_join(path, name), value)
            for path, module in modules
            for name, value in tuple(vars(module).items())
            if isinstance(value, Parameter)
        )

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once: what an optimiser takes."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, np.ndarray]]:
        """All buffers, each once, with dotted names."""
        modules = self.named_modules(prefix) if recurse else [(prefix, self)]
        return _first_of_each(
            (_join(path, name), getattr(module, name))
            for path, module in modules
            for name in module._buffer_names
            if getattr(module, name) is not None
        )

    def buffers(self, recurse: bool = True) -> Iterator[np.ndarray]:
        """All buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _walk(self, path: str) -> Iterator[tuple[str, Module]]:
        yield path, self
        for name, child in self.named_children():
            yield from child._walk(_join(path, name))

    # -- modes and whole-net changes -----------------------------------------------------------------------------

    def train(self: _Self, mode: bool = True) -> _Self:
        """Put this module and all below it into training mode (or, with False, evaluation mode)."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self: _Self) -> _Self:
        """Put this module and all below it into evaluation mode: dropout does nothing, statistics are frozen."""
        return self.train(False)

    def apply(self: _Self, function: Callable[[Module], Any]) -> _Self:
        """Call a function with every module, children first."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def requires_grad_(self: _Self, requires_grad: bool = True) -> _Self:
        """Freeze (False) or release all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def to(self: _Self, dtype: Any) -> _Self:
        """Convert all floating-point parameters and buffers, in this module.

        Parameters
        ----------
        dtype : dtype
            float32 or float64.
        """
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise DTypeError(f"a module's dtype must be float32 or float64, got {dtype}")
        for module in self.modules():
            for name, value in tuple(vars(module).items()):
                if isinstance(value, Parameter) and value.dtype != dtype:
                    value.data = value.data.astype(dtype)
                elif name in module._buffer_names and value is not None and value.dtype.kind == "f":
                    setattr(module, name, value.astype(dtype, copy=False))
        return self

    def float(self: _Self) -> _Self:
        """Convert to float32."""
        return self.to(np.float32)

    def double(self: _Self) -> _Self:
        """Convert to float64."""
        return self.to(np.float64)

    # -- state ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and persistent buffers, under PyTorch's keys.

        They are copies, so that training on does not change a state that was put aside.

        Examples
        --------
        >>> import numbacnn as nc
        >>> {key: array.shape for key, array in nc.nn.Conv1d(2, 4, 3).state_dict().items()}
        {'weight': (4, 2, 3), 'bias': (4,)}
        """
        return {key: np.array(_values(slot), order="C") for key, slot in self._state("")}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy values into the parameters and buffers.

        Parameters
        ----------
        state_dict : mapping of str to array_like
            Arrays or tensors, numbacnn's or PyTorch's. They are converted to the dtypes that the module has.
        strict : bool, default True
            Refuse keys that are missing or unexpected. Wrong shapes are always refused.

        Returns
        -------
        IncompatibleKeys
            The missing and the unexpected keys.

        Raises
        ------
        StateDictError
            The keys or shapes do not fit: the message lists all of them, and nothing has been changed.
        """
        slots = dict(self._state(""))
        missing = [key for key in slots if key not in state_dict]
        unexpected = [key for key in state_dict if key not in slots]
        arrays = {key: _plain_array(state_dict[key]) for key in slots if key in state_dict}
        problems = [f"missing: {key}" for key in missing] + [f"unexpected: {key}" for key in unexpected]
        if not strict:
            problems = []
        for key, array in arrays.items():
            expected = _values(slots[key]).shape
            if array.dtype.kind not in "biuf":
                problems.append(f"wrong dtype: {key} is {array.dtype}, which is not a real number")
            elif array.shape != expected:
                problems.append(f"wrong shape: {key} is {array.shape}, should be {expected}")
        if problems:
            raise StateDictError(
                f"state dict does not fit {type(self).__name__}; nothing was loaded:\n" + "\n".join(problems)
            )
        for key, array in arrays.items():
            slot = slots[key]
            np.copyto(_values(slot), array, casting="unsafe")
            if isinstance(slot, Tensor):
                slot.mark_changed()
        return IncompatibleKeys(missing, unexpected)

    def _state(self, path: str) -> Iterator[tuple[str, Parameter | np.ndarray]]:
        """What the state dict holds, with keys in PyTorch's order: parameters, buffers, submodules."""
        own = tuple(vars(self).items())
        for name, value in own:
            if isinstance(value, Parameter):
                yield _join(path, name), value
        for name, persistent in self._buffer_names.items():
            if persistent and getattr(self, name) is not None:
                yield _join(path, name), getattr(self, name)
        for name, value in own:
            if isinstance(value, Module):
                yield from value._state(_join(path, name))

    # -- what `numbacnn.summary` asks ------------------------------------------------------------------------------

    def flops(self, input_shape: Shape, output_shape: Shape) -> int:
        """Floating-point operations per sample: two per multiply-add; 0 for layers that only touch each element.

        Override it in a layer that multiplies matrices or convolves. Shapes include the batch.
        """
        return 0

    def receptive_field(self, field: ReceptiveField, input_shape: Shape) -> ReceptiveField:
        """What of the net's input an element of this layer's output sees, given the same for this layer's input.

        Override it in a layer that combines positions.
        """
        return field

    # -- text ------------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The options that `repr` shows."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [f"({name}): {child!r}" for name, child in self.named_children()]
        if not children:
            return f"{type(self).__name__}({extra})"
        lines = ([extra] if extra else []) + children
        return f"{type(self).__name__}(\n{textwrap.indent(chr(10).join(lines), '  ')}\n)"


_Item = TypeVar("_Item")


def _first_of_each(named: Iterator[tuple[str, _Item]]) -> Iterator[tuple[str, _Item]]:
    """Shared objects only under their first name."""
    seen: set[int] = set()
    for name, item in named:
        if id(item) not in seen:
            seen.add(id(item))
            yield name, item


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _values(slot: Parameter | np.ndarray) -> np.ndarray:
    return slot.data if isinstance(slot, Tensor) else slot


def _plain_array(value: Any) -> np.ndarray:
    return np.asarray(value.detach() if hasattr(value, "detach") else value)
