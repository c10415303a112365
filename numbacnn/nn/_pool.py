"""Pooling layers of sliding windows: one class per kind for all ranks."""

from __future__ import annotations

from typing import Any, ClassVar

from .. import functional
from ..autograd import Tensor
from ..ops._check import check_integer, check_per_axis
from ..ops.complexity import ReceptiveField
from ._module import Module

__all__ = [
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]

_MAX_POOL = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVG_POOL = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
_LP_POOL = {1: functional.lp_pool1d, 2: functional.lp_pool2d, 3: functional.lp_pool3d}
_MAX_UNPOOL = {1: functional.max_unpool1d, 2: functional.max_unpool2d, 3: functional.max_unpool3d}


class _WindowPool(Module):
    """Windows of one size, some samples apart."""

    rank: ClassVar[int]

    def _configure(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> None:
        check_per_axis("kernel_size", kernel_size, self.rank, 1)
        check_per_axis("dilation", dilation, self.rank, 1)
        if stride is not None:
            check_per_axis("stride", stride, self.rank, 1)
        if not isinstance(padding, str):
            check_per_axis("padding", padding, self.rank, 0)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode

    def receptive_field(self, field: ReceptiveField, input_shape: tuple[int, ...]) -> ReceptiveField:
        """Wider by the window."""
        return field.through(self.kernel_size, self.stride, self.dilation)


class _MaxPool(_WindowPool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self._configure(kernel_size, stride, padding, dilation, ceil_mode)
        self.return_indices = return_indices

    def forward(self, input: Any) -> Any:
        """Pool (N, C, *spatial) or (C, *spatial)."""
        return _MAX_POOL[self.rank](
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )

    def extra_repr(self) -> str:
        """The options."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """As `MaxPool2d`, with one spatial axis.

    Examples
    --------
    >>> import numpy as np
    >>> MaxPool1d(2)(np.zeros((8, 16, 32), np.float32)).shape
    (8, 16, 16)
    """

    rank = 1


class MaxPool2d(_MaxPool):
    """The largest value of each window.

    Parameters
    ----------
    kernel_size : int or sequence of int
    stride : int or sequence of int, optional
        The kernel size unless given.
    padding : int or sequence of int, default 0
        At most half the window; what it adds is never the largest.
    dilation : int or sequence of int, default 1
    return_indices : bool, default False
        Return where the values were, too: flat positions in each channel.
    ceil_mode : bool, default False
        Let the last window hang over the edge.

    Examples
    --------
    >>> import numpy as np
    >>> MaxPool2d(2)(np.zeros((8, 16, 32, 32), np.float32)).shape
    (8, 16, 16, 16)
    """

    rank = 2


class MaxPool3d(_MaxPool):
    """As `MaxPool2d`, with three spatial axes.

    Examples
    --------
    >>> import numpy as np
    >>> MaxPool3d(2)(np.zeros((8, 16, 4, 6, 8), np.float32)).shape
    (8, 16, 2, 3, 4)
    """

    rank = 3


class _AvgPool(_WindowPool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self._configure(kernel_size, stride, padding, 1, ceil_mode)
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override
        if divisor_override is not None:
            check_integer("divisor_override", divisor_override, 1)

    def forward(self, input: Any) -> Tensor:
        """Pool (N, C, *spatial) or (C, *spatial)."""
        return _AVG_POOL[self.rank](
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
            divisor_override=self.divisor_override,
        )

    def extra_repr(self) -> str:
        """The options."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """As `AvgPool2d`, with one spatial axis.

    Examples
    --------
    >>> import numpy as np
    >>> AvgPool1d(2)(np.zeros((8, 16, 32), np.float32)).shape
    (8, 16, 16)
    """

    rank = 1


class AvgPool2d(_AvgPool):
    """The mean of each window.

    Parameters
    ----------
    kernel_size : int or sequence of int
    stride : int or sequence of int, optional
        The kernel size unless given.
    padding : int or sequence of int, default 0
    ceil_mode : bool, default False
        Let the last window hang over the edge; what hangs over is not counted.
    count_include_pad : bool, default True
        Divide by the whole window; with False by its part inside the input.
    divisor_override : int, optional
        Divide by this instead.

    Examples
    --------
    >>> import numpy as np
    >>> AvgPool2d(2)(np.zeros((8, 16, 32, 32), np.float32)).shape
    (8, 16, 16, 16)
    """

    rank = 2


class AvgPool3d(_AvgPool):
    """As `AvgPool2d`, with three spatial axes.

    Examples
    --------
    >>> import numpy as np
    >>> AvgPool3d(2)(np.zeros((8, 16, 4, 6, 8), np.float32)).shape
    (8, 16, 2, 3, 4)
    """

    rank = 3


class _LPPool(_WindowPool):
    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        super().__init__()
        self._configure(kernel_size, stride, 0, 1, ceil_mode)
        self.norm_type = norm_type

    def forward(self, input: Any) -> Tensor:
        """Pool (N, C, *spatial) or (C, *spatial)."""
        return _LP_POOL[self.rank](input, self.norm_type, self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        """The options."""
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPool):
    """As `LPPool2d`, with one spatial axis.

    Examples
    --------
    >>> import numpy as np
    >>> LPPool1d(2, 2)(np.zeros((8, 16, 32), np.float32)).shape
    (8, 16, 16)
    """

    rank = 1


class LPPool2d(_LPPool):
    r"""The p-norm of each window, :math:`\left(\sum x^p\right)^{1/p}`.

    Parameters
    ----------
    norm_type : float
        The p; 1 sums, infinity takes the largest.
    kernel_size : int or sequence of int
    stride : int or sequence of int, optional
        The kernel size unless given.
    ceil_mode : bool, default False
        Let the last window hang over the edge.

    Examples
    --------
    >>> import numpy as np
    >>> LPPool2d(2, 2)(np.ones((1, 1, 2, 2), np.float32)).item()
    2.0
    """

    rank = 2


class LPPool3d(_LPPool):
    """As `LPPool2d`, with three spatial axes.

    Examples
    --------
    >>> import numpy as np
    >>> LPPool3d(2, 2)(np.zeros((8, 16, 4, 6, 8), np.float32)).shape
    (8, 16, 2, 3, 4)
    """

    rank = 3


class _MaxUnpool(Module):
    rank: ClassVar[int]

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self.kernel_size = check_per_axis("kernel_size", kernel_size, self.rank, 1)
        self.stride = self.kernel_size if stride is None else check_per_axis("stride", stride, self.rank, 1)
        self.padding = check_per_axis("padding", padding, self.rank, 0)

    def forward(self, input: Any, indices: Any, output_size: Any = None) -> Tensor:
        """Put the elements of (N, C, *spatial) or (C, *spatial) where `indices` say."""
        return _MAX_UNPOOL[self.rank](input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def receptive_field(self, field: ReceptiveField, input_shape: tuple[int, ...]) -> ReceptiveField:
        """The same samples, but a smaller step."""
        return field.through_transposed(1, self.stride)

    def extra_repr(self) -> str:
        """The options."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """As `MaxUnpool2d`, with one spatial axis.

    Examples
    --------
    >>> import numpy as np
    >>> values, indices = MaxPool1d(2, return_indices=True)(np.array([[[1.0, 2.0, 4.0, 3.0]]]))
    >>> MaxUnpool1d(2)(values, indices).tolist()
    [[[0.0, 2.0, 4.0, 0.0]]]
    """

    rank = 1


class MaxUnpool2d(_MaxUnpool):
    """Puts elements back to where `MaxPool2d` (with ``return_indices=True``) found them; the rest is zero.

    Parameters
    ----------
    kernel_size : int or sequence of int
    stride : int or sequence of int, optional
        The kernel size unless given.
    padding : int or sequence of int, default 0

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[[1.0, 2.0], [4.0, 3.0]]]], np.float32)
    >>> values, indices = MaxPool2d(2, return_indices=True)(x)
    >>> MaxUnpool2d(2)(values, indices).tolist()
    [[[[0.0, 0.0], [4.0, 0.0]]]]
    """

    rank = 2


class MaxUnpool3d(_MaxUnpool):
    """As `MaxUnpool2d`, with three spatial axes.

    Examples
    --------
    >>> import numpy as np
    >>> values, indices = MaxPool3d(2, return_indices=True)(np.arange(8.0).reshape(1, 1, 2, 2, 2))
    >>> MaxUnpool3d(2)(values, indices).shape
    (1, 1, 2, 2, 2)
    """

    rank = 3
