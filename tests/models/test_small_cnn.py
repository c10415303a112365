"""The small classifier for signals, images and volumes."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.errors import ShapeError
from numbacnn.models import small_cnn


@pytest.mark.parametrize("spatial", [(1,), (5,), (130,), (8, 8), (3, 70), (1, 1), (9, 1, 5), (2, 17, 6)])
def test_any_rank_and_size(spatial):
    model = small_cnn(2, 3, spatial, width=4)
    x = np.random.default_rng(0).normal(size=(3, 2, *spatial)).astype(np.float32)
    model(x).sum().backward()
    assert model(x).shape == (3, 3)
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("spatial", [(), (0,), (4, -1), (2, 2, 2, 2)])
def test_bad_extents(spatial):
    with pytest.raises(ShapeError, match="one to three positive extents"):
        small_cnn(1, 2, spatial)
