"""The whole way from labelled arrays to a trained classifier on disk: what ``numbacnn train`` does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import optim, random
from ..data import ArrayDataset, DataLoader, Normalize, train_test_split
from ..errors import OptionError
from ._classifier import Classifier
from ._loop import fit

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKPOINT = "checkpoint.nc"
METRICS = "metrics.json"
PLOT = "training.png"

_TEST_SHARE = 0.2
_VALIDATION_SHARE = 0.1  # of what the test part leaves


class Parts(NamedTuple):
    """Labelled samples for three purposes."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


class TrainingResult(NamedTuple):
    """What `train_classifier` returns: the classifier, what it was trained and tested on, and how it went."""

    classifier: Classifier
    parts: Parts
    history: list[dict[str, float]]
    test: dict[str, Any]


def split(x: np.ndarray, y: np.ndarray, seed: int) -> Parts:
    """Divide labelled samples: 20 % for the test (stratified), a tenth of the rest for validation.

    Parameters
    ----------
    x : ndarray, shape (N, C, *spatial)
    y : ndarray of int, shape (N,)
    seed : int
        The same seed gives the same parts.

    Examples
    --------
    >>> import numpy as np
    >>> from numbacnn.train import split
    >>> parts = split(np.zeros((100, 1, 4)), np.repeat([0, 1], 50), seed=0)
    >>> len(parts.x_train), len(parts.x_validation), np.bincount(parts.y_test)
    (72, 8, array([10, 10]))
    """
    x_rest, x_test, y_rest, y_test = train_test_split(x, y, test_size=_TEST_SHARE, seed=seed, stratify=y)
    x_train, x_validation, y_train, y_validation = train_test_split(
        x_rest, y_rest, test_size=_VALIDATION_SHARE, seed=seed
    )
    return Parts(x_train, y_train, x_validation, y_validation, x_test, y_test)


def train_classifier(
    x: np.ndarray,
    y: np.ndarray,
    output: str | os.PathLike[str],
    *,
    epochs: int = 10,
    batch_size: int = 32,
    lr: float = 1e-3,
    seed: int = 0,
    dtype: Any = np.float32,
    options: dict[str, Any] | None = None,
    notes: dict[str, Any] | None = None,
    progress: bool = True,
    on_start: Callable[[Classifier, Parts], None] | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> TrainingResult:
    """Train `models.small_cnn` on labelled samples with Adam and test it on samples it has not seen.

    Parameters
    ----------
    x : ndarray of float, shape (N, C, *spatial)
        Samples with one to three spatial axes.
    y : ndarray of int, shape (N,)
        Any integers; at least two different ones, each at least twice.
    output : path
        Folder for ``checkpoint.nc``, written after every epoch, and ``metrics.json``, written at the end.
    epochs, batch_size, lr
        Passes over the training part, samples per step, and Adam's learning rate.
    seed : int
        Decides the split, the initial weights, the order of the samples and dropout.
    dtype : dtype, default float32
        Of the parameters.
    options : dict, optional
        Options of `models.small_cnn`.
    notes : dict, optional
        Kept in the checkpoint.
    progress : bool, default True
        Show a progress bar.
    on_start, on_epoch : callable, optional
        Called with the classifier and the parts before the first epoch, and with the record of each epoch.

    Returns
    -------
    TrainingResult

    Raises
    ------
    OptionError
        If there are too few samples or classes.
    FloatingPointError
        If the loss becomes NaN or infinite; the checkpoint of the last complete epoch stays.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from numbacnn.train import train_classifier
    >>> y = np.repeat([0, 1], 20)
    >>> x = np.random.default_rng(0).normal(size=(40, 1, 16)) + 3 * y[:, None, None]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = train_classifier(x, y, folder, epochs=2, progress=False)
    >>> len(result.history), result.test["samples"]
    (2, 8)
    """
    if lr <= 0:
        raise OptionError(f"the learning rate must be positive, got {lr}")
    if seed < 0:
        raise OptionError(f"the seed must be 0 or more, got {seed}")
    classes = np.unique(y)
    if len(classes) < 2:
        raise OptionError(f"at least two classes are needed, found {len(classes)}")
    start = time.perf_counter()
    random.manual_seed(seed)
    parts = split(x, y, seed)
    classifier = Classifier(
        x.shape[1:], classes, Normalize.fit(parts.x_train), options=options, dtype=dtype, notes=notes
    )
    settings = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed, "dtype": classifier.dtype.name}
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    if on_start is not None:
        on_start(classifier, parts)

    def after_epoch(record: dict[str, float]) -> None:
        classifier.notes["epoch"] = record["epoch"]
        classifier.save(folder / CHECKPOINT)
        if on_epoch is not None:
            on_epoch(record)

    history = fit(
        classifier.model,
        optim.Adam(classifier.model.parameters(), lr=lr),
        _loader(classifier, parts.x_train, parts.y_train, batch_size, seed),
        epochs=epochs,
        validation=_loader(classifier, parts.x_validation, parts.y_validation, batch_size),
        on_epoch=after_epoch,
        progress=progress,
    )
    test = classifier.score(parts.x_test, parts.y_test)
    result = TrainingResult(classifier, parts, history, test)
    report = _report(result, time.perf_counter() - start, settings)
    (folder / METRICS).write_text(json.dumps(report, indent=2) + "\n")
    return result


def _report(result: TrainingResult, seconds: float, settings: dict[str, Any]) -> dict[str, Any]:
    """What `METRICS` says."""
    parts = result.parts
    return {
        "test": result.test,
        "history": result.history,
        "seconds": seconds,
        "parameters": sum(parameter.data.size for parameter in result.classifier.model.parameters()),
        "samples": {"train": len(parts.x_train), "validation": len(parts.x_validation), "test": len(parts.x_test)},
        "settings": settings,
    }


def _loader(
    classifier: Classifier, x: np.ndarray, y: np.ndarray, batch_size: int, seed: int | None = None
) -> DataLoader:
    """Batches for the network: shuffled, and of equal size where there is more than one, if there is a seed."""
    dataset = ArrayDataset(classifier.prepare(x), classifier.encode(y))
    training = seed is not None
    return DataLoader(dataset, batch_size, training, seed=seed, drop_last=training and len(x) > batch_size)
