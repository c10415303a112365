"""What a few entries of each result must be: float64, straight from the definitions, by none of the libraries measured.

A full float64 result of the larger cases would take minutes, so entries are sampled: every corner of the spatial axes,
where padding errs, and random ones.
"""

from __future__ import annotations

import itertools
import math
from functools import singledispatch
from typing import Any

import numpy as np

from . import cases
from .inputs import Arrays

# name of a result array -> (index into it, the values that belong there)
Sample = dict[str, tuple[Any, np.ndarray]]

RANDOM_ENTRIES = 48


@singledispatch
def sample(case: cases.Case, direction: str, arrays: Arrays) -> Sample:
    """Entries of the result of `direction`; empty where only another library can judge (a training step)."""
    return {}


@sample.register
def _(case: cases.ConvCase, direction: str, arrays: Arrays) -> Sample:
    shape = {
        "forward": case.output_shape,
        "backward_data": case.input_shape,
        "backward_weight": case.weight_shape,
    }[direction]
    entry = {"forward": _forward, "backward_data": _backward_data, "backward_weight": _backward_weight}[direction]
    return _entries(shape, lambda index: entry(case, arrays, index))


def _forward(case: cases.ConvCase, arrays: Arrays, index: tuple[int, ...]) -> float:
    n, channel, *position = index
    group = channel // (case.out_channels // case.groups)
    taps, sources = [], []
    for o, extent, kernel, stride, padding, dilation in _along_axes(case, position):
        tap = np.arange(kernel)
        source = stride * o - padding + dilation * tap
        inside = (source >= 0) & (source < extent)
        taps.append(tap[inside])
        sources.append(source[inside])
    channels = np.arange(case.weight_shape[1])
    return _dot(
        arrays["x"][n], [channels + group * len(channels), *sources], arrays["weight"][channel], [channels, *taps]
    )


