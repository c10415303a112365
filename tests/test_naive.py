"""The oracle itself: against torch where it is installed, and by hand."""

import numpy as np
import pytest

from tests import naive

CONVS = [
    # input shape, weight shape, options
    ((2, 3, 11), (4, 3, 3), {}),
    ((2, 4, 11), (6, 2, 3), {"stride": 2, "padding": 1, "groups": 2}),
    ((1, 3, 9, 8), (3, 1, 3, 2), {"padding": (2, 1), "dilation": (2, 1), "groups": 3}),
    ((2, 2, 7, 9), (5, 2, 1, 4), {"stride": (3, 2)}),
    ((1, 2, 5, 6, 7), (3, 2, 2, 3, 3), {"stride": (1, 2, 1), "padding": (0, 1, 2), "dilation": (1, 1, 2)}),
    ((2, 3, 6, 7), (4, 3, 3, 3), {"padding": "same"}),
]
MODES = ["zeros", "reflect", "replicate", "circular"]


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_conv_by_hand():
    x, weight = np.array([[[1.0, 2, 3, 4]]]), np.array([[[1.0, 10, 100]]])
    assert naive.conv_forward(x, weight, np.array([0.5])).tolist() == [[[321.5, 432.5]]]
    assert naive.conv_forward(x, weight, padding=((1, 0),)).tolist() == [[[210, 321, 432]]]
    assert naive.conv_forward(x, weight, padding=1, padding_mode="reflect").tolist() == [[[212, 321, 432, 343]]]
    assert naive.conv_forward(x, weight, padding=1, padding_mode="replicate").tolist() == [[[211, 321, 432, 443]]]
    assert naive.conv_forward(x, weight, padding=1, padding_mode="circular").tolist() == [[[214, 321, 432, 143]]]
    assert naive.conv_forward(x, weight, stride=3, padding=1).tolist() == [[[210, 43]]]
    assert naive.conv_forward(x, weight, padding="causal").tolist() == [[[100, 210, 321, 432]]]
    assert naive.conv_transpose(x, weight, stride=2).tolist() == [[[1, 10, 102, 20, 203, 30, 304, 40, 400]]]


