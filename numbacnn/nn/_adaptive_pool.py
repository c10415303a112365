"""Pooling layers whose windows follow from the output size: one class per kind for all ranks."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, ClassVar

from .. import functional
from ..autograd import Tensor
from ..errors import OptionError
from ..ops._check import check_integer, is_sequence
from ..ops.complexity import ReceptiveField
from ._module import Module

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "GlobalAvgPool",
]

_ADAPTIVE_MAX_POOL = {
    1: functional.adaptive_max_pool1d,
    2: functional.adaptive_max_pool2d,
    3: functional.adaptive_max_pool3d,
}
_ADAPTIVE_AVG_POOL = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}


class _AdaptivePool(Module):
    """As many windows as are asked for, of sizes that follow from the input's."""

    rank: ClassVar[int]

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        sizes = output_size if is_sequence(output_size) else (output_size,) * self.rank
        if len(sizes) != self.rank:
            raise OptionError(f"output_size must be an integer or {self.rank} of them, got {output_size!r}")
        for size in sizes:
            if size is not None:
                check_integer("output_size", size, 1)
        self.output_size = output_size

    def receptive_field(self, field: ReceptiveField, input_shape: tuple[int, ...]) -> ReceptiveField:
        """Wider by the largest window; everything, if there is one window only."""
        wanted = self.output_size if is_sequence(self.output_size) else (self.output_size,) * self.rank
        sizes = list(zip(input_shape[-self.rank :], wanted, strict=True))
        if all(out == 1 for _, out in sizes):
            return field.everything()
        return field.widened(
            tuple(-(-i // (out or i)) + (i % (out or i) != 0) for i, out in sizes),
            tuple(Fraction(i, out or i) for i, out in sizes),
        )

    def extra_repr(self) -> str:
        """The options."""
        return f"output_size={self.output_size}"


class _AdaptiveAvgPool(_AdaptivePool):
    def forward(self, input: Any) -> Tensor:
        """Pool (N, C, *spatial) or (C, *spatial)."""
        return _ADAPTIVE_AVG_POOL[self.rank](input, self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """As `AdaptiveAvgPool2d`, with one spatial axis.

    Examples
    --------
    >>> import numpy as np
    >>> AdaptiveAvgPool1d(3)(np.zeros((8, 16, 7), np.float32)).shape
    (8, 16, 3)
    """

    rank = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means of windows whose number is given.

    Parameters
    ----------
    output_size : int, or sequence of int or None
        None keeps an axis as it is.

    Examples
    --------
    >>> import numpy as np
    >>> AdaptiveAvgPool2d(1)(np.zeros((8, 16, 7, 9), np.float32)).shape
    (8, 16, 1, 1)
    """

    rank = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """As `AdaptiveAvgPool2d`, with three spatial axes.

    Examples
    --------
    >>> import numpy as np
    >>> AdaptiveAvgPool3d(2)(np.zeros((8, 16, 4, 5, 6), np.float32)).shape
    (8, 16, 2, 2, 2)
    """

    rank = 3


class _AdaptiveMaxPool(_AdaptivePool):
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input: Any) -> Any:
        """Pool (N, C, *spatial) or (C, *spatial)."""
        return _ADAPTIVE_MAX_POOL[self.rank](input, self.output_size, return_indices=self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """As `AdaptiveMaxPool2d`, with one spatial axis.

    Examples
    --------
    >>> import numpy as np
    >>> AdaptiveMaxPool1d(3)(np.zeros((8, 16, 7), np.float32)).shape
    (8, 16, 3)
    """

    rank = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest values of windows whose number is given.

    Parameters
    ----------
    output_size : int, or sequence of int or None
        None keeps an axis as it is.
    return_indices : bool, default False
        Return where the values were, too: flat positions in each channel.

    Examples
    --------
    >>> import numpy as np
    >>> AdaptiveMaxPool2d((2, 3))(np.zeros((8, 16, 7, 9), np.float32)).shape
    (8, 16, 2, 3)
    """

    rank = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """As `AdaptiveMaxPool2d`, with three spatial axes.

    Examples
    --------
    >>> import numpy as np
    >>> AdaptiveMaxPool3d(2)(np.zeros((8, 16, 4, 5, 6), np.float32)).shape
    (8, 16, 2, 2, 2)
    """

    rank = 3


class GlobalAvgPool(Module):
    """The mean over all spatial axes, of any number: (N, C, *spatial) becomes (N, C).

    Parameters
    ----------
    keepdims : bool, default False
        Keep the spatial axes, with extent 1.

    Examples
    --------
    >>> import numpy as np
    >>> GlobalAvgPool()(np.zeros((8, 16, 7, 7), np.float32)).shape
    (8, 16)
    """

    def __init__(self, keepdims: bool = False) -> None:
        super().__init__()
        self.keepdims = keepdims

    def forward(self, input: Any) -> Tensor:
        """Average (N, C, *spatial)."""
        return functional.global_avg_pool(input, keepdims=self.keepdims)

    def receptive_field(self, field: ReceptiveField, input_shape: tuple[int, ...]) -> ReceptiveField:
        """Everything."""
        return field.everything()

    def extra_repr(self) -> str:
        """The options."""
        return "keepdims=True" if self.keepdims else ""
