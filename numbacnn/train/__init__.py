"""Training: the loop, evaluation and prediction, classifiers that can be saved, and plots."""

from ._classifier import Classifier
from ._loop import evaluate, fit, predict
from ._plots import plot_training
from ._recipe import TrainingResult, split, train_classifier

__all__ = [
    "Classifier",
    "TrainingResult",
    "evaluate",
    "fit",
    "plot_training",
    "predict",
    "split",
    "train_classifier",
]
