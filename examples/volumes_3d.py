"""Classifying volumes with `numbacnn.train`: is there a ball or a box in the noise?

    python examples/volumes_3d.py [epochs] [folder]

writes a checkpoint and metrics into the folder (default: numbacnn-volumes).
"""

from __future__ import annotations

import sys

import numpy as np

from numbacnn.train import train_classifier


def volumes(count: int, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Volumes (count, 1, size, size, size) with a ball (0) or a box (1) of the same volume somewhere inside."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, count)
    centre = rng.uniform(5, size - 6, (count, 3, 1, 1, 1))
    offset = np.abs(np.indices((size,) * 3)[None] - centre)
    ball = (offset**2).sum(axis=1) < 4.0**2
    box = (offset < 4.0 * (np.pi / 6) ** (1 / 3)).all(axis=1)
    shape = np.where(label[:, None, None, None] == 0, ball, box)
    return (shape + rng.normal(0, 0.5, shape.shape))[:, None].astype(np.float32), label


def main(epochs: int = 8, folder: str = "numbacnn-volumes") -> float:
    x, y = volumes(400)
    result = train_classifier(x, y, folder, epochs=epochs, batch_size=16, options={"width": 8})
    for record in result.history:
        print(f"epoch {record['epoch']}: loss {record['loss']:.3f}, validation accuracy {record['val_accuracy']:.0%}")
    print(f"test accuracy {result.test['accuracy']:.1%}")
    return result.test["accuracy"]


if __name__ == "__main__":
    epochs, *folder = sys.argv[1:] or ["8"]
    main(int(epochs), *folder)
