"""Where the windows of convolutions and pools lie: padding, numbers of outputs, sources."""

import math

import numpy as np


def per_axis(value, rank):
    return [int(v) for v in value] if np.ndim(value) else [int(value)] * rank


def outputs(size, kernel, stride, dilation):
    """How many windows fit into `size` samples: count them."""
    count = 0
    while count * stride + dilation * (kernel - 1) < size:
        count += 1
    return count


def pads(padding, sizes, kernels, strides, dilations):
    """(low, high) for every axis."""
    if not isinstance(padding, str):
        padding = padding if np.iterable(padding) else [padding] * len(sizes)
        return [tuple(p) if np.iterable(p) else (p, p) for p in padding]
    result = []
    for size, kernel, stride, dilation in zip(sizes, kernels, strides, dilations, strict=True):
        if padding == "valid":
            result.append((0, 0))
        elif padding == "causal":
            result.append((dilation * (kernel - 1), 0))
        else:  # the least total padding that gives the size wanted
            wanted = size if padding == "same_size" else math.ceil(size / stride)
            total = 0
            while outputs(size + total, kernel, stride, dilation) < wanted:
                total += 1
            small, large = total // 2, total - total // 2
            result.append((large, small) if padding == "same_lower" else (small, large))
    return result


def source(position, size, mode):
    """The input index that stands at a padded position, or None for a zero."""
    if mode == "zeros":
        return position if 0 <= position < size else None
    while not 0 <= position < size:
        if mode == "replicate":
            position = 0 if position < 0 else size - 1
        elif mode == "circular":
            position += size if position < 0 else -size
        elif mode == "reflect":
            position = -position if position < 0 else 2 * (size - 1) - position
    return position
