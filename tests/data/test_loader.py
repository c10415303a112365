"""DataLoader: order, batches, and the thread that assembles them."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

from numbacnn import random
from numbacnn.data import ArrayDataset, DataLoader, Dataset
from numbacnn.errors import OptionError


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name == "numbacnn-loader"]


def epoch(loader):
    return np.concatenate(list(loader)).tolist()


@pytest.mark.parametrize("prefetch", [0, 1, 5])
@pytest.mark.parametrize(
    ("drop_last", "lengths"),
    [(False, [4, 4, 2]), (True, [4, 4])],
)
def test_batches_in_order(prefetch, drop_last, lengths):
    loader = DataLoader(ArrayDataset(np.arange(10)), 4, drop_last=drop_last, prefetch=prefetch)
    assert len(loader) == len(lengths)
    assert [len(batch) for batch in loader] == lengths
    assert epoch(loader) == list(range(sum(lengths)))
    assert not loader_threads()


def test_each_epoch_has_its_own_order_and_a_seed_repeats_them():
    def make():
        return DataLoader(ArrayDataset(np.arange(30)), 7, shuffle=True, seed=5)

    first, second = make(), make()
    orders = [epoch(first) for _ in range(3)]
    assert all(sorted(order) == list(range(30)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    second.epoch = 1
    assert epoch(second) == orders[1]


def test_order_does_not_depend_on_prefetch():
    orders = [epoch(DataLoader(ArrayDataset(np.arange(30)), 7, True, seed=5, prefetch=p)) for p in (0, 2, 50)]
    assert orders[0] == orders[1] == orders[2]


def test_without_a_seed_the_package_generator_decides():
    orders = []
    for _ in range(2):
        random.manual_seed(3)
        orders.append(epoch(DataLoader(ArrayDataset(np.arange(30)), 7, shuffle=True)))
    assert orders[0] == orders[1]


def test_leaving_early_stops_the_thread():
    loader = DataLoader(ArrayDataset(np.arange(1000)), 1, prefetch=3)
    for batch in loader:
        if batch[0] == 2:
            break
    assert not loader_threads()
    assert epoch(loader) == list(range(1000))


def test_two_loops_at_once_do_not_disturb_each_other():
    loader = DataLoader(ArrayDataset(np.arange(12)), 5)
    pairs = list(zip(loader, loader, strict=True))
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert not loader_threads()


class FailsAtSeven(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        if index == 7:
            raise KeyError("sample 7 is broken")
        return np.int64(index)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_exception_reaches_the_consumer_after_the_good_batches(prefetch):
    seen = []
    with pytest.raises(KeyError, match="sample 7 is broken"):
        for batch in DataLoader(FailsAtSeven(), 3, prefetch=prefetch):
            seen.extend(batch.tolist())
    assert seen == [0, 1, 2, 3, 4, 5]
    assert not loader_threads()


class Counting(Dataset):
    def __init__(self):
        self.fetched = []
        self.threads = set()
        self.proceed = threading.Event()

    def __len__(self):
        return 100

    def __getitem__(self, index):
        self.fetched.append(index)
        self.threads.add(threading.current_thread().name)
        if len(self.fetched) == 4:
            self.proceed.set()
        return np.int64(index)


def test_batches_are_assembled_ahead_but_not_without_bound():
    dataset = Counting()
    batches = iter(DataLoader(dataset, 1, prefetch=3))
    next(batches)
    assert dataset.proceed.wait(10), "the thread did not run ahead"
    assert list(itertools.islice(batches, 2)) == [1, 2]
    batches.close()
    assert len(dataset.fetched) <= 3 + 3
    assert dataset.threads == {"numbacnn-loader"}
    assert not loader_threads()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"prefetch": -1}])
def test_bad_options(options):
    with pytest.raises(OptionError, match=f"{next(iter(options))} must be"):
        DataLoader(ArrayDataset(np.arange(3)), **options)


def test_empty_dataset_has_no_batches():
    assert list(DataLoader(ArrayDataset(np.empty((0, 2))), 4)) == []
