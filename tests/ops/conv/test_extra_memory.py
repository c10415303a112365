"""How much memory a convolution takes beyond its input and output: no whole im2col, and no large plans."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from numbacnn.ops import conv_backward_bias, conv_backward_data, conv_backward_weight, conv_forward, memory
from numbacnn.ops.geometry import conv_geometry
from numbacnn.ops.memory.recycling import pool
from tests.cases import ConvCase, in_order
from tests.ops.conv.plans import forget_plans

LARGE = [
    ConvCase(2, 64, 64, (256, 256), (3, 3), padding=1, name="large image"),
    ConvCase(1, 1024, 1024, (17, 17), (3, 3), padding=1, name="weights far beyond the caches"),
    ConvCase(1, 1024, 1024, (17, 17), (3, 3), 2, 1, name="strided"),
    ConvCase(1, 64, 64, (512, 256), (3, 3), padding=1, groups=64, name="depthwise"),
    ConvCase(1, 3, 64, (512, 512), (7, 7), 2, 3, name="first layer"),
    ConvCase(16, 3, 768, (224, 224), (16, 16), 16, name="patches"),
    ConvCase(8, 3, 768, (224, 224), (32, 32), 32, name="large patches"),
    ConvCase(1, 16, 16, (64, 64, 128), (3, 3, 3), padding=1, dtype="float64", name="3-D"),
    ConvCase(1, 64, 64, (1 << 17,), (9,), padding=4, padding_mode="circular", name="1-D"),
    ConvCase(1, 2, 3, (1 << 20,), (63,), padding=31, name="long signal"),
    ConvCase(1, 2, 3, (1 << 20,), (63,), 2, 31, padding_mode="replicate", name="long signal replicated"),
    ConvCase(1, 20, 5, (1 << 18,), (31,), padding=15, padding_mode="reflect", name="long signal of many channels"),
    ConvCase(1, 2, 20, (900, 1000), (9, 9), padding=4, padding_mode="reflect", name="reflected image"),
    ConvCase(1, 16, 16, (1 << 20, 1), (3, 1), padding=(1, 0), groups=16, name="depthwise of many rows"),
    ConvCase(1, 16, 16, (1 << 18,), (31,), padding=15, padding_mode="circular", groups=16, name="circular strips"),
    ConvCase(1, 8, 8, (40000, 2), (5, 1), padding=(2, 0), groups=4, name="groups of many rows"),
    ConvCase(1, 512, 512, (300, 150), (3, 3), padding=1, groups=64, name="groups of eight"),
    ConvCase(1, 1 << 17, 1 << 17, (5, 5), (3, 3), padding=1, groups=1 << 17, name="depthwise of many channels"),
    ConvCase(1, 768, 768, (1 << 15,), (1,), name="pointwise of many positions"),
    ConvCase(1, 64, 64, (1 << 16,), (64,), padding=32, name="fft of many blocks"),
    ConvCase(1, 96, 96, (1 << 13,), (1024,), padding=512, name="fft of many weights"),
    ConvCase(1, 16, 16, (1 << 15,), (8000,), padding=4000, dtype="float64", name="fft of long blocks"),
    ConvCase(4, 1024, 1024, (4096,), (1024,), padding=512, groups=1024, name="fft of many channels"),
    ConvCase(1, 1024, 1024, (4096,), (512,), padding=256, groups=64, name="fft of many groups"),
    ConvCase(1, 2, 2, (1 << 18,), (20000,), padding=10000, groups=2, name="fft of few long blocks"),
    ConvCase(1, 40, 24, (256, 256), (63, 63), padding=31, padding_mode="reflect", name="fft of images"),
    ConvCase(1, 17, 2, (50, 60, 70), (5, 5, 5), padding=2, padding_mode="circular", name="circular 3-D"),
    ConvCase(1, 64, 64, (1 << 18,), (3,), padding=1, name="Winograd of a long signal"),
    ConvCase(1, 512, 512, (60, 70), (5, 5), padding=2, name="Winograd of eight points"),
]
LIMIT = 16 << 20


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_extra_memory_is_bounded(case, monkeypatch):
    """At most 16 MB beyond input and output, planning included, and next to nothing of it stays."""
    monkeypatch.setattr(pool, "guarding", False)
    geometry = conv_geometry(case.input_shape, case.weight_shape, **case.options)
    x = in_order(np.ones(case.input_shape, case.dtype), "channels_last")
    grad = in_order(np.ones(geometry.output_shape, case.dtype), "channels_last")
    weight = np.ones(case.weight_shape, case.dtype)
    for call in (
        lambda: conv_forward(x, weight, **case.options),
        lambda: conv_backward_data(grad, weight, x.shape, **case.options),
        lambda: conv_backward_weight(grad, x, weight.shape, **case.options),
        lambda: conv_backward_bias(grad),
    ):
        call()  # loads the kernels
        forget_plans()
        memory.release_memory()
        tracemalloc.start()
        try:
            out = call()
            peak = tracemalloc.get_traced_memory()[1]
            out_bytes = memory.size_class(out.nbytes)
            del out
            memory.release_memory()
            kept = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert peak - out_bytes <= LIMIT
        assert kept <= LIMIT // 64
