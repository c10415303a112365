"""The nets of the training-step benchmark, written once for every library whose layers bear PyTorch's names."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Net:
    """How to build a net from a module of layers, what it eats and how many classes it tells apart."""

    build: Callable[[Any], Any]
    input_shape: tuple[int, ...]
    classes: int


def _digits(nn: Any) -> Any:
    """Two convolution stages over 8×8 digits: the net `numbacnn train` is about."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def _sequence(nn: Any) -> Any:
    """Dilated convolutions over a 12-lead electrocardiogram."""
    layers = [nn.Conv1d(12, 32, 9, padding=4), nn.BatchNorm1d(32), nn.ReLU(), nn.MaxPool1d(2)]
    for dilation in (1, 2, 4, 8):
        layers += [nn.Conv1d(32, 32, 5, padding=2 * dilation, dilation=dilation), nn.BatchNorm1d(32), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 5))


def _volume(nn: Any) -> Any:
    """A small classifier of 24³ volumes."""
    return nn.Sequential(
        nn.Conv3d(1, 16, 3, padding=1),
        nn.BatchNorm3d(16),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(16, 32, 3, padding=1),
        nn.BatchNorm3d(32),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(64, 3),
    )


NETS = {
    "digits": Net(_digits, (1, 8, 8), 10),
    "sequence": Net(_sequence, (12, 1000), 5),
    "volume": Net(_volume, (1, 24, 24, 24), 3),
}


def initial_state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The same float32 start in every library: He-scaled weights, zero biases; the rest keeps its fixed start."""
    state = {}
    for name, shape in shapes.items():
        if len(shape) > 1:
            generator = np.random.default_rng(zlib.crc32(name.encode()))
            scale = np.float32(math.sqrt(2 / math.prod(shape[1:])))
            state[name] = generator.standard_normal(shape, dtype=np.float32) * scale
        elif name.endswith("bias"):
            state[name] = np.zeros(shape, np.float32)
    return state
