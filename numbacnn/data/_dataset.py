"""What a data set is: a length, samples by number, and whole batches by a list of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError


class Dataset:
    """A collection of numbered samples; subclass it and give it ``__len__`` and ``__getitem__``.

    A sample is an array (or a number), or a tuple of them such as ``(image, label)``. Where a batch can be had faster
    than sample by sample, override `batch` too.

    Examples
    --------
    >>> import numpy as np
    >>> from numbacnn.data import Dataset
    >>> class Ramps(Dataset):
    ...     def __len__(self):
    ...         return 100
    ...
    ...     def __getitem__(self, index):
    ...         return np.full((1, 4), index, np.float32), index % 2
    >>> x, y = Ramps().batch([3, 8])
    >>> x.shape, y
    ((2, 1, 4), array([1, 0]))
    """

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__} must define __len__")

    def __getitem__(self, index: int) -> Any:
        raise TypeError(f"{type(self).__name__} must define __getitem__")

    def batch(self, indices: Any) -> Any:
        """The samples `indices`, stacked along a new first axis (each member of a tuple by itself)."""
        samples = [self[int(index)] for index in indices]
        if isinstance(samples[0], tuple):
            return tuple(np.stack(members) for members in zip(*samples, strict=True))
        return np.stack(samples)


class ArrayDataset(Dataset):
    """Samples that are slices of arrays along their first axis.

    Parameters
    ----------
    *arrays : array_like
        One or more arrays of equal length; they are not copied. With one array a sample is its slice; with several,
        a tuple.

    Raises
    ------
    ShapeError
        If the arrays differ in length, or one has no axis.

    Examples
    --------
    >>> import numpy as np
    >>> from numbacnn.data import ArrayDataset
    >>> dataset = ArrayDataset(np.zeros((10, 1, 8, 8), np.float32), np.arange(10))
    >>> len(dataset), int(dataset[7][1])
    (10, 7)
    """

    def __init__(self, *arrays: Any) -> None:
        if not arrays:
            raise ShapeError("ArrayDataset needs at least one array")
        self.arrays = tuple(np.asarray(array) for array in arrays)
        shapes = ", ".join(str(array.shape) for array in self.arrays)
        if any(array.ndim == 0 for array in self.arrays) or len({len(array) for array in self.arrays}) != 1:
            raise ShapeError(
                f"arrays of one data set must have equal lengths along their first axis, got shapes {shapes}"
            )

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> Any:
        sample = tuple(array[index] for array in self.arrays)
        return sample if len(sample) > 1 else sample[0]

    def batch(self, indices: Any) -> Any:
        """The samples `indices` of every array: one indexing operation each."""
        indices = np.asarray(indices, np.intp)
        batch = tuple(array[indices] for array in self.arrays)
        return batch if len(batch) > 1 else batch[0]


class Subset(Dataset):
    """Some samples of another data set, in the order given.

    Parameters
    ----------
    dataset : Dataset
        The data set to take from.
    indices : sequence of int
        Which samples, in which order.

    Examples
    --------
    >>> from numbacnn.data import ArrayDataset, Subset
    >>> Subset(ArrayDataset([10, 20, 30]), [2, 0]).batch([0, 1])
    array([30, 10])
    """

    def __init__(self, dataset: Dataset, indices: Any) -> None:
        self.dataset = dataset
        self.indices = np.asarray(indices, np.intp)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    def batch(self, indices: Any) -> Any:
        """The samples `indices` of this subset, fetched by the underlying data set."""
        return self.dataset.batch(self.indices[np.asarray(indices, np.intp)])
