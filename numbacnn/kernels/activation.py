"""Activation functions and their gradients, element by element over flat memory.

One block is the elements ``block * step`` up to ``(block + 1) * step``. The functions called are branch-free scalars
(see `simd.elementwise`), so LLVM turns each loop into full vectors; `test_activation` looks at the assembly.
Backward kernels compute ``grad_input = grad * slope`` in one pass, from the output where that is enough.
"""

from __future__ import annotations

from ._build import kernel
from .elementary import gelu, gelu_slope, gelu_tanh, gelu_tanh_slope, logistic, silu, silu_slope, tanh
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
def relu_forward(block, x: "T*", out: "T*", size: "int64", step: "int64"):
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = maximum(x[i], 0.0)


@kernel
def relu_backward(block, grad: "T*", y: "T*", out: "T*", size: "int64", step: "int64"):
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = _where_positive(y[i], grad[i])


@kernel
def relu6_forward(block, x: "T*", out: "T*", size: "int64", step: "int64"):
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = minimum(maximum(x[i], 0.0), 6.0)


@kernel
def relu6_backward(block, grad: "T*", y: "T*", out: "T*", size: "int64", step: "int64"):
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = _where_between(y[i], grad[i])


@kernel
def leaky_relu_forward(block, x: "T*", out: "T*", slope: "T", size: "int64", step: "int64"):
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = _leak(x[i], slope)


@kernel
def leaky_relu_backward(block, grad: "T*", x: "T*", out: "T*", slope: "T", size: "int64", step: "int64"):
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = _leak_gradient(x[i], grad[i], slope)


@kernel
def sigmoid_forward(block, x: "T*", out: "T*", size: "int64", step: "int64"):
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = logistic(x[i])


@kernel
def sigmoid_backward(block, grad: "T*", y: "T*", out: "T*", size: "int64", step: "int64"):
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = _logistic_gradient(y[i], grad[i])


@kernel
def tanh_forward(block, x: "T*", out: "T*", size: "int64", step: "int64"):
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = tanh(x[i])


@kernel
def tanh_backward(block, grad: "T*", y: "T*", out: "T*", size: "int64", step: "int64"):
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = _tanh_gradient(y[i], grad[i])


@kernel
def silu_forward(block, x: "T*", out: "T*", size: "int64", step: "int64"):
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = silu(x[i])


@kernel
def silu_backward(block, grad: "T*", x: "T*", out: "T*", size: "int64", step: "int64"):
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = grad[i] * silu_slope(x[i])


@kernel
def gelu_forward(block, x: "T*", out: "T*", size: "int64", step: "int64"):
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = gelu(x[i])


@kernel
def gelu_backward(block, grad: "T*", x: "T*", out: "T*", size: "int64", step: "int64"):
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = grad[i] * gelu_slope(x[i])


@kernel
def gelu_tanh_forward(block, x: "T*", out: "T*", size: "int64", step: "int64"):
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = gelu_tanh(x[i])


@kernel
def gelu_tanh_backward(block, grad: "T*", x: "T*", out: "T*", size: "int64", step: "int64"):
    for i in range(block * step, min(size, (block + 1) * step)):
        out[i] = grad[i] * gelu_tanh_slope(x[i])
