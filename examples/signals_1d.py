"""A network and a training loop of one's own: which of two tones is in a noisy signal?

python examples/signals_1d.py [epochs]
"""

from __future__ import annotations

import sys

import numpy as np

import numbacnn as nc
from numbacnn import nn
from numbacnn.data import ArrayDataset, DataLoader, train_test_split


class ToneNet(nn.Module):
    """Two dilated convolutions, the average over time, and a classifier."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 16, 9, padding="same", bias=False)
        self.norm = nn.BatchNorm1d(16)
        self.second = nn.Conv1d(16, 32, 9, padding="same", dilation=4)
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.classify = nn.Linear(32, classes)

    def forward(self, x):
        x = nc.functional.relu(self.norm(self.first(x)))
        x = nc.functional.relu(self.second(x))
        return self.classify(self.pool(x).reshape(x.shape[0], -1))


def tones(count: int, length: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Signals (count, 1, length): a tone of 5 or 6 periods per 100 samples, in noise twice as strong."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, count)
    phase = rng.uniform(0, 2 * np.pi, (count, 1))
    tone = np.sin(phase + 2 * np.pi * np.arange(length) * (5 + label[:, None]) / 100)
    return (tone + rng.normal(0, 2, tone.shape))[:, None].astype(np.float32), label


def main(epochs: int = 10) -> float:
    nc.manual_seed(0)
    x_train, x_test, y_train, y_test = train_test_split(*tones(2000), test_size=0.25, seed=0)
    model = ToneNet(2)
    optimizer = nc.optim.AdamW(model.parameters(), lr=3e-3)
    loader = DataLoader(ArrayDataset(x_train, y_train), 32, shuffle=True)
    for epoch in range(epochs):
        for signals, labels in loader:
            loss = nc.functional.cross_entropy(model(signals), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy = nc.metrics.accuracy(nc.train.predict(model, x_test), y_test)
        print(f"epoch {epoch + 1}: test accuracy {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
