"""Activation functions and their gradients, element by element over flat memory.

The functions called are branch-free (see `simd.elementwise`). Backward kernels compute ``grad_input = grad * slope`` in
one pass, from the output where that is enough. Blocks and `streamed` are as in `flat`.
"""

from __future__ import annotations

from ._build import kernel
from .elementary import gelu, gelu_slope, gelu_tanh, gelu_tanh_slope, logistic, silu, silu_slope, tanh
from .flat import get, pace, put, span
from .simd import elementwise, maximum, minimum


@elementwise
def _where_positive(y, grad):
    """`grad` unless `y` <= 0: a NaN in `y` lets it through."""
    return (y <= 0.0).choose(0.0, grad)


@elementwise
def _where_between(y, grad):
    """`grad` unless `y` <= 0 or `y` >= 6: a NaN in `y` lets it through."""
    return (y <= 0.0).choose(0.0, (y >= 6.0).choose(0.0, grad))


@elementwise
def _leak(x, slope):
    """`x`, times `slope` where negative."""
    return (x < 0.0).choose(x * slope, x)


@elementwise
def _leak_gradient(x, grad, slope):
    """`grad` where `x` > 0, else times `slope`: at 0 the left derivative, as in `relu_backward`."""
    return (x > 0.0).choose(grad, grad * slope)


@elementwise
def _logistic_gradient(y, grad):
    return grad * (y * (1.0 - y))


@elementwise
def _tanh_gradient(y, grad):
    return grad * (-y).fma(y, 1.0)


@kernel
def relu_forward(block, x: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, maximum(get(x, i, end), 0.0), end, streamed)


@kernel
def relu_backward(block, grad: "T*", y: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, _where_positive(get(y, i, end), get(grad, i, end)), end, streamed)


@kernel
def relu6_forward(block, x: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, minimum(maximum(get(x, i, end), 0.0), 6.0), end, streamed)


@kernel
def relu6_backward(block, grad: "T*", y: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, _where_between(get(y, i, end), get(grad, i, end)), end, streamed)


@kernel
def leaky_relu_forward(block, x: "T*", out: "T*", slope: "T", size: "int64", step: "int64", streamed: "int64"):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, _leak(get(x, i, end), slope), end, streamed)


@kernel
def leaky_relu_backward(
    block, grad: "T*", x: "T*", out: "T*", slope: "T", size: "int64", step: "int64", streamed: "int64"
):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, _leak_gradient(get(x, i, end), get(grad, i, end), slope), end, streamed)


@kernel
def sigmoid_forward(block, x: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, logistic(get(x, i, end)), end, streamed)


@kernel
def sigmoid_backward(block, grad: "T*", y: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, _logistic_gradient(get(y, i, end), get(grad, i, end)), end, streamed)


@kernel
def tanh_forward(block, x: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, tanh(get(x, i, end)), end, streamed)


@kernel
def tanh_backward(block, grad: "T*", y: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, _tanh_gradient(get(y, i, end), get(grad, i, end)), end, streamed)


@kernel
def silu_forward(block, x: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, silu(get(x, i, end)), end, streamed)


@kernel
def silu_backward(block, grad: "T*", x: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, get(grad, i, end) * silu_slope(get(x, i, end)), end, streamed)


@kernel
def gelu_forward(block, x: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, gelu(get(x, i, end)), end, streamed)


@kernel
def gelu_backward(block, grad: "T*", x: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, get(grad, i, end) * gelu_slope(get(x, i, end)), end, streamed)


@kernel
def gelu_tanh_forward(block, x: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, gelu_tanh(get(x, i, end)), end, streamed)


@kernel
def gelu_tanh_backward(block, grad: "T*", x: "T*", out: "T*", size: "int64", step: "int64", streamed: "int64"):
    first, end = span(block, step, size)
    for i in range(first, end, pace(out)):
        put(out, i, get(grad, i, end) * gelu_tanh_slope(get(x, i, end)), end, streamed)
