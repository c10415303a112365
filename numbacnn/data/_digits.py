"""The handwritten digits that come with the package (attribution and licence in ``digits.LICENSE.txt``)."""

from __future__ import annotations

from importlib import resources

import numpy as np


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 handwritten digits of 8 x 8 pixels.

    Returns
    -------
    images : ndarray of float32, shape (1797, 1, 8, 8)
        Pixels from 0 (empty) to 16 (all ink).
    labels : ndarray of int64, shape (1797,)
        The digit, 0 to 9.

    References
    ----------
    E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    CC BY 4.0.

    Examples
    --------
    >>> from numbacnn.data import load_digits
    >>> images, labels = load_digits()
    >>> images.shape, images.dtype.name, float(images.max()), labels[:5].tolist()
    ((1797, 1, 8, 8), 'float32', 16.0, [0, 1, 2, 3, 4])
    """
    with resources.files(__package__).joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
        return arrays["images"][:, None].astype(np.float32), arrays["labels"].astype(np.int64)
