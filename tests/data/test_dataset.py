"""Data sets: samples, batches, subsets, and the embedded digits."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from numbacnn.data import ArrayDataset, Dataset, Subset, load_digits
from numbacnn.errors import ShapeError


class Squares(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return np.full((2,), index, np.float32), index * index


def test_default_batch_stacks_each_member():
    x, y = Squares().batch(np.array([1, 5]))
    assert x.shape == (2, 2)
    assert y.tolist() == [1, 25]


def test_array_dataset_batch_equals_its_samples():
    x, y = np.arange(24.0).reshape(6, 4), np.arange(6)
    dataset = ArrayDataset(x, y)
    batch_x, batch_y = dataset.batch([4, 0])
    np.testing.assert_array_equal(batch_x, x[[4, 0]])
    np.testing.assert_array_equal(batch_y, [4, 0])
    assert dataset[3][1] == 3
    assert ArrayDataset(y).batch([2]).tolist() == [2]
    assert ArrayDataset(y)[2] == 2


@pytest.mark.parametrize("arrays", [(), (np.zeros(3), np.zeros(4)), (np.float32(1),)])
def test_array_dataset_refuses_unequal_lengths(arrays):
    with pytest.raises(ShapeError):
        ArrayDataset(*arrays)


def test_subset_keeps_order_and_nests():
    dataset = Subset(Subset(ArrayDataset(np.arange(10) * 10), [9, 5, 1]), [2, 0])
    assert len(dataset) == 2
    assert dataset[0] == 10
    assert dataset.batch([1, 0]).tolist() == [90, 10]


def test_a_dataset_without_methods_says_so():
    with pytest.raises(TypeError, match="Dataset must define __len__"):
        len(Dataset())
    with pytest.raises(TypeError, match="Dataset must define __getitem__"):
        Dataset()[0]


def test_digits():
    images, labels = load_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == np.float32
    assert labels.dtype == np.int64
    assert images.min() == 0
    assert images.max() == 16
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    digest = hashlib.sha256(images.astype(np.uint8).tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
    assert digest == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def test_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = load_digits()
    theirs = datasets.load_digits()
    np.testing.assert_array_equal(images[:, 0], theirs.images)
    np.testing.assert_array_equal(labels, theirs.target)
