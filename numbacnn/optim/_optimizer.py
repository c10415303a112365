"""What all optimisers share: parameter groups, state, saving, and launching one kernel over all parameters."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..autograd import Tensor, enable_grad
from ..errors import OptionError, StateDictError
from ..kernels._build import address

__all__ = ["Optimizer"]

# Elements of one block of a step.
STEP = 16384
NS_PER_ELEMENT = 0.5


class Update(NamedTuple):
    """One parameter to update: its arrays, first itself and its gradient, and its row of settings."""

    parameter: Tensor
    buffers: tuple[np.ndarray, ...]
    settings: tuple[float, ...]


class Optimizer:
    """The base of all optimisers.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        The tensors to update; or groups, each a dict with the tensors under "params" and the options that differ from
        the defaults.
    defaults : dict
        The options of groups that do not set them.

    Attributes
    ----------
    param_groups : list of dict
        The groups; their options may be changed at any time, e.g. ``optimizer.param_groups[0]["lr"] = 0.01``.
    state : dict
        What was kept of each tensor.

    Examples
    --------
    >>> import numbacnn as nc
    >>> optimizer = nc.optim.SGD(nc.nn.Linear(2, 1).parameters(), lr=0.1)
    >>> isinstance(optimizer, nc.optim.Optimizer), optimizer.param_groups[0]["lr"]
    (True, 0.1)
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.state: dict[Tensor, dict[str, Any]] = {}
        self.param_groups: list[dict[str, Any]] = []
        if isinstance(params, (Tensor, np.ndarray, dict)):
            raise OptionError(f"params must be an iterable of tensors or of groups, got a {type(params).__name__}")
        groups = list(params)
        if not groups:
            raise OptionError(
                "the optimiser got no parameters; model.parameters() is used up by one pass, so keep list(...) of it"
            )
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add tensors with options of their own, e.g. layers that are unfrozen later.

        Raises
        ------
        OptionError
            Something is not a leaf tensor, is there twice, or an option is unknown or out of range.
        """
        if not isinstance(param_group, dict) or "params" not in param_group:
            given = (
                f"the keys {list(param_group)}" if isinstance(param_group, dict) else f"a {type(param_group).__name__}"
            )
            raise OptionError(f'a parameter group must be a dict with the key "params", got {given}')
        unknown = param_group.keys() - self.defaults.keys() - {"params"}
        if unknown:
            raise OptionError(f"unknown option {', '.join(sorted(unknown))}; known: {', '.join(self.defaults)}")
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        present = {id(p) for group in self.param_groups for p in group["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise OptionError(f"an optimiser updates tensors, got a {type(p).__name__}")
            if not p.is_leaf:
                raise OptionError(
                    f"an optimiser updates tensors made by the user; one of shape {p.shape} was computed from others "
                    "(use .detach() where it is made)"
                )
            if id(p) in present:
                raise OptionError(f"a tensor of shape {p.shape} appears twice among the parameters")
            present.add(id(p))
        group = {**self.defaults, **param_group, "params": params}
        self._check(group)
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, so that the next `backward` starts afresh.

        Parameters
        ----------
        set_to_none : bool, default True
            False fills existing gradients with 0 instead.
        """
        for p in self._parameters():
            if set_to_none:
                p.grad = None
            elif p.grad is not None:
                p.grad = np.zeros_like(p.grad)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and its gradients, first; its value is returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        updates: dict[tuple[Any, np.dtype[Any]], list[Update]] = {}
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    kernel, update = self._update(group, p)
                    updates.setdefault((kernel, p.data.dtype), []).append(update)
        for (kernel, dtype), batch in updates.items():
            _run(kernel, dtype, batch)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on later: options and state, with numbers in place of tensors.

        Returns
        -------
        dict
            ``{"state": {number: {...}}, "param_groups": [{..., "params": [numbers]}]}``; the arrays are shared.
        """
        numbers = {id(p): number for number, p in enumerate(self._parameters())}
        groups = [
            {**{k: v for k, v in group.items() if k != "params"}, "params": [numbers[id(p)] for p in group["params"]]}
            for group in self.param_groups
        ]
        return {"state": {numbers[id(p)]: dict(state) for p, state in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned, of an optimiser with the same groups of tensors.

        Raises
        ------
        StateDictError
            Groups or shapes do not match, or it is of another kind of optimiser; nothing has been changed then.
        """
        try:
            groups, states = state_dict["param_groups"], state_dict["state"]
        except (KeyError, TypeError):
            given = f"the keys {list(state_dict)}" if isinstance(state_dict, dict) else f"a {type(state_dict).__name__}"
            raise StateDictError(
                f'an optimiser\'s state dict has the keys "state" and "param_groups", got {given}'
            ) from None
        sizes = [len(group["params"]) for group in groups]
        own_sizes = [len(group["params"]) for group in self.param_groups]
        if sizes != own_sizes:
            raise StateDictError(
                f"the state dict has groups of {sizes} parameters, the optimiser has groups of {own_sizes}"
            )
        missing = sorted({name for group in groups for name in self.defaults.keys() - group.keys()})
        if missing:  # more of them than here are no harm: PyTorch has some
            raise StateDictError(
                f"the state dict is of another kind of optimiser: {type(self).__name__} has the options "
                f"{', '.join(missing)}, too"
            )
        tensors = dict(zip((n for group in groups for n in group["params"]), self._parameters(), strict=True))
        loaded: dict[Tensor, dict[str, Any]] = {}
        for number, state in states.items():
            number = int(number)  # keys of JSON and .npz files are text
            if number not in tensors:
                raise StateDictError(f"the state dict has state of parameter {number}, which is in none of its groups")
            loaded[tensors[number]] = {name: _own_copy(name, value, tensors[number]) for name, value in state.items()}
        self.state = loaded
        for own, saved in zip(self.param_groups, groups, strict=True):
            own.update({k: copy.deepcopy(v) for k, v in saved.items() if k != "params"})

    def _parameters(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    def _check(self, group: dict[str, Any]) -> None:
        """Raise OptionError if an option of the group is out of range."""
        raise NotImplementedError

    def _update(self, group: dict[str, Any], p: Tensor) -> tuple[Any, Update]:
        """The kernel that updates this tensor, and what to give it."""
        raise NotImplementedError

    def _buffer(self, p: Tensor, name: str) -> np.ndarray:
        """An array of the tensor's shape that lives in its state, zeros at first."""
        state = self.state.setdefault(p, {})
        if name not in state:
            state[name] = np.zeros(p.shape, p.dtype)
        return state[name]

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number} ({len(group['params'])} tensors)")
            lines += [f"    {name}: {value}" for name, value in group.items() if name != "params"]
        return "\n".join([*lines, ")"])


