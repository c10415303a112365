"""The nets of the training-step benchmark, written once for every library whose layers bear PyTorch's names."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import deep_nets

# The optimiser's learning rate: so small that libraries which round differently still agree on the loss of a deep net
# after many steps.
RATE = 1e-7


@dataclass(frozen=True)
class Net:
    """How to build a net from a module of layers, what it eats and how many classes it tells apart.

    `build` gets that module, and a function that joins tensors along their channels.
    """

    build: Callable[[Any, Callable[[list[Any]], Any]], Any]
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
    "digits": Net(lambda nn, _: _digits(nn), (1, 8, 8), 10),
    "sequence": Net(lambda nn, _: _sequence(nn), (12, 1000), 5),
    "volume": Net(lambda nn, _: _volume(nn), (1, 24, 24, 24), 3),
    "resnet18": Net(lambda nn, _: deep_nets.resnet18(nn), (3, 224, 224), 1000),
    "resnet50": Net(lambda nn, _: deep_nets.resnet50(nn), (3, 224, 224), 1000),
    "mobilenet_v2": Net(lambda nn, _: deep_nets.mobilenet_v2(nn), (3, 224, 224), 1000),
    "unet3d": Net(deep_nets.unet3d, (1, 64, 64, 64), 2),
    "dilated": Net(lambda nn, _: deep_nets.dilated(nn), (1, 8000), 5),
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
