"""The training loop, evaluation and prediction."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from numbacnn.data import ArrayDataset, DataLoader
from numbacnn.errors import OptionError
from numbacnn.train import evaluate, fit, predict


def halves(count=64, seed=0):
    """Points on a line, and on which side of zero they are."""
    x = np.random.default_rng(seed).normal(size=(count, 1)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64)


def train(epochs=4, **options):
    nc.manual_seed(1)
    model = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))
    loader = DataLoader(ArrayDataset(*halves()), 16, shuffle=True, seed=2)
    history = fit(model, nc.optim.SGD(model.parameters(), lr=0.5), loader, epochs=epochs, progress=False, **options)
    return model, history


def test_it_learns_and_reports_every_epoch():
    seen = []
    validation = DataLoader(ArrayDataset(*halves(seed=5)), 50)
    _, history = train(validation=validation, on_epoch=seen.append)
    assert seen == history
    assert [record["epoch"] for record in history] == [1, 2, 3, 4]
    assert set(history[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["val_accuracy"] > 0.9


def test_a_seed_repeats_a_run_exactly():
    first, _ = train()
    again, _ = train()
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_training_loss_is_the_mean_over_samples_of_unequal_batches():
    model = nn.Linear(1, 2)
    x, y = halves(10)
    batches = DataLoader(ArrayDataset(x, y), 4)
    history = fit(model, nc.optim.SGD(model.parameters(), lr=0.0), batches, epochs=1, progress=False)
    whole = evaluate(model, [(x, y)])
    assert history[0]["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert history[0]["accuracy"] == pytest.approx(whole["accuracy"])
    assert evaluate(model, batches) == pytest.approx(whole, rel=1e-6)


def test_metrics_and_loss_are_the_callers():
    model = nn.Linear(1, 1)
    x = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
    loader = DataLoader(ArrayDataset(x, 3 * x), 8)
    metrics = {"worst": lambda outputs, targets: np.abs(outputs - targets).max()}
    history = fit(
        model,
        nc.optim.SGD(model.parameters(), lr=0.5),
        loader,
        epochs=30,
        loss=nc.functional.mse_loss,
        metrics=metrics,
        progress=False,
    )
    assert set(history[0]) == {"epoch", "loss", "worst", "seconds"}
    assert history[-1]["worst"] < 0.1


def test_modes_are_put_back():
    model = nn.Sequential(nn.Linear(1, 2), nn.Dropout(0.5), nn.Linear(2, 2))
    model[1].eval()
    modes = []
    model[1].register_forward_hook(lambda module, *_: modes.append(module.training))
    loader = DataLoader(ArrayDataset(*halves(8)), 8)
    fit(model, nc.optim.SGD(model.parameters(), lr=0.1), loader, epochs=1, validation=loader, progress=False)
    predict(model, halves(3)[0])
    assert modes == [True, False, False]
    assert [module.training for module in model.modules()] == [True, True, False, True]


def test_no_gradients_in_evaluation():
    model = nn.Linear(1, 2)
    evaluate(model, [halves(4)])
    predict(model, halves(4)[0])
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_prediction_does_not_depend_on_the_batch_size(batch_size):
    nc.manual_seed(0)
    model = nn.Linear(3, 2)
    x = np.arange(21, dtype=np.float32).reshape(7, 3)
    np.testing.assert_array_equal(predict(model, x, batch_size=batch_size), predict(model, x))


def test_a_loss_that_is_not_finite_stops_the_run():
    saved = []
    x, y = halves()
    x[40] = np.nan
    model = nn.Linear(1, 2)
    loader = DataLoader(ArrayDataset(x, y), 16)
    with pytest.raises(
        FloatingPointError, match="the loss became nan in epoch 1/2, batch 3; try a smaller learning rate"
    ):
        fit(model, nc.optim.SGD(model.parameters(), lr=0.1), loader, epochs=2, on_epoch=saved.append, progress=False)
    assert saved == []


def test_an_interrupted_run_leaves_no_thread():
    def interrupt(record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(on_epoch=interrupt)
    assert not [thread for thread in threading.enumerate() if thread.name == "numbacnn-loader"]


def test_bad_requests():
    model = nn.Linear(1, 2)
    with pytest.raises(OptionError, match="epochs must be at least 1, got 0"):
        fit(model, None, DataLoader(ArrayDataset(*halves(8))), epochs=0)
    with pytest.raises(OptionError, match="at least one sample"):
        predict(model, np.empty((0, 1), np.float32))


def test_progress_bar_is_shown_on_a_terminal_and_not_in_a_pipe(monkeypatch, capsys):
    pytest.importorskip("tqdm")
    from numbacnn._progress import ProgressBar

    with ProgressBar(2, "working") as bar:
        bar.step("half")
    assert "working" not in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with ProgressBar(2, "working") as bar:
        bar.step("half")
        bar.step()
    assert "working" in capsys.readouterr().err


def test_without_tqdm_there_is_no_bar(monkeypatch, capsys):
    from numbacnn._progress import ProgressBar

    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with ProgressBar(1, "working") as bar:
        bar.step("quietly")
    assert capsys.readouterr() == ("", "")