def check_not_negative(group: dict[str, Any], *names: str) -> None:
    """Raise OptionError if one of these options is negative or not a number."""
    for name in names:
        value = group[name]
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not value >= 0:
            raise OptionError(f"{name} must be a number that is not negative, got {value!r}")


def _own_copy(name: str, value: Any, p: Tensor) -> Any:
    """A copy of a state's value: a count as an int, a buffer with the dtype of the tensor and only in its shape."""
    array = np.asarray(value)
    if array.ndim == 0 and array.dtype.kind in "iub":
        return int(array)
    if array.shape != p.shape:
        raise StateDictError(f"{name} has shape {array.shape} in the state dict, but its parameter has shape {p.shape}")
    return np.array(array, p.dtype, order="C")


def _run(kernel: Any, dtype: np.dtype[Any], updates: list[Update]) -> None:
    """Update the parameters in one launch."""
    keep_alive, pointers, sizes = [], [], []
    for parameter, buffers, _ in updates:
        data = parameter.data
        if not data.flags.writeable:
            raise OptionError(f"a parameter of shape {data.shape} is read-only and cannot be updated")
        assert parameter.grad is not None
        arrays = [_contiguous(data), _contiguous(parameter.grad), *buffers]
        keep_alive.append(arrays)
        pointers += [address(array) for array in arrays]
        sizes.append(data.size)
    settings = np.array([update.settings for update in updates], dtype)
    blocks, chunks = _chunks(tuple(sizes))
    kernel(blocks, settings, np.array(pointers, np.int64), chunks, cost=NS_PER_ELEMENT * sum(sizes))
    for update, arrays in zip(updates, keep_alive, strict=True):
        if arrays[0] is not update.parameter.data:
            update.parameter.data[...] = arrays[0]
        update.parameter.mark_changed()


def _contiguous(array: np.ndarray) -> np.ndarray:
    return array if array.flags.c_contiguous else array.copy(order="C")


@functools.lru_cache(maxsize=64)
def _chunks(sizes: tuple[int, ...]) -> tuple[int, np.ndarray]:
    """Per block: the parameter, its first element, and the one past its last."""
    rows = [
        (number, first, min(size, first + STEP)) for number, size in enumerate(sizes) for first in range(0, size, STEP)
    ]
    return len(rows), np.array(rows, np.int64).reshape(-1, 3)
