"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd import Tensor
from ..errors import OptionError
from ..kernels import optim as kernels
from ._optimizer import Optimizer, Update, check_not_negative

__all__ = ["SGD"]


class SGD(Optimizer):
    r"""Stochastic gradient descent, with momentum, Nesterov's momentum and weight decay.

    .. math:: v_t = \mu v_{t-1} + (1 - \tau) g_t, \qquad \theta_t = \theta_{t-1} - \eta v_t

    where :math:`g_t` is the gradient plus `weight_decay` times the parameter, and :math:`v_1 = g_1`. Nesterov's form
    steps along :math:`g_t + \mu v_t`.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        The tensors to update, or groups of them with options of their own.
    lr : float, default 1e-3
        The learning rate :math:`\eta`.
    momentum : float, default 0
        :math:`\mu`.
    dampening : float, default 0
        :math:`\tau`.
    weight_decay : float, default 0
    nesterov : bool, default False
        Needs a momentum and no dampening.
    maximize : bool, default False
        Climb instead of descend.

    Raises
    ------
    OptionError
        An option is out of range, or `params` is not what it should be.

    References
    ----------
    Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> import numbacnn as nc
    >>> theta = nc.Tensor(np.array([1.0]), requires_grad=True)
    >>> optimizer = SGD([theta], lr=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     (theta * theta).sum().backward()
    ...     optimizer.step()
    >>> theta.data.round(6)
    array([0.46])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        check_not_negative(group, "lr", "momentum", "weight_decay")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise OptionError(
                f"nesterov=True needs momentum > 0 and dampening = 0, got momentum={group['momentum']} and "
                f"dampening={group['dampening']}"
            )

    def _update(self, group: dict[str, Any], p: Tensor) -> tuple[Any, Update]:
        momentum = group["momentum"]
        sign = -1.0 if group["maximize"] else 1.0
        if momentum == 0:
            return kernels.sgd, Update(p, (), (group["lr"], group["weight_decay"], 0.0, 0.0, 0.0, sign))
        first = "momentum_buffer" not in self.state.get(p, {})
        gain = 1.0 if first else 1.0 - group["dampening"]
        nesterov = momentum if group["nesterov"] else 0.0
        settings = (group["lr"], group["weight_decay"], momentum, gain, nesterov, sign)
        return kernels.sgd_momentum, Update(p, (self._buffer(p, "momentum_buffer"),), settings)
