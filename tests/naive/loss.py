"""Losses and their gradients, one sample at a time."""

import numpy as np

from .activation import log_softmax, softmax
from .exact import exact


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
