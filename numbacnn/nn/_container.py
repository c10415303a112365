"""Modules made of modules."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

from ._activation import ReLU
from ._module import Module
from ._norm import _BatchNorm
from ._plain import runs_as

__all__ = ["Identity", "ModuleList", "Sequential"]

_Self = TypeVar("_Self", bound="_List")


class Identity(Module):
    """Returns its input; a place holder.

    Parameters
    ----------
    *args, **kwargs
        Ignored, so that it can stand in for any layer.

    Examples
    --------
    >>> Identity()(3)
    3
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        """The input."""
        return input


class _List(Module):
    """Modules by position; their names are their positions, or those of a mapping."""

    def _add(self, name: str, module: Any) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__} holds modules, got {type(module).__name__}")
        if not name or "." in name or (hasattr(self, name) and name not in self._names()):
            raise ValueError(f"{name!r} cannot be the name of a module")
        setattr(self, name, module)

    def _names(self) -> list[str]:
        return [name for name, _ in self.named_children()]

    def _replace_all(self, modules: list[Module]) -> None:
        """Forget all modules and hold these, named by position."""
        for name in self._names():
            delattr(self, name)
        for position, module in enumerate(modules):
            self._add(str(position), module)

    def append(self: _Self, module: Module) -> _Self:
        """Add a module at the end."""
        self._add(str(len(self)), module)
        return self

    def extend(self: _Self, modules: Iterable[Module]) -> _Self:
        """Add modules at the end."""
        for position, module in enumerate(modules, start=len(self)):
            self._add(str(position), module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Add a module before position `index`; the names of those behind it change."""
        modules = list(self)
        modules.insert(index, module)
        self._replace_all(modules)

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self: _Self, index: slice) -> _Self: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            part = type(self)()
            for name, module in list(self.named_children())[index]:
                part._add(name, module)
            return part
        return getattr(self, self._names()[operator.index(index)])

    def __setitem__(self, index: int, module: Module) -> None:
        self._add(self._names()[operator.index(index)], module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index]
        self._replace_all(modules)


class Sequential(_List):
    """Modules applied one after the other.

    Parameters
    ----------
    *modules : Module, or one mapping of names to modules

    Notes
    -----
    A batch normalisation and a `ReLU` right behind it are computed in one pass over memory, forward and backward, with
    the same results to the bit; not where a hook watches one of them.

    Examples
    --------
    >>> import numpy as np
    >>> import numbacnn as nc
    >>> net = nc.nn.Sequential(nc.nn.Flatten(), nc.nn.Linear(12, 2))
    >>> net(np.zeros((5, 3, 2, 2), np.float32)).shape
    (5, 2)
    >>> net[1]
    Linear(in_features=12, out_features=2, bias=True)
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self._add(name, module)
        else:
            self.extend(modules)

    def forward(self, input: Any) -> Any:
        """Apply the modules; a batch normalisation and a `ReLU` behind it in one pass, unless one has hooks."""
        modules = list(self.children())
        done = False  # whether the module before did this one's work
        for module, following in itertools.zip_longest(modules, modules[1:]):
            if done:
                done = False
                continue
            norm = _rectified(module, following)
            done = norm is not None
            input = module(input) if norm is None else norm.forward_relu(input)
        return input


def _rectified(module: Module, following: Module | None) -> _BatchNorm | None:
    """`module` if it is a batch normalisation, its `ReLU` follows, and no hook looks at either."""
    if type(following) is ReLU and isinstance(module, _BatchNorm):
        return module if runs_as(module, _BatchNorm) and runs_as(following, ReLU) else None
    return None


class ModuleList(_List):
    """A list whose modules count as parts of the module that holds it. It has no `forward`.

    Parameters
    ----------
    modules : iterable of Module, optional

    Examples
    --------
    >>> import numbacnn as nc
    >>> layers = ModuleList(nc.nn.Linear(4, 4) for _ in range(3))
    >>> len(layers), len(list(layers.parameters()))
    (3, 6)
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)
