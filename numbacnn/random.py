"""The package's random numbers: one seeded generator per process for initialisation, dropout and shuffling."""

from __future__ import annotations

import numpy as np

__all__ = ["generator", "manual_seed"]

_generator = np.random.default_rng()


def manual_seed(seed: int) -> None:
    """Start the package's random numbers afresh from `seed`.

    Parameters
    ----------
    seed : int
        Any non-negative integer.

    Examples
    --------
    >>> from numbacnn import random
    >>> random.manual_seed(0)
    >>> first = random.generator().normal()
    >>> random.manual_seed(0)
    >>> random.generator().normal() == first
    True
    """
    global _generator
    _generator = np.random.default_rng(seed)


def generator() -> np.random.Generator:
    """The generator that everything draws from which was not given one of its own.

    Examples
    --------
    >>> from numbacnn import random
    >>> random.manual_seed(0)
    >>> random.generator().random() < 1
    True
    """
    return _generator
