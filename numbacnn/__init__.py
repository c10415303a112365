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

from typing import TYPE_CHECKING

from . import _lazy, autograd, functional  # functional gives Tensor its operators
from .autograd import Parameter, Tensor, enable_grad, is_grad_enabled, no_grad, tensor

if TYPE_CHECKING:
    from . import data, errors, metrics, models, nn, ops, optim, random, train
    from ._summary import summary
    from .config import get_num_threads, set_num_threads, threads
    from .ops.conv.autotune import autotune
    from .ops.conv.precision import precision
    from .ops.memory import memory_stats, release_memory
    from .random import manual_seed
    from .serialization import load, save

__version__ = "0.1.0"

# Imported when they are first asked for, so that `import numbacnn` stays light.
__getattr__, __dir__ = _lazy.attach(
    __name__,
    {
        "_summary": ["summary"],
        "config": ["get_num_threads", "set_num_threads", "threads"],
        "ops.conv.autotune": ["autotune"],
        "ops.conv.precision": ["precision"],
        "ops.memory": ["memory_stats", "release_memory"],
        "random": ["manual_seed"],
        "serialization": ["load", "save"],
    },
    ["config", "data", "errors", "metrics", "models", "nn", "ops", "optim", "random", "train"],
)

__all__ = [
    "Parameter",
    "Tensor",
    "autograd",
    "autotune",
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
    "precision",
    "random",
    "release_memory",
    "save",
    "set_num_threads",
    "summary",
    "tensor",
    "threads",
    "train",
]
