"""An independent oracle: every operation as its definition says, in float64 (or int64), slowly.

Nothing of the package under test is imported here, and nothing is clever: outputs are computed one kernel tap or one
window at a time, from index lists that are built one index at a time.

Arrays are (N, C, *spatial). Options may be an integer or one value per axis; padding also takes (low, high) pairs per
axis and the names "valid", "same", "same_lower", "same_size", "causal".
"""

import itertools
import math

import numpy as np


def exact(array):
    """The array in the widest type of its kind: float64, or int64 for integers."""
    array = np.asarray(array)
    return array.astype(np.int64 if array.dtype.kind in "iub" else np.float64)


# ---------------------------------------------------------------------------------------------------------- geometry


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


# ----------------------------------------------------------------------------------------------------------- pooling


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


# ----------------------------------------------------------------------------------------------------- normalisation


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


# -------------------------------------------------------------------------------------- activations, linear and losses


def linear(x, weight, bias=None):
    y = exact(x) @ exact(weight).T
    return y if bias is None else y + exact(bias)


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


def cross_entropy(logits, target, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    """Loss and its gradient (of the sum, for reduction "none"); target: class indices or one distribution each."""
    logits, target = exact(logits), np.asarray(target)
    classes = logits.shape[1]
    scale = np.ones(classes) if weight is None else exact(weight)
    by_class = np.moveaxis(logits, 1, -1).reshape(-1, classes)
    losses, gradients, norms = [], [], []
    by_target = target.ravel() if target.ndim < logits.ndim else np.moveaxis(target, 1, -1).reshape(-1, classes)
    for row, wanted in zip(by_class, by_target, strict=True):
        if target.ndim < logits.ndim:
            ignored = wanted == ignore_index
            distribution = np.zeros(classes)
            if not ignored:
                distribution[wanted] = 1
            norms.append(0.0 if ignored else scale[wanted])
        else:
            ignored, distribution = False, exact(wanted)
            norms.append(1.0)
        smooth = 0 if ignored else (1 - label_smoothing) * distribution + label_smoothing / classes
        share = smooth * scale
        losses.append(-(share * log_softmax(row, 0)).sum())
        gradients.append(softmax(row, 0) * np.sum(share) - share)
    shape = logits.shape[:1] + logits.shape[2:]
    losses = np.reshape(losses, shape)
    gradient = np.moveaxis(np.reshape(gradients, (*shape, classes)), -1, 1)
    if reduction == "mean":
        return losses.sum() / sum(norms), gradient / sum(norms)
    return (losses.sum() if reduction == "sum" else losses), gradient


def mse(prediction, target):
    """Mean over all elements, and its gradient."""
    difference = exact(prediction) - exact(target)
    return (difference**2).mean(), 2 * difference / difference.size
