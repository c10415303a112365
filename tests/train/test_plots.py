"""The picture of a training run."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.train import plot_training

pytest.importorskip("matplotlib")


@pytest.mark.parametrize(
    ("shape", "wrong"), [((3, 20), 7), ((1, 8, 8), 0), ((1, 8, 8), 40), ((3, 6, 9), 1), ((2, 4, 5, 6), 6)]
)
def test_a_picture_for_every_rank(tmp_path, shape, wrong):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 40)
    predicted = labels.copy()
    predicted[:wrong] = (labels[:wrong] + 1) % 4
    history = [{"epoch": e, "loss": 1 / e, "accuracy": 0.5, "val_loss": 2 / e, "val_accuracy": 0.4} for e in (1, 2)]
    path = tmp_path / "run.png"
    plot_training(path, history, rng.normal(size=(40, *shape)), labels, predicted, rng.dirichlet(np.ones(4), 40))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_loss_of_zero_and_one_epoch(tmp_path):
    history = [{"epoch": 1, "loss": 0.0, "accuracy": 1.0}]
    nothing = np.zeros(2, int)
    plot_training(tmp_path / "run.png", history, np.zeros((2, 1, 4, 4)), nothing, nothing, np.ones((2, 1)))
    assert (tmp_path / "run.png").exists()
