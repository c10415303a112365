"""Initial values: bounds, moments, seeds; and the layers' defaults, which are PyTorch's."""

import math

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from numbacnn.errors import OptionError, ShapeError

SHAPE = (128, 64, 3, 3)  # fan_in 576, fan_out 1152


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("fill", "std", "bounded"),
    [
        (lambda w: nn.init.uniform_(w, -2, 2), 2 / math.sqrt(3), True),
        (lambda w: nn.init.normal_(w, 0, 3), 3, False),
        (lambda w: nn.init.kaiming_uniform_(w), math.sqrt(2 / 576), True),
        (lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)), math.sqrt(1 / 3 / 576), True),
        (lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"), math.sqrt(2 / 1152), False),
        (lambda w: nn.init.xavier_uniform_(w, gain=2), 2 * math.sqrt(2 / 1728), True),
        (lambda w: nn.init.xavier_normal_(w), math.sqrt(2 / 1728), False),
    ],
)
def test_moments(fill, std, bounded, dtype):
    nc.manual_seed(0)
    weight = nn.Parameter(np.empty(SHAPE, dtype))
    assert fill(weight) is weight
    assert weight.dtype == dtype
    assert abs(weight.data.mean()) < 4 * std / math.sqrt(weight.numel())
    assert weight.data.std() == pytest.approx(std, rel=0.02)
    largest = np.abs(weight.data).max() / std
    assert (largest <= math.sqrt(3) * 1.0001) == bounded


def test_seed_and_own_generator():
    def draw(**options):
        return nn.init.normal_(np.empty(5), **options).tolist()

    nc.manual_seed(1)
    first = draw()
    assert draw() != first
    nc.manual_seed(1)
    assert draw() == first
    assert draw(generator=np.random.default_rng(7)) == draw(generator=np.random.default_rng(7))


def test_constants():
    weight = nn.Parameter(np.empty(3, np.float32))
    assert nn.init.constant_(weight, 2.5).tolist() == [2.5] * 3
    assert nn.init.zeros_(weight).tolist() == [0.0] * 3
    assert nn.init.ones_(weight).tolist() == [1.0] * 3


def test_errors():
    with pytest.raises(ShapeError, match="at least 2 axes"):
        nn.init.kaiming_uniform_(np.empty(3))
    with pytest.raises(OptionError, match="mode must be one of 'fan_in', 'fan_out'"):
        nn.init.kaiming_uniform_(np.empty((3, 3)), mode="fan")
    with pytest.raises(OptionError, match="nonlinearity"):
        nn.init.calculate_gain("swish")
    with pytest.raises(OptionError, match="floating-point"):
        nn.init.zeros_(np.empty(3, int))


def test_gains_are_torchs():
    torch = pytest.importorskip("torch")
    for name in ("linear", "sigmoid", "tanh", "relu", "leaky_relu"):
        assert nn.init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    assert nn.init.calculate_gain("leaky_relu", 0.2) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.2))


@pytest.mark.parametrize(
    "make",
    [
        lambda nn: nn.Conv1d(30, 40, 5, groups=2),
        lambda nn: nn.Conv2d(16, 32, 3),
        lambda nn: nn.Conv3d(8, 16, (3, 2, 1)),
        lambda nn: nn.ConvTranspose2d(16, 32, 3, groups=4),
        lambda nn: nn.Linear(100, 50),
    ],
)
def test_layers_draw_from_torchs_distributions(make):
    torch = pytest.importorskip("torch")
    nc.manual_seed(0)
    ours, theirs = make(nn), make(torch.nn)
    for name in ("weight", "bias"):
        mine, other = getattr(ours, name).data, getattr(theirs, name).detach().numpy()
        assert mine.shape == other.shape
        assert mine.dtype == other.dtype
        # Both are uniform: the same largest magnitude means the same distribution.
        assert np.abs(mine).max() == pytest.approx(np.abs(other).max(), rel=0.25 if name == "bias" else 0.01)
