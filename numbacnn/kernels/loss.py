"""Losses: the value and its gradient in one pass.

Cross-entropy works on rows of `n` contiguous classes; one block is `step` rows. The loss of a row is ``sum over c of
q[c] * -log_softmax(x)[c]`` and its gradient ``softmax(x) * sum(q) - q``, where q is the target, smoothed towards equal
shares and multiplied by the class weights. Every kernel multiplies the gradient by `scale` (1, or 1 over what the mean
divides by) and writes it only if `with_grad`.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .elementary import exp, log
from .simd import absolute, elementwise, fma, lanes, load, load_first, reduce_add, splat, store, store_first
from .softmax import row_exp_sum, row_max

# Slots of what `check_labels` finds out.
WRONG, SCALE = 0, 1
STATE_SLOTS = 2


class Rows(NamedTuple):
    """What the rows of a cross-entropy are, and how many of them one block takes."""

    rows: int
    n: int
    step: int
    with_grad: int


@elementwise
def _smooth_l1(distance, beta):
    """``distance**2 / (2 beta)`` below beta, ``distance - beta / 2`` above."""
    return (distance < beta).choose(distance * distance * 0.5 / beta, distance - beta * 0.5)


@elementwise
def _smooth_l1_slope(difference, beta):
    sign = (difference > 0.0).choose(1.0, (difference < 0.0).choose(difference.like(-1.0), difference * 0.0))
    return (abs(difference) < beta).choose(difference / beta, sign)


@device
def weighted_sum(x, at, weight, n, top):
    """The sum of ``weight * (top - x)``."""
    high = splat(x, top)
    total = splat(x, 0.0)
    for i in range(0, n, lanes(x)):
        total += load_first(weight, i, n - i, 0.0) * (high - load_first(x, at + i, n - i, 0.0))
    return reduce_add(total)


@kernel
def check_labels(
    block,
    target: "int64*",
    weight: "T*",
    factors: "T*",
    state: "float64*",
    rows: "int64",
    classes: "int64",
    ignore_index: "int64",
    weighted: "int64",
    mean: "int64",
):
    """What follows from all labels: how many are no class, what the sum is multiplied by, and what classes count.

    ``state[WRONG]`` and ``state[SCALE]``; `factors` are the scale and the sum of all weights. If labels are wrong, the
    kernels after this one do nothing, for they would read what is not there.
    """
    wrong, counted, total, every = 0, 0, 0.0, 0.0
    for row in range(rows):
        label = target[row]
        counts = label != ignore_index
        counted += counts
        wrong += counts and (label < 0 or label >= classes)
    if weighted and wrong == 0:
        for row in range(rows):
            if target[row] != ignore_index:
                total += float(weight[target[row]])
    elif not weighted:
        total = float(counted)
    for c in range(classes):
        every += float(weight[c])
    scale = 1.0
    if mean:
        scale = 1 / total if total != 0 else float("nan")
    state[WRONG], state[SCALE] = wrong, scale
    factors[0], factors[1] = scale, every


@kernel
def sum_losses(block, loss: "T*", state: "float64*", value: "T*", rows: "int64"):
    """The scaled sum of the losses of all rows."""
    total = 0.0
    for row in range(rows):
        total += float(loss[row])
    value[0] = total * state[SCALE]


@kernel
def cross_entropy_indices(
    block,
    x: "T*",
    target: "int64*",
    weight: "T*",
    loss: "T*",
    grad: "T*",
    factors: "T*",
    state: "float64*",
    r: "Rows",
    ignore_index: "int64",
    smoothing: "T",
):
    """The target of a row is a class; rows of class `ignore_index` count nothing. See `check_labels`."""
    if state[WRONG] > 0:
        return
    n, share, scale, weight_sum = r.n, smoothing / r.n, factors[0], factors[1]
    for row in range(block * r.step, min(r.rows, (block + 1) * r.step)):
        at, label = row * n, target[row]
        if label == ignore_index:
            loss[row] = 0
            for i in range(at, at + r.with_grad * n):
                grad[i] = 0
            continue
        top = row_max(x, at, n)
        total = row_exp_sum(x, at, n, top)
        log_total = log(total)
        hard = (1 - smoothing) * weight[label]
        value = hard * (top - x[at + label] + log_total)
        if smoothing > 0:
            value += share * (weighted_sum(x, at, weight, n, top) + weight_sum * log_total)
        loss[row] = value
        if r.with_grad:
            high = splat(x, top)
            factor = splat(x, scale * (hard + share * weight_sum)) / splat(x, total)
            spread = splat(x, -scale * share)
            full = n - n % lanes(x)
            for i in range(0, full, lanes(x)):
                store(grad, at + i, fma(exp(load(x, at + i) - high), factor, spread * load(weight, i)))
            if full < n:
                rest = n - full
                p = exp(load_first(x, at + full, rest, 0.0) - high)
                store_first(grad, at + full, fma(p, factor, spread * load_first(weight, full, rest, 0.0)), rest)
            grad[at + label] -= scale * hard


@kernel
def cross_entropy_soft(
    block,
    x: "T*",
    target: "T*",
    weight: "T*",
    loss: "T*",
    grad: "T*",
    r: "Rows",
    smoothing: "T",
    scale: "T",
):
    """The target of a row is `n` shares."""
    n, keep, share = r.n, splat(x, 1 - smoothing), splat(x, smoothing / r.n)
    for row in range(block * r.step, min(r.rows, (block + 1) * r.step)):
        at = row * n
        top = row_max(x, at, n)
        high = splat(x, top)
        total = row_exp_sum(x, at, n, top)
        log_total = splat(x, log(total))
        value, shares = splat(x, 0.0), splat(x, 0.0)
        for i in range(0, n, lanes(x)):
            q = load_first(weight, i, n - i, 0.0) * fma(load_first(target, at + i, n - i, 0.0), keep, share)
            value = fma(q, high - load_first(x, at + i, n - i, 0.0) + log_total, value)
            shares += q
        loss[row] = reduce_add(value)
        if r.with_grad:
            factor = splat(x, scale * reduce_add(shares)) / splat(x, total)
            negative = splat(x, -scale)
            for i in range(0, n, lanes(x)):
                rest = n - i
                q = load_first(weight, i, rest, 0.0) * fma(load_first(target, at + i, rest, 0.0), keep, share)
                p = exp(load_first(x, at + i, rest, 0.0) - high)
                store_first(grad, at + i, fma(p, factor, q * negative), rest)


@elementwise
def _inside(p, low, high, value):
    """`value` where `p` lies within the limits, 0 outside."""
    return (p < low).choose(0.0, (p > high).choose(0.0, value))


@elementwise
def _clip(p, low, high):
    return p.maximum(low).minimum(high)


@kernel
def cross_entropy_probabilities(
    block,
    p: "T*",
    target: "T*",
    weight: "T*",
    loss: "T*",
    grad: "T*",
    r: "Rows",
    smoothing: "T",
    low: "T",
    high: "T",
    scale: "T",
):
    """The input is probabilities, clipped to [low, high]: ``-sum(q * log(p))``, with gradient 0 where it is clipped."""
    n, share = r.n, smoothing / r.n
    for row in range(block * r.step, min(r.rows, (block + 1) * r.step)):
        at = row * n
        value = 0.0
        for c in range(n):
            q = weight[c] * fma(target[at + c], 1 - smoothing, share)
            clipped = _clip(p[at + c], low, high)
            value -= float(q) * float(log(clipped))
            if r.with_grad:
                grad[at + c] = _inside(p[at + c], low, high, -scale * q / clipped)
        loss[row] = value


@kernel
def squared_error(
    block,
    x: "T*",
    y: "T*",
    partial: "float64*",
    grad: "T*",
    size: "int64",
    scale: "T",
    with_grad: "int64",
    step: "int64",
):
    """Per block the sum of ``(x - y)**2``; the gradient ``2 * scale * (x - y)``."""
    total = 0.0
    for i in range(block * step, min(size, (block + 1) * step)):
        difference = float(x[i] - y[i])
        total += difference * difference
    partial[block] = total
    if with_grad:
        for i in range(block * step, min(size, (block + 1) * step)):
            grad[i] = (scale + scale) * (x[i] - y[i])


@kernel
def absolute_error(
    block,
    x: "T*",
    y: "T*",
    partial: "float64*",
    grad: "T*",
    size: "int64",
    beta: "T",
    scale: "T",
    with_grad: "int64",
    step: "int64",
):
    """Per block the sum of ``|x - y|``, quadratic below `beta`, and its gradient."""
    total = 0.0
    for i in range(block * step, min(size, (block + 1) * step)):
        total += float(_smooth_l1(absolute(x[i] - y[i]), beta))
    partial[block] = total
    if with_grad:
        for i in range(block * step, min(size, (block + 1) * step)):
            grad[i] = scale * _smooth_l1_slope(x[i] - y[i], beta)
