"""Convolutional networks for NumPy arrays, on kernels compiled by Numba at machine speed.

Examples
--------
>>> import numpy as np
>>> import numbacnn as nc
>>> x = nc.Tensor(np.ones((2, 3), np.float32), requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
array([[2., 2., 2.],
       [2., 2., 2.]], dtype=float32)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import autograd, functional  # functional gives Tensor its operators
from .autograd import Parameter, Tensor, enable_grad, is_grad_enabled, no_grad, tensor

if TYPE_CHECKING:
    from . import data, errors, metrics, models, nn, ops, optim, random, train
    from ._summary import summary
    from .config import get_num_threads, set_num_threads, threads
    from .ops.memory import memory_stats, release_memory
    from .random import manual_seed
    from .serialization import load, save

__version__ = "0.1.0"

# What is imported when it is first asked for, so that `import numbacnn` stays light: subpackages, and functions with
# the module each of them lives in.
_SUBPACKAGES = ("data", "errors", "metrics", "models", "nn", "ops", "optim", "random", "train")
_FUNCTIONS = {
    "get_num_threads": "config",
    "load": "serialization",
    "manual_seed": "random",
    "memory_stats": "ops.memory",
    "release_memory": "ops.memory",
    "save": "serialization",
    "set_num_threads": "config",
    "summary": "_summary",
    "threads": "config",
}

__all__ = [
    "Parameter",
    "Tensor",
    "autograd",
    "data",
    "enable_grad",
    "errors",
    "functional",
    "get_num_threads",
    "is_grad_enabled",
    "load",
    "manual_seed",
    "memory_stats",
    "metrics",
    "models",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "random",
    "release_memory",
    "save",
    "set_num_threads",
    "summary",
    "tensor",
    "threads",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _FUNCTIONS:
        value = getattr(importlib.import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
