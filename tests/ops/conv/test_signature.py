"""What is wrong with a convolution's arguments is said before anything is computed."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.errors import DTypeError, OptionError, ShapeError
from numbacnn.ops import conv_backward_bias, conv_backward_data, conv_backward_weight, conv_forward

X, W = np.ones((2, 6, 8, 9), np.float32), np.ones((4, 6, 3, 3), np.float32)

FORWARD_ERRORS = [
    ((X, W[:, :5]), {}, ShapeError, r"input of shape \(2, 6, 8, 9\) has 6 channels, but weight .* groups=1 expects 5"),
    ((X, W[:, :3]), {"groups": 4}, ShapeError, "in_channels=6 is not divisible by groups=4"),
    ((X, W[:, :2]), {"groups": 3}, ShapeError, "out_channels=4 is not divisible by groups=3"),
    ((X, W), {"groups": 0}, OptionError, "groups must be at least 1, got 0"),
    ((X, W), {"groups": 1.0}, OptionError, "groups must be an integer, got 1.0"),
    (
        (X[:, :, :2], W),
        {},
        ShapeError,
        r"axis 2 \(H\): the kernel spans 3 samples \(size 3, dilation 1\) but the padded input has only 2 "
        r"\(2 \+ padding 0 \+ 0\); it would fit with padding=1",
    ),
    ((X, W), {"dilation": 9, "padding": 1}, ShapeError, "it would fit with padding=6"),
    ((X[0, 0], W), {}, ShapeError, "input must have 3 to 5 axes .* got shape \\(8, 9\\)"),
    ((X, W[..., 0]), {}, ShapeError, "as many axes"),
    ((np.ones((1, 1, 2, 2, 2, 2)), np.ones((1,) * 6)), {}, ShapeError, "input must have 3 to 5 axes"),
    ((X[:, :, :0], W), {}, ShapeError, r"input of shape \(2, 6, 0, 9\) is empty; only the batch may be empty"),
    ((X, W[:0]), {}, ShapeError, r"weight of shape \(0, 6, 3, 3\) is empty; no axis may be empty"),
    ((X, W), {"stride": 0}, OptionError, "stride must be at least 1, got 0"),
    ((X, W), {"stride": (1, -2)}, OptionError, "stride must be at least 1, got -2"),
    ((X, W), {"stride": (1, 1, 1)}, OptionError, "stride must be an integer or 2 integers, one per spatial axis"),
    ((X, W), {"stride": 1.5}, OptionError, "stride must be an integer, got 1.5"),
    ((X, W), {"dilation": 0}, OptionError, "dilation must be at least 1, got 0"),
    ((X, W), {"padding": -1}, OptionError, "padding must be at least 0, got -1"),
    ((X, W), {"padding": "same_upper"}, OptionError, "padding"),
    ((X, W), {"padding_mode": "mirror", "padding": 1}, OptionError, "padding_mode"),
    ((X, W), {"padding": 1 << 62}, ShapeError, "overflow 64-bit integers"),
    ((X.astype(np.int32), W), {}, DTypeError, r"x must be float32 or float64, got int32; .*x.astype\(np.float32\)"),
    ((X, W.astype(np.float16)), {}, DTypeError, "weight must be float32 or float64, got float16"),
    ((X.astype(complex), W), {}, DTypeError, "x must be float32 or float64, got complex128"),
    ((X.astype(">f4"), W), {}, DTypeError, "x must be float32 or float64, got float32 in foreign byte order"),
    ((X.astype(object), W), {}, DTypeError, "x must be float32 or float64, got object"),
    ((X, W.astype(np.float64)), {}, DTypeError, r"x is float32 but weight is float64; .*weight.astype\(np.float32\)"),
    ((X, W, np.ones(4)), {}, DTypeError, "x is float32 but bias is float64"),
    ((X, W, X[0, :5, 0, 0]), {}, ShapeError, r"bias must have shape \(4,\), one value per output channel; got \(5,\)"),
    ((X, W, X[:1, :4, 0, 0]), {}, ShapeError, r"bias must have shape \(4,\), .* got \(1, 4\)"),
]


@pytest.mark.parametrize(("arrays", "options", "error", "message"), FORWARD_ERRORS)
def test_forward_errors(arrays, options, error, message):
    with pytest.raises(error, match=message):
        conv_forward(*arrays, **options)


def test_sizes_too_large_for_any_memory():
    one = np.ones((1, 1, 1, 1), np.float32)
    with pytest.raises(ShapeError, match="output of shape .* has too many elements: its size would overflow"):
        conv_forward(np.broadcast_to(one, (1 << 40, 1, 1, 1)), np.broadcast_to(one, (1 << 22, 1, 1, 1)))
    with pytest.raises(ShapeError, match="input of shape .* has too many elements: its size would overflow"):
        conv_backward_data(one, one, (1 << 40, 1, 1 << 20, 4))


def test_backward_errors():
    grad = np.ones((2, 4, 6, 7), np.float32)
    message = r"grad_output has shape \(2, 4, 6, 8\), but convolving input \(2, 6, 8, 9\) with weight \(4, 6, 3, 3\) "
    message += r"gives \(2, 4, 6, 7\)"
    wrong = np.ones((2, 4, 6, 8), np.float32)
    with pytest.raises(ShapeError, match=message):
        conv_backward_data(wrong, W, X.shape)
    with pytest.raises(ShapeError, match=message):
        conv_backward_weight(wrong, X, W.shape)
    with pytest.raises(ShapeError, match="grad_output has shape"):
        conv_backward_data(grad, W, X.shape, stride=2)
    with pytest.raises(ShapeError, match=r"bias must have shape \(6,\).*got \(4,\)"):
        conv_backward_data(grad, W, X.shape, bias=np.ones(4, np.float32))
    with pytest.raises(DTypeError, match="grad_output is float32 but weight is float64"):
        conv_backward_data(grad, W.astype(np.float64), X.shape)
    with pytest.raises(DTypeError, match="grad_output must be float32 or float64, got int64"):
        conv_backward_weight(grad.astype(np.int64), X, W.shape)
    with pytest.raises(DTypeError, match="grad_output is float32 but x is float64"):
        conv_backward_weight(grad, X.astype(np.float64), W.shape)
    with pytest.raises(ShapeError, match="weight .* expects 5"):
        conv_backward_weight(grad, X, (4, 5, 3, 3))
    with pytest.raises(ShapeError, match=r"grad_output must be \(N, C_out, \*output\) with 3 to 5 axes"):
        conv_backward_bias(grad[0, 0])
