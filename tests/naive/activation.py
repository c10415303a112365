"""Activations and softmax, and their gradients."""

import math

import numpy as np

from .exact import exact


def relu(x):
    return np.where(np.isnan(x) | (np.asarray(x) > 0), x, 0)


def relu_backward(grad_output, x):
    return np.where(np.isnan(x) | (np.asarray(x) > 0), exact(grad_output), 0)


def leaky_relu(x, negative_slope=0.01):
    x = exact(x)
    return np.where(x >= 0, x, negative_slope * x)


def leaky_relu_backward(grad_output, x, negative_slope=0.01):
    return exact(grad_output) * np.where(exact(x) > 0, 1.0, negative_slope)


def sigmoid(x):
    return np.array(
        [1 / (1 + math.exp(-v)) if v >= 0 else math.exp(v) / (1 + math.exp(v)) for v in exact(x).flat]
    ).reshape(np.shape(x))


def gelu(x, approximate="none"):
    x = exact(x)
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.flat]).reshape(x.shape)


def softmax(x, dim=1):
    x = exact(x)
    e = np.exp(x - x.max(axis=dim, keepdims=True))
    return e / e.sum(axis=dim, keepdims=True)


def log_softmax(x, dim=1):
    x = exact(x)
    x = x - x.max(axis=dim, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=dim, keepdims=True))


def softmax_backward(grad_output, y, dim=1):
    grad_output, y = exact(grad_output), exact(y)
    return y * (grad_output - (grad_output * y).sum(axis=dim, keepdims=True))


def log_softmax_backward(grad_output, y, dim=1):
    grad_output = exact(grad_output)
    return grad_output - np.exp(exact(y)) * grad_output.sum(axis=dim, keepdims=True)
