"""Initial values of parameters. Every function fills a tensor or array in place and returns it.

Random values come from `numbacnn.random.generator`, so `numbacnn.manual_seed` makes them repeatable, or from the
`generator` given.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import random
from ..autograd import Tensor
from ..errors import OptionError, ShapeError
from ..ops._check import check_choice

__all__ = [
    "calculate_gain",
    "constant_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

_GAINS = {"linear": 1.0, "conv": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3.0, "relu": math.sqrt(2.0)}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights grow to make up for what an activation takes from the variance.

    Parameters
    ----------
    nonlinearity : {"linear", "conv", "sigmoid", "tanh", "relu", "leaky_relu"}
    param : float, optional
        The negative slope of "leaky_relu", 0.01 unless given.

    Returns
    -------
    float

    Raises
    ------
    OptionError
        The activation is unknown.

    Examples
    --------
    >>> round(calculate_gain("relu"), 4)
    1.4142
    """
    check_choice("nonlinearity", nonlinearity, (*_GAINS, "leaky_relu"))
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    return _GAINS[nonlinearity]


def uniform_(tensor: Any, a: float = 0.0, b: float = 1.0, generator: np.random.Generator | None = None) -> Any:
    """Uniform from `a` to below `b`.

    Parameters
    ----------
    tensor : Tensor or ndarray
        Filled in place.
    a, b : float, default 0 and 1
    generator : numpy.random.Generator, optional
        The package's own unless given: see `numbacnn.manual_seed`.

    Returns
    -------
    Tensor or ndarray
        `tensor` itself.

    Raises
    ------
    OptionError
        The values are not floating-point ones.

    Examples
    --------
    >>> values = uniform_(np.empty(100), -1, 1)
    >>> bool((values >= -1).all() and (values < 1).all())
    True
    """
    array = _array(tensor)
    source = generator or random.generator()
    return _fill(tensor, a + (b - a) * source.random(array.shape, array.dtype))


def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0, generator: np.random.Generator | None = None) -> Any:
    """Normally distributed.

    Parameters
    ----------
    tensor : Tensor or ndarray
        Filled in place.
    mean, std : float, default 0 and 1
    generator : numpy.random.Generator, optional
        The package's own unless given: see `numbacnn.manual_seed`.

    Returns
    -------
    Tensor or ndarray
        `tensor` itself.

    Raises
    ------
    OptionError
        The values are not floating-point ones.

    Examples
    --------
    >>> bool(abs(normal_(np.empty(1000), mean=5.0, std=0.1).mean() - 5) < 0.05)
    True
    """
    array = _array(tensor)
    source = generator or random.generator()
    return _fill(tensor, mean + std * source.standard_normal(array.shape, array.dtype))


def constant_(tensor: Any, value: float) -> Any:
    """All equal to `value`.

    Parameters
    ----------
    tensor : Tensor or ndarray
        Filled in place.
    value : float

    Returns
    -------
    Tensor or ndarray
        `tensor` itself.

    Raises
    ------
    OptionError
        The values are not floating-point ones.

    Examples
    --------
    >>> constant_(np.empty(2), 3)
    array([3., 3.])
    """
    return _fill(tensor, value)


def zeros_(tensor: Any) -> Any:
    """All 0.

    Parameters
    ----------
    tensor : Tensor or ndarray
        Filled in place.

    Returns
    -------
    Tensor or ndarray
        `tensor` itself.

    Raises
    ------
    OptionError
        The values are not floating-point ones.

    Examples
    --------
    >>> zeros_(np.empty(2))
    array([0., 0.])
    """
    return _fill(tensor, 0)


def ones_(tensor: Any) -> Any:
    """All 1.

    Parameters
    ----------
    tensor : Tensor or ndarray
        Filled in place.

    Returns
    -------
    Tensor or ndarray
        `tensor` itself.

    Raises
    ------
    OptionError
        The values are not floating-point ones.

    Examples
    --------
    >>> ones_(np.empty(2))
    array([1., 1.])
    """
    return _fill(tensor, 1)


