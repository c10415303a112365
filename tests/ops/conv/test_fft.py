"""Convolution by Fourier transforms: values against the oracle, every way of cutting, errors, the choice."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import numbacnn as nc
from numbacnn import functional as F
from numbacnn.errors import OptionError
from numbacnn.kernels._build import kernel
from numbacnn.kernels._target import target
from numbacnn.kernels.fft_passes import join, split
from numbacnn.ops import conv_backward_data, conv_backward_weight, conv_forward, explain
from numbacnn.ops.conv import fft_dense, fft_depthwise, fft_plan, fft_portions, fft_tables
from numbacnn.ops.conv.plan import DIRECTIONS
from numbacnn.ops.geometry import conv_geometry
from tests import naive
from tests.bits import assert_same_bits
from tests.cases import CONV_CASES, ConvCase
from tests.ops.conv import checks

ALGORITHM = "fft"
# Of the largest result, for the normally distributed data of these tests.
TOLERANCE = {"float32": 1e-6, "float64": 1e-14}


def results(case, operands=None, algorithm=ALGORITHM):
    operands = operands or checks.normal_operands(case)
    return checks.results(case, operands, checks.directions(case, ALGORITHM), algorithm)


def check(case, cancelling=False):
    taken = checks.check_close(case, ALGORITHM, TOLERANCE[case.dtype], cancelling)
    assert {"forward", "backward_weight"} <= set(taken)


# ---------------------------------------------------------------------------------------------------------- transforms


@kernel
def there(block, rows: "T*", passes: "int64*", factors: "T*", total: "int64", count: "int64"):
    split(rows, total, passes, 0, count, factors)


@kernel
def back(block, rows: "T*", passes: "int64*", factors: "T*", total: "int64", count: "int64"):
    join(rows, total, passes, 0, count, factors)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(1, 1, 2), (1, 1, 3), (1, 1, 96), (1, 1, 512), (1, 24, 16), (6, 8, 12)], ids=str)
def test_transform(sizes, dtype):
    """Against numpy's, in the order that `mirrors` is made for."""
    passes, factors = fft_tables.passes(sizes), fft_tables.factors(sizes, np.dtype(dtype))
    rows, lanes = math.prod(sizes), target().lanes(np.dtype(dtype).itemsize)
    x = np.random.default_rng(0).standard_normal((rows, 2, lanes)).astype(dtype)
    y = x.copy()
    there(1, y, passes, factors, rows, len(passes) // 4)
    want = np.fft.fftn((x[:, 0] + 1j * x[:, 1]).reshape(*sizes, lanes), axes=(0, 1, 2))
    places = np.zeros(1, np.int64)
    for size in sizes:
        places = (places[:, None] * size + fft_tables.places(size)).ravel()
    got = (y[:, 0] + 1j * y[:, 1])[places].reshape(want.shape)
    assert np.abs(got - want).max() <= TOLERANCE[dtype] * np.abs(want).max()
    opposite = np.empty(rows, np.int64)
    opposite[places] = places.reshape(sizes)[np.ix_(*(-np.arange(size) for size in sizes))].ravel()
    first, second = fft_tables.mirrors(sizes).T
    assert len(first) == fft_tables.harmonics(sizes)
    assert np.array_equal(opposite[first], second)
    assert np.array_equal(np.union1d(first, second), np.arange(rows))
    back(1, y, passes, factors, rows, len(passes) // 4)
    np.testing.assert_allclose(y / rows, x, atol=TOLERANCE[dtype])


# -------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("size", "kernel"),
    [
        ((300,), (65,)),
        ((40,), (41,)),
        ((30,), (59,)),
        ((3,), (2,)),
        ((23, 31), (9, 12)),
        ((31, 3), (20, 1)),
        ((6, 40), (1, 30)),
        ((9, 10, 11), (3, 4, 5)),
        ((9, 2, 30), (8, 1, 7)),
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [(1, 1, 1), (3, 3, 3), (12, 12, 12), (2, 6, 1), (18, 27, 9), (20, 5, 1)], ids=str)
def test_kernels(size, kernel, channels, dtype):
    in_channels, out_channels, groups = channels
    padding = tuple(k // 2 for k in kernel)
    check(ConvCase(2, in_channels, out_channels, size, kernel, padding=padding, groups=groups, dtype=dtype))


@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize("stride", [1, 2, 3, 7])
@pytest.mark.parametrize("dilation", [1, 2, 5])
def test_stride_and_dilation(stride, dilation, groups):
    check(ConvCase(2, 6, 6, (90,), (13,), stride, 7, dilation, groups))
    check(ConvCase(1, 6, 12, (20, 31), (4, 5), (stride, 1), 3, (1, dilation), groups))


@pytest.mark.parametrize("groups", [1, 9])
@pytest.mark.parametrize("padding", [0, 3, 40, ((0, 3), (4, 1))], ids=str)
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding(padding, mode, groups):
    check(ConvCase(2, 9, 9, (12, 17), (8, 9), padding=padding, padding_mode=mode, groups=groups))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31])
def test_depthwise_channels(channels):
    check(ConvCase(3, channels, channels, (70,), (33,), padding=16, groups=channels))
    check(ConvCase(2, channels, channels, (70,), (33,), padding=16, groups=channels, dtype="float64"))


@pytest.mark.parametrize("in_channels", [1, 2, 3, 5, 8, 17])
@pytest.mark.parametrize("out_channels", [1, 2, 4, 7, 9, 16])
def test_dense_channels(in_channels, out_channels):
    check(ConvCase(3, in_channels, out_channels + (in_channels == out_channels == 1), (50,), (21,), padding=10))


@pytest.mark.parametrize("case", [case for case in CONV_CASES if len(checks.directions(case, ALGORITHM)) == 3], ids=str)
def test_table(case):
    check(case)


@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=60, deadline=None)
def test_random_geometry(data):
    rank = data.draw(st.integers(1, 3))
    groups = data.draw(st.integers(1, 3))
    most = (60, 14, 7)[rank - 1]
    size = [data.draw(st.integers(2, most)) for _ in range(rank)]
    kernel = [data.draw(st.integers(1 + (axis == 0), most)) for axis in range(rank)]
    dilation = [data.draw(st.integers(1, 3)) for _ in range(rank)]
    low = [
        data.draw(st.integers(max(0, d * (k - 1) + 1 - i), d * k + 2))
        for i, k, d in zip(size, kernel, dilation, strict=True)
    ]
    case = ConvCase(
        data.draw(st.integers(1, 3)),
        groups * data.draw(st.integers(1, 5)),
        groups * data.draw(st.integers(1, 5)),
        tuple(size),
        tuple(kernel),
        tuple(data.draw(st.integers(1, 4)) for _ in range(rank)),
        tuple((p, data.draw(st.integers(0, 3))) for p in low),
        tuple(dilation),
        groups,
        data.draw(st.sampled_from(["zeros", "replicate", "circular", "reflect"])),
    )
    check(case, cancelling=True)


