"""Losses as modules."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional
from ..autograd import Tensor
from ..ops._check import check_choice
from ._module import Module

__all__ = ["CrossEntropyLoss", "L1Loss", "MSELoss", "SmoothL1Loss"]


class _Loss(Module):
    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = check_choice("reduction", reduction, ("mean", "sum", "none"))


class CrossEntropyLoss(_Loss):
    """Cross-entropy of logits against classes or class probabilities; see `numbacnn.functional.cross_entropy`.

    Parameters
    ----------
    weight : array_like, optional
        (C,), one weight per class; "mean" divides by the sum of the weights.
    ignore_index : int, default -100
        Samples of this class do not count.
    reduction : {"mean", "sum", "none"}
    label_smoothing : float, default 0
        How much of each target is spread evenly over all classes.
    from_probabilities : bool, default False
        The input holds probabilities instead of logits.

    Examples
    --------
    >>> loss = CrossEntropyLoss()(np.zeros((2, 10), np.float32), np.array([3, 7]))
    >>> round(loss.item(), 4)
    2.3026
    """

    weight: np.ndarray | None

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        from_probabilities: bool = False,
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.from_probabilities = from_probabilities

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss of logits (N, C, *spatial) against classes (N, *spatial) or probabilities (N, C, *spatial)."""
        return functional.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
            from_probabilities=self.from_probabilities,
        )


class MSELoss(_Loss):
    """The mean of squared differences over all elements.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}

    Examples
    --------
    >>> import numbacnn as nc
    >>> MSELoss()(nc.Tensor([1.0, 2.0]), nc.Tensor([1.0, 4.0])).item()
    2.0
    """

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss of predictions against targets of the same shape."""
        return functional.mse_loss(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """The mean of absolute differences over all elements.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}

    Examples
    --------
    >>> import numbacnn as nc
    >>> L1Loss()(nc.Tensor([1.0, 2.0]), nc.Tensor([1.0, 4.0])).item()
    1.0
    """

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss of predictions against targets of the same shape."""
        return functional.l1_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(_Loss):
    """Squared differences where they are small, absolute ones where they are large.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
    beta : float, default 1
        The difference where one becomes the other.

    Examples
    --------
    >>> import numbacnn as nc
    >>> SmoothL1Loss()(nc.Tensor([1.0, 2.0]), nc.Tensor([1.0, 4.0])).item()
    0.75
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss of predictions against targets of the same shape."""
        return functional.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)
