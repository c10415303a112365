"""What Winograd's algorithm takes, and where it pays."""

import re

import pytest

from numbacnn.errors import OptionError
from numbacnn.kernels.tile import tile_lanes
from numbacnn.ops import explain
from numbacnn.ops.conv import plan
from tests.ops.conv.winograd_checks import ALGORITHM


@pytest.mark.parametrize(
    ("input_shape", "weight_shape", "options", "reason"),
    [
        ((1, 16, 9, 9, 9), (16, 16, 3, 3, 3), {"stride": 2}, r"the stride is \(2, 2, 2\)"),
        ((1, 16, 9, 9), (16, 16, 3, 3), {"stride": (1, 3)}, r"the kernel \(1, 3, 3\) is not longer than the stride"),
        ((1, 16, 99), (16, 16, 201), {"stride": 70, "padding": 90}, "the kernel has 201 taps, more than 200"),
        ((1, 16, 9, 9, 9), (16, 16, 3, 1, 2), {}, r"the kernel \(3, 1, 2\) does not have three to five taps"),
        ((1, 16, 19, 9, 9), (16, 16, 17, 3, 3), {}, "there are 17 taps along D or stretches of taps, more than 16"),
        ((1, 16, 100), (16, 16, 90), {}, "there are 18 taps along D or stretches of taps, more than 16"),
        ((1, 16, 40), (16, 16, 5), {"stride": 2, "dilation": 2}, r"the stride is \(1, 1, 2\)"),
        ((1, 16, 40), (16, 16, 2), {"stride": 2}, r"the kernel \(1, 1, 2\) is not longer than the stride"),
        ((1, 16, 9, 9, 9), (16, 16, 3, 3, 3), {"padding": 1, "padding_mode": "circular"}, "there is padding along D"),
        ((1, 16, 9, 9, 9), (16, 16, 1, 3, 3), {"padding": (1, 0, 0)}, "there is padding along D"),
        ((1, 3, 9, 9), (16, 3, 3, 3), {}, "3 channels to sum over do not fill a vector"),
        ((1, 30000, 9, 9), (2, 30000, 3, 3), {}, "the transforms of 30000 channels take too much memory"),
    ],
)
def test_what_it_does_not_take(input_shape, weight_shape, options, reason):
    with pytest.raises(OptionError, match=f"algorithm='winograd' cannot run forward of this convolution: {reason}"):
        explain(input_shape, weight_shape, **options, algorithm=ALGORITHM)


def test_mirrored_padding_is_forward_only():
    shapes, options = ((1, 16, 9, 9), (16, 16, 3, 3)), {"padding": 1, "padding_mode": "reflect"}
    assert explain(*shapes, **options, algorithm=ALGORITHM).algorithm == ALGORITHM
    refused = dict(explain(*shapes, **options, direction="backward_data").refused)
    assert refused[ALGORITHM] == "padding_mode ('zeros', 'reflect', 'reflect') adds gradients up"


SLOWER = r"it is expected to take \d\.\d\d times as long as the general algorithm"


@pytest.mark.parametrize(
    ("input_shape", "weight_shape", "reason"),
    [
        ((1, 64, 56, 56), (1, 64, 3, 3), "64 and 1 channels per group are few"),
        ((1, 64, 6, 6), (64, 64, 3, 3), SLOWER),
        ((1, 32, 12, 12), (32, 32, 3, 3), SLOWER),
        ((1, 64, 128), (64, 64, 3), SLOWER),
        ((1, 32, 1000), (32, 32, 3), SLOWER),
        ((1, 64, 5, 5, 5), (64, 64, 3, 3, 3), SLOWER),
    ],
)
@pytest.mark.parametrize("batch", [0, 1, 64])
def test_what_does_not_pay(input_shape, weight_shape, reason, batch):
    """Whatever the batch: a batch gives the bits of its samples."""
    choice = explain((batch, *input_shape[1:]), weight_shape)
    assert choice.algorithm == "indirect"
    assert re.fullmatch(reason, dict(choice.refused)[ALGORITHM])
    assert explain(input_shape, weight_shape, algorithm=ALGORITHM).algorithm == ALGORITHM


