"""Pictures of a training run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMNS, _ROWS = 6, 3
_TRAIN, _VALIDATION, _TEXT = "#1f5fa8", "#d9762b", "#444444"


def plot_training(
    path: str | os.PathLike[str],
    history: Sequence[dict[str, float]],
    x: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
) -> None:
    """Draw loss and accuracy per epoch, and the samples that were classified wrongly, into one PNG.

    Parameters
    ----------
    path : path
        The picture.
    history : sequence of dict
        What `fit` returned.
    x : ndarray, shape (N, C, *spatial)
        Samples to show: signals as lines, images as images, volumes by their middle slice.
    labels, predicted : ndarray, shape (N,)
        What they are and what they were taken for.
    probabilities : ndarray, shape (N, K)
        The most confident mistakes are shown first, so that what is shown is what matters most.

    Raises
    ------
    ImportError
        If matplotlib is not installed (``pip install "numbacnn[train]"``).

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from numbacnn.train import plot_training
    >>> history = [{"epoch": 1, "loss": 0.7, "accuracy": 0.5}, {"epoch": 2, "loss": 0.3, "accuracy": 0.9}]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "run.png")
    ...     plot_training(path, history, np.eye(8)[None, None], np.array([1]), np.array([0]), np.array([[0.6, 0.4]]))
    ...     with open(path, "rb") as file:
    ...         file.read(4)
    b'\\x89PNG'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wrong = np.flatnonzero(labels != predicted)
    confidence = probabilities.max(axis=1)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][: _COLUMNS * _ROWS]
    columns = min(_COLUMNS, max(len(shown), 1))
    rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(11, 3.7 + 1.75 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subfigures(2, 1, height_ratios=(3.7, 1.75 * rows))
    _draw_curves(top.subplots(1, 2), history)
    summary = f"{len(labels) - len(wrong)} of {len(labels)} test samples right"
    if len(shown):
        which = f"the {len(shown)} most confident of " if len(shown) < len(wrong) else ""
        mistakes = f"{len(wrong)} mistake{'s' if len(wrong) > 1 else ''}"
        bottom.suptitle(f"{summary}; {which}{mistakes}", fontsize=12, color=_TEXT)
        cells = bottom.subplots(rows, columns, squeeze=False).flat
        for axes, index in zip(cells, shown, strict=False):
            _draw_sample(axes, x[index])
            axes.set_title(f"{labels[index]} taken for {predicted[index]} ({confidence[index]:.0%})", fontsize=9)
        for axes in list(bottom.axes)[len(shown) :]:
            axes.set_axis_off()
    else:
        bottom.text(0.5, 0.5, f"{summary}: no mistakes to show", ha="center", va="center", fontsize=12, color=_TEXT)
    figure.savefig(path, format="png")


def _draw_curves(panels: Any, history: Sequence[dict[str, float]]) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    epochs = [record["epoch"] for record in history]
    for axes, name, title in zip(panels, ("loss", "accuracy"), ("Loss", "Accuracy"), strict=True):
        for key, label, colour in ((name, "training", _TRAIN), (f"val_{name}", "validation", _VALIDATION)):
            if key in history[-1]:
                axes.plot(epochs, [record[key] for record in history], "o-", ms=4, lw=1.8, color=colour, label=label)
        axes.set_title(title, fontsize=12, color=_TEXT)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    # Losses fall over orders of magnitude; a linear axis would show the first epoch and nothing else.
    if all(value > 0 for record in history for key, value in record.items() if key.endswith("loss")):
        panels[0].set_yscale("log")
    panels[1].yaxis.set_major_formatter(PercentFormatter(1.0))


def _draw_sample(axes: Any, sample: np.ndarray) -> None:
    """One sample (C, *spatial): a signal as one line per channel, an image, or the middle slice of a volume."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#bbbbbb")
    if sample.ndim == 2:
        axes.plot(sample.T, lw=1)
        return
    if sample.ndim == 4:
        sample = sample[:, sample.shape[1] // 2]
    if len(sample) == 3:
        low, high = sample.min(), sample.max()
        axes.imshow(np.moveaxis(sample - low, 0, -1) / (high - low or 1), aspect="auto")
    else:
        axes.imshow(sample[0], cmap="gray_r", aspect="equal")
