"""Batch normalisation, its gradient and its running statistics."""

import numpy as np

from .exact import exact


def along_channels(values, ndim):
    return np.reshape(exact(values), (1, -1, *[1] * (ndim - 2)))


def batch_norm(x, weight=None, bias=None, eps=1e-5, mean=None, var=None):
    """With the batch's own statistics (population variance), or with the given ones."""
    x = exact(x)
    axes = (0, *range(2, x.ndim))
    mean = x.mean(axis=axes) if mean is None else mean
    var = x.var(axis=axes) if var is None else var
    y = (x - along_channels(mean, x.ndim)) / np.sqrt(along_channels(var, x.ndim) + eps)
    if weight is not None:
        y = y * along_channels(weight, x.ndim)
    if bias is not None:
        y = y + along_channels(bias, x.ndim)
    return y


def batch_norm_backward(grad_output, x, weight=None, eps=1e-5):
    """Gradients of input, weight and bias where the batch's own statistics were used."""
    grad_output, x = exact(grad_output), exact(x)
    axes = (0, *range(2, x.ndim))
    normal = batch_norm(x, eps=eps)
    scale = np.ones(x.shape[1]) if weight is None else exact(weight)
    grad_bias, grad_weight = grad_output.sum(axis=axes), (grad_output * normal).sum(axis=axes)
    grad_normal = grad_output * along_channels(scale, x.ndim)
    centred = grad_normal - grad_normal.mean(axis=axes, keepdims=True)
    centred = centred - normal * (grad_normal * normal).mean(axis=axes, keepdims=True)
    return centred / np.sqrt(x.var(axis=axes, keepdims=True) + eps), grad_weight, grad_bias


def running_statistics(x, running_mean, running_var, momentum=0.1):
    """The buffers after one training step: unbiased variance, momentum is the weight of the new."""
    x = exact(x)
    axes = (0, *range(2, x.ndim))
    mean, var = x.mean(axis=axes), x.var(axis=axes, ddof=1)
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * var
