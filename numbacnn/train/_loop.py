"""The training loop, and the same without training: evaluation and prediction."""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import metrics as _metrics
from .._progress import ProgressBar
from ..autograd import Tensor, as_tensor, no_grad
from ..errors import OptionError
from ..functional import cross_entropy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ..data import DataLoader
    from ..nn import Module

    Loss = Callable[[Tensor, Any], Tensor]
    Metrics = Mapping[str, Callable[[np.ndarray, Any], float]]
    Record = dict[str, float]


def fit(
    model: Module,
    optimizer: Any,
    loader: DataLoader,
    *,
    epochs: int,
    loss: Loss = cross_entropy,
    metrics: Metrics | None = None,
    validation: DataLoader | None = None,
    on_epoch: Callable[[Record], None] | None = None,
    progress: bool = True,
) -> list[Record]:
    """Train a model.

    Parameters
    ----------
    model : Module
        Changed in place. It is put into training mode for each epoch, and back into its own afterwards.
    optimizer : optimizer of the model's parameters
    loader : DataLoader
        Gives pairs (inputs, targets); one pass over it is an epoch.
    epochs : int
        Number of passes.
    loss : callable, default `functional.cross_entropy`
        From (outputs, targets) to a scalar Tensor, the mean over the batch.
    metrics : mapping of str to callable, optional
        From (outputs, targets), as arrays, to a number that is a mean over the batch. By default the accuracy.
    validation : DataLoader, optional
        Evaluated after each epoch.
    on_epoch : callable, optional
        Called with each epoch's record, for example to save the model.
    progress : bool, default True
        Show a progress bar (if tqdm is installed and standard error is a terminal).

    Returns
    -------
    list of dict
        One record per epoch: ``epoch`` (from 1), ``loss`` and the metrics as means over the training samples while
        the model learnt from them, the same with the prefix ``val_`` if there is a validation set, and ``seconds``.

    Raises
    ------
    FloatingPointError
        If the loss becomes NaN or infinite. What `on_epoch` saved is from before.

    Examples
    --------
    >>> import numpy as np
    >>> import numbacnn as nc
    >>> nc.manual_seed(0)
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> loader = nc.data.DataLoader(nc.data.ArrayDataset(x, (x[:, 0] > 0).astype(np.int64)), 16, shuffle=True)
    >>> model = nc.nn.Linear(1, 2)
    >>> history = nc.train.fit(model, nc.optim.SGD(model.parameters(), lr=1.0), loader, epochs=5, progress=False)
    >>> history[-1]["loss"] < history[0]["loss"]
    True
    """
    if epochs < 1:
        raise OptionError(f"epochs must be at least 1, got {epochs}")
    metrics = _default_metrics(metrics)
    history: list[Record] = []
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        with _mode(model, training=True):
            means = _train_epoch(model, optimizer, loader, loss, metrics, f"epoch {epoch}/{epochs}", progress)
        record: Record = {"epoch": epoch, **means}
        if validation is not None:
            record |= {f"val_{name}": v for name, v in evaluate(model, validation, loss=loss, metrics=metrics).items()}
        record["seconds"] = time.perf_counter() - start
        history.append(record)
        if on_epoch is not None:
            on_epoch(record)
    return history


def _train_epoch(
    model: Module, optimizer: Any, loader: DataLoader, loss: Loss, metrics: Metrics, label: str, progress: bool
) -> Record:
    means = _Means()
    with ProgressBar(len(loader), label, progress) as bar:
        for number, (inputs, targets) in enumerate(loader, 1):
            optimizer.zero_grad()
            outputs = model(as_tensor(inputs))
            value = loss(outputs, targets)
            if not math.isfinite(value.item()):
                raise FloatingPointError(
                    f"the loss became {value.item()} in {label}, batch {number}; try a smaller learning rate"
                )
            value.backward()
            optimizer.step()
            means.add(len(inputs), {"loss": value.item(), **_measure(metrics, outputs, targets)})
            bar.step(f"loss {means.values()['loss']:.4f}")
    return means.values()


def evaluate(
    model: Module, loader: Iterable[Any], *, loss: Loss = cross_entropy, metrics: Metrics | None = None
) -> Record:
    """The mean loss and metrics of a model over a data set, in evaluation mode.

    Parameters
    ----------
    model : Module
        Its mode is put back afterwards.
    loader : DataLoader or iterable
        Gives pairs (inputs, targets).
    loss, metrics
        As for `fit`.

    Returns
    -------
    dict
        ``loss`` and the metrics, each a mean over all samples.

    Examples
    --------
    >>> import numpy as np
    >>> import numbacnn as nc
    >>> model = nc.nn.Identity()
    >>> logits = np.array([[0.0, 9.0], [9.0, 0.0]], np.float32)
    >>> nc.train.evaluate(model, [(logits, np.array([1, 1]))])["accuracy"]
    0.5
    """
    metrics = _default_metrics(metrics)
    means = _Means()
    with _mode(model, training=False), no_grad():
        for inputs, targets in loader:
            outputs = model(as_tensor(inputs))
            means.add(len(inputs), {"loss": loss(outputs, targets).item(), **_measure(metrics, outputs, targets)})
    return means.values()


def predict(model: Module, x: np.ndarray, *, batch_size: int = 256) -> np.ndarray:
    """The outputs of a model, in evaluation mode, for any number of samples.

    Parameters
    ----------
    model : Module
        Its mode is put back afterwards.
    x : ndarray, shape (N, ...)
        Inputs, N at least 1.
    batch_size : int, default 256
        How many samples are computed at once.

    Returns
    -------
    ndarray, shape (N, ...)

    Examples
    --------
    >>> import numpy as np
    >>> import numbacnn as nc
    >>> nc.train.predict(nc.nn.ReLU(), np.array([[-1.0], [2.0]]), batch_size=1)
    array([[0.], [2.]])
    """
    if len(x) == 0 or batch_size < 1:
        raise OptionError(f"at least one sample and batch_size >= 1 are needed, got {len(x)} samples, {batch_size=}")
    with _mode(model, training=False), no_grad():
        return np.concatenate([model(as_tensor(x[i : i + batch_size])).data for i in range(0, len(x), batch_size)])


@contextlib.contextmanager
def _mode(model: Module, *, training: bool) -> Iterator[None]:
    """Training or evaluation mode, and back to what it was."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def _default_metrics(metrics: Metrics | None) -> Metrics:
    return {"accuracy": _metrics.accuracy} if metrics is None else metrics


def _measure(metrics: Metrics, outputs: Tensor, targets: Any) -> Record:
    return {name: float(metric(outputs.data, targets)) for name, metric in metrics.items()}


class _Means:
    """Means over samples of values that are means over batches."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: Record = {}

    def add(self, samples: int, values: Record) -> None:
        self._count += samples
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * samples

    def values(self) -> Record:
        return {name: total / self._count for name, total in self._sums.items()}