def kaiming_uniform_(
    tensor: Any,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: np.random.Generator | None = None,
) -> Any:
    """Uniform, keeping the variance of activations (or, by `mode`, of gradients) through rectified layers.

    The bound is ``gain * sqrt(3 / fan)``.

    Parameters
    ----------
    tensor : Tensor or ndarray
        A weight: (out, in / groups, *kernel).
    a : float, default 0
        The negative slope, for "leaky_relu".
    mode : {"fan_in", "fan_out"}
        What to keep: the variance forward or backward.
    nonlinearity : str, default "leaky_relu"
        See `calculate_gain`.
    generator : numpy.random.Generator, optional
        The package's own unless given: see `numbacnn.manual_seed`.

    Returns
    -------
    Tensor or ndarray
        `tensor` itself.

    Raises
    ------
    OptionError
        The mode or the activation is unknown.
    ShapeError
        The weight has fewer than two axes.

    References
    ----------
    He et al., "Delving Deep into Rectifiers", 2015.

    Examples
    --------
    >>> weight = kaiming_uniform_(np.empty((16, 3, 5, 5)))
    >>> bool(abs(weight).max() < np.sqrt(2) * np.sqrt(3 / 75))
    True
    """
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Any,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: np.random.Generator | None = None,
) -> Any:
    """As `kaiming_uniform_`, normally distributed with standard deviation ``gain / sqrt(fan)``.

    Returns
    -------
    Tensor or ndarray
        `tensor` itself.

    Examples
    --------
    >>> weight = kaiming_normal_(np.empty((64, 32, 5, 5)))
    >>> bool(np.isclose(weight.std(), np.sqrt(2 / 800), rtol=0.05))
    True
    """
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def xavier_uniform_(tensor: Any, gain: float = 1.0, generator: np.random.Generator | None = None) -> Any:
    """Uniform, a compromise between the variances forward and backward: bound ``gain * sqrt(6 / (fan_in + fan_out))``.

    Parameters
    ----------
    tensor : Tensor or ndarray
        A weight: (out, in / groups, *kernel).
    gain : float, default 1
        See `calculate_gain`.
    generator : numpy.random.Generator, optional
        The package's own unless given: see `numbacnn.manual_seed`.

    Returns
    -------
    Tensor or ndarray
        `tensor` itself.

    Raises
    ------
    ShapeError
        The weight has fewer than two axes.

    References
    ----------
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.

    Examples
    --------
    >>> weight = xavier_uniform_(np.empty((30, 20)))
    >>> bool(abs(weight).max() < np.sqrt(6 / 50))
    True
    """
    bound = math.sqrt(3.0) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Any, gain: float = 1.0, generator: np.random.Generator | None = None) -> Any:
    """As `xavier_uniform_`, normal with standard deviation ``gain * sqrt(2 / (fan_in + fan_out))``.

    Parameters
    ----------
    tensor : Tensor or ndarray
        A weight: (out, in / groups, *kernel).
    gain : float, default 1
        See `calculate_gain`.
    generator : numpy.random.Generator, optional
        The package's own unless given: see `numbacnn.manual_seed`.

    Returns
    -------
    Tensor or ndarray
        `tensor` itself.

    Examples
    --------
    >>> weight = xavier_normal_(np.empty((300, 200)))
    >>> bool(np.isclose(weight.std(), np.sqrt(2 / 500), rtol=0.05))
    True
    """
    return normal_(tensor, 0.0, _xavier_std(tensor, gain), generator)


def fans(tensor: Any) -> tuple[int, int]:
    """How many inputs each output of a weight sees, and how many outputs each input reaches.

    Parameters
    ----------
    tensor : Tensor or ndarray
        A weight: (out, in / groups, *kernel).

    Returns
    -------
    fan_in, fan_out : int

    Raises
    ------
    ShapeError
        It has fewer than two axes.

    Examples
    --------
    >>> fans(np.empty((16, 3, 5, 5)))
    (75, 400)
    """
    shape = _array(tensor).shape
    if len(shape) < 2:
        raise ShapeError(f"a weight needs at least 2 axes for its fans to be known, got shape {shape}")
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def _kaiming_std(tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    fan = fans(tensor)[check_choice("mode", mode, ("fan_in", "fan_out")) == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def _xavier_std(tensor: Any, gain: float) -> float:
    return gain * math.sqrt(2.0 / sum(fans(tensor)))


def _array(tensor: Any) -> np.ndarray:
    array = tensor.data if isinstance(tensor, Tensor) else tensor
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise OptionError(f"only floating-point tensors and arrays can be filled, got {type(tensor).__name__}")
    return array


def _fill(tensor: Any, values: Any) -> Any:
    _array(tensor)[...] = values
    if isinstance(tensor, Tensor):
        tensor.mark_changed()
    return tensor
