"""Pools and their gradients, one window at a time."""

import itertools
import math

import numpy as np

from .exact import exact
from .windows import outputs, pads, per_axis


def pool_windows(sizes, kernel, stride=None, padding=0, dilation=1, ceil_mode=False):
    """The output sizes; and every output position with, per axis, the padded positions that its window covers and the
    end of the padded input."""
    rank = len(sizes)
    kernels, dilations = per_axis(kernel, rank), per_axis(dilation, rank)
    strides = kernels if stride is None else per_axis(stride, rank)
    sides = pads(padding, sizes, kernels, strides, dilations)
    counts, windows = [], []
    for i, (low, high), k, s, d in zip(sizes, sides, kernels, strides, dilations, strict=True):
        count = outputs(i + low + high, k, s, d)
        # One more window, hanging over the edge, if the regular ones leave samples and it begins before the padding.
        end = (count - 1) * s + d * (k - 1) + 1
        if ceil_mode and end < i + low + high and count * s < i + low:
            count += 1
        counts.append(count)
    ends = [i + high for i, (_, high) in zip(sizes, sides, strict=True)]
    for position in itertools.product(*(range(c) for c in counts)):
        starts = [o * s - p[0] for o, s, p in zip(position, strides, sides, strict=True)]
        covered = [[a + d * k for k in range(n)] for a, d, n in zip(starts, dilations, kernels, strict=True)]
        windows.append((position, covered, ends))
    return counts, windows


def inside(covered, sizes):
    """The taps of a window that lie in the input, in row-major order."""
    return list(
        itertools.product(*([p for p in axis if 0 <= p < size] for axis, size in zip(covered, sizes, strict=True)))
    )


def adaptive_windows(sizes, output_size):
    """The output sizes; and every output position with its taps.

    Output o of O covers the input from floor(o I / O) up to, not including, ceil((o + 1) I / O).
    """
    counts, windows = per_axis(output_size, len(sizes)), []
    for position in itertools.product(*(range(c) for c in counts)):
        ranges = [range(o * i // c, -(-(o + 1) * i // c)) for o, i, c in zip(position, sizes, counts, strict=True)]
        windows.append((position, list(itertools.product(*ranges))))
    return counts, windows


def at(position):
    """The index of a position, or a tap, in all planes."""
    return (slice(None), slice(None), *position)


def largest(x, counts, windows):
    """Values and flat indices into each (n, c) plane: the first of equals, and a NaN before all."""
    x = np.asarray(x)
    y = np.empty((*x.shape[:2], *counts), x.dtype)
    indices = np.empty(y.shape, np.int64)
    for position, taps in windows:
        values = np.stack([x[at(tap)] for tap in taps])
        winner = values.argmax(axis=0)
        y[at(position)] = np.take_along_axis(values, winner[None], axis=0)[0]
        indices[at(position)] = np.array([np.ravel_multi_index(tap, x.shape[2:]) for tap in taps])[winner]
    return y, indices


def max_pool(x, kernel, stride=None, padding=0, dilation=1, ceil_mode=False):
    sizes = np.shape(x)[2:]
    counts, windows = pool_windows(sizes, kernel, stride, padding, dilation, ceil_mode)
    return largest(x, counts, [(position, inside(covered, sizes)) for position, covered, _ in windows])


def adaptive_max_pool(x, output_size):
    return largest(x, *adaptive_windows(np.shape(x)[2:], output_size))


def max_pool_backward(grad_output, indices, input_shape):
    grad_output = exact(grad_output)
    grad_input = np.zeros((*input_shape[:2], math.prod(input_shape[2:])), grad_output.dtype)
    for n, c in np.ndindex(*input_shape[:2]):
        np.add.at(grad_input[n, c], indices[n, c].ravel(), grad_output[n, c].ravel())
    return grad_input.reshape(input_shape)


def averages(x, counts, windows):
    """The sums of windows, each divided by a number of its own."""
    x = exact(x)
    y = np.empty((*x.shape[:2], *counts))
    for position, taps, divisor in windows:
        y[at(position)] = sum(x[at(tap)] for tap in taps) / divisor
    return y


def averages_backward(grad_output, input_shape, windows):
    grad_output, grad_input = exact(grad_output), np.zeros(input_shape)
    for position, taps, divisor in windows:
        for tap in taps:
            grad_input[at(tap)] += grad_output[at(position)] / divisor
    return grad_input


def average_windows(
    sizes, kernel, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    """The output sizes; and every output position with its taps and what their sum is divided by."""
    counts, windows = pool_windows(sizes, kernel, stride, padding, 1, ceil_mode)
    divided = []
    for position, covered, ends in windows:
        taps = inside(covered, sizes)
        divisor = len(taps)
        if divisor_override is not None:
            divisor = divisor_override
        elif count_include_pad:  # the padding counts, what hangs over it does not
            divisor = math.prod(sum(p < end for p in axis) for axis, end in zip(covered, ends, strict=True))
        divided.append((position, taps, divisor))
    return counts, divided


def avg_pool(x, kernel, **options):
    return averages(x, *average_windows(np.shape(x)[2:], kernel, **options))


def avg_pool_backward(grad_output, input_shape, kernel, **options):
    return averages_backward(grad_output, input_shape, average_windows(input_shape[2:], kernel, **options)[1])


def adaptive_average_windows(sizes, output_size):
    counts, windows = adaptive_windows(sizes, output_size)
    return counts, [(position, taps, len(taps)) for position, taps in windows]


def adaptive_avg_pool(x, output_size):
    return averages(x, *adaptive_average_windows(np.shape(x)[2:], output_size))


def adaptive_avg_pool_backward(grad_output, input_shape):
    _, windows = adaptive_average_windows(input_shape[2:], np.shape(grad_output)[2:])
    return averages_backward(grad_output, input_shape, windows)


def global_avg_pool(x, keepdims=False):
    return exact(x).mean(axis=tuple(range(2, np.ndim(x))), keepdims=keepdims)
