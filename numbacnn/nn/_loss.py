"""Losses as modules."""

from __future__ import annotations

from typing import Any

from .. import functional
from ..autograd import Tensor
from ..ops._check import check_choice
from ._module import Module

__all__ = ["CrossEntropyLoss", "MSELoss"]

_REDUCTIONS = ("mean", "sum", "none")


class CrossEntropyLoss(Module):
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

    Examples
    --------
    >>> loss = CrossEntropyLoss()(np.zeros((2, 10), np.float32), np.array([3, 7]))
    >>> round(loss.item(), 4)
    2.3026
    """

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = check_choice("reduction", reduction, _REDUCTIONS)
        self.label_smoothing = label_smoothing

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss of logits (N, C, *spatial) against classes (N, *spatial) or probabilities (N, C, *spatial)."""
        return functional.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class MSELoss(Module):
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

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = check_choice("reduction", reduction, _REDUCTIONS)

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss of predictions against targets of the same shape."""
        return functional.mse_loss(input, target, reduction=self.reduction)
