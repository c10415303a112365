"""From labelled arrays to a trained classifier on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest

from numbacnn.data import load_digits
from numbacnn.errors import OptionError
from numbacnn.train import Classifier, split, train_classifier


def tones(count=60, length=24, seed=0):
    """Signals of three frequencies in noise, labelled 10, 20, 30."""
    rng = np.random.default_rng(seed)
    y = np.tile([10, 20, 30], count // 3)
    phase = rng.uniform(0, 6.28, (count, 1))
    x = np.sin(phase + np.arange(length) * y[:, None] / 15) + rng.normal(0, 0.1, (count, length))
    return x[:, None].astype(np.float32), y


def train(folder, **options):
    return train_classifier(*tones(), folder, **{"epochs": 3, "options": {"width": 8}, "progress": False, **options})


def test_files_and_result(tmp_path):
    result = train(tmp_path / "a" / "b", epochs=8, batch_size=8, lr=5e-3)
    report = json.loads((tmp_path / "a" / "b" / "metrics.json").read_text())
    assert report["history"] == result.history
    assert report["test"] == result.test
    assert report["samples"] == {"train": 43, "validation": 5, "test": 12}
    assert report["settings"]["epochs"] == 8
    assert result.test["accuracy"] == 1
    saved = Classifier.load(tmp_path / "a" / "b" / "checkpoint.nc")
    assert saved.notes["epoch"] == 8
    assert saved.classes.tolist() == [10, 20, 30]
    assert saved.score(result.parts.x_test, result.parts.y_test) == result.test


def test_a_seed_repeats_a_run(tmp_path):
    first, again, other = (train(tmp_path, seed=seed) for seed in (1, 1, 2))
    assert [r["loss"] for r in first.history] == [r["loss"] for r in again.history]
    assert [r["loss"] for r in first.history] != [r["loss"] for r in other.history]


def test_normalisation_comes_from_the_training_part_alone(tmp_path):
    result = train(tmp_path, epochs=1)
    assert result.classifier.normalize.mean == pytest.approx(result.parts.x_train.mean(dtype=np.float64))


def test_split_keeps_samples_with_their_labels_and_uses_each_once():
    x, y = load_digits()
    tagged = np.arange(len(x))
    parts = split(tagged, y, seed=0)
    samples = np.concatenate(parts[0::2])
    labels = np.concatenate(parts[1::2])
    assert sorted(samples) == tagged.tolist()
    np.testing.assert_array_equal(y[samples], labels)
    assert len(parts.y_test) == 359
    assert np.all(np.abs(np.bincount(parts.y_test) - np.bincount(y) * (359 / len(y))) < 1)


def test_an_interrupted_run_leaves_the_last_complete_epoch(tmp_path):
    def interrupt(record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, on_epoch=interrupt)
    assert Classifier.load(tmp_path / "checkpoint.nc").notes["epoch"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.nc"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "learning rate must be positive"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_bad_options(tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        train(tmp_path, **options)


def test_too_little_to_learn_from(tmp_path):
    with pytest.raises(OptionError, match="at least two classes are needed, found 1"):
        train_classifier(np.zeros((4, 1, 5), np.float32), np.zeros(4, int), tmp_path)
    with pytest.raises(OptionError, match="class 1 has a single sample"):
        train_classifier(np.zeros((4, 1, 5), np.float32), np.array([0, 0, 0, 1]), tmp_path)
