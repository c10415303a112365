"""Batch normalisation: one class for all ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import functional
from ..autograd import Parameter, Tensor
from ..errors import ShapeError
from ..ops._check import check_integer
from ._module import Module

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]


class _BatchNorm(Module):
    axes: ClassVar[tuple[int, ...]]  # the numbers of axes that an input may have
    running_mean: np.ndarray | None
    running_var: np.ndarray | None
    num_batches_tracked: np.ndarray | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.num_features = check_integer("num_features", num_features, 1)
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.weight = Parameter(np.ones(num_features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_features, dtype)) if affine else None
        tracked = track_running_stats
        self.register_buffer("running_mean", np.zeros(num_features, dtype) if tracked else None)
        self.register_buffer("running_var", np.ones(num_features, dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracked else None)

    def reset_running_stats(self) -> None:
        """Forget the running statistics."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean[...] = 0
            self.running_var[...] = 1
            self.num_batches_tracked[...] = 0

    def reset_parameters(self) -> None:
        """Forget what was learned, and the running statistics."""
        self.reset_running_stats()
        if self.weight is not None and self.bias is not None:
            self.weight.data[...] = 1
            self.bias.data[...] = 0
            self.weight.mark_changed()
            self.bias.mark_changed()

    def forward(self, input: Any) -> Tensor:
        """Normalise by the batch's statistics in training mode, by the running ones in evaluation mode."""
        return self._normalise(functional.batch_norm, input)

    def forward_relu(self, input: Any) -> Tensor:
        """``relu(forward(input))`` in the same pass over memory."""
        return self._normalise(functional.batch_norm_relu, input)

    def _normalise(self, function: Callable[..., Tensor], input: Any) -> Tensor:
        shape = np.shape(input)
        if len(shape) not in self.axes:
            expected = " or ".join(map(str, self.axes))
            raise ShapeError(f"{type(self).__name__} needs an input of {expected} axes, got shape {shape}")
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
            if self.momentum is None:
                momentum = 1.0 / int(self.num_batches_tracked)
        return function(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training or self.running_mean is None,
            momentum=momentum,
            eps=self.eps,
        )

    def extra_repr(self) -> str:
        """The options."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """As `BatchNorm2d`, of (N, C) or (N, C, L).

    Examples
    --------
    >>> BatchNorm1d(3)(np.zeros((8, 3), np.float32)).shape
    (8, 3)
    """

    axes = (2, 3)


class BatchNorm2d(_BatchNorm):
    r"""Batch normalisation of (N, C, H, W), per channel.

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \gamma + \beta

    In training mode the mean and the (biased) variance are the batch's, and the running statistics move towards them
    (with the unbiased variance); in evaluation mode the running statistics are used.

    Parameters
    ----------
    num_features : int
        The number of channels.
    eps : float, default 1e-5
    momentum : float or None, default 0.1
        The weight of the new statistics in the running ones; None averages over all batches alike.
    affine : bool, default True
        Whether to learn `weight` and `bias`.
    track_running_stats : bool, default True
        False uses the batch's statistics in evaluation mode, too.
    dtype : dtype, default float32

    Attributes
    ----------
    weight, bias : Parameter or None
        (num_features,).
    running_mean, running_var : ndarray or None
        (num_features,).
    num_batches_tracked : ndarray or None
        A count, without axes.

    References
    ----------
    Ioffe and Szegedy, "Batch Normalization", 2015.

    Examples
    --------
    >>> layer = BatchNorm2d(3)
    >>> layer(np.zeros((8, 3, 4, 4), np.float32)).shape
    (8, 3, 4, 4)
    >>> list(layer.state_dict())
    ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    """

    axes = (4,)


class BatchNorm3d(_BatchNorm):
    """As `BatchNorm2d`, of (N, C, D, H, W).

    Examples
    --------
    >>> BatchNorm3d(3)(np.zeros((8, 3, 4, 4, 4), np.float32)).shape
    (8, 3, 4, 4, 4)
    """

    axes = (5,)
