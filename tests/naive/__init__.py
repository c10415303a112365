"""An independent oracle: every operation as its definition says, in float64 (or int64), slowly.

Nothing of the package under test is imported here, and nothing is clever: outputs are computed one kernel tap or one
window at a time, from index lists that are built one index at a time.

Arrays are (N, C, *spatial). Options may be an integer or one value per axis; padding also takes (low, high) pairs per
axis and the names "valid", "same", "same_lower", "same_size", "causal".
"""

from .activation import (
    gelu,
    leaky_relu,
    leaky_relu_backward,
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    sigmoid,
    softmax,
    softmax_backward,
)
from .conv import conv_backward_bias, conv_backward_data, conv_backward_weight, conv_forward, conv_transpose
from .loss import cross_entropy, mse
from .norm import batch_norm, batch_norm_backward, running_statistics
from .pool import (
    adaptive_avg_pool,
    adaptive_avg_pool_backward,
    adaptive_max_pool,
    avg_pool,
    avg_pool_backward,
    global_avg_pool,
    max_pool,
    max_pool_backward,
    pool_windows,
)
from .windows import outputs, pads, source

__all__ = [
    "adaptive_avg_pool",
    "adaptive_avg_pool_backward",
    "adaptive_max_pool",
    "avg_pool",
    "avg_pool_backward",
    "batch_norm",
    "batch_norm_backward",
    "conv_backward_bias",
    "conv_backward_data",
    "conv_backward_weight",
    "conv_forward",
    "conv_transpose",
    "cross_entropy",
    "gelu",
    "global_avg_pool",
    "leaky_relu",
    "leaky_relu_backward",
    "log_softmax",
    "log_softmax_backward",
    "max_pool",
    "max_pool_backward",
    "mse",
    "outputs",
    "pads",
    "pool_windows",
    "relu",
    "relu_backward",
    "running_statistics",
    "sigmoid",
    "softmax",
    "softmax_backward",
    "source",
]
