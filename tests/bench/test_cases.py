"""Tables of problems are read right."""

import math

import pytest

from bench import cases
from tests.bench.small import SMALL


def test_table_line_becomes_a_case():
    image, sequence, volume = cases.parse(SMALL)
    assert image.input_shape == (2, 6, 7, 8)
    assert image.weight_shape == (4, 3, 3, 2)
    assert image.output_shape == (2, 4, 4, 7)
    assert sequence.kernel == (5,)
    assert sequence.output_shape == (3, 8, 19)
    assert (volume.stride, volume.padding, volume.groups) == ((1, 1, 1), (1, 1, 1), 3)
    assert image.work("forward", 4) == 2 * math.prod((2, 4, 4, 7)) * 3 * 3 * 2
    assert str(image) == "2,6,7×8 -> 4, 3×2 s2×1 g2"


def test_bytes_that_are_moved():
    """Sums of a normalisation come before its results; a maximum's place is a byte."""
    norm = cases.NormCase("a", 2, 3, (5,))
    assert [norm.work(direction, 8) for direction in norm.directions] == [3 * 240, 5 * 240, 2 * 240]
    largest, mean = (cases.PoolCase("a", 1, 2, (6,), mode, (2,), (2,), (0,)) for mode in ("max", "avg"))
    assert largest.work("forward", 4) == 4 * (12 + 6) + 6
    assert mean.work("backward", 4) == 4 * (12 + 6)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a 1 4 8 -> 4 3 1 1 1", "missing 1 required positional argument"),
        ("a 1 4 8x8 -> 4 3x3x3 1 1 1 1", "'3x3x3' does not have one number per axis"),
        ("a 1 4 8x8x8x8 -> 4 3 1 1 1 1", "does not have one number per axis"),
        ("a 1 4 8 -> 4 3 1 1 1 3", "3 groups do not divide 4 -> 4 channels"),
        ("a 1 4 8 -> 4 11 1 1 1 1", "output would be empty"),
        ("a 1 four 8 -> 4 3 1 1 1 1", "invalid literal"),
    ],
)
def test_bad_line_is_named(line, message):
    with pytest.raises(ValueError, match=f"^line 2: .*{message}"):
        cases.parse("# a table\n" + line)


def test_unknown_function_is_named(tmp_path):
    table = tmp_path / "activation.txt"
    table.write_text("a softmin 1 4 8\n")
    with pytest.raises(ValueError, match="^line 1: .*the function is one of relu, leaky_relu, .*, got 'softmin'"):
        cases.load(str(table))


def test_names_are_unique():
    with pytest.raises(ValueError, match="repeated: a"):
        cases.parse("a 1 4 8 -> 4 3 1 1 1 1\na 1 4 9 -> 4 3 1 1 1 1")


def test_shipped_tables():
    counts = {group: len(cases.load(group)) for group in cases.groups()}
    assert counts["conv"] == 14
    assert counts["layers"] >= 60
    assert {"depthwise_grouped", "further", "long_kernel", "pool", "norm", "linear", "matmul", "train"} <= counts.keys()
    assert all(case.groups > 1 for case in cases.load("depthwise_grouped"))
    assert [case.name for case in cases.load("conv", "^mnist")] == ["mnist_1_28_b64"]
    with pytest.raises(ValueError, match=r"no shape table 'convolutions'; known are activation, arithmetic, conv, "):
        cases.load("convolutions")
