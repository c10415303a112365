"""Precision decides whether algorithms that round more are taken, for a call, a block or the process."""

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import functional as F
from numbacnn.errors import OptionError
from numbacnn.ops import explain
from tests.ops.conv.winograd_checks import ALGORITHM

SHAPES = (1, 32, 32, 32), (32, 32, 3, 3)


def test_precision_decides_what_auto_takes():
    def chosen(**options):
        return explain(*SHAPES, padding=1, **options).algorithm

    assert chosen() == ALGORITHM
    assert chosen(precision="exact") == "indirect"
    with nc.precision("exact"):
        assert chosen() == "indirect"
        assert chosen(precision="fast") == ALGORITHM
        assert chosen(algorithm=ALGORITHM) == ALGORITHM
        with nc.precision("fast"):
            assert chosen() == ALGORITHM
        assert chosen() == "indirect"
    assert chosen() == ALGORITHM


@pytest.mark.parametrize("call", [nc.precision("double").__enter__, lambda: explain(*SHAPES, precision="double")])
def test_unknown_precision(call):
    with pytest.raises(OptionError, match="precision must be one of 'fast', 'exact'; got 'double'"):
        call()


def test_precision_of_functions_and_their_gradients():
    generator = np.random.default_rng(0)
    x, weight = (generator.standard_normal(shape).astype(np.float32) for shape in SHAPES)

    def run(function, **options):
        a, b = nc.Tensor(x, requires_grad=True), nc.Tensor(weight, requires_grad=True)
        y = function(a, b, padding=1, **options)
        y.sum().backward()
        return [array.tobytes() for array in (y.data, a.grad, b.grad)]

    for function in (F.conv2d, F.conv_transpose2d):
        fast, exact = run(function), run(function, precision="exact")
        assert fast[0] != exact[0]
        with nc.precision("exact"):
            assert run(function) == exact
            assert run(function, precision="fast") == fast