@pytest.mark.parametrize("batch", [0, 1, 64])
@pytest.mark.parametrize("channels", sorted({3, min(4, tile_lanes(4) // 2 - 1)}))
def test_few_channels_to_sum_over_do_not_pay(channels, batch):
    choice = explain((batch, channels, 56, 56), (64, channels, 3, 3))
    assert choice.algorithm == "row_runs"
    assert dict(choice.refused)[ALGORITHM] == f"{channels} channels to sum over do not fill a vector"


@pytest.mark.skipif(tile_lanes(4) // 2 != 8, reason="8 channels are not just a vector")
def test_a_vector_of_channels_pays_but_for_weight_gradients():
    shapes, options = ((1, 8, 56, 56), (64, 8, 3, 3)), {"padding": 1}
    assert explain(*shapes, **options).algorithm == ALGORITHM
    refused = dict(explain(*shapes, **options, direction="backward_weight").refused)
    assert re.fullmatch("(8 and 64|64 and 8) channels per group are few", refused[ALGORITHM])


@pytest.mark.skipif(tile_lanes(4) // 2 < 16, reason="16 channels fill Winograd's tiles")
def test_half_empty_tiles_do_not_pay():
    shapes, options = ((4, 64, 56, 56), (64, 16, 3, 3)), {"padding": 1, "groups": 4}
    refused = dict(explain(*shapes, **options, direction="backward_weight").refused)
    assert refused[ALGORITHM] == "16 and 16 channels per group leave half of its tiles idle"


@pytest.mark.skipif(tile_lanes(4) // 2 < 16, reason="weighed beside vectors of 64 bytes")
@pytest.mark.parametrize(
    ("inputs", "outputs", "taps", "pays"),
    [
        (16, 16, 3, False),  # chains
        (24, 32, 5, True),
        (16, 16, 5, False),  # a vector of input channels
        (16, 32, 5, True),
    ],
)
def test_tiles_of_few_channels_are_weighed(inputs, outputs, taps, pays):
    shapes, options = ((2, inputs, 56, 56), (outputs, inputs, taps, taps)), {"padding": taps // 2}
    choice = explain(*shapes, **options, direction="backward_weight")
    assert choice.algorithm == (ALGORITHM if pays else "indirect")
    assert pays or re.fullmatch(SLOWER, dict(choice.refused)[ALGORITHM])


@pytest.mark.parametrize(
    ("input_shape", "weight_shape", "pays"),
    [
        ((1, 64, 8, 8), (64, 64, 3, 3), False),
        ((1, 512, 7, 7), (512, 512, 3, 3), False),
        ((1, 48, 4, 4, 4), (48, 48, 3, 3, 3), False),
        ((1, 128, 100), (128, 128, 3), False),
        ((8, 512, 7, 7), (512, 512, 3, 3), True),
        ((1, 64, 56, 56), (64, 64, 3, 3), True),
        ((1, 64, 8, 28, 28), (64, 64, 3, 3, 3), True),
        ((8, 256, 512), (256, 256, 3), True),
    ],
)
def test_which_weight_gradients_pay(input_shape, weight_shape, pays):
    choice = explain(input_shape, weight_shape, padding=1, direction="backward_weight")
    assert choice.algorithm == (ALGORITHM if pays else "indirect")
    assert pays or re.fullmatch(SLOWER, dict(choice.refused)[ALGORITHM])


@pytest.mark.parametrize(
    ("input_shape", "weight_shape"),
    [
        ((1, 64, 56, 56), (64, 64, 3, 3)),
        ((1, 256, 7, 7), (256, 256, 3, 3)),
        ((1, 32, 16, 16, 16), (32, 32, 3, 3, 3)),
        ((1, 16, 16, 16, 16), (16, 16, 3, 3, 3)),
        ((1, 128, 4096), (128, 128, 3)),
    ],
)
@pytest.mark.parametrize("direction", ["forward", "backward_data"])
def test_what_pays(input_shape, weight_shape, direction):
    assert explain(input_shape, weight_shape, padding=1, direction=direction).algorithm == ALGORITHM


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_few_destination_channels_pay_where_much_is_gained(dtype):
    few = explain((1, 64, 56, 56), (8, 64, 5, 5), padding=2, dtype=dtype)
    assert few.algorithm == ALGORITHM
    choice = explain((1, 64, 6, 6), (6, 64, 3, 3), padding=1, dtype=dtype)
    assert re.fullmatch(SLOWER, dict(choice.refused)[ALGORITHM])


@pytest.mark.parametrize(("dilation", "pays"), [(12, True), (24, False)])
@pytest.mark.parametrize("direction", plan.DIRECTIONS)
def test_what_pays_under_large_dilations(dilation, pays, direction):
    """Up to three points an image of its own; the general algorithm leaves out what lies in the padding."""
    options = {"padding": dilation, "dilation": dilation, "direction": direction}
    choice = explain((1, 512, 33, 33), (256, 512, 3, 3), **options)
    assert choice.algorithm == (ALGORITHM if pays else "indirect")


@pytest.mark.parametrize("kernel", [(22, 1), (1, 22)])
def test_of_kernels_as_long_as_an_axis_the_gradient_reads_a_tap(kernel):
    """At every position one of them, all others are padding: nothing is left for Winograd to save."""
    size = tuple(22 if taps > 1 else 256 for taps in kernel)
    options = {"stride": 1, "direction": "backward_data"}
    assert explain((8, 25, *size), (25, 25, *kernel), **options).algorithm != ALGORITHM


@pytest.mark.skipif(tile_lanes(4) // 2 < 16, reason="weighed beside vectors of 64 bytes")
@pytest.mark.parametrize("direction", ["forward", "backward_data"])
@pytest.mark.parametrize("batch", [1, 32])
def test_small_images_pay_for_what_batches_gain(direction, batch):
    """A single image takes longer, a batch of eight so much less."""
    assert explain((batch, 64, 8, 8), (64, 64, 3, 3), padding=1, direction=direction).algorithm == ALGORITHM


@pytest.mark.skipif(tile_lanes(4) // 2 < 16, reason="weighed beside vectors of 64 bytes")
def test_a_tile_for_few_output_channels_is_weighed():
    """A weight gradient's, where as many input channels are no alternative."""
    options = {"padding": 1, "direction": "backward_weight"}
    choice = explain((4, 320, 20, 37), (16, 320, 3, 3), **options)
    assert choice.algorithm == "indirect"
    assert re.fullmatch(SLOWER, dict(choice.refused)[ALGORITHM])
    assert explain((4, 320, 20, 37), (320, 320, 3, 3), **options).algorithm == ALGORITHM
