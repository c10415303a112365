"""Batches of a data set, put together ahead of time by a thread."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import random
from ..errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._dataset import Dataset


class DataLoader:
    """Iterate over a data set in batches; each ``for`` loop over the loader is one epoch.

    Parameters
    ----------
    dataset : Dataset
        Anything with ``__len__`` and ``batch(indices)``.
    batch_size : int, default 1
        Samples per batch; the last batch may be smaller.
    shuffle : bool, default False
        Visit the samples in a new random order every epoch.
    seed : int, optional
        Makes the orders repeatable: epoch ``e`` depends on `seed` and ``e`` alone. By default they are drawn from the
        package's generator (see `numbacnn.manual_seed`).
    drop_last : bool, default False
        Leave out a last batch that is not full.
    prefetch : int, default 2
        How many batches a background thread holds ready. 0 assembles each batch when it is asked for.

    Attributes
    ----------
    epoch : int
        Number of the next epoch; set it to continue an interrupted run with the order it would have had.

    Notes
    -----
    An exception in ``dataset.batch`` is raised in the loop that consumes the batches. Leaving the loop early stops the
    thread. Kernels called by a data set in that thread run on one core (see `numbacnn.threads`).

    Examples
    --------
    >>> import numpy as np
    >>> from numbacnn.data import ArrayDataset, DataLoader
    >>> loader = DataLoader(ArrayDataset(np.arange(10)), batch_size=4)
    >>> len(loader), [batch.tolist() for batch in loader]
    (3, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]])
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        seed: int | None = None,
        drop_last: bool = False,
        prefetch: int = 2,
    ) -> None:
        if batch_size < 1:
            raise OptionError(f"batch_size must be at least 1, got {batch_size}")
        if prefetch < 0:
            raise OptionError(f"prefetch must be 0 or more, got {prefetch}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.prefetch = prefetch
        self.epoch = 0

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        order = self._order()
        self.epoch += 1
        tasks = [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(len(self))]
        if self.prefetch == 0:
            return map(self.dataset.batch, tasks)
        return _ahead(self.dataset.batch, tasks, self.prefetch)

    def _order(self) -> np.ndarray:
        count = len(self.dataset)
        if not self.shuffle:
            return np.arange(count)
        generator = random.generator() if self.seed is None else np.random.default_rng((self.seed, self.epoch))
        return generator.permutation(count)


def _ahead(function: Callable[[Any], Any], tasks: list[Any], depth: int) -> Iterator[Any]:
    """``map(function, tasks)`` computed by a thread that runs at most `depth` results ahead."""
    ready: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    places = threading.Semaphore(depth)
    stop = threading.Event()

    def work() -> None:
        for task in tasks:
            places.acquire()
            if stop.is_set():
                return
            try:
                ready.put((function(task), None))
            except BaseException as error:
                ready.put((None, error))
                return

    thread = threading.Thread(target=work, name="numbacnn-loader", daemon=True)
    thread.start()
    try:
        for _ in tasks:
            result, error = ready.get()
            if error is not None:
                raise error
            places.release()
            yield result
    finally:
        stop.set()
        places.release()
        with contextlib.suppress(RuntimeError):  # an abandoned iterator may be collected by the thread itself
            thread.join()