def test_no_batch():
    for groups in (1, 16):
        x, weight = np.ones((0, 16, 80)), np.ones((16, 16 // groups, 33))
        y = conv_forward(x, weight, groups=groups, algorithm=ALGORITHM)
        assert y.shape == (0, 16, 48)
        assert conv_backward_data(y, weight, x.shape, groups=groups, algorithm=ALGORITHM).shape == x.shape
        gradient = conv_backward_weight(y, x, weight.shape, groups=groups, algorithm=ALGORITHM)
        assert np.array_equal(gradient, np.zeros(weight.shape))


# ------------------------------------------------------------------------------------------------------------- cutting

CUT = [
    ConvCase(3, 40, 20, (300,), (65,), padding=32, name="dense"),
    ConvCase(2, 26, 36, (30, 31), (8, 9), padding=4, groups=2, dtype="float64", name="groups"),
    ConvCase(3, 2, 3, (900,), (65,), padding=32, name="pairs side by side"),
    ConvCase(3, 20, 20, (300,), (65,), padding=32, groups=20, name="depthwise"),
    ConvCase(3, 3, 3, (900,), (65,), padding=32, groups=3, name="depthwise of few channels"),
]


def block_bytes(case):
    """What one vector's rows of a block take, for every direction."""
    return [fft_plan.cut_of(checks.geometry_of(case), d).rows * fft_plan.row_bytes() for d in DIRECTIONS]


@pytest.mark.parametrize("case", CUT, ids=str)
def test_portions_change_no_bit(case, tune):
    """Units, panels and vectors at a time; memory other than the scratch. (Runs are the geometry's: they may.)"""

    def bits():
        return [result.tobytes() for result in results(case)]

    usual = bits()
    tune(fft_plan, SCRATCH_SLOTS=0)
    assert bits() == usual
    block = max(block_bytes(case))
    tune(fft_dense, WORKSPACE_BYTES=3 * block, CUTS=3)
    tune(fft_portions, VALUES_BYTES=10 * block, PRODUCTS_BYTES=6 * block, SPECTRA_BYTES=40 * block)
    tune(fft_depthwise, SPECTRA_BYTES=2 * block, WORKSPACE_BYTES=3 * block)
    many = bits()
    if "depthwise" in case.name:  # sums over chunks follow the memory there is
        assert many[:2] == usual[:2]
    else:
        assert many == usual


@pytest.mark.parametrize("case", CUT[:3], ids=str)
def test_runs(case, tune):
    """Sums over channels in several parts."""
    block = min(block_bytes(case))
    tune(fft_portions, VALUES_BYTES=2 * block, SPECTRA_BYTES=4 * block)
    check(case)


@pytest.mark.parametrize("case", CUT, ids=str)
def test_same_bits_on_any_threads(case):
    assert_same_bits(lambda: tuple(results(case)))


@pytest.mark.parametrize("case", CUT, ids=str)
def test_a_batch_gives_the_bits_of_its_samples(case):
    operands = checks.normal_operands(case)
    y, grad_input, *_ = results(case)
    for n in range(case.batch):
        one = slice(n, n + 1)
        alone = results(case._replace(batch=1), operands._replace(x=operands.x[one], grad=operands.grad[one]))
        assert alone[0].tobytes() == y[n : n + 1].tobytes()
        assert alone[1].tobytes() == grad_input[n : n + 1].tobytes()


# ----------------------------------------------------------------------------------------------------- numerical errors


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("taps", [64, 1024])
def test_float32_error(taps, groups):
    """The documented bound, against float64; of data with a mean as well, whose sums are large."""
    for shift in (0.0, 3.0):
        case = ConvCase(1, 8, 8, (2000,), (taps,), padding=taps // 2, groups=groups)
        operands = checks.Operands(*(array + np.float32(shift) for array in checks.normal_operands(case)))
        exact = results(case, checks.Operands(*(array.astype(float) for array in operands)), "indirect")
        for got, want in zip(results(case, operands), exact, strict=True):
            assert np.abs(got - want).max() <= 1e-6 * np.abs(want).max()


def test_nan_stays_in_the_blocks_that_read_it():
    x, weight = np.ones((1, 1, 4096), np.float32), np.ones((1, 1, 64), np.float32)
    hop = fft_plan.cut_of(conv_geometry(x.shape, weight.shape), "forward").hops[2]
    x[0, 0, 0] = np.nan
    y = conv_forward(x, weight, algorithm=ALGORITHM)
    assert np.isnan(y[0, 0, 0])
    assert np.isfinite(y[0, 0, 2 * hop :]).all()
    assert 2 * hop < y.shape[2]


def test_channels_do_not_mix():
    """A depthwise convolution has the errors of each channel's own scale."""
    generator = np.random.default_rng(1)
    x, weight = generator.standard_normal((2, 1, 3, 500)).astype(np.float32)[0], np.ones((3, 1, 65), np.float32)
    x *= np.array([1e8, 1.0, 1e-8], np.float32)[:, None]
    y = conv_forward(x, weight, groups=3, algorithm=ALGORITHM)
    want = naive.conv_forward(x, weight, groups=3)
    error, largest = np.abs(y - want).max(axis=(0, 2)), np.abs(want).max(axis=(0, 2))
    assert (error <= 1e-6 * largest).all()


# -------------------------------------------------------------------------------------------------------------- choice


@pytest.mark.parametrize(
    ("input_shape", "weight_shape", "options", "reason"),
    [
        ((1, 16, 9), (16, 16, 1), {}, "the kernel has a single tap"),
        ((1, 1, 1 << 20), (1, 1, 1 << 18), {}, r"blocks longer than a kernel of \(1, 1, 262144\) take too much memory"),
    ],
)
def test_what_it_does_not_take(input_shape, weight_shape, options, reason):
    with pytest.raises(OptionError, match=f"algorithm='fft' cannot run forward of this convolution: {reason}"):
        explain(input_shape, weight_shape, **options, algorithm=ALGORITHM)


def test_repeating_padding_has_no_data_gradient():
    shapes, options = ((1, 16, 9000), (16, 16, 999)), {"padding": 1, "padding_mode": "reflect"}
    assert explain(*shapes, **options).algorithm == ALGORITHM
    refused = dict(explain(*shapes, **options, direction="backward_data").refused)
    assert refused[ALGORITHM] == "padding_mode ('zeros', 'zeros', 'reflect') adds gradients up"


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("input_shape", "weight_shape", "pays"),
    [
        ((1, 1, 65536), (1, 1, 1024), True),
        ((1, 16, 16384), (16, 1, 1024), True),
        ((1, 16, 16384), (16, 16, 128), True),
        ((1, 64, 16384), (64, 64, 64), True),
        ((1, 64, 4096), (64, 64, 1024), True),
        ((1, 4, 16384), (4, 4, 4096), True),
        ((1, 16, 64, 64), (16, 16, 31, 31), True),
        ((1, 64, 128, 128), (64, 1, 63, 63), True),
        ((1, 16, 32, 32, 32), (16, 16, 13, 13, 13), True),
        ((1, 64, 16384), (64, 64, 9), False),
        ((1, 16, 16384), (16, 1, 31), False),
        ((1, 64, 56, 56), (64, 64, 5, 5), False),
        ((1, 64, 56, 56), (64, 1, 7, 7), False),
        ((1, 64, 300), (64, 64, 300), True),
        ((1, 24, 128, 128), (4, 24, 15, 15), True),  # sums of few channels leave lanes idle
        ((1, 4, 16000), (6, 4, 160), True),
        ((1, 3, 112, 112), (64, 3, 7, 7), False),
    ],
)
def test_what_pays(input_shape, weight_shape, pays, direction, batch):
    """Whatever the batch: a batch gives the bits of its samples."""
    groups = input_shape[1] // weight_shape[1]
    padding = tuple(k // 2 for k in weight_shape[2:])
    shapes = (batch, *input_shape[1:]), weight_shape
    choice = explain(*shapes, padding=padding, groups=groups, direction=direction)
    assert (choice.algorithm == ALGORITHM) == pays
    if not pays and ALGORITHM in dict(choice.refused):
        reason = dict(choice.refused)[ALGORITHM]
        assert reason.startswith("transforms would take about ") or " taps are few" in reason


def test_precision():
    shapes = (1, 16, 16384), (16, 16, 1024)
    assert explain(*shapes).algorithm == ALGORITHM
    refused = dict(explain(*shapes, precision="exact").refused)
    assert refused[ALGORITHM] == "precision is 'exact'"
    with nc.precision("exact"):
        assert explain(*shapes).algorithm != ALGORITHM


# ----------------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize(("groups", "size", "taps"), [(1, 1500, 500), (8, 8000, 2000)])
def test_gradients(groups, size, taps):
    """Of functions, which leave the choice to "auto"."""
    generator = np.random.default_rng(2)
    x = nc.Tensor(generator.standard_normal((1, 8, size)), requires_grad=True)
    weight = nc.Tensor(generator.standard_normal((8, 8 // groups, taps)), requires_grad=True)
    bias = nc.Tensor(generator.standard_normal(8), requires_grad=True)
    for direction in DIRECTIONS:
        assert explain(x.shape, weight.shape, groups=groups, direction=direction).algorithm == ALGORITHM
    assert nc.autograd.gradcheck(lambda *args: F.conv1d(*args, groups=groups), (x, weight, bias))
    assert nc.autograd.gradcheck(lambda *args: F.conv_transpose1d(*args, groups=groups), (x, weight, bias))


def test_what_portions_make_necessary_again_is_counted():
    """Kernels once per portion of pairs unless one run of panels does; values and gradients for other portions."""
    one = fft_portions.Extents(64, 1, 64, panels=1, pairs=1, all_pairs=1, block_bytes=1 << 14, gradient=False)
    assert fft_portions.again(one, 4) == fft_portions.ONCE
    many = one._replace(panels=64, all_pairs=4000)
    units, panels, _ = fft_portions.portion_of(many, 4).parts(many)
    assert min(units, panels) > 1
    assert fft_portions.again(many, 4) == (1, 1, units)
    sums = many._replace(gradient=True)
    units, panels, runs = fft_portions.portion_of(sums, 4).parts(sums)
    assert fft_portions.again(sums, 4) == (panels * runs, runs, 1)
