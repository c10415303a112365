"""Layers: options checked at construction, forward equal to the functions, PyTorch's keys and text."""

import re

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import functional as F
from numbacnn import nn
from numbacnn.errors import DTypeError, OptionError, ShapeError

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


# ----------------------------------------------------------------------------------------------------- convolutions


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_layers_call_their_function(rank):
    x = normal(2, 4, *(6, 7, 5)[:rank])
    layer = getattr(nn, f"Conv{rank}d")(4, 6, 3, stride=2, padding=1, groups=2, padding_mode="reflect")
    expected = getattr(F, f"conv{rank}d")(x, layer.weight, layer.bias, 2, 1, 1, 2, "reflect")
    np.testing.assert_array_equal(layer(x).data, expected.data)
    layer = getattr(nn, f"ConvTranspose{rank}d")(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
    expected = getattr(F, f"conv_transpose{rank}d")(x, layer.weight, layer.bias, 2, 1, 1, 2)
    np.testing.assert_array_equal(layer(x).data, expected.data)


def test_conv_transpose_output_size():
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)
    x = normal(1, 2, 5, 5)
    assert layer(x).shape == (1, 3, 9, 9)
    assert layer(x, output_size=(10, 9)).shape == (1, 3, 10, 9)
    assert layer(x[0], output_size=(1, 3, 10, 10)).shape == (3, 10, 10)
    with pytest.raises(OptionError, match="output_size must be from 9 to 10, got 12"):
        layer(x, output_size=(9, 12))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Conv2d(0, 3, 3), OptionError, "in_channels must be at least 1"),
        (lambda: nn.Conv2d(3, 2.5, 3), OptionError, "out_channels must be an integer"),
        (lambda: nn.Conv2d(3, 4, 0), OptionError, "kernel_size must be at least 1"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), OptionError, "kernel_size must be an integer or 2 integers"),
        (lambda: nn.Conv2d(3, 4, 3, stride=0), OptionError, "stride must be at least 1"),
        (lambda: nn.Conv2d(3, 4, 3, dilation=-1), OptionError, "dilation must be at least 1"),
        (lambda: nn.Conv2d(3, 4, 3, padding=-1), OptionError, "padding must be at least 0"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full"), OptionError, "padding must be one of 'valid', 'same'"),
        (lambda: nn.Conv2d(3, 4, 3, padding=(1, 2, 3)), OptionError, "padding must be"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), OptionError, "in_channels=3 is not divisible by groups=2"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), OptionError, "out_channels=3 is not divisible by groups=2"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), OptionError, "padding_mode must be one of"),
        (lambda: nn.Conv2d(3, 4, 3, dtype=int), DTypeError, "float"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding="same"), OptionError, "no padding='same'"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, output_padding=1), OptionError, "output_padding must be below"),
        (lambda: nn.Linear(0, 3), OptionError, "in_features must be at least 1"),
        (lambda: nn.BatchNorm2d(0), OptionError, "num_features must be at least 1"),
        (lambda: nn.Dropout(1.5), OptionError, "p must be a probability, from 0 to 1; got 1.5"),
        (lambda: nn.GELU("erf"), OptionError, "approximate must be one of"),
        (lambda: nn.MaxPool2d(0), OptionError, "kernel_size must be at least 1"),
        (lambda: nn.MaxPool2d(2, stride=(1, 2, 3)), OptionError, "stride must be an integer or 2 integers"),
        (lambda: nn.AvgPool2d(2, padding=-1), OptionError, "padding must be at least 0"),
        (lambda: nn.AvgPool2d(2, divisor_override=0), OptionError, "divisor_override must be at least 1"),
        (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), OptionError, "output_size must be an integer or 2"),
        (lambda: nn.AdaptiveMaxPool1d(0), OptionError, "output_size must be at least 1"),
        (lambda: nn.CrossEntropyLoss(reduction="avg"), OptionError, "reduction must be one of"),
        (lambda: nn.MSELoss("avg"), OptionError, "reduction must be one of"),
    ],
)
def test_options_are_checked_at_construction(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ----------------------------------------------------------------------------------------------------- other layers


def test_activations():
    x = normal(2, 3, 4)
    for layer, expected in (
        (nn.ReLU(inplace=True), F.relu(x)),
        (nn.LeakyReLU(0.2), F.leaky_relu(x, 0.2)),
        (nn.Sigmoid(), F.sigmoid(x)),
        (nn.Tanh(), F.tanh(x)),
        (nn.SiLU(), F.silu(x)),
        (nn.GELU("tanh"), F.gelu(x, approximate="tanh")),
        (nn.Softmax(2), F.softmax(x, 2)),
        (nn.LogSoftmax(-1), F.log_softmax(x, -1)),
        (nn.Flatten(0, 1), F.flatten(x, 0, 1)),
    ):
        original = x.copy()
        np.testing.assert_array_equal(layer(x).data, expected.data)
        np.testing.assert_array_equal(x, original)


def test_pools():
    x = normal(2, 3, 8, 9)
    for layer, expected in (
        (nn.MaxPool2d(3, 2, 1, ceil_mode=True), F.max_pool2d(x, 3, 2, 1, ceil_mode=True)),
        (nn.MaxPool2d(2, dilation=2), F.max_pool2d(x, 2, dilation=2)),
        (nn.AvgPool2d(3, 2, 1, count_include_pad=False), F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
        (nn.AvgPool2d(2, divisor_override=3), F.avg_pool2d(x, 2, divisor_override=3)),
        (nn.AdaptiveAvgPool2d((3, None)), F.adaptive_avg_pool2d(x, (3, None))),
        (nn.AdaptiveMaxPool2d(2), F.adaptive_max_pool2d(x, 2)),
        (nn.GlobalAvgPool(keepdims=True), F.global_avg_pool(x, keepdims=True)),
    ):
        np.testing.assert_array_equal(layer(x).data, expected.data)
    values, indices = nn.MaxPool2d(2, return_indices=True)(x)
    found = np.take_along_axis(x.reshape(2, 3, -1), indices.reshape(2, 3, -1), 2)
    np.testing.assert_array_equal(found.reshape(values.shape), values.data)
    assert nn.MaxUnpool2d(2)(values, indices, output_size=(8, 9)).shape == x.shape
    np.testing.assert_array_equal(nn.LPPool2d(2, 2)(x).data, F.lp_pool2d(x, 2, 2).data)
    for rank in (1, 3):
        x = normal(1, 2, *(4,) * rank)
        for name in ("MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool"):
            assert getattr(nn, f"{name}{rank}d")(2)(x).shape == (1, 2, *(2,) * rank)


def test_linear():
    layer = nn.Linear(5, 3)
    x = normal(2, 4, 5)
    np.testing.assert_allclose(layer(x).data, x @ layer.weight.data.T + layer.bias.data, rtol=1e-5, atol=1e-6)
    assert nn.Linear(5, 3, bias=False).bias is None


def test_dropout():
    layer = nn.Dropout(0.25)
    x = nc.Tensor(np.ones((100, 100), np.float32), requires_grad=True)
    nc.manual_seed(0)
    y = layer(x)
    y.sum().backward()
    assert set(np.unique(y.data)) == {0.0, np.float32(1 / 0.75)}
    assert (y.data == 0).mean() == pytest.approx(0.25, abs=0.02)
    np.testing.assert_array_equal(x.grad, y.data)  # of ones
    nc.manual_seed(0)
    np.testing.assert_array_equal(layer(x).data, y.data)
    assert layer.eval()(x) is x
    assert not nn.Dropout(1)(x).data.any()
    assert nn.Dropout(0)(x) is x
    with pytest.raises(DTypeError):
        nn.Dropout()(np.ones(3, int))


def test_dropout_gradient_of_channels_last_memory():
    x = nc.Tensor(np.moveaxis(np.ones((2, 4, 5, 3), np.float32), -1, 1), requires_grad=True)
    y = nn.Dropout()(x)
    y.backward(np.ones(y.shape, np.float32))  # C-contiguous
    np.testing.assert_array_equal(x.grad, y.data)


# --------------------------------------------------------------------------------------------------------- batch norm


def test_batch_norm_running_statistics():
    x = normal(8, 3, 4, 5) * 2 + 1
    layer = nn.BatchNorm2d(3)
    layer(x)
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(layer.running_mean, 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.running_var, 0.9 + 0.1 * var, rtol=1e-5)
    assert layer.num_batches_tracked == 1
    layer.eval()(x)
    assert layer.num_batches_tracked == 1
    layer.reset_running_stats()
    assert not layer.running_mean.any()


def test_batch_norm_cumulative():
    batches = [normal(8, 3) * scale for scale in (1, 2, 3)]
    layer = nn.BatchNorm1d(3, momentum=None)
    for batch in batches:
        layer(batch)
    np.testing.assert_allclose(
        layer.running_mean, np.mean([batch.mean(0) for batch in batches], 0), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(layer.running_var, np.mean([batch.var(0, ddof=1) for batch in batches], 0), rtol=1e-4)


def test_batch_norm_options():
    x = normal(6, 3, 4)
    plain = nn.BatchNorm1d(3, affine=False, track_running_stats=False)
    assert not plain.state_dict()
    np.testing.assert_allclose(plain.eval()(x).data, plain.train()(x).data)
    assert nn.BatchNorm1d(3)(x[:, :, 0]).shape == (6, 3)
    assert nn.BatchNorm3d(3)(normal(2, 3, 2, 2, 2)).shape == (2, 3, 2, 2, 2)
    for layer, array in ((nn.BatchNorm1d(3), normal(3)), (nn.BatchNorm2d(3), x), (nn.BatchNorm3d(3), x)):
        with pytest.raises(ShapeError, match=rf"{type(layer).__name__} needs an input of .* axes"):
            layer(array)
    layer = nn.BatchNorm1d(3)
    layer.weight.data[...] = 5
    layer.reset_parameters()
    assert layer.weight.tolist() == [1.0] * 3


# ------------------------------------------------------------------------------------------------------------- losses


def test_losses():
    logits, classes = normal(5, 3), np.array([0, 2, 1, 1, 0])
    weight = np.array([1.0, 2.0, 3.0], np.float32)
    loss = nn.CrossEntropyLoss(weight, ignore_index=2, label_smoothing=0.1)
    expected = F.cross_entropy(logits, classes, weight=weight, ignore_index=2, label_smoothing=0.1)
    assert loss(logits, classes).item() == expected.item()
    assert list(loss.state_dict()) == ["weight"]
    assert nn.MSELoss("sum")(logits, logits + 1).item() == pytest.approx(15, rel=1e-5)
    assert nn.L1Loss()(logits, logits + 3).item() == pytest.approx(3, rel=1e-5)
    assert nn.SmoothL1Loss(beta=2)(logits, logits + 1).item() == pytest.approx(0.25, rel=1e-5)


# ------------------------------------------------------------------------------------------------------ PyTorch's forms

SAME_TEXT = [
    lambda nn: nn.Conv1d(3, 6, 5, 2, 1, 2, 3, False, "reflect"),
    lambda nn: nn.Conv2d(3, 6, (3, 5), padding="same"),
    lambda nn: nn.Conv3d(3, 6, 3, padding=(0, 1, 2)),
    lambda nn: nn.ConvTranspose1d(4, 6, 3),
    lambda nn: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, False),
    lambda nn: nn.ConvTranspose3d(4, 6, 3, dilation=2),
    lambda nn: nn.BatchNorm1d(3),
    lambda nn: nn.BatchNorm2d(3, 1e-3, None, False),
    lambda nn: nn.BatchNorm3d(3, track_running_stats=False),
    lambda nn: nn.Linear(3, 4),
    lambda nn: nn.Linear(3, 4, bias=False),
    lambda nn: nn.Flatten(),
    lambda nn: nn.ReLU(),
    lambda nn: nn.ReLU(inplace=True),
    lambda nn: nn.LeakyReLU(0.2),
    lambda nn: nn.Sigmoid(),
    lambda nn: nn.Tanh(),
    lambda nn: nn.GELU("tanh"),
    lambda nn: nn.SiLU(),
    lambda nn: nn.Softmax(dim=1),
    lambda nn: nn.LogSoftmax(dim=1),
    lambda nn: nn.Dropout(0.2),
    lambda nn: nn.Identity(),
    lambda nn: nn.MaxPool2d(3, 2, 1),
    lambda nn: nn.MaxPool3d((1, 2, 2)),
    lambda nn: nn.AvgPool2d(3),
    lambda nn: nn.AdaptiveAvgPool2d((1, 1)),
    lambda nn: nn.AdaptiveMaxPool1d(4),
    lambda nn: nn.CrossEntropyLoss(),
    lambda nn: nn.MSELoss(),
    lambda nn: nn.L1Loss(),
    lambda nn: nn.SmoothL1Loss(),
    lambda nn: nn.MaxUnpool2d(2),
    lambda nn: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()), nn.Flatten()),
    lambda nn: nn.ModuleList([nn.Linear(1, 2), nn.Linear(2, 3)]),
]


@pytest.mark.parametrize("make", SAME_TEXT)
def test_text_and_state_are_torchs(make):
    torch = pytest.importorskip("torch")
    ours, theirs = make(nn), make(torch.nn)
    # Newer versions of PyTorch show one more option of batch normalisation.
    assert repr(ours) == re.sub(r", bias=\w+(?=, track)", "", repr(theirs))
    expected = {key: (tuple(value.shape), str(value.numpy().dtype)) for key, value in theirs.state_dict().items()}
    found = {key: (value.shape, str(value.dtype)) for key, value in ours.state_dict().items()}
    assert found == expected
    assert list(found) == list(expected)
