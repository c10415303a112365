"""Whether Winograd's algorithm is expected to be faster than the alternative: a model of both costs.

Both take time to start, per multiplication, and per weight that is packed or transformed; Winograd's multiplies less,
but transforms input and outputs, too, and what it keeps where in the caches decides what that costs. The numbers are
fitted to random convolutions of one, two and three axes, in float32 and float64 (``python -m bench.choice`` measures
and fits): 4,850 on two cores of a Zen 3 server (4.2 % were lost in the mean with older numbers, 3 % with these), and
2,300 on two of an Intel server with AVX-512. There multiplying takes half the time, moving values nearly as long as
before, so that transforms are dearer; with the first numbers 18 % of the problems lost more than 5 % there, 4 % in the
mean, with those of its own 12 and 2 %. (There those of weight gradients were fitted once more, to 3,700; those along
two axes with sums in memory, and those of slices of channels, to 7,400: 3.4 % were lost in the mean, 2.3 % now. Of
chains, and of tiles for a single vector of input channels, the general algorithm's were fitted to 13,000: 1.5 and 0.7 %
were lost, 0.7 now.) Only ratios matter.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ...kernels.tile import MAX_ROWS, tile_lanes
from . import (
    blocking,
    col2im,
    data_choice,
    row_runs,
    weight_gradient,
    weight_gradient_chains,
    weight_gradient_groups,
    weight_gradient_slices,
)
from .lattice import taps_met
from .winograd_side import is_stretched, side_of
from .winograd_tiles import tiles_of

if TYPE_CHECKING:
    from ..geometry import ConvGeometry
    from .winograd_side import Side

# Vectors and panels are mostly empty with fewer; for the gradient of weights, too little is gained.
MIN_CHANNELS = {"forward": 16, "backward_data": 16} if blocking.WIDE_VECTORS else {"forward": 8, "backward_data": 8}
MIN_CHANNELS["backward_weight"] = 16

# Values at eight points take so many times the arithmetic of those at six.
EIGHT_POINTS = 1.3
# Beside `col2im`, errors of two models add up.
JOINT_MARGIN = 1.1
# Row runs over turned weights gain less than those of a forward pass, of which the model knows.
BESIDE_TURNED = 0.9
# Where destination channels are few, both have lanes that idle. Beside row runs, and for data gradients, this costs
# more than the model knows: less is gained than it promises, and less yet beside dot products.
FEWEST_LANES, IDLE_LANES = 2, 1.4
IDLE_BESIDE_DOTS = 2.1 if blocking.WIDE_VECTORS else 4.0
# Several groups, each with its weights and blocks of its own, gain less than promised, too, forward and backwards (870
# random problems beside vectors of 64 bytes).
SEVERAL_GROUPS = 1.2
# What families gain less, or more, than promised where taps are cut into stretches (7,500 random problems beside
# vectors of 64 bytes, 4,850 beside those of 32).
STRETCHED = (
    {("own input", 2): 1.05, ("own weights", 2): 1.1, ("sums in memory", 1): 1.05, ("sums in scratch", 2): 0.9}
    if blocking.WIDE_VECTORS
    else {("own input", 2): 1.5, ("own weights", 2): 1.25, ("sums in memory", 1): 1.1, ("sums in memory", 2): 1.05}
)

# Beside chains and tiles of single groups, which are for few channels, it takes less time than promised if output
# channels are more than a vector (2,500 random problems).
FEW_BUT_WHOLE = 0.75 if blocking.WIDE_VECTORS else 1.0

# What blocks transform once more, each for itself, takes such a part of the first time: without some of these blocks
# cores would idle, and the weights of the few panels that leave several blocks of tiles are in the caches.
AGAIN = {"own input": 0.5, "own weights": 0.0} if blocking.WIDE_VECTORS else {}


class Passes(NamedTuple):
    """How a problem is cut into blocks: where values lie, and how often they pass by."""

    where: str  # see `WINOGRAD`
    source: int  # how often the input is transformed
    weights: int  # how often the weights are
    destination: int = 1  # how often the gradient of the output is


class Work(NamedTuple):
    """What the two algorithms do for a problem: multiply-adds and values."""

    other: float  # multiply-adds of the general algorithm
    other_weights: float  # weights that it packs, or sums
    multiplications: float  # Winograd's multiply-adds
    source: float  # values of transformed input, more if they take more arithmetic
    destination: float  # values of products, or of transformed gradients
    weights: float  # values of transformed weights, or sums


class Costs(NamedTuple):
    """Of Winograd's algorithm: microseconds to start, and per million of what `Work` counts."""

    start: float
    multiplications: float
    source: float
    destination: float
    weights: float


