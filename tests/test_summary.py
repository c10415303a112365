"""The summary's numbers against hand counts, and that it leaves the model as it was."""

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from numbacnn.errors import ShapeError


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(4, 4, 5, padding=2)
        self.narrow = nn.Conv2d(4, 4, 1)
        self.join = nn.Conv2d(8, 2, 3)

    def forward(self, input):
        wide = self.wide(input) + input
        return self.join(nc.functional.concatenate([wide, self.narrow(input)], 1))


def by_name(model, shape, **options):
    return {layer.name: layer for layer in nc.summary(model, shape, **options).layers}


def test_counts_of_a_small_net():
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 10),
    )
    result = nc.summary(net, (3, 16, 16))
    conv, norm, relu, depthwise, pool, _, linear = result.layers
    assert [layer.kind for layer in result.layers] == [
        "Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "MaxPool2d", "Flatten", "Linear",
    ]  # fmt: skip
    assert (conv.output_shape, conv.parameters, conv.flops) == ((16, 8, 8), 27 * 16, 2 * 27 * 16 * 64)
    assert (norm.parameters, norm.flops, relu.parameters) == (32, 0, 0)
    assert (depthwise.parameters, depthwise.flops) == (16 * 9 + 16, 2 * 9 * 16 * 64)
    assert (linear.parameters, linear.flops, linear.output_shape) == (2570, 2 * 256 * 10, (10,))
    assert [layer.receptive_field for layer in (conv, relu, depthwise, pool, linear)] == [
        (3, 3), (3, 3), (7, 7), (9, 9), (None, None),
    ]  # fmt: skip
    assert conv.memory_bytes == 16 * 64 * 4
    assert result.parameters == result.trainable == sum(p.numel() for p in net.parameters())
    assert result.flops == conv.flops + depthwise.flops + linear.flops
    assert result.memory_bytes == sum(layer.memory_bytes for layer in result.layers)


def test_branches_join_their_receptive_fields():
    layers = by_name(Residual(), (4, 16, 16))
    assert layers["wide"].receptive_field == (5, 5)
    assert layers["narrow"].receptive_field == (1, 1)
    assert layers["join"].receptive_field == (7, 7)


@pytest.mark.parametrize(
    ("layers", "shape", "expected"),
    [
        ([nn.Conv1d(1, 1, 3, dilation=4)], (1, 20), (9,)),
        ([nn.Conv1d(1, 1, 3, 2), nn.Conv1d(1, 1, 3, 2), nn.Conv1d(1, 1, 3)], (1, 40), (15,)),
        ([nn.ConvTranspose1d(1, 1, 2, 2), nn.Conv1d(1, 1, 3)], (1, 8), (2,)),
        ([nn.Conv1d(1, 1, 3, 2), nn.ConvTranspose1d(1, 1, 4, 2), nn.Conv1d(1, 1, 3)], (1, 16), (7,)),
        ([nn.Conv3d(1, 1, (1, 2, 3))], (1, 4, 4, 4), (1, 2, 3)),
        ([nn.AvgPool1d(4), nn.Conv1d(1, 1, 2)], (1, 16), (8,)),
        ([nn.AdaptiveAvgPool1d(4)], (1, 16), (4,)),
        ([nn.AdaptiveMaxPool1d(1)], (1, 16), (None,)),
        ([nn.GlobalAvgPool()], (1, 16), (None,)),
        ([nn.Conv1d(1, 1, 3), nn.Dropout(), nn.Identity()], (1, 16), (3,)),
    ],
)
def test_receptive_fields(layers, shape, expected):
    assert nc.summary(nn.Sequential(*layers), shape).layers[-1].receptive_field == expected


def test_receptive_field_is_what_the_gradient_reaches():
    net = nn.Sequential(nn.Conv2d(1, 1, 3, 2), nn.Conv2d(1, 1, (2, 3), dilation=2), nn.AvgPool2d(2)).double()
    field = nc.summary(net, (1, 40, 40)).layers[-1].receptive_field
    x = nc.Tensor(np.ones((1, 1, 40, 40)), requires_grad=True)
    net(x)[0, 0, 2, 2].sum().backward()
    rows, columns = np.nonzero(x.grad[0, 0])
    assert field == (np.ptp(rows) + 1, np.ptp(columns) + 1)


def test_transposed_convolution_counts_its_inputs():
    layer = by_name(nn.Sequential(nn.ConvTranspose2d(8, 4, 3, stride=2)), (8, 5, 5))["0"]
    assert layer.flops == 2 * 8 * 25 * 4 * 9


def test_a_shared_layer_counts_its_parameters_once():
    shared = nn.Conv1d(2, 2, 3, padding=1)
    result = nc.summary(nn.Sequential(shared, nn.ReLU(), shared), (2, 8))
    assert [layer.parameters for layer in result.layers] == [14, 0, 14] or [
        layer.parameters for layer in result.layers
    ] == [14, 0, 0]
    assert result.parameters == 14


def test_the_model_is_left_as_it_was():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Identity())
    net[1].eval()
    net[0].requires_grad_(False)
    before = net.state_dict()
    with nc.no_grad():
        result = nc.summary(net, (1, 8, 8))
    assert [module.training for module in net.modules()] == [True, True, False, True, True]
    assert all(parameter.grad is None for parameter in net.parameters())
    for key, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[key])
    assert result.trainable == 4
    assert "20 of the parameters are frozen" in str(result)
    calls = []
    net.register_forward_hook(lambda *_: calls.append(1))
    nc.summary(net, (1, 8, 8))
    assert calls == [1]
    assert not any(module._forward_hooks for module in net.children())


def test_modes_and_hooks_are_restored_after_an_error():
    net = nn.Sequential(nn.Conv2d(1, 2, 3))
    with pytest.raises(ShapeError, match="3 channels"):
        nc.summary(net, (3, 8, 8))
    assert net.training
    assert not net[0]._forward_hooks


def test_dtype_follows_the_parameters():
    layer = by_name(nn.Sequential(nn.Conv1d(1, 1, 3)).double(), (1, 8))["0"]
    assert layer.memory_bytes == 6 * 8


def test_several_inputs_and_a_single_layer():
    class Sum(nn.Module):
        def forward(self, a, b):
            return a + b

    result = nc.summary(Sum(), [(3, 4), (3, 4)])
    assert [(layer.name, layer.kind, layer.output_shape) for layer in result.layers] == [("", "Sum", (3, 4))]
    assert "model (Sum)" in str(result)


def test_text():
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
    lines = str(nc.summary(net, (1, 8, 8))).splitlines()
    assert lines[0].split() == ["layer", "output", "(N,", "...)", "parameters", "FLOPs", "receptive", "field", "memory"]
    assert lines[3].split() == ["0", "(Conv2d)", "(N,", "8,", "8,", "8)", "80", "9,216", "3", "x", "3", "2.0", "KiB"]
    assert lines[-2].split() == ["total", "80", "9,216", "4.0", "KiB"]


@pytest.mark.parametrize("shape", [(), 3, (3, 0), (3, None), "text"])
def test_bad_shapes(shape):
    with pytest.raises((ShapeError, TypeError)):
        nc.summary(nn.Identity(), shape)
