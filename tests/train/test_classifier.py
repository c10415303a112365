"""Classifiers: a network with its normalisation and labels, saved and loaded."""

from __future__ import annotations

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.data import Normalize
from numbacnn.errors import CheckpointError, OptionError, ShapeError
from numbacnn.train import Classifier


def make(shape=(2, 6), dtype=np.float32, classes=(-3, 5, 40)):
    nc.manual_seed(0)
    normalize = Normalize(np.arange(shape[0]), np.full(shape[0], 2.0))
    return Classifier(shape, classes, normalize, options={"width": 4}, dtype=dtype, notes={"data": "test", "seed": 3})


def samples(shape, count=5):
    return np.random.default_rng(1).normal(size=(count, *shape)).astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 6), (1, 5, 7), (3, 2, 4, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saved_and_loaded_it_predicts_the_same(tmp_path, shape, dtype):
    classifier = make(shape, dtype)
    classifier.save(tmp_path / "c.nc")
    again = Classifier.load(tmp_path / "c.nc")
    x = samples(shape)
    labels, probabilities = classifier.predict(x)
    labels_again, probabilities_again = again.predict(x)
    np.testing.assert_array_equal(labels, labels_again)
    np.testing.assert_array_equal(probabilities, probabilities_again)
    assert probabilities.dtype == dtype
    assert again.notes == {"data": "test", "seed": 3}
    assert again.input_shape == shape


def test_probabilities_and_labels():
    labels, probabilities = make().predict(samples((2, 6)))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(labels, np.array([-3, 5, 40])[probabilities.argmax(axis=1)])


def test_score_agrees_with_its_definition():
    classifier = make()
    x = samples((2, 6), 30)
    truth = np.tile([-3, 5, 40], 10)
    labels, probabilities = classifier.predict(x)
    score = classifier.score(x, truth)
    assert score["correct"] == int((labels == truth).sum())
    assert score["samples"] == 30
    assert score["accuracy"] == score["correct"] / 30
    chosen = probabilities[np.arange(30), np.tile([0, 1, 2], 10)]
    assert score["loss"] == pytest.approx(-np.log(chosen.astype(np.float64)).mean(), rel=1e-5)


def test_normalisation_is_applied():
    classifier = make()
    x = samples((2, 6))
    np.testing.assert_allclose(classifier.prepare(x)[:, 1], (x[:, 1] - 1) / 2, rtol=1e-6)
    np.testing.assert_array_equal(classifier.prepare(np.ones((1, 2, 6), np.uint8))[0, 0], 0.5)


def test_wrong_shape_of_samples():
    with pytest.raises(ShapeError, match=r"takes samples of shape \(2, 6\), got \(2, 7\)"):
        make().predict(samples((2, 7)))


@pytest.mark.parametrize("label", [-4, 0, 41])
def test_unknown_label(label):
    with pytest.raises(OptionError, match=rf"label {label} is not among .* \(-3, 5, 40\)"):
        make().encode([5, label])


def test_a_long_list_of_classes_is_cut():
    with pytest.raises(OptionError, match=r"0, 1, .*19, \.\.\.\)"):
        make(classes=np.arange(50)).encode([99])


def test_other_files_are_refused(tmp_path):
    nc.save({"weights": np.zeros(3)}, tmp_path / "other.nc")
    with pytest.raises(CheckpointError, match="a checkpoint written by `numbacnn train` is expected"):
        Classifier.load(tmp_path / "other.nc")
    make().save(tmp_path / "c.nc")
    whole = (tmp_path / "c.nc").read_bytes()
    (tmp_path / "torn.nc").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError):
        Classifier.load(tmp_path / "torn.nc")
    with pytest.raises(FileNotFoundError):
        Classifier.load(tmp_path / "none.nc")
