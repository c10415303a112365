"""A small classifier for signals, images and volumes of a known size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .. import nn
from ..errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Pooling goes on until no axis is longer: the classifier then still sees where in the sample a feature lies.
_FINAL_EXTENT = 4
# Longer axes are halved by the first convolution already, which would otherwise cost more than all the rest.
_STRIDE_ABOVE = 64


def small_cnn(
    in_channels: int, num_classes: int, spatial: Sequence[int], *, width: int = 32, dropout: float = 0.25
) -> nn.Sequential:
    """Convolution, batch norm and ReLU in stages that halve every axis until it has at most 4 elements.

    Parameters
    ----------
    in_channels : int
        Channels of a sample.
    num_classes : int
        Number of outputs.
    spatial : sequence of int
        One to three spatial extents of a sample.
    width : int, default 32
        Channels of the first stage; the second has twice and the others four times as many.
    dropout : float, default 0.25
        Share of the features that the classifier is denied in training.

    Returns
    -------
    nn.Sequential
        From (N, in_channels, *spatial) to (N, num_classes) logits.

    Examples
    --------
    >>> import numpy as np
    >>> from numbacnn.models import small_cnn
    >>> model = small_cnn(1, 10, (8, 8)).eval()
    >>> model(np.zeros((2, 1, 8, 8), np.float32)).shape
    (2, 10)
    """
    extents = [int(extent) for extent in spatial]
    if not 1 <= len(extents) <= 3 or min(extents) < 1:
        raise ShapeError(f"spatial must be one to three positive extents, got {tuple(spatial)}")
    stride = [2 if extent > _STRIDE_ABOVE else 1 for extent in extents]
    layers = _stage(in_channels, width, stride)
    extents = [-(-extent // step) for extent, step in zip(extents, stride, strict=True)]
    channels, wider = width, 2 * width
    layers += _stage(channels, wider, [1] * len(extents))
    while max(extents) > _FINAL_EXTENT:
        channels, wider = wider, min(2 * wider, 4 * width)
        window = [2 if extent > _FINAL_EXTENT else 1 for extent in extents]
        layers.append(getattr(nn, f"MaxPool{len(extents)}d")(tuple(window)))
        layers += _stage(channels, wider, [1] * len(extents))
        extents = [extent // step for extent, step in zip(extents, window, strict=True)]
    features = wider * math.prod(extents)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(features, num_classes))


def _stage(in_channels: int, out_channels: int, stride: list[int]) -> list[nn.Module]:
    rank = len(stride)
    convolution = getattr(nn, f"Conv{rank}d")
    norm = getattr(nn, f"BatchNorm{rank}d")
    # The norm's shift makes a bias redundant.
    return [
        convolution(in_channels, out_channels, 3, stride=tuple(stride), padding=1, bias=False),
        norm(out_channels),
        nn.ReLU(),
    ]