class OtherCosts(NamedTuple):
    """Of the general algorithm."""

    start: float
    multiplications: float
    weights: float


# Of forward and data gradient, and of the weight gradient; where vectors are of 64 bytes, and where they are not.
# By what a block keeps to itself (its input; the weights; nothing) or, for the weight gradient, where its sums are (in
# memory, or in the scratch); and by the number of transformed axes.
OTHER = (
    {
        "data": OtherCosts(start=10.1, multiplications=6.0, weights=123.0),
        "weight": OtherCosts(start=10.9, multiplications=6.89, weights=122.0),
        "slices": OtherCosts(start=7.12, multiplications=6.06, weights=70.9),
        "chains": OtherCosts(start=7.9, multiplications=5.5, weights=190.0),
        "groups": OtherCosts(start=5.2, multiplications=5.5, weights=790.0),
    }
    if blocking.WIDE_VECTORS
    else {
        "data": OtherCosts(start=26.7, multiplications=13.2, weights=232.0),
        "slices": OtherCosts(start=15.0, multiplications=13.4, weights=324.0),
        **dict.fromkeys(("weight", "chains", "groups"), OtherCosts(start=14.8, multiplications=15.8, weights=265.0)),
    }
)
WINOGRAD = (
    {
        ("own input", 1): Costs(16, multiplications=6.75, source=74.1, destination=82.5, weights=161),
        ("own input", 2): Costs(9.23, multiplications=7.57, source=118, destination=96, weights=310),
        ("own weights", 1): Costs(10.7, multiplications=8.54, source=453, destination=40.5, weights=78.2),
        ("own weights", 2): Costs(7.99, multiplications=8.47, source=523, destination=52.7, weights=92.2),
        ("shared", 1): Costs(0, multiplications=8.68, source=711, destination=22.2, weights=219),
        ("shared", 2): Costs(0, multiplications=8.68, source=711, destination=22.2, weights=219),
        ("sums in memory", 1): Costs(31.8, multiplications=10.4, source=174, destination=87.9, weights=189),
        ("sums in memory", 2): Costs(0, multiplications=8.48, source=344, destination=278, weights=267),
        ("sums in scratch", 1): Costs(19.3, multiplications=13.1, source=366, destination=288, weights=97.3),
        ("sums in scratch", 2): Costs(13.9, multiplications=15.8, source=201, destination=593, weights=104),
    }
    if blocking.WIDE_VECTORS
    else {
        ("own input", 1): Costs(38, multiplications=15.2, source=147, destination=167, weights=9.26),
        ("own input", 2): Costs(14.1, multiplications=12.5, source=185, destination=177, weights=64.8),
        ("own weights", 1): Costs(34.2, multiplications=20, source=439, destination=270, weights=276),
        ("own weights", 2): Costs(22.3, multiplications=20.1, source=429, destination=162, weights=175),
        ("shared", 1): Costs(12.1, multiplications=16.4, source=313, destination=438, weights=208),
        ("shared", 2): Costs(12.1, multiplications=16.4, source=313, destination=438, weights=208),
        ("sums in memory", 1): Costs(35.8, multiplications=24.6, source=216, destination=134, weights=71.6),
        ("sums in memory", 2): Costs(3.1, multiplications=21.3, source=373, destination=378, weights=170),
        ("sums in scratch", 1): Costs(24.6, multiplications=24.1, source=354, destination=0, weights=205),
        ("sums in scratch", 2): Costs(27.6, multiplications=20.6, source=535, destination=292, weights=189),
    }
)


