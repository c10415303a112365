"""Packing of depthwise weights, the sums of chunks, and what the tiles' loops become."""

import re

import numpy as np
import pytest

from numbacnn.kernels import conv_groups, conv_strips, conv_strips_weight
from numbacnn.kernels._target import target

DTYPES = ("float32", "float64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 3, 8, 19])
@pytest.mark.parametrize("parts", [1, 3])
def test_pack(channels, parts, dtype):
    lanes = target().lanes(np.dtype(dtype).itemsize)
    vectors = -(-channels // lanes)
    order = np.array([2, 0, 3, 1])
    weight = np.arange(channels * parts * 4, dtype=dtype).reshape(channels, parts, 4)
    packed = np.full((vectors, parts, 4, lanes), np.nan, dtype)
    conv_strips.pack_strips(vectors, weight, packed, order, 4, channels, parts, 1, 4 * parts, 4)
    expected = np.zeros((vectors * lanes, parts, 4), dtype)
    expected[:channels] = weight[:, :, order]
    np.testing.assert_array_equal(packed, expected.reshape(vectors, lanes, parts, 4).transpose(0, 2, 3, 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 8, 19])
def test_combine(channels, dtype):
    lanes = target().lanes(np.dtype(dtype).itemsize)
    vectors = -(-channels // lanes)
    order = np.array([1, 2, 0])
    partial = np.random.default_rng(0).integers(-9, 9, (5, vectors, 3, lanes)).astype(dtype)
    expected = partial.sum(axis=0).transpose(0, 2, 1).reshape(-1, 3)[:channels]
    out = np.full((channels, 3), np.nan, dtype)
    conv_strips_weight.combine_strips(vectors, partial, out, order, 3, 1, channels, 5)
    np.testing.assert_array_equal(out[:, order], expected)


@pytest.mark.skipif((target().isa, target().vector_bytes) != ("avx2", 32), reason="reads AVX2 assembly")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", [conv_strips.conv_strips, conv_groups.conv_groups], ids=lambda kernel: kernel.name)
def test_inner_loop_has_no_spill(kernel, dtype):
    """The loops over runs of three taps of twelve and eight points: registers for all they need."""
    lines = kernel.assembly(dtype).splitlines()
    bodies = []
    start = 0
    for i, line in enumerate(lines):
        if re.match(r"\.LBB", line):
            start = i
        elif re.match(r"\s+j\w+\s", line):
            bodies.append("\n".join(lines[start:i]))
            start = i
    loops = {body: len(re.findall("vfmadd...p", body)) for body in bodies}
    loops = {body: count for body, count in loops.items() if count in (24, 36)}
    assert set(loops.values()) == {24, 36}
    assert all("%ymm" in body and "(%rsp)" not in body for body in loops)
