"""The widest type of each kind, in which everything is computed."""

import numpy as np


def exact(array):
    """The array in the widest type of its kind: float64, or int64 for integers."""
    array = np.asarray(array)
    return array.astype(np.int64 if array.dtype.kind in "iub" else np.float64)
