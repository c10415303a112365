"""Adam, with weight decay in the gradient or decoupled from it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from ..autograd import Tensor
from ..errors import OptionError
from ..kernels import optim as kernels
from ._optimizer import Optimizer, Update, check_not_negative

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    r"""Adam: steps scaled by running means of the gradient and of its square.

    .. math::

        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, & \hat m_t &= m_t / (1 - \beta_1^t) \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, & \hat v_t &= v_t / (1 - \beta_2^t) \\
        \theta_t &= \theta_{t-1} - \eta\, \hat m_t / (\sqrt{\hat v_t} + \epsilon)

    with t counted from 1 for each tensor.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        The tensors to update, or groups of them with options of their own.
    lr : float, default 1e-3
        The learning rate :math:`\eta`.
    betas : (float, float), default (0.9, 0.999)
        :math:`\beta_1, \beta_2`, from 0 to below 1.
    eps : float, default 1e-8
    weight_decay : float, default 0
        Times the parameter, added to the gradient.
    amsgrad : bool, default False
        Use the largest :math:`v_t` so far (Reddi et al., "On the Convergence of Adam and Beyond", 2018).
    maximize : bool, default False
        Climb instead of descend.

    Raises
    ------
    OptionError
        An option is out of range, or `params` is not what it should be.

    References
    ----------
    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import numbacnn as nc
    >>> theta = nc.Tensor(np.array([1.0]), requires_grad=True)
    >>> optimizer = Adam([theta], lr=0.1)
    >>> (theta * theta).sum().backward()
    >>> optimizer.step()
    >>> theta.data.round(6)
    array([0.9])
    """

    decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        check_not_negative(group, "lr", "eps", "weight_decay")
        betas = group["betas"]
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise OptionError(f"betas must be two numbers from 0 to below 1, got {betas!r}")

    def _update(self, group: dict[str, Any], p: Tensor) -> tuple[Any, Update]:
        state = self.state.setdefault(p, {})
        t = state["step"] = int(state.get("step", 0)) + 1
        lr, decay, (beta1, beta2) = group["lr"], group["weight_decay"], group["betas"]
        settings = (
            lr / (1 - beta1**t),
            0.0 if self.decoupled else decay,
            1 - lr * decay if self.decoupled else 1.0,
            beta1,
            beta2,
            1 - beta1,
            1 - beta2,
            1 / math.sqrt(1 - beta2**t),
            group["eps"],
            -1.0 if group["maximize"] else 1.0,
        )
        buffers = (self._buffer(p, "exp_avg"), self._buffer(p, "exp_avg_sq"))
        if group["amsgrad"]:
            return kernels.adam_amsgrad, Update(p, (*buffers, self._buffer(p, "max_exp_avg_sq")), settings)
        return kernels.adam, Update(p, buffers, settings)


class AdamW(Adam):
    r"""As `Adam`, but the weight decay shrinks the parameter itself, by :math:`1 - \eta\lambda` per step.

    Parameters
    ----------
    params, lr, betas, eps, amsgrad, maximize
        As `Adam`.
    weight_decay : float, default 1e-2
        :math:`\lambda`.

    References
    ----------
    Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import numbacnn as nc
    >>> theta = nc.Tensor(np.array([1.0]), requires_grad=True)
    >>> theta.grad = np.zeros(1)
    >>> AdamW([theta], lr=0.1, weight_decay=0.5).step()
    >>> theta.data
    array([0.95])
    """

    decoupled: ClassVar[bool] = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
