"""Optimiser steps: one launch updates all parameters, each in one pass over its memory.

`pointers` is a table with `slots` pointers per parameter: parameter, gradient, then the optimiser's buffers. `chunks`
gives each block its parameter, first element and last; `settings` holds a row of numbers per parameter.
"""

from __future__ import annotations

from ._build import device, kernel
from .pointer import load_pointer
from .simd import maximum, square_root

# Columns of the settings of SGD ...
SGD_RATE, SGD_DECAY, SGD_MOMENTUM, SGD_GAIN, SGD_NESTEROV, SGD_SIGN = range(6)
SGD_SETTINGS = 6
# ... and of Adam: see `numbacnn.optim`.
RATE, DECAY, SHRINK, BETA1, BETA2, GAIN1, GAIN2, ROOT_SCALE, EPS, SIGN = range(10)
ADAM_SETTINGS = 10


@device
def chunk(chunks, block):
    return chunks[3 * block], chunks[3 * block + 1], chunks[3 * block + 2]


@kernel
def sgd(block, settings: "T*", pointers: "int64*", chunks: "int64*"):
    """``p -= rate * (g + decay * p)``."""
    which, first, last = chunk(chunks, block)
    p = load_pointer(pointers, 2 * which, settings)
    g = load_pointer(pointers, 2 * which + 1, settings)
    at = SGD_SETTINGS * which
    rate, decay, sign = settings[at + SGD_RATE], settings[at + SGD_DECAY], settings[at + SGD_SIGN]
    for i in range(first, last):
        p[i] -= rate * (sign * g[i] + decay * p[i])


@kernel
def sgd_momentum(block, settings: "T*", pointers: "int64*", chunks: "int64*"):
    """``v = momentum * v + gain * g``; ``p -= rate * v``, or with Nesterov ``rate * (g + momentum * v)``."""
    which, first, last = chunk(chunks, block)
    p = load_pointer(pointers, 3 * which, settings)
    g = load_pointer(pointers, 3 * which + 1, settings)
    v = load_pointer(pointers, 3 * which + 2, settings)
    at = SGD_SETTINGS * which
    rate, decay, sign = settings[at + SGD_RATE], settings[at + SGD_DECAY], settings[at + SGD_SIGN]
    momentum, gain, nesterov = settings[at + SGD_MOMENTUM], settings[at + SGD_GAIN], settings[at + SGD_NESTEROV]
    if nesterov > 0:
        for i in range(first, last):
            gradient = sign * g[i] + decay * p[i]
            velocity = momentum * v[i] + gain * gradient
            v[i] = velocity
            p[i] -= rate * (gradient + nesterov * velocity)
    else:
        for i in range(first, last):
            velocity = momentum * v[i] + gain * (sign * g[i] + decay * p[i])
            v[i] = velocity
            p[i] -= rate * velocity


@kernel
def adam(block, settings: "T*", pointers: "int64*", chunks: "int64*"):
    """``m`` and ``v`` follow the gradient and its square; ``p -= rate * m / (sqrt(v) * root_scale + eps)``."""
    which, first, last = chunk(chunks, block)
    p = load_pointer(pointers, 4 * which, settings)
    g = load_pointer(pointers, 4 * which + 1, settings)
    m = load_pointer(pointers, 4 * which + 2, settings)
    v = load_pointer(pointers, 4 * which + 3, settings)
    at = ADAM_SETTINGS * which
    rate, decay, shrink = settings[at + RATE], settings[at + DECAY], settings[at + SHRINK]
    beta1, beta2, gain1, gain2 = settings[at + BETA1], settings[at + BETA2], settings[at + GAIN1], settings[at + GAIN2]
    root_scale, eps, sign = settings[at + ROOT_SCALE], settings[at + EPS], settings[at + SIGN]
    for i in range(first, last):
        gradient = sign * g[i] + decay * p[i]
        mean = beta1 * m[i] + gain1 * gradient
        square = beta2 * v[i] + gain2 * (gradient * gradient)
        m[i] = mean
        v[i] = square
        p[i] = shrink * p[i] - rate * mean / (square_root(square) * root_scale + eps)


@kernel
def adam_amsgrad(block, settings: "T*", pointers: "int64*", chunks: "int64*"):
    """As `adam`, with the largest ``v`` so far in place of ``v``."""
    which, first, last = chunk(chunks, block)
    p = load_pointer(pointers, 5 * which, settings)
    g = load_pointer(pointers, 5 * which + 1, settings)
    m = load_pointer(pointers, 5 * which + 2, settings)
    v = load_pointer(pointers, 5 * which + 3, settings)
    top = load_pointer(pointers, 5 * which + 4, settings)
    at = ADAM_SETTINGS * which
    rate, decay, shrink = settings[at + RATE], settings[at + DECAY], settings[at + SHRINK]
    beta1, beta2, gain1, gain2 = settings[at + BETA1], settings[at + BETA2], settings[at + GAIN1], settings[at + GAIN2]
    root_scale, eps, sign = settings[at + ROOT_SCALE], settings[at + EPS], settings[at + SIGN]
    for i in range(first, last):
        gradient = sign * g[i] + decay * p[i]
        mean = beta1 * m[i] + gain1 * gradient
        square = beta2 * v[i] + gain2 * (gradient * gradient)
        largest = maximum(top[i], square)
        m[i] = mean
        v[i] = square
        top[i] = largest
        p[i] = shrink * p[i] - rate * mean / (square_root(largest) * root_scale + eps)