def declines(direction: str, judged: list[tuple[ConvGeometry, Passes]], itemsize: int) -> str | None:
    """None, or why the general algorithm is expected to be as fast on all problems judged, taken together."""
    side = side_of(judged[0][0], direction)
    if side.run < MIN_CHANNELS[direction] or side.lanes < _fewest_lanes(direction, judged[0][0]):
        return f"{side.run} and {side.lanes} channels per group are few"
    if direction == "backward_weight" and _fills_vectors(judged[0][0], side, itemsize):
        return f"{side.run} and {side.lanes} channels per group leave half of its tiles idle"
    ratio = expected_ratio(direction, judged, itemsize)
    if ratio >= 1:
        return f"it is expected to take {ratio:.2f} times as long as the general algorithm"
    g = judged[0][0]
    if direction == "backward_data" and col2im.pays(g, itemsize):
        least = data_choice.ratio(data_choice.columns, g, itemsize)
        if JOINT_MARGIN * least < ratio:
            return f"it is expected to take {ratio / least:.2f} times as long as col2im"
    return None


def declines_beside_turned(judged: list[tuple[ConvGeometry, Passes]], itemsize: int) -> str | None:
    """None, or why row runs over turned weights are expected to be as fast as the convolutions that give a gradient."""
    ratio = BESIDE_TURNED * expected_ratio("forward", judged, itemsize)
    return f"it is expected to take {ratio:.2f} times as long as turned" if ratio >= 1 else None


def expected_ratio(direction: str, judged: list[tuple[ConvGeometry, Passes]], itemsize: int) -> float:
    """How many times as long as the general algorithm it is expected to take, on all problems judged."""
    lanes = side_of(judged[0][0], direction).lanes
    pairs = direction == "forward" and row_runs.pairs_fit(judged[0][0], itemsize)
    of_rows = row_runs.pays(direction, judged[0][0], itemsize)
    dots = lanes <= blocking.DOT_LANES and not (pairs and of_rows)
    idle = lanes < MIN_CHANNELS[direction] and (direction != "forward" or of_rows)
    ratio = IDLE_BESIDE_DOTS if dots else IDLE_LANES if idle else 1.0
    if judged[0][0].groups > 1 and direction != "backward_weight":
        ratio *= SEVERAL_GROUPS
    for g, passes in judged:
        other, winograd = times(direction, g, passes, itemsize)
        ratio *= (winograd / other) ** (1 / len(judged))
    return ratio


def _fewest_lanes(direction: str, g: ConvGeometry) -> int:
    """With fewer destination channels, the general algorithm or its variants have tiles that leave less idle."""
    few = direction == "forward" or (direction == "backward_data" and row_runs.accepts(direction, g) is not None)
    return FEWEST_LANES if few else MIN_CHANNELS[direction]


def _fills_vectors(g: ConvGeometry, side: Side, itemsize: int) -> bool:
    """Whether the general algorithm has a tile for groups that fill but one of the two vectors of Winograd's."""
    few = min(side.run, side.lanes) <= tile_lanes(itemsize) // 2
    return g.groups > 1 and few and weight_gradient_groups.accepts(g, itemsize)  # a single group's costs are known


def times(direction: str, g: ConvGeometry, passes: Passes, itemsize: int) -> tuple[float, float]:
    """What the general algorithm and Winograd's are expected to take, in microseconds."""
    w = work_of(direction, g, passes, itemsize)
    others = other_family(direction, g, itemsize)
    o, c = OTHER[others], WINOGRAD[family(g, passes)]
    other = o.multiplications * w.other + o.weights * w.other_weights
    transforms = c.source * w.source + c.destination * w.destination + c.weights * w.weights
    more = 1.0
    if is_stretched(g):
        more = STRETCHED.get(family(g, passes), 1.0)
    elif others in ("chains", "groups") and 2 * g.out_channels > tile_lanes(itemsize):
        more = FEW_BUT_WHOLE
    return o.start + other * 1e-6, more * (c.start + (c.multiplications * w.multiplications + transforms) * 1e-6)


