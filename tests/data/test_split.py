"""Random and stratified splits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbacnn.data import train_test_split
from numbacnn.errors import OptionError, ShapeError


def test_all_arrays_are_split_alike_and_nothing_is_lost():
    x = np.arange(40).reshape(20, 2)
    x_train, x_test, y_train, y_test = train_test_split(x, x[:, 0], test_size=0.3, seed=1)
    assert (len(x_train), len(x_test)) == (14, 6)
    np.testing.assert_array_equal(x_train[:, 0], y_train)
    np.testing.assert_array_equal(x_test[:, 0], y_test)
    assert sorted([*y_train, *y_test]) == list(range(0, 40, 2))


def test_seed_decides_the_split():
    first, again, other = (train_test_split(np.arange(50), seed=seed)[1].tolist() for seed in (3, 3, 4))
    assert first == again
    assert first != other


@given(
    sizes=st.lists(st.integers(2, 30), min_size=2, max_size=6),
    share=st.floats(0.1, 0.9),
    seed=st.integers(0, 100),
)
def test_stratified_split_has_every_class_in_proportion(sizes, share, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    count = min(max(round(len(labels) * share), 1), len(labels) - 1)
    train, test = train_test_split(labels, test_size=count, seed=seed, stratify=labels)
    assert len(test) == count
    in_test = np.bincount(test, minlength=len(sizes))
    assert np.all(np.abs(in_test - np.array(sizes) * count / len(labels)) < 1)
    assert np.array_equal(in_test + np.bincount(train, minlength=len(sizes)), sizes)


@pytest.mark.parametrize("test_size", [0, 10, 0.01, 0.99, 1.5, -1])
def test_empty_part_is_refused(test_size):
    with pytest.raises(OptionError, match="leaves a part empty"):
        train_test_split(np.arange(10), test_size=test_size)


def test_class_of_one_sample_cannot_be_stratified():
    with pytest.raises(OptionError, match="class 7 has a single sample"):
        train_test_split(np.arange(5), stratify=[1, 1, 7, 1, 1])


@pytest.mark.parametrize("arrays", [(), (np.arange(3), np.arange(4)), (np.float64(1),)])
def test_unequal_lengths_are_refused(arrays):
    with pytest.raises(ShapeError, match="equal lengths"):
        train_test_split(*arrays)
