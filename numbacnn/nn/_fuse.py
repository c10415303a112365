"""Nets for inference: batch normalisation and rectifiers done by the convolution before them.

In evaluation mode a batch normalisation multiplies each channel by a number and adds another. A convolution does so
just as well: its filters multiplied by the first, its bias multiplied by it and shifted by the second. A rectifier it
applies where it writes its result. What is left is up to two passes over memory less.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, TypeVar

import numpy as np

from ..autograd import Parameter
from ._activation import ReLU, ReLU6
from ._container import Sequential
from ._conv import _ConvBase, _ConvNd, _ConvTransposeNd
from ._module import Module
from ._norm import _BatchNorm
from ._plain import is_plain, runs_as

__all__ = ["fuse"]

_RECTIFIERS: dict[type[Module], str] = {ReLU: "relu", ReLU6: "relu6"}

_Model = TypeVar("_Model", bound=Module)


def fuse(model: _Model) -> _Model:
    r"""A copy of a net for inference, without the batch normalisations and rectifiers that follow a convolution.

    Wherever a `Sequential`, however deep inside the net, holds a batch normalisation right behind a convolution or
    transposed convolution, the former disappears into the latter's weight and bias:

    .. math:: w' = w \, \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}
       \qquad b' = (b - \mu) \, \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} + \beta

    computed in float64 and rounded to the convolution's dtype. A `ReLU` or `ReLU6` behind either, or behind such a
    batch normalisation, becomes the convolution's `activation`. Results agree with those of ``model.eval()`` but for
    rounding.

    Parameters
    ----------
    model : Module
        It is not changed. Its running statistics are used whether it is in training or in evaluation mode.

    Returns
    -------
    Module
        A deep copy in evaluation mode. In a `Sequential` that numbers its modules, those behind a layer that is gone
        move up; names given by a mapping stay.

    Raises
    ------
    TypeError
        `model` is not a Module.

    Notes
    -----
    Left as they are: layers with forward hooks, subclasses with a `forward` of their own, a convolution that the net
    holds in several places, and a batch normalisation without running statistics. Layers that are not neighbours
    in one `Sequential`, but called one after the other by a `forward`, cannot be found; and a `forward` that picks
    layers out of a `Sequential` by their numbers may pick others afterwards.

    Examples
    --------
    >>> import numbacnn as nc
    >>> net = nc.nn.Sequential(nc.nn.Conv2d(3, 8, 3, bias=False), nc.nn.BatchNorm2d(8), nc.nn.ReLU())
    >>> fuse(net)
    Sequential(
      (0): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), activation=relu)
    )
    """
    if not isinstance(model, Module):
        raise TypeError(f"fuse takes a Module, got {type(model).__name__}")
    fused = copy.deepcopy(model).eval()
    places = Counter(id(child) for module in fused.modules() for child in module.children())
    for module in tuple(fused.modules()):
        if isinstance(module, Sequential) and is_plain(module, Sequential):
            _fuse_neighbours(module, places)
    return fused


def _fuse_neighbours(sequence: Sequential, places: Counter[int]) -> None:
    gone = []
    conv: Any = None  # the convolution whose output comes next, unless it is needed elsewhere
    for name, module in sequence.named_children():
        if conv is not None and isinstance(module, _BatchNorm) and _fits(module, conv):
            _fold(conv, module)
            gone.append(name)
        elif conv is not None and conv.activation is None and _is_rectifier(module):
            conv.activation = _RECTIFIERS[type(module)]
            gone.append(name)
        else:
            conv = module if _is_conv(module) and places[id(module)] == 1 else None
    _remove(sequence, gone)


def _is_conv(module: Module) -> bool:
    return runs_as(module, _ConvNd) or runs_as(module, _ConvTransposeNd)


def _is_rectifier(module: Module) -> bool:
    return type(module) in _RECTIFIERS and runs_as(module, type(module))


def _fits(norm: _BatchNorm, conv: _ConvBase) -> bool:
    """Whether the convolution can take over the batch normalisation.

    One of another rank or of other channels stays, and so does the error that it will raise.
    """
    return (
        runs_as(norm, _BatchNorm)
        and conv.activation is None
        and norm.running_mean is not None
        and norm.running_var is not None
        and norm.num_features == conv.out_channels
        and conv.rank + 2 in norm.axes
    )


def _fold(conv: _ConvBase, norm: _BatchNorm) -> None:
    """Give the convolution the weight and bias with which it does what both did.

    They are new parameters: other layers may hold the old ones.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = 1 / np.sqrt(norm.running_var.astype(np.float64) + norm.eps)
    if norm.weight is not None:
        scale *= norm.weight.data
    shift = -norm.running_mean.astype(np.float64)
    if conv.bias is not None:
        shift += conv.bias.data
    shift *= scale
    if norm.bias is not None:
        shift += norm.bias.data
    weight = conv.weight
    conv.weight = Parameter(_scaled(conv, scale).astype(weight.dtype), weight.requires_grad)
    conv.bias = Parameter(shift.astype(weight.dtype), weight.requires_grad)


def _scaled(conv: _ConvBase, scale: np.ndarray) -> np.ndarray:
    """The weight times one number per output channel."""
    weight = conv.weight.data
    if not isinstance(conv, _ConvTransposeNd):  # (C_out, C_in / groups, *kernel)
        return weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    # (C_in, C_out / groups, *kernel): the groups are parts of the first axis, their output channels the second.
    grouped = weight.reshape(conv.groups, -1, *weight.shape[1:])
    return (grouped * scale.reshape(conv.groups, 1, -1, *(1,) * conv.rank)).reshape(weight.shape)


def _remove(sequence: Sequential, gone: list[str]) -> None:
    """Take modules out: the names of the others stay, unless they are positions and should stay so."""
    names = sequence._names()
    if names != [str(position) for position in range(len(names))]:
        for name in gone:
            delattr(sequence, name)
        return
    for name in reversed(gone):  # from the end, so that the positions before it still hold
        del sequence[int(name)]