def test_source_by_hand():
    span = range(-5, 9)
    assert [naive.source(i, 3, "reflect") for i in span] == [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1, 0]
    assert [naive.source(i, 3, "circular") for i in span] == [1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert [naive.source(i, 3, "replicate") for i in range(-2, 5)] == [0, 0, 0, 1, 2, 2, 2]


def test_named_padding_by_hand():
    assert naive.pads("same", [5], [3], [2], [1]) == [(1, 1)]
    assert naive.pads("same", [6], [3], [2], [1]) == [(0, 1)]
    assert naive.pads("same_lower", [6], [3], [2], [1]) == [(1, 0)]
    assert naive.pads("same_size", [6], [3], [2], [1]) == [(3, 4)]


def test_pools_by_hand():
    x = np.array([[[[1.0, 5, 5], [2, 0, np.nan], [3, 3, 3]]]])
    values, indices = naive.max_pool(x, 2, stride=1)
    np.testing.assert_array_equal(values, [[[[5, np.nan], [3, np.nan]]]])
    assert indices.tolist() == [[[[1, 5], [6, 5]]]]
    ones = np.ones((1, 1, 5))
    assert naive.avg_pool(ones, 3, stride=2, padding=1).tolist() == [[[2 / 3, 1, 2 / 3]]]
    assert naive.avg_pool(ones, 3, stride=2, padding=1, count_include_pad=False).tolist() == [[[1, 1, 1]]]
    assert naive.avg_pool(ones, 4, stride=2, ceil_mode=True).tolist() == [[[1, 1]]]


@pytest.mark.parametrize(("x_shape", "weight_shape", "options"), CONVS)
def test_conv_adjoints(x_shape, weight_shape, options):
    """<y, conv(x, w)> is linear in x and in w, so both gradients follow from inner products."""
    x, weight = random(*x_shape), random(*weight_shape, seed=1)
    y = naive.conv_forward(x, weight, **options)
    grad = random(*y.shape, seed=2)
    by_data = (naive.conv_backward_data(grad, weight, x_shape, **options) * x).sum()
    by_weight = (naive.conv_backward_weight(grad, x, weight_shape, **options) * weight).sum()
    assert by_data == pytest.approx((grad * y).sum())
    assert by_weight == pytest.approx((grad * y).sum())


@pytest.mark.parametrize(("x_shape", "weight_shape", "options"), CONVS)
@pytest.mark.parametrize("mode", MODES)
def test_conv_against_torch(x_shape, weight_shape, options, mode):
    torch = pytest.importorskip("torch")
    rank = len(x_shape) - 2
    arguments = {"in_channels": x_shape[1], "out_channels": weight_shape[0], "kernel_size": weight_shape[2:]}
    layer = getattr(torch.nn, f"Conv{rank}d")(**arguments, **options, padding_mode=mode, dtype=torch.float64)
    weight, bias, x = random(*weight_shape, seed=1), random(weight_shape[0], seed=2), random(*x_shape)
    layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
    x_torch = torch.tensor(x, requires_grad=True)
    y = layer(x_torch)
    np.testing.assert_allclose(naive.conv_forward(x, weight, bias, padding_mode=mode, **options), y.detach())
    grad = random(*y.shape, seed=3)
    y.backward(torch.tensor(grad))
    grad_input = naive.conv_backward_data(grad, weight, x_shape, padding_mode=mode, **options)
    grad_weight = naive.conv_backward_weight(grad, x, weight_shape, padding_mode=mode, **options)
    np.testing.assert_allclose(grad_input, x_torch.grad, atol=1e-12)
    np.testing.assert_allclose(grad_weight, layer.weight.grad, atol=1e-12)
    np.testing.assert_allclose(naive.conv_backward_bias(grad), layer.bias.grad, atol=1e-12)


@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "options"),
    [
        ((2, 4, 7), (4, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
        ((1, 4, 5, 6), (4, 3, 3, 2), {"stride": (2, 3), "padding": (1, 0), "groups": 2, "dilation": (2, 1)}),
        ((1, 2, 4, 3, 5), (2, 3, 2, 2, 2), {"stride": 2}),
        ((1, 2, 6), (2, 2, 3), {"dilation": 4, "output_padding": 3}),
    ],
)
def test_conv_transpose_against_torch(x_shape, weight_shape, options):
    torch = pytest.importorskip("torch")
    x, weight, bias = random(*x_shape), random(*weight_shape, seed=1), None
    bias = random(weight_shape[1] * options.get("groups", 1), seed=2)
    transposed = getattr(torch.nn.functional, f"conv_transpose{x.ndim - 2}d")
    y = transposed(torch.tensor(x), torch.tensor(weight), torch.tensor(bias), **options)
    np.testing.assert_allclose(naive.conv_transpose(x, weight, bias, **options), y, atol=1e-12)


POOLS = [
    ((2, 3, 11), {"kernel_size": 3}),
    ((2, 3, 10), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ((1, 2, 9, 8), {"kernel_size": (3, 2), "stride": (2, 3), "padding": (1, 0)}),
    ((1, 2, 7, 8), {"kernel_size": 2, "stride": 3, "ceil_mode": True}),
    ((1, 2, 5, 6, 7), {"kernel_size": (2, 3, 3), "stride": 2, "padding": 1, "ceil_mode": True}),
]


@pytest.mark.parametrize(("shape", "options"), POOLS)
@pytest.mark.parametrize("dilation", [1, 2])
def test_max_pool_against_torch(shape, options, dilation):
    torch = pytest.importorskip("torch")
    x = random(*shape)
    x_torch = torch.tensor(x, requires_grad=True)
    pool = getattr(torch.nn.functional, f"max_pool{x.ndim - 2}d")
    y, indices = pool(x_torch, **options, dilation=dilation, return_indices=True)
    options = {**options, "kernel": options["kernel_size"]}
    del options["kernel_size"]
    values, places = naive.max_pool(x, **options, dilation=dilation)
    np.testing.assert_array_equal(values, y.detach())
    np.testing.assert_array_equal(places, indices)
    grad = random(*y.shape, seed=1)
    y.backward(torch.tensor(grad))
    np.testing.assert_allclose(naive.max_pool_backward(grad, places, shape), x_torch.grad)


@pytest.mark.parametrize(
    ("shape", "options", "include", "divisor"),
    [
        (shape, options, include, divisor)
        for shape, options in POOLS
        for include, divisor in ((True, None), (False, None), (True, 7))
        if not (divisor and len(shape) == 3)  # torch's has no such option
    ],
)
def test_avg_pool_against_torch(shape, options, include, divisor):
    torch = pytest.importorskip("torch")
    rank = len(shape) - 2
    extra = {"divisor_override": divisor} if divisor else {}
    x = random(*shape)
    x_torch = torch.tensor(x, requires_grad=True)
    y = getattr(torch.nn.functional, f"avg_pool{rank}d")(x_torch, **options, count_include_pad=include, **extra)
    options = {**options, "kernel": options["kernel_size"], "count_include_pad": include, "divisor_override": divisor}
    del options["kernel_size"]
    np.testing.assert_allclose(naive.avg_pool(x, **options), y.detach())
    grad = random(*y.shape, seed=1)
    y.backward(torch.tensor(grad))
    np.testing.assert_allclose(naive.avg_pool_backward(grad, shape, **options), x_torch.grad)


@pytest.mark.parametrize(("shape", "size"), [((2, 3, 10), 3), ((1, 2, 7, 9), (3, 9)), ((1, 2, 5, 4, 3), (2, 5, 1))])
def test_adaptive_pools_against_torch(shape, size):
    torch = pytest.importorskip("torch")
    x, rank = random(*shape), len(shape) - 2
    x_torch = torch.tensor(x, requires_grad=True)
    y = getattr(torch.nn.functional, f"adaptive_avg_pool{rank}d")(x_torch, size)
    np.testing.assert_allclose(naive.adaptive_avg_pool(x, size), y.detach())
    grad = random(*y.shape, seed=1)
    y.backward(torch.tensor(grad))
    np.testing.assert_allclose(naive.adaptive_avg_pool_backward(grad, shape), x_torch.grad)
    values, indices = naive.adaptive_max_pool(x, size)
    wanted, places = getattr(torch.nn.functional, f"adaptive_max_pool{rank}d")(
        torch.tensor(x), size, return_indices=True
    )
    np.testing.assert_array_equal(values, wanted)
    np.testing.assert_array_equal(indices, places)


def test_batch_norm_against_torch():
    torch = pytest.importorskip("torch")
    x, weight, bias = random(3, 4, 5, 6), random(4, seed=1), random(4, seed=2)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    mean, var = torch.full((4,), 0.5, dtype=torch.float64), torch.full((4,), 2.0, dtype=torch.float64)
    old = mean.numpy().copy(), var.numpy().copy()
    y = torch.nn.functional.batch_norm(leaves[0], mean, var, leaves[1], leaves[2], training=True)
    np.testing.assert_allclose(naive.batch_norm(x, weight, bias), y.detach(), atol=1e-12)
    np.testing.assert_allclose(naive.running_statistics(x, *old), (mean, var))
    grad = random(*x.shape, seed=3)
    y.backward(torch.tensor(grad))
    for ours, leaf in zip(naive.batch_norm_backward(grad, x, weight), leaves, strict=True):
        np.testing.assert_allclose(ours, leaf.grad, atol=1e-12)
    evaluated = torch.nn.functional.batch_norm(leaves[0], mean, var, leaves[1], leaves[2])
    np.testing.assert_allclose(naive.batch_norm(x, weight, bias, mean=mean, var=var), evaluated.detach())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("soft", [False, True])
def test_cross_entropy_against_torch(reduction, smoothing, soft):
    torch = pytest.importorskip("torch")
    logits, weight = random(3, 4, 5), np.array([0.5, 1.0, 2.0, 0.25])
    target = naive.softmax(random(3, 4, 5, seed=1)) if soft else np.random.default_rng(2).integers(0, 4, (3, 5))
    if not soft:
        target[1, 2] = -100
    leaf = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(
        leaf, torch.tensor(target), torch.tensor(weight), reduction=reduction, label_smoothing=smoothing
    )
    ours, gradient = naive.cross_entropy(logits, target, weight, label_smoothing=smoothing, reduction=reduction)
    np.testing.assert_allclose(ours, loss.detach())
    loss.sum().backward()
    np.testing.assert_allclose(gradient, leaf.grad, atol=1e-12)


def test_elementwise_against_torch():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x, grad = random(3, 4, 5), random(3, 4, 5, seed=1)
    leaf = torch.tensor(x, requires_grad=True)
    for ours, theirs in [
        (naive.relu(x), functional.relu(leaf)),
        (naive.leaky_relu(x, 0.2), functional.leaky_relu(leaf, 0.2)),
        (naive.sigmoid(x), functional.sigmoid(leaf)),
        (naive.gelu(x), functional.gelu(leaf)),
        (naive.gelu(x, "tanh"), functional.gelu(leaf, approximate="tanh")),
        (naive.softmax(x, 2), functional.softmax(leaf, 2)),
        (naive.log_softmax(x, 1), functional.log_softmax(leaf, 1)),
        (naive.mse(x, grad)[0], functional.mse_loss(leaf, torch.tensor(grad))),
    ]:
        np.testing.assert_allclose(ours, theirs.detach(), atol=1e-12)
    for ours, function in [
        (naive.relu_backward(grad, x), functional.relu),
        (naive.leaky_relu_backward(grad, x), functional.leaky_relu),
        (naive.softmax_backward(grad, naive.softmax(x, 1), 1), lambda v: functional.softmax(v, 1)),
        (naive.log_softmax_backward(grad, naive.log_softmax(x, 1), 1), lambda v: functional.log_softmax(v, 1)),
    ]:
        leaf.grad = None
        function(leaf).backward(torch.tensor(grad))
        np.testing.assert_allclose(ours, leaf.grad, atol=1e-12)