def _backward_data(case: cases.ConvCase, arrays: Arrays, index: tuple[int, ...]) -> float:
    n, channel, *position = index
    per_group = case.in_channels // case.groups
    taps, sources = [], []
    outputs = case.output_shape[2:]
    for axis, (i, _, kernel, stride, padding, dilation) in enumerate(_along_axes(case, position)):
        tap = np.arange(kernel)
        numerator = i + padding - dilation * tap
        reached = (numerator % stride == 0) & (numerator >= 0) & (numerator // stride < outputs[axis])
        taps.append(tap[reached])
        sources.append(numerator[reached] // stride)
    outs = np.arange(case.out_channels // case.groups)
    outs += channel // per_group * len(outs)
    return _dot(arrays["grad_output"][n], [outs, *sources], arrays["weight"][:, channel % per_group], [outs, *taps])


def _backward_weight(case: cases.ConvCase, arrays: Arrays, index: tuple[int, ...]) -> float:
    out, channel, *tap = index
    group = out // (case.out_channels // case.groups)
    positions, sources = [], []
    outputs = case.output_shape[2:]
    for axis, (k, extent, _, stride, padding, dilation) in enumerate(_along_axes(case, tap)):
        position = np.arange(outputs[axis])
        source = stride * position - padding + dilation * k
        inside = (source >= 0) & (source < extent)
        positions.append(position[inside])
        sources.append(source[inside])
    batch = np.arange(case.batch)
    x = arrays["x"][:, group * case.weight_shape[1] + channel]
    return _dot(arrays["grad_output"][:, out], [batch, *positions], x, [batch, *sources])


@sample.register
def _(case: cases.PoolCase, direction: str, arrays: Arrays) -> Sample:
    if direction == "forward":
        return _entries(case.output_shape, lambda index: _pooled(case, arrays["x"], index)[0])
    return _entries(case.input_shape, lambda index: _pool_gradient(case, arrays, index))


def _pooled(case: cases.PoolCase, x: np.ndarray, index: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
    """The value of one window, and where its maximum lies (first in row-major order)."""
    n, c, *position = index
    low = [o * s - p for o, s, p in zip(position, case.stride, case.padding, strict=True)]
    start = [max(0, i) for i in low]
    stop = [min(extent, i + k) for extent, i, k in zip(case.spatial, low, case.kernel, strict=True)]
    window = x[n, c][tuple(map(slice, start, stop))].astype(np.float64)
    if case.mode == "avg":
        return window.sum() / np.prod(case.kernel), ()
    offset = np.unravel_index(window.argmax(), window.shape)
    return window.max(), tuple(int(o) + i for o, i in zip(offset, start, strict=True))


def _pool_gradient(case: cases.PoolCase, arrays: Arrays, index: tuple[int, ...]) -> float:
    n, c, *position = index
    total = 0.0
    windows = []  # per axis, the windows that cover the entry
    for axis, i in enumerate(position):
        covered = np.arange(case.output_shape[2 + axis])
        start = covered * case.stride[axis] - case.padding[axis]
        windows.append(covered[(start <= i) & (i < start + case.kernel[axis])])
    for window in itertools.product(*windows):
        grad = float(arrays["grad_output"][(n, c, *window)])
        if case.mode == "avg":
            total += grad / np.prod(case.kernel)
        elif _pooled(case, arrays["x"], (n, c, *window))[1] == tuple(position):
            total += grad
    return total


@sample.register
def _(case: cases.NormCase, direction: str, arrays: Arrays) -> Sample:
    channels = np.unique(np.linspace(0, case.channels - 1, 4).astype(int))
    index = (slice(None), channels)
    axes = (0, *range(2, len(case.input_shape)))

    def column(values: np.ndarray) -> np.ndarray:
        return values[channels].astype(np.float64).reshape(-1, *(1,) * len(case.spatial))

    x = arrays["x"][index].astype(np.float64)
    if direction == "evaluation":
        mean, variance = column(arrays["running_mean"]), column(arrays["running_var"])
    else:
        mean, variance = x.mean(axes, keepdims=True)[0], x.var(axes, keepdims=True)[0]
    inverse = 1 / np.sqrt(variance + 1e-5)
    normal = (x - mean) * inverse
    weight = column(arrays["weight"])
    if direction != "backward":
        return {"output": (index, normal * weight + column(arrays["bias"]))}
    grad = arrays["grad_output"][index].astype(np.float64)
    grad_weight, grad_bias = (grad * normal).sum(axes, keepdims=True), grad.sum(axes, keepdims=True)
    count = x.size // len(channels)
    grad_input = weight * inverse * (grad - grad_bias / count - normal * grad_weight / count)
    return {
        "grad_input": (index, grad_input),
        "grad_weight": (channels, grad_weight.ravel()),
        "grad_bias": (channels, grad_bias.ravel()),
    }


@sample.register
def _(case: cases.LinearCase, direction: str, arrays: Arrays) -> Sample:
    x, weight, grad = (arrays[name] for name in ("x", "weight", "grad_output"))
    left, right = {"forward": (x, weight.T), "backward_data": (grad, weight), "backward_weight": (grad.T, x)}[direction]
    rows = np.unique(np.linspace(0, left.shape[0] - 1, 4).astype(int))
    return {"output": (rows, left[rows].astype(np.float64) @ right.astype(np.float64))}


@sample.register
def _(case: cases.MatmulCase, direction: str, arrays: Arrays) -> Sample:
    rows = np.unique(np.linspace(0, case.rows - 1, 4).astype(int))
    return {"output": (rows, arrays["a"][rows].astype(np.float64) @ arrays["b"].astype(np.float64))}


# The factor that numbers are multiplied by, and the slope of leaky_relu; both exact in float32.
SCALE, SLOPE = 0.375, 0.125


@sample.register
def _(case: cases.ArithmeticCase, direction: str, arrays: Arrays) -> Sample:
    x, y = arrays["x"], arrays["y"]

    def value(index: tuple[int, ...]) -> float:
        n, c, *position = index
        if case.function == "concatenate":
            return (x if c < case.channels else y)[(n, c % case.channels, *position)]
        a, b = float(x[index]), float(y[index])
        return {"add": a + b, "multiply": a * b, "scale": SCALE * a}[case.function]

    channels = case.channels * (2 if case.function == "concatenate" else 1)
    return _entries((case.batch, channels, *case.spatial), value)


@sample.register
def _(case: cases.ActivationCase, direction: str, arrays: Arrays) -> Sample:
    x, grad = arrays["x"], arrays["grad_output"]

    def value(index: tuple[int, ...]) -> float:
        if "softmax" in case.function:
            n, c, *position = index
            along = (n, slice(None), *position)
            gradient = grad[along].astype(np.float64) if direction == "backward" else None
            return float(_softmax(x[along].astype(np.float64), gradient, case.function == "log_softmax")[c])
        y, slope = _activated(case.function, float(x[index]))
        return y if direction == "forward" else slope * float(grad[index])

    return _entries(case.input_shape, value)


def _softmax(x: np.ndarray, grad: np.ndarray | None, log: bool) -> np.ndarray:
    """Softmax, or its logarithm, of a vector; with the gradient of the result, that of `x`."""
    weights = np.exp(x - x.max())
    y = weights / weights.sum()
    if grad is None:
        return x - x.max() - np.log(weights.sum()) if log else y
    return grad - y * grad.sum() if log else y * (grad - grad @ y)


def _activated(function: str, x: float) -> tuple[float, float]:
    """The value and the derivative of an activation function."""
    logistic = 1 / (1 + math.exp(-x))
    if function in ("relu", "leaky_relu"):
        slope = 1.0 if x > 0 else SLOPE * (function == "leaky_relu")
        return slope * x, slope
    if function in ("sigmoid", "silu"):
        slope = logistic * (1 - logistic)
        return (logistic, slope) if function == "sigmoid" else (x * logistic, logistic + x * slope)
    if function == "gelu":
        cdf = math.erfc(-x / math.sqrt(2)) / 2
        return x * cdf, cdf + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    inner, inner_slope = x, 1.0
    if function == "gelu_tanh":
        factor = math.sqrt(2 / math.pi)
        inner, inner_slope = factor * (x + 0.044715 * x**3), factor * (1 + 3 * 0.044715 * x * x)
    y = math.tanh(inner)
    slope = (1 - y * y) * inner_slope
    return (y, slope) if function == "tanh" else (x * (1 + y) / 2, (1 + y) / 2 + x * slope / 2)


def _entries(shape: tuple[int, ...], value: Any) -> Sample:
    """Corners and random entries of an array of `shape`, each valued by `value(index)`."""
    generator = np.random.default_rng(len(shape))
    corners = itertools.product(*({0, extent - 1} for extent in shape[2:]))
    indices = [(*(int(generator.integers(extent)) for extent in shape[:2]), *corner) for corner in corners]
    indices += [tuple(int(generator.integers(extent)) for extent in shape) for _ in range(RANDOM_ENTRIES)]
    return {"output": (tuple(np.array(indices).T), np.array([value(index) for index in indices]))}


def _along_axes(case: cases.ConvCase, position: list[int]) -> Any:
    return zip(position, case.spatial, case.kernel, case.stride, case.padding, case.dilation, strict=True)


def _dot(a: np.ndarray, a_index: list[np.ndarray], b: np.ndarray, b_index: list[np.ndarray]) -> float:
    left = a[np.ix_(*a_index)].astype(np.float64)
    return float(np.vdot(left, b[np.ix_(*b_index)].astype(np.float64)))
