"""Differentiable functions: from tensors or arrays to tensors, under PyTorch's names.

Importing this package gives `Tensor` its operators and methods.
"""

from typing import TYPE_CHECKING

from .. import _lazy
from . import _operators  # noqa: F401 - for its effect
from .arithmetic import (
    add,
    div,
    matmul,
    mul,
    pow,
    sub,
)
from .elementwise import abs, astype, clip, exp, log, neg, sqrt
from .joining import concatenate, split, stack
from .reduction import max, mean, min, sum
from .selection import maximum, minimum, where
from .shape import (
    broadcast_to,
    flatten,
    getitem,
    pad,
    permute,
    reshape,
    squeeze,
    transpose,
    unsqueeze,
)

if TYPE_CHECKING:
    from ._dropout import dropout
    from ._linear import linear
    from .activation import gelu, leaky_relu, log_softmax, relu, relu6, sigmoid, silu, softmax, tanh
    from .adaptive_pool import (
        adaptive_avg_pool1d,
        adaptive_avg_pool2d,
        adaptive_avg_pool3d,
        adaptive_max_pool1d,
        adaptive_max_pool2d,
        adaptive_max_pool3d,
        global_avg_pool,
    )
    from .conv import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
    from .loss import cross_entropy, l1_loss, l2_penalty, mse_loss, smooth_l1_loss
    from .norm import batch_norm, batch_norm_relu
    from .pool import (
        avg_pool1d,
        avg_pool2d,
        avg_pool3d,
        lp_pool1d,
        lp_pool2d,
        lp_pool3d,
        max_pool1d,
        max_pool2d,
        max_pool3d,
    )
    from .unpool import max_unpool1d, max_unpool2d, max_unpool3d

# What runs on our own kernels is imported when it is first asked for.
__getattr__, __dir__ = _lazy.attach(
    __name__,
    {
        "_dropout": ["dropout"],
        "_linear": ["linear"],
        "activation": ["gelu", "leaky_relu", "log_softmax", "relu", "relu6", "sigmoid", "silu", "softmax", "tanh"],
        "adaptive_pool": [
            "adaptive_avg_pool1d",
            "adaptive_avg_pool2d",
            "adaptive_avg_pool3d",
            "adaptive_max_pool1d",
            "adaptive_max_pool2d",
            "adaptive_max_pool3d",
            "global_avg_pool",
        ],
        "conv": ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"],
        "loss": ["cross_entropy", "l1_loss", "l2_penalty", "mse_loss", "smooth_l1_loss"],
        "norm": ["batch_norm", "batch_norm_relu"],
        "pool": [
            "avg_pool1d",
            "avg_pool2d",
            "avg_pool3d",
            "lp_pool1d",
            "lp_pool2d",
            "lp_pool3d",
            "max_pool1d",
            "max_pool2d",
            "max_pool3d",
        ],
        "unpool": ["max_unpool1d", "max_unpool2d", "max_unpool3d"],
    },
)

__all__ = [
    "abs",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "add",
    "astype",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "batch_norm_relu",
    "broadcast_to",
    "clip",
    "concatenate",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cross_entropy",
    "div",
    "dropout",
    "exp",
    "flatten",
    "gelu",
    "getitem",
    "global_avg_pool",
    "l1_loss",
    "l2_penalty",
    "leaky_relu",
    "linear",
    "log",
    "log_softmax",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "matmul",
    "max",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mse_loss",
    "mul",
    "neg",
    "pad",
    "permute",
    "pow",
    "relu",
    "relu6",
    "reshape",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "split",
    "sqrt",
    "squeeze",
    "stack",
    "sub",
    "sum",
    "tanh",
    "transpose",
    "unsqueeze",
    "where",
]
