"""Whether `auto` may choose convolution algorithms that round more than a sum of products does."""

from __future__ import annotations

import contextlib
import contextvars
from typing import TYPE_CHECKING

from .._check import check_choice

if TYPE_CHECKING:
    from collections.abc import Iterator

PRECISIONS = ("fast", "exact")

_scoped: contextvars.ContextVar[str] = contextvars.ContextVar("numbacnn_precision", default="fast")


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """How convolutions inside a ``with`` block may be computed, in this Python thread.

    Gradients follow the block that they are computed in. An algorithm asked for by name is not affected.

    Parameters
    ----------
    name : {"fast", "exact"}
        "fast", the default everywhere, lets convolutions use algorithms with fewer multiplications and larger rounding
        errors (Winograd's: in float32 about 1e-6 to 3e-5 of the largest output; float64 likewise, 1e-15 to 3e-14) or
        ones that spread errors, NaN and infinity over blocks (Fourier transforms: 1e-7 to 1e-6 and 1e-16 to 1e-14).
        "exact" keeps to sums of products.

    Raises
    ------
    OptionError
        `name` is neither.

    References
    ----------
    Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.

    Examples
    --------
    >>> from numbacnn.ops import explain
    >>> shapes = (1, 64, 56, 56), (64, 64, 3, 3)
    >>> explain(*shapes, padding=1).algorithm
    'winograd'
    >>> with precision("exact"):
    ...     explain(*shapes, padding=1).algorithm
    'indirect'
    """
    check_choice("precision", name, PRECISIONS)
    token = _scoped.set(name)
    try:
        yield
    finally:
        _scoped.reset(token)


def resolve(name: str | None) -> str:
    """What a call's ``precision=`` means: itself, or for None what the surrounding block says."""
    if name is None:
        return _scoped.get()
    return check_choice("precision", name, PRECISIONS)
