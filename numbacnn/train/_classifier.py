"""A trained network together with what its inputs and outputs mean."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .. import models
from ..data import Normalize
from ..errors import CheckpointError, OptionError, ShapeError
from ..metrics import accuracy
from ..nn import Module
from ..serialization import load, save
from ._loop import predict

_FORMAT = "numbacnn classifier 1"


class Classifier:
    """Network, input normalisation and class labels: all it takes to classify raw samples.

    Parameters
    ----------
    input_shape : tuple of int
        Shape (C, *spatial) of a sample.
    classes : array_like of int, shape (K,)
        The label of each output of the network.
    normalize : Normalize
        Applied to every input.
    options : dict, optional
        Options of `models.small_cnn`, such as ``width``.
    dtype : dtype, default float32
        Of parameters and arithmetic.
    notes : dict, optional
        Anything made of numbers, text, lists and dicts that should be kept with the classifier.

    Attributes
    ----------
    model : Module
        The network, from normalised samples to logits.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from numbacnn.data import Normalize
    >>> from numbacnn.train import Classifier
    >>> classifier = Classifier((1, 8), [3, 7], Normalize([0.0], [1.0]))
    >>> labels, probabilities = classifier.predict(np.ones((5, 1, 8)))
    >>> labels.shape, probabilities.shape
    ((5,), (5, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "classifier.nc")
    ...     classifier.save(path)
    ...     again = Classifier.load(path)
    >>> again.classes, bool(np.array_equal(again.predict(np.ones((5, 1, 8)))[1], probabilities))
    (array([3, 7]), True)
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        classes: Any,
        normalize: Normalize,
        *,
        options: dict[str, Any] | None = None,
        dtype: Any = np.float32,
        notes: dict[str, Any] | None = None,
    ) -> None:
        self.input_shape = tuple(int(extent) for extent in input_shape)
        self.classes = np.asarray(classes, np.int64)
        self.normalize = normalize
        self.options = dict(options or {})
        self.dtype = np.dtype(dtype)
        self.notes = dict(notes or {})
        channels, *spatial = self.input_shape
        self.model: Module = models.small_cnn(channels, len(self.classes), spatial, **self.options).to(self.dtype)

    def prepare(self, x: Any) -> np.ndarray:
        """Raw samples, shape (N, C, *spatial), as the network wants them: normalised, of its dtype."""
        x = np.asarray(x)
        if x.shape[1:] != self.input_shape:
            raise ShapeError(f"the classifier takes samples of shape {self.input_shape}, got {x.shape[1:]}")
        return self.normalize(x.astype(self.dtype, copy=False))

    def predict(self, x: Any, *, batch_size: int = 256) -> tuple[np.ndarray, np.ndarray]:
        """The most probable label of each sample, shape (N,), and the probability of every class, shape (N, K)."""
        logits = predict(self.model, self.prepare(x), batch_size=batch_size)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        return self.classes[logits.argmax(axis=1)], probabilities

    def encode(self, labels: Any) -> np.ndarray:
        """The number of the network's output for each label."""
        labels = np.asarray(labels)
        positions = np.searchsorted(self.classes, labels).clip(max=len(self.classes) - 1)
        unknown = labels[self.classes[positions] != labels]
        if len(unknown):
            known = ", ".join(map(str, self.classes[:20])) + (", ..." if len(self.classes) > 20 else "")
            raise OptionError(f"label {unknown[0]} is not among the classes the network was trained on ({known})")
        return positions

    def score(self, x: Any, labels: Any, *, batch_size: int = 256) -> dict[str, Any]:
        """Mean cross-entropy and accuracy over labelled samples, with the counts behind the accuracy."""
        targets = self.encode(labels)
        predicted, probabilities = self.predict(x, batch_size=batch_size)
        chosen = probabilities[np.arange(len(targets)), targets]
        tiny = np.finfo(self.dtype).tiny
        share = accuracy(self.encode(predicted), targets)
        return {
            "loss": float(-np.log(np.maximum(chosen, tiny)).mean()),
            "accuracy": share,
            "correct": round(share * len(targets)),
            "samples": len(targets),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file; an older file of that name survives until the new one is complete."""
        state = {
            "format": _FORMAT,
            "input_shape": list(self.input_shape),
            "classes": self.classes,
            "normalize": {"mean": self.normalize.mean, "std": self.normalize.std},
            "options": self.options,
            "dtype": self.dtype.name,
            "notes": self.notes,
            "model": self.model.state_dict(),
        }
        save(state, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """Read what `save` has written.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        CheckpointError
            If it is damaged, or holds something else.
        """
        state = load(path)
        if not isinstance(state, dict) or state.get("format") != _FORMAT:
            raise CheckpointError(f"{path}: a checkpoint written by `numbacnn train` is expected")
        classifier = cls(
            tuple(state["input_shape"]),
            state["classes"],
            Normalize(**state["normalize"]),
            options=state["options"],
            dtype=state["dtype"],
            notes=state["notes"],
        )
        classifier.model.load_state_dict(state["model"])
        return classifier
