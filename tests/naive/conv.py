"""Convolution and its gradients, one kernel tap at a time."""

import itertools
import math

import numpy as np

from .exact import exact
from .windows import outputs, pads, per_axis, source


def conv_taps(sizes, kernels, stride, padding, dilation, padding_mode):
    """For every kernel tap, per axis, the source of every output: y[o] reads x[S*o + D*k - P]."""
    rank = len(sizes)
    strides, dilations = per_axis(stride, rank), per_axis(dilation, rank)
    modes = [padding_mode] * rank if isinstance(padding_mode, str) else padding_mode
    sides = pads(padding, sizes, kernels, strides, dilations)
    counts = [
        outputs(i + sum(p), k, s, d) for i, p, k, s, d in zip(sizes, sides, kernels, strides, dilations, strict=True)
    ]
    for tap in itertools.product(*(range(k) for k in kernels)):
        yield (
            tap,
            [
                [
                    source(strides[a] * o + dilations[a] * tap[a] - sides[a][0], sizes[a], modes[a])
                    for o in range(counts[a])
                ]
                for a in range(rank)
            ],
        )


def gather(x, sources):
    """x at the given sources along each spatial axis, zero where a source is None."""
    for axis, indices in enumerate(sources, start=2):
        x = np.take(x, [0 if i is None else i for i in indices], axis=axis)
        outside = [o for o, i in enumerate(indices) if i is None]
        x[(slice(None),) * axis + (outside,)] = 0
    return x


def scatter_add(target, sources, values):
    """The transpose of `gather`: add values to the elements of target they were read from."""
    here = [[o for o, i in enumerate(indices) if i is not None] for indices in sources]
    there = [[i for i in indices if i is not None] for indices in sources]
    if all(here):
        every = (slice(None), slice(None))
        np.add.at(target, every + np.ix_(*there), values[every + np.ix_(*here)])


def grouped(array, groups, axis):
    return np.split(array, groups, axis=axis)


# ------------------------------------------------------------------------------------------------------- convolution


def conv_forward(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros"):
    x, weight = exact(x), exact(weight)
    y = 0
    for tap, sources in conv_taps(x.shape[2:], weight.shape[2:], stride, padding, dilation, padding_mode):
        read = grouped(gather(x, sources), groups, 1)
        here = grouped(weight[(slice(None), slice(None), *tap)], groups, 0)
        y = y + np.concatenate([np.einsum("oc,nc...->no...", w, r) for w, r in zip(here, read, strict=True)], axis=1)
    if bias is not None:
        y = y + exact(bias).reshape(-1, *[1] * (x.ndim - 2))
    return y


def conv_backward_data(
    grad_output, weight, input_shape, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros"
):
    grad_output, weight = exact(grad_output), exact(weight)
    grad_input = np.zeros(input_shape, grad_output.dtype)
    grads = grouped(grad_output, groups, 1)
    for tap, sources in conv_taps(input_shape[2:], weight.shape[2:], stride, padding, dilation, padding_mode):
        here = grouped(weight[(slice(None), slice(None), *tap)], groups, 0)
        values = np.concatenate([np.einsum("oc,no...->nc...", w, g) for w, g in zip(here, grads, strict=True)], axis=1)
        scatter_add(grad_input, sources, values)
    return grad_input


def conv_backward_weight(grad_output, x, weight_shape, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros"):
    grad_output, x = exact(grad_output), exact(x)
    grad_weight = np.zeros(weight_shape, grad_output.dtype)
    grads = grouped(grad_output, groups, 1)
    for tap, sources in conv_taps(x.shape[2:], weight_shape[2:], stride, padding, dilation, padding_mode):
        read = grouped(gather(x, sources), groups, 1)
        values = [np.einsum("nos,ncs->oc", flat(g), flat(r)) for g, r in zip(grads, read, strict=True)]
        grad_weight[(slice(None), slice(None), *tap)] = np.concatenate(values, axis=0)
    return grad_weight


def conv_backward_bias(grad_output):
    return flat(exact(grad_output)).sum(axis=(0, 2))


def flat(array):
    """(N, C, all spatial positions)."""
    return array.reshape(*array.shape[:2], math.prod(array.shape[2:]))


def conv_transpose(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Every input adds its multiple of the kernel: y[S*i + D*k - P] += x[i] w[k]; weight (C_in, C_out/g, *kernel)."""
    x, weight = exact(x), exact(weight)
    sizes, kernels, rank = x.shape[2:], weight.shape[2:], x.ndim - 2
    strides, dilations, extra = per_axis(stride, rank), per_axis(dilation, rank), per_axis(output_padding, rank)
    sides = pads(padding, sizes, kernels, strides, dilations)
    shape = [
        (i - 1) * s - sum(p) + d * (k - 1) + e + 1
        for i, s, p, d, k, e in zip(sizes, strides, sides, dilations, kernels, extra, strict=True)
    ]
    y = np.zeros((x.shape[0], weight.shape[1] * groups, *shape), x.dtype)
    for tap in itertools.product(*(range(k) for k in kernels)):
        here = grouped(weight[(slice(None), slice(None), *tap)], groups, 0)
        parts = [np.einsum("co,nc...->no...", w, part) for w, part in zip(here, grouped(x, groups, 1), strict=True)]
        targets = []
        for a in range(rank):
            positions = [strides[a] * i + dilations[a] * tap[a] - sides[a][0] for i in range(sizes[a])]
            targets.append([p if 0 <= p < shape[a] else None for p in positions])
        scatter_add(y, targets, np.concatenate(parts, axis=1))
    if bias is not None:
        y = y + exact(bias).reshape(-1, *[1] * rank)
    return y