def other_family(direction: str, g: ConvGeometry, itemsize: int) -> str:
    """Which costs of the general algorithm hold."""
    if direction != "backward_weight":
        return "data"
    if g.groups > 1:
        return "weight"
    families = {weight_gradient_slices: "slices", weight_gradient_chains: "chains", weight_gradient_groups: "groups"}
    return families.get(weight_gradient.way_of(g, itemsize), "weight")


def family(g: ConvGeometry, passes: Passes) -> tuple[str, int]:
    """Which costs of Winograd's algorithm hold."""
    return passes.where, sum(taps > 1 for taps in g.kernel[1:])


def work_of(direction: str, g: ConvGeometry, passes: Passes, itemsize: int) -> Work:
    """What both algorithms do for a whole batch."""
    side, width = side_of(g, direction), tile_lanes(itemsize)
    weights = side.run * g.groups * -(-2 * side.lanes // width) * width // 2
    products = side.run * g.groups * blocking.panels(side.lanes, width) * width
    tiles = tiles_of(side)
    values = tiles.points * (EIGHT_POINTS if 8 in tiles.forms else 1.0)
    again = AGAIN.get(passes.where, 1.0)
    sources, transformed = (1 + again * (times - 1) for times in (passes.source, passes.weights))
    return Work(
        other=_other_products(direction, g, side, products, itemsize),
        other_weights=g.taps * weights,
        multiplications=tiles.points * tiles.columns * side.out[0] * side.kernel[0] * side.outputs * products,
        source=values * tiles.columns * side.source[0] * side.source_channels * sources,
        destination=values * tiles.columns * side.out[0] * side.outputs * side.out_channels * passes.destination,
        weights=values * side.kernel[0] * side.outputs * weights * transformed,
    )


def _other_products(direction: str, g: ConvGeometry, side: Side, products: float, itemsize: int) -> float:
    """Multiply-adds of the general algorithm, or what takes as long; `products` of them for a position and a tap."""
    of_rows = row_runs.pays(direction, g, itemsize)
    other: float = g.batch * _positions(direction, g) * g.taps
    if other_family(direction, g, itemsize) == "slices":
        other = weight_gradient_slices.products(g, itemsize)
    elif direction == "backward_weight":
        other *= products if of_rows else weight_gradient.products(g, itemsize)
        other *= weight_gradient.share_read(g, itemsize)
    else:
        other *= products
        other *= math.prod(_share_read(g, direction, axis) for axis in range(3))
    if of_rows and not (direction == "backward_weight" and blocking.WIDE_VECTORS):  # there it is for fewer channels
        other /= row_runs.gain(g, itemsize) if direction == "forward" else 1 + row_runs.GAIN / side.run
    return other


def _positions(direction: str, g: ConvGeometry) -> float:
    """Destination positions of a sample; under a stride, each reads a share of the taps in the data gradient."""
    return math.prod(g.input) / math.prod(g.stride) if direction == "backward_data" else math.prod(g.output)


def _share_read(g: ConvGeometry, direction: str, axis: int) -> float:
    """The share of the taps of all positions along an axis that the general algorithm cannot leave out.

    It leaves out what is padding for a whole tile of positions, which lie side by side along W. Where little is, that
    does not tell, but for a dilation.
    """
    met, taps = taps_met(g, direction, axis, MAX_ROWS if axis == 2 else 1)
    if g.kernel[axis] == 1 or taps == 0:
        return 1.0
    share = met / taps
    return share if g.dilation[axis] > 1 or share < blocking.MOSTLY_INSIDE else 1.0
